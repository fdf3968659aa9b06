"""The clients of one worker on their way to another backend: new connections, brought into each client's state.

Knows: how a connection gets the state that its client has (protocol, database, name, subscriptions, CLIENT TRACKING,
WATCH), and how a client goes over to it. Refuses to know: why and when (``cutover.switching``), and the way back: until
``go`` nothing of a client has changed, and ``abandon`` leaves no trace.

``warm`` is for the time before the hold, when connecting may take long. ``introduce`` runs while traffic is held: one
round trip for all clients at once. ``go`` waits for nothing.

A client whose state can't be made again is closed by ``go``, between two commands: it connects anew, to the target.
WATCH is made again on a key that ``spoil`` then changes: whatever happened to the watched keys, its EXEC answers nil.

A client that shares connections is brought over only if it keeps one of its own at that moment; any other needs nothing
but that the pool opens its connections elsewhere from then on. How many there may be is the pool's to say.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hiredis
from redis.exceptions import RedisError

from proxy.engine.access import encode
from proxy.net.backend import Backend
from proxy.net.client import Client
from proxy.net.reception import Reception
from proxy.net.sharing import PooledClient, PrivateBackend
from proxy.net.upstream import BackendDown, Upstream
from proxy.routing.route import Moved

_log = logging.getLogger(__name__)

#: Connections that are opened at the same time; more would look like an attack to the target.
AT_ONCE = 64
#: Connections beyond those of the clients that are there: for those who come before the hold.
SPARE = 8
#: The key that spoils WATCH is gone after this time even if it can't be deleted, milliseconds.
FENCE_MS = 1000
#: What a client with CLIENT TRACKING must hear: nothing that it has cached may be trusted any more.
ALL_INVALID = b">2\r\n$10\r\ninvalidate\r\n_\r\n"
#: First items of what Redis says unasked.
_UNASKED = {b"message", b"pmessage", b"smessage", b"invalidate"}

Commands = Sequence[Sequence[bytes]]


class CantMove(Exception):
    """The clients can't be moved: one line, with what to do."""


@dataclass(frozen=True)
class Place:
    """Where clients go. ``login``: AUTH as the target's URL has it; ``home``: the database that the URL names."""

    upstream: Upstream
    login: tuple[tuple[bytes, ...], ...]
    home: int


