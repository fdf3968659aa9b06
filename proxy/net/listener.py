"""Listening sockets that can refuse: shut while the backend is down, open again when it is up.

Knows: accepting, and how a listening socket refuses without being given up. Refuses to know: what is served.

A client that meets a Redis that is down is refused by the kernel, tries again at its own pace, and logs one line. One
that is accepted and then closed tries again at once: redis-rb 4 made 29,251 connections in 5 s of that. So a listener
whose backend is down must not accept. For TCP, ``shutdown`` on the listening socket keeps port and options, and
``listen`` opens it again; a unix socket can't be reopened that way and is made anew.

A socket that was given by a supervisor is the supervisor's: its file is never removed here. A TCP one has one owner at
a time, which refuses as above. A unix one is shared by all workers: one that refuses only accepts no more, and the
supervisor takes the file away when none accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable

from proxy.address import Address

_log = logging.getLogger(__name__)

BACKLOG = 4096
#: Connections accepted before the loop gets its turn again.
ACCEPT_BATCH = 64
#: Out of descriptors: accept again after this long, seconds.
PAUSE_S = 0.1

Accept = Callable[[socket.socket, str], None]


class ListenError(Exception):
    """An address can't be listened on: one line with what to do."""


class Listener:
    """One ``--listen`` address. ``on_accept(socket, label)`` gets each new client's socket and printable address."""

    def __init__(self, address: Address, on_accept: Accept, given: list[socket.socket] | None = None) -> None:
        """``given``: sockets that are bound already, for this address."""
        self.address = address
        self.open = False
        self._on_accept = on_accept
        self._sockets: list[socket.socket] = given or []
        self._given = given is not None
        self._unix_clients = 0

    async def bind(self) -> None:
        """Take the address, without accepting yet. Raises ListenError."""
        if not self._given:
            self._sockets = await bind(self.address)

    @property
    def port(self) -> int:
        """The TCP port as bound; 0 for a unix socket."""
        if self.address.scheme == "unix":
            return 0
        return int(self._sockets[0].getsockname()[1])

    def resume(self) -> None:
        """Accept clients."""
        if self.open:
            return
        if not self._sockets:
            self._sockets = [_bind_unix(self.address.path)]
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            each.listen(BACKLOG)
            loop.add_reader(each, self._readable, each)
        self.open = True

    def refuse(self) -> None:
        """Have the kernel refuse clients, those that wait to be accepted too."""
        was_open = self.open
        self._stop_reading()
        if self.address.scheme != "unix":
            for each in self._sockets:
                shut(each)
        elif was_open and not self._given:
            self.close()

    def close(self) -> None:
        """Give the address up."""
        self._stop_reading()
        for each in self._sockets:
            each.close()
        if self._sockets and self.address.scheme == "unix" and not self._given:
            _unlink(self.address.path)
        self._sockets = []

    def _stop_reading(self) -> None:
        if self.open:
            self.open = False
            for each in self._sockets:
                asyncio.get_running_loop().remove_reader(each)

    def _readable(self, listening: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                client, peer = listening.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            client.setblocking(False)
            self._on_accept(client, self._label(peer))

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """accept failed: without this, a full table of descriptors would spin the loop."""
        loop = asyncio.get_running_loop()
        level = logging.ERROR if error.errno in (errno.EMFILE, errno.ENFILE) else logging.WARNING
        _log.log(level, "listener %s: can't accept: %s; raise LimitNOFILE or lower --max-clients",
                 self.address.label, error.strerror)  # fmt: skip
        loop.remove_reader(listening)
        loop.call_later(PAUSE_S, self._unpause, listening)

    def _unpause(self, listening: socket.socket) -> None:
        if self.open and listening in self._sockets:
            asyncio.get_running_loop().add_reader(listening, self._readable, listening)

    def _label(self, peer: object) -> str:
        if isinstance(peer, tuple):
            host, port = peer[0], peer[1]
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._unix_clients += 1
        return f"unix:{self._unix_clients}"


def shut(listening: socket.socket) -> None:
    """Have the kernel refuse clients of a TCP socket, those that wait to be accepted too, until ``listen``."""
    if listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        listening.shutdown(socket.SHUT_RDWR)


async def bind(address: Address, *, shared: bool = False) -> list[socket.socket]:
    """Sockets for ``address``, bound and not yet listening. ``shared``: each call gets TCP sockets of its own on the
    same port, and the kernel spreads clients over those that listen. Raises ListenError."""
    try:
        return [_bind_unix(address.path)] if address.scheme == "unix" else await _bind_tcp(address, shared)
    except OSError as error:
        raise ListenError(
            f"--listen {address}: {error.strerror or error}; choose another address or stop what uses it"
        ) from None


async def _bind_tcp(address: Address, shared: bool) -> list[socket.socket]:
    found = await asyncio.get_running_loop().getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    port = address.port
    try:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            each = socket.socket(family, kind, protocol)
            sockets.append(each)
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind((place[0], port, *place[2:]))
            port = each.getsockname()[1]
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


def _bind_unix(path: str) -> socket.socket:
    """A socket file left behind by a process that is gone is replaced; one that is in use, or no socket, is not."""
    each = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    each.setblocking(False)
    try:
        if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):
            os.unlink(path)
        each.bind(path)
    except OSError:
        each.close()
        raise
    return each


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as each:
        try:
            each.connect(path)
        except ConnectionRefusedError:
            return False
    return True


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
