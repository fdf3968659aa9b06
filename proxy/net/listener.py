"""Listening sockets that can refuse: shut while the backend is down, open again when it is up.

Knows: accepting, and how a listening socket refuses without being given up. Refuses to know: what is served.

A client that meets a Redis that is down is refused by the kernel, tries again at its own pace, and logs one line. One
that is accepted and then closed tries again at once: redis-rb 4 made 29,251 connections in 5 s of that. So a listener
whose backend is down must not accept. For TCP, ``shutdown`` on the listening socket keeps port and options, and
``listen`` opens it again; a unix socket can't be reopened that way and is made anew.
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

    def __init__(self, address: Address, on_accept: Accept) -> None:
        self.address = address
        self.open = False
        self._on_accept = on_accept
        self._sockets: list[socket.socket] = []
        self._unix_clients = 0

    async def bind(self) -> None:
        """Take the address, without accepting yet. Raises ListenError."""
        try:
            if self.address.scheme == "unix":
                self._sockets = [_bind_unix(self.address.path)]
            else:
                self._sockets = await _bind_tcp(self.address)
        except OSError as error:
            raise ListenError(
                f"--listen {self.address}: {error.strerror or error}; choose another address or stop what uses it"
            ) from None

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
        if not self.open:
            return
        self.open = False
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.remove_reader(each)
        if self.address.scheme == "unix":
            self.close()
            return
        for each in self._sockets:
            each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the address up."""
        if self.open:
            self.open = False
            for each in self._sockets:
                asyncio.get_running_loop().remove_reader(each)
        for each in self._sockets:
            each.close()
        if self._sockets and self.address.scheme == "unix":
            _unlink(self.address.path)
        self._sockets = []

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


async def _bind_tcp(address: Address) -> list[socket.socket]:
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