class Newcomer:
    """A connection to the target that has no client yet. ``state``: what it was told after AUTH."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.backend_id = -1
        self.state: Commands = ()
        self._reader = hiredis.Reader()
        self._due = 0
        self._said: list[Any] = []
        self._done: asyncio.Future[None] | None = None

    async def tell(self, commands: Commands) -> list[Any]:
        """The replies to these commands. Raises CantMove: one is an error, or the connection ended."""
        if not commands:
            return []
        self._due, self._said = sum(_replies(command) for command in commands), []
        self._done = asyncio.get_running_loop().create_future()
        self.backend.tell(b"".join(encode(command) for command in commands), self._hear)
        if self.backend.lost:
            raise CantMove("the target closed a connection")
        await self._done
        for said in self._said:
            if isinstance(said, hiredis.ReplyError):
                raise CantMove(f"the target refuses {_name(commands)}: {said}")
        return self._said

    def _hear(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            return
        if not data:
            self._done.set_exception(CantMove("the target closed a connection"))
            return
        self._reader.feed(data)
        try:
            while (said := self._reader.gets()) is not False:
                if not (isinstance(said, list) and said and said[0] in _UNASKED):
                    self._said.append(said)
        except hiredis.ProtocolError as error:
            self._done.set_exception(CantMove(f"the target does not speak RESP: {error}"))
            return
        if len(self._said) >= self._due:
            self._done.set_result(None)


class Moving:
    """From ``warm`` to ``go`` or ``abandon``; used once."""

    def __init__(self, reception: Reception, place: Place) -> None:
        self._reception = reception
        self._place = place
        self._warm: list[Newcomer] = []
        self._for: dict[Client, Newcomer] = {}
        self._watching: list[Client] = []
        self._lent: list[PrivateBackend] = []  # to clients that share, by ``go``
        self._fence = b"shunt:fence:" + secrets.token_hex(8).encode()
        self._closed: list[str] = []

    # ---- before the hold ---------------------------------------------------------------------------------------------

    async def warm(self) -> int:
        """Open a connection for every client that keeps one. Returns how many. Raises CantMove."""
        await self._open(self._needed())
        return len(self._warm)

    def _needed(self) -> int:
        pool, clients = self._reception.pool, self._reception.clients
        if pool is None:
            return len(clients) + SPARE
        keep = sum(isinstance(client, PooledClient) and client.session.keeps_private for client in clients)
        return keep + SPARE if pool.most is None else min(keep + SPARE, pool.most)

    async def _open(self, count: int) -> None:
        limit = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with limit:
                self._warm.append(await self._connect())

        results = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
        failed = next((each for each in results if isinstance(each, BaseException)), None)
        if failed is not None:
            raise failed

    async def _connect(self) -> Newcomer:
        try:
            backend = await self._place.upstream.connect(self._reception.new_backend)
        except BackendDown as error:
            raise CantMove(f"{self._place.upstream.address.label} can't be connected to: {error}") from None
        newcomer = Newcomer(backend)
        try:
            await newcomer.tell(self._place.login)
        except BaseException:
            backend.abort()
            raise
        return newcomer

    # ---- while held --------------------------------------------------------------------------------------------------

    async def introduce(self) -> None:
        """Bring a connection into each client's state. Raises CantMove."""
        self._forget_lost()
        movable = [client for client in self._reception.clients if self._can_move(client)]
        missing = len(movable) - len(self._warm)
        if missing > 0:
            await self._open(missing)
        work = []
        for client in movable:
            newcomer = self._for[client] = self._warm.pop()
            newcomer.state = client.session.settings(self._place.home)
            work.append(self._settle(newcomer, client))
        for failed in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed

    def _can_move(self, client: Client) -> bool:
        session = client.session
        if client.lost or client.closing:
            return False
        if session.unanswered:
            raise CantMove(
                f"client {session.addr.decode(errors='replace')} uses CLIENT REPLY, so nothing tells whether what it "
                "sent has been run; shunt kill it, and try again"
            )
        if isinstance(client, PooledClient) and client.peer is None:
            return False
        rooted = _rooted(client)
        if rooted is not None:
            self._close_later(client, rooted)
        return rooted is None

    def _close_later(self, client: Client, why: str) -> None:
        self._closed.append(f"{client.session.addr.decode(errors='replace')}: {why}")

    async def _settle(self, newcomer: Newcomer, client: Client) -> None:
        commands: list[Sequence[bytes]] = []
        own = client.session.key()[2] if isinstance(client, PooledClient) else None
        if own is not None:
            commands.append((b"AUTH", *own))
        if client.session.watching:
            commands.append((b"WATCH", self._fence))  # in the database that the connection is in at first
            self._watching.append(client)
        commands += newcomer.state
        for said in await newcomer.tell(commands):
            if isinstance(said, dict) and isinstance(said.get(b"id"), int):
                newcomer.backend_id = said[b"id"]

    async def spoil(self) -> None:
        """Have every EXEC of a client that watched keys answer nil. The target must take writes. Raises CantMove."""
        if not self._watching:
            return
        control = self._place.upstream.control()
        try:
            # Deleted at once: a key that expires later would look like a write of somebody else to the next switch.
            await control.set(self._fence, b"", px=FENCE_MS)
            await control.delete(self._fence)
        except (RedisError, OSError) as error:
            raise CantMove(f"the target refuses to set the key {self._fence.decode()}: {error}") from None
        finally:
            await control.aclose()

    def go(self) -> Moved:
        """Every client's next command goes to its new connection. Waits for nothing, and can't fail."""
        moved = sum(self._takes_along(client) for client in list(self._reception.clients))
        if self._reception.pool is not None:
            self._reception.pool.move(self._place.login, self._lent)
        self._reception.moved()
        self.abandon()
        return Moved(moved, tuple(self._closed))

    def _takes_along(self, client: Client) -> bool:
        if isinstance(client, PooledClient) and client.peer is None:
            client.session.moved(-1, self._place.home)  # its next command gets a connection to the target
            return True
        newcomer = self._for.get(client)
        if newcomer is None or newcomer.backend.lost or client.closing or _rooted(client) is not None:
            client.close()
            return False
        del self._for[client]
        self._go(client, newcomer)
        return True

    def _go(self, client: Client, newcomer: Newcomer) -> None:
        if isinstance(newcomer.backend, PrivateBackend):
            self._lent.append(newcomer.backend)
        client.move(newcomer.backend)
        client.session.moved(newcomer.backend_id, self._place.home)
        if client.session.tracks_keys and client.session.resp3_on:
            client.write(ALL_INVALID)

    # ---- the way back ------------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Close what was opened and no client has; the clients stay where they are."""
        for newcomer in [*self._for.values(), *self._warm]:
            newcomer.backend.abort()
        self._for.clear()
        self._warm.clear()

    def _forget_lost(self) -> None:
        self._warm = [newcomer for newcomer in self._warm if not newcomer.backend.lost]


def _rooted(client: Client) -> str | None:
    """Why its state can't be made again; None: it can. Who shares has its credentials kept, and gives them again."""
    if client.session.logged_in_itself and not isinstance(client, PooledClient):
        return "it logged in with credentials of its own, which are not kept"
    return client.session.rooted


def _replies(command: Sequence[bytes]) -> int:
    """How many replies a command has: one, or one for each channel."""
    return len(command) - 1 if command[0].endswith(b"SUBSCRIBE") else 1


def _name(commands: Commands) -> str:
    return ", ".join(dict.fromkeys(command[0].decode(errors="replace") for command in commands))
