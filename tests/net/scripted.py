"""A backend that does what a test says: pops wait until it is told what they took, and when.

Knows: enough of Redis to be taken for one by shunt's probes, CLIENT LIST and CLIENT UNBLOCK. Refuses to know: lists.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import socket
import threading
from collections.abc import Callable

from tests.servers import HOST
from tests.wire import frame_end

Command = list[bytes]
_POPS = (b"BRPOP", b"BLPOP", b"RPOP", b"LPOP", b"LMPOP", b"BLMPOP", b"ZPOPMIN")


class Connection:
    """One of shunt's. ``number``: its id in CLIENT LIST; ``ended``: shunt has closed its side."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock, self.number = sock, number
        self.ended = threading.Event()

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)


class Scripted:
    """``pops``: each pop as (connection, command), answered by the test; ``pushed``: the same of pushes.

    ``on_unblock(number)``: asked when CLIENT UNBLOCK is; its return value is the answer. ``push_reply``: to pushes.
    """

    def __init__(self) -> None:
        self.pops: queue.Queue[tuple[Connection, Command]] = queue.Queue()
        self.pushed: queue.Queue[tuple[Connection, Command]] = queue.Queue()
        self.selected: list[tuple[int, bytes]] = []
        self.on_unblock: Callable[[int], int] = lambda number: 0
        self.push_reply = b":1\r\n"
        self._connections: list[Connection] = []
        self._numbers = itertools.count(1)
        self._server = socket.create_server((HOST, 0))
        self.url = f"redis://{HOST}:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *error: object) -> None:
        self._server.close()
        for each in self._connections:
            each.sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                made = Connection(self._server.accept()[0], next(self._numbers))
                self._connections.append(made)
                threading.Thread(target=self._serve, args=(made,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        data = b""
        with contextlib.suppress(OSError):
            while more := connection.sock.recv(1 << 20):
                data += more
                while data and (end := frame_end(data)) > 0:
                    self._run(connection, _words(data[:end]))
                    data = data[end:]
        connection.ended.set()

    def _run(self, connection: Connection, command: Command) -> None:
        name = command[0].upper()
        if name in _POPS:
            self.pops.put((connection, command))
        elif name in (b"LPUSH", b"RPUSH"):
            if self.push_reply:
                connection.say(self.push_reply)
            self.pushed.put((connection, command))
        elif name == b"CLIENT":
            connection.say(self._client(command))
        elif name == b"SELECT":
            self.selected.append((connection.number, command[1]))
            connection.say(b"+OK\r\n")
        else:
            connection.say({b"PING": b"+PONG\r\n", b"MULTI": b"+OK\r\n"}.get(name, b"-ERR unknown command\r\n"))

    def _client(self, command: Command) -> bytes:
        if command[1].upper() == b"UNBLOCK":
            return b":%d\r\n" % self.on_unblock(int(command[2]))
        if command[1].upper() != b"LIST":
            return b"-ERR unknown subcommand\r\n"
        lines = []
        for each in self._connections:
            with contextlib.suppress(OSError):
                host, port = each.sock.getpeername()
                lines.append(f"id={each.number} addr={host}:{port}\n")
        text = "".join(lines).encode()
        return b"$%d\r\n%b\r\n" % (len(text), text)


def _words(frame: bytes) -> Command:
    """The arguments of a whole command."""
    words, at = [], frame.index(b"\n") + 1
    while at < len(frame):
        end = frame.index(b"\r", at)
        size = int(frame[at + 1 : end])
        words.append(frame[end + 2 : end + 2 + size])
        at = end + 4 + size
    return words
