"""The listening sockets of all workers: bound once, held as long as shunt runs, and handed to one worker after another.

Knows: which socket is whose, and when the kernel has clients wait, spreads them or refuses them. Refuses to know:
accepting (``net.listener``) and processes.

Each worker's place has TCP sockets of its own on the same ports (SO_REUSEPORT); the kernel spreads clients over those
that listen. A worker that dies leaves its sockets listening here: who comes meanwhile waits for its successor. A unix
socket is one for all. It can't refuse and listen again, so its file steps aside while no worker has a backend: clients
are then refused by ENOENT, as with a single worker.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import replace
from pathlib import Path

from proxy.address import Address
from proxy.net import listener

#: What is added to a unix socket's path while clients are refused.
ASIDE = ".refusing"


class Doors:
    """All sockets of all places. ``sockets[place][address]`` are those for one of the configuration's addresses."""

    def __init__(self) -> None:
        self.sockets: list[list[list[socket.socket]]] = []
        self._unix: dict[str, socket.socket] = {}
        self._aside = False

    async def bind(self, addresses: list[Address], places: int) -> None:
        """Takes every address, without accepting yet. Raises listener.ListenError."""
        self.sockets = [[] for _ in range(places)]
        for address in addresses:
            for place, sockets in enumerate(await self._bind(address, places)):
                self.sockets[place].append(sockets)

    async def _bind(self, address: Address, places: int) -> list[list[socket.socket]]:
        if address.scheme == "unix":
            with contextlib.suppress(OSError):
                os.unlink(address.path + ASIDE)
            shared = await listener.bind(address)
            self._unix[address.path] = shared[0]
            return [shared] * places
        # First without sharing: another shunt of the same user on this port would not be noticed otherwise.
        for each in await listener.bind(address):
            port = each.getsockname()[1]
            each.close()
        there = replace(address, port=port)
        return [await listener.bind(there, shared=True) for _ in range(places)]

    def shut(self, place: int) -> None:
        """Has the kernel pass this place's clients by, until its next worker listens. For a place that stays empty."""
        for sockets in self.sockets[place]:
            for each in sockets:
                if each.family != socket.AF_UNIX:
                    listener.shut(each)

    def set_aside(self, aside: bool) -> None:
        """Has clients of unix sockets refused, or let in again. Those that wait to be accepted are closed."""
        if aside == self._aside:
            return
        self._aside = aside
        for path, shared in self._unix.items():
            there = path if aside else path + ASIDE
            with contextlib.suppress(OSError):
                if Path(there).is_socket():
                    os.rename(there, path + ASIDE if aside else path)
            if aside:
                _turn_away(shared)

    def close(self) -> None:
        """Gives every address up."""
        for place in self.sockets:
            for sockets in place:
                for each in sockets:
                    each.close()
        for path in self._unix:
            with contextlib.suppress(OSError):
                os.unlink(path + ASIDE if self._aside else path)
        self.sockets, self._unix = [], {}


def _turn_away(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):  # nobody waits any more, or it never listened
        while True:
            listening.accept()[0].close()
