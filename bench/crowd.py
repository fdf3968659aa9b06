"""Many connections to one port: they can stand idle, and a few commands in flight can walk round over all of them.

Knows: sockets, one GET and the length of its reply. Refuses to know: who answers, and what it costs them.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Iterable

from openloop import COMMAND, REPLY_BYTES
from peers.launch import HOST, BenchError

CLIENTS_PER_SOURCE = 1000  # a source address has 28,000 ports; several addresses also look more like several hosts
CLIENTS_AT_ONCE = 200
ANSWER_LIMIT_S = 10.0


def connected(port: int, number: int) -> socket.socket:
    """Client `number`, from a loopback address of its own group, its first GET sent."""
    client = socket.socket()
    client.settimeout(ANSWER_LIMIT_S)
    client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.bind((f"127.0.1.{1 + number // CLIENTS_PER_SOURCE}", 0))
    client.connect((HOST, port))
    client.sendall(COMMAND)
    return client


class Crowd:
    """Connections to `port`, each of which was answered at least once."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.clients: list[socket.socket] = []
        self.waiting: dict[int, tuple[socket.socket, int]] = {}  # descriptor → its client, bytes still to come
        self.poll = select.epoll()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.poll.close()
        for client in self.clients:
            client.close()

    def grow(self, count: int) -> None:
        """Connect until there are `count`. A group at a time, so that no listen queue overflows."""
        while (have := len(self.clients)) < count:
            group = [connected(self.port, number) for number in range(have, min(have + CLIENTS_AT_ONCE, count))]
            self.clients += group
            for client in group:
                self.poll.register(client, select.EPOLLIN)
                self._take_greeting(client)

    def _take_greeting(self, client: socket.socket) -> None:
        left = REPLY_BYTES
        while left:
            data = client.recv(left)
            if not data:
                raise BenchError(f"client {len(self.clients)} on port {self.port} was closed instead of answered")
            left -= len(data)

    def drive(self, seconds: float, in_flight: int) -> int:
        """Keep `in_flight` commands under way, each on the connection that has rested longest; how many were answered.

        Returns when the last one is answered. BenchError if one isn't."""
        rested = deque(self.clients)
        answered, end_ns = 0, time.perf_counter_ns() + int(seconds * 1e9)
        self._send(rested.popleft() for _ in range(min(in_flight, len(rested))))
        while self.waiting:
            events = self.poll.poll(ANSWER_LIMIT_S)
            if not events:
                raise BenchError(f"{len(self.waiting)} commands weren't answered within {ANSWER_LIMIT_S:.0f} s")
            done = [client for descriptor, _ in events if (client := self._read(descriptor))]
            answered += len(done)
            rested.extend(done)
            if time.perf_counter_ns() < end_ns:
                self._send(rested.popleft() for _ in done)
        return answered

    def _send(self, clients: Iterable[socket.socket]) -> None:
        for client in clients:
            self.waiting[client.fileno()] = (client, REPLY_BYTES)
            client.send(COMMAND)

    def _read(self, descriptor: int) -> socket.socket | None:
        """Take what has come; the client, if its reply is whole now."""
        client, left = self.waiting.pop(descriptor, (None, 0))
        data = client.recv(65536) if client else b""
        if client is None or not data or len(data) > left:
            raise BenchError(f"a client on port {self.port} was closed, or sent more than it asked for")
        if len(data) < left:
            self.waiting[descriptor] = (client, left - len(data))
            return None
        return client
