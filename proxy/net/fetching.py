"""Fetches that don't reach the backend: a BRPOP is answered nil by shunt, after its own timeout.

Knows: how what an unread client has sent is looked at without reading it. Refuses to know: why fetches must stop
(``cutover.maintenance``), and how clients are held (``holding``).

A client whose fetch waits in Redis is not read from then on. When its reply is there and its next command is a fetch,
that is left in the kernel until its own timeout is over; then it is taken out and answered. Any other command sets the
client free. Clients that are held altogether are treated alike, so that a fetcher does not run into its own patience.

The bytes of TLS connections can't be looked at: their fetches wait until the backend is back.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass

import hiredis

from proxy.engine.access import encode
from proxy.net.client import Client
from proxy.net.endpoint import HOLD_FETCH, now_ns
from proxy.net.reception import Reception

#: How often clients are looked at, seconds.
LOOK_S = 0.02
#: Bytes that are looked at; a fetch of more is none of Sidekiq's.
PEEK_BYTES = 16384
#: Where the timeout stands among the arguments, seconds; the name is argument 0.
TIMEOUT_AT = {
    b"BLPOP": -1, b"BRPOP": -1, b"BRPOPLPUSH": -1, b"BLMOVE": -1, b"BZPOPMIN": -1, b"BZPOPMAX": -1,
    b"BLMPOP": 1, b"BZMPOP": 1,
}  # fmt: skip
_NILS = {False: b"*-1\r\n", True: b"_\r\n"}


@dataclass(frozen=True, slots=True)
class Fetch:
    """One whole fetch that lies in the kernel. ``size``: its bytes. ``timeout_s`` None: it waits for ever."""

    words: tuple[bytes, ...]
    size: int
    timeout_s: float | None


class Fetches:
    """The fetchers of one worker, between ``stop`` and ``go_on``."""

    def __init__(self, reception: Reception) -> None:
        self.answered = 0
        self._reception = reception
        self._task: asyncio.Task[None] | None = None
        self._due: dict[Client, tuple[Fetch, float]] = {}

    @property
    def blocked(self) -> int:
        """Clients whose fetch waits in Redis."""
        return sum(client.session.blocked for client in self._reception.clients)

    def stop(self) -> None:
        """Let no fetch reach Redis that can be kept from it."""
        if self._task is None:
            self._task = asyncio.create_task(self._often())

    async def go_on(self) -> None:
        """Let them through again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._due.clear()
        for client in list(self._reception.clients):
            client.release_reading(HOLD_FETCH)

    async def _often(self) -> None:
        while True:
            for client in list(self._reception.clients):
                self._look(client)
            for client in self._due.keys() - self._reception.clients.keys():
                del self._due[client]
            await asyncio.sleep(LOOK_S)

    def _look(self, client: Client) -> None:
        session = client.session
        if session.blocked:
            client.hold_reading(HOLD_FETCH)
        if not client.reading_held or client.secure or not session.quiet or session.listening or not session.trusted:
            return
        data = _peek(client)
        fetch = parse(data)
        if fetch is not None:
            self._keep(client, fetch)
        elif data:
            self._due.pop(client, None)
            client.release_reading(HOLD_FETCH)

    def _keep(self, client: Client, fetch: Fetch) -> None:
        now_s = time.monotonic()
        if client not in self._due:
            self._due[client] = (fetch, now_s + (float("inf") if fetch.timeout_s is None else fetch.timeout_s))
        if now_s >= self._due[client][1]:
            del self._due[client]
            _take(client, fetch.size)
            nil = _NILS[client.session.resp3_on]
            client.write(client.session.answer(list(fetch.words), nil, fetch.size, now_ns()))
            self.answered += 1


def parse(data: bytes) -> Fetch | None:
    """The fetch that ``data`` is, if it is one, whole, and nothing else."""
    reader = hiredis.Reader()
    reader.feed(data)
    try:
        words = reader.gets()
    except hiredis.ProtocolError:
        return None
    if not isinstance(words, list) or not words or not all(isinstance(word, bytes) for word in words):
        return None
    at = TIMEOUT_AT.get(words[0].upper())
    if at is None or len(words) < 3 or len(encode(words)) != len(data):
        return None
    try:
        timeout_s = float(words[at])
    except ValueError:
        return None
    return Fetch(tuple(words), len(data), timeout_s if timeout_s > 0 else None)


def _peek(client: Client) -> bytes:
    return _receive(client, PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)


def _take(client: Client, size: int) -> None:
    _receive(client, size, socket.MSG_DONTWAIT)


def _receive(client: Client, size: int, flags: int) -> bytes:
    """From the client's socket, past its transport, which is not reading it."""
    if client.lost or client.transport is None:
        return b""
    sock = socket.socket(fileno=client.transport.get_extra_info("socket").fileno())
    try:
        return sock.recv(size, flags)
    except OSError:
        return b""
    finally:
        sock.detach()
