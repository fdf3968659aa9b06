"""Clients of a shunt with several backends: going over from one connection to another, and back.

Knows: that a client has a connection to each backend that it has needed so far, what each was last told of the
client's state, and when a client is not read because a class is held. Refuses to know: which command goes where, and
which belongs to what class (``engine.routed``), and why traffic is held.

A client goes over when nothing of it is in flight. The connection that it leaves is kept: coming back costs nothing but
what has changed meanwhile (database, name, protocol). Nothing comes on a connection that is kept, so one that speaks is
closed. All of them end with the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from proxy.engine.access import Access
from proxy.engine.recorder import Recorder
from proxy.engine.routed import HERE, Gates, RoutedSession
from proxy.net.backend import Backend
from proxy.net.client import Client
from proxy.net.endpoint import HOLD_CLASS, HOLD_GATE, HOLD_PEER_FULL, HOLD_ROUTE, Endpoint, now_ns
from proxy.net.upstream import BackendDown, Upstream
from proxy.routing.table import Table

Words = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """To one backend. ``prelude``: AUTH and SELECT, as its URL has them; ``mark``: its number in the capture."""

    upstream: Upstream
    prelude: tuple[Words, ...]
    mark: int = 0

    @property
    def login(self) -> tuple[Words, ...]:
        """AUTH alone."""
        return tuple(each for each in self.prelude if each[0] == b"AUTH")


@dataclass(frozen=True, slots=True)
class Ways:
    """To every backend, in the order of ``table.backends``. ``home``: the database that all their URLs name;
    ``splits``: what can be sent in parts is; ``gates``: the classes that are held."""

    table: Table
    ways: Sequence[Way]
    home: int
    splits: bool = False
    gates: Gates = field(default_factory=Gates)

    def session(self, recorder: Recorder, addr: bytes, access: Access | None) -> RoutedSession:
        """A new client's. ``access``: as the listener and the first backend have it."""
        accesses = [] if access is None else [replace(access, prelude=way.prelude) for way in self.ways]
        marks = [way.mark for way in self.ways]
        return RoutedSession(recorder, addr, accesses, self.table, marks, self.splits, self.gates)

    def watch(self) -> None:
        """Find out whether the backends beside the first are up, for the log."""
        for way in self.ways[1:]:
            way.upstream.watch()

    async def close(self) -> None:
        """End what is going on at the backends beside the first."""
        for way in self.ways[1:]:
            await way.upstream.close()


@dataclass(frozen=True, slots=True)
class Told:
    """What a connection was last told of its client."""

    resp3: bool = False
    name: bytes = b""
    db: int = 0

    @classmethod
    def of(cls, session: RoutedSession) -> Told:
        """What the client is now."""
        return cls(session.resp3_on, session.name, session.db)

    def then(self, now: Told) -> Iterable[Words]:
        """The commands that make ``now`` of it; a reply each."""
        if now.resp3 != self.resp3:
            yield b"HELLO", b"3" if now.resp3 else b"2"
        if now.name != self.name:
            yield b"CLIENT", b"SETNAME", now.name
        if now.db != self.db:
            yield b"SELECT", b"%d" % now.db


class RoutedBackend(Backend):
    """A connection to one of the backends. ``place``: which, and ``upstream`` the same, None: the first.

    ``backend_id``: its CLIENT ID, -1: not known. ``kept``: the client stands elsewhere."""

    place = 0
    upstream: Upstream | None = None
    backend_id = -1
    kept = False
    told = Told()
    before: tuple[Words, ...] = ()  # what it must be told first

    def buffer_updated(self, n: int) -> None:
        if self.kept:
            self.abort()
            return
        super().buffer_updated(n)
        client = self.peer
        if isinstance(client, RoutedClient):
            client.go_over()


class RoutedClient(Client):
    """A client that goes from backend to backend. ``open`` it before it is read."""

    session: RoutedSession
    ends: dict[int, RoutedBackend]
    _ways: Ways
    _new: Callable[[], RoutedBackend]
    _gated = False
    _going: asyncio.Task[None] | None = None
    _left = False

    def open(self, ways: Ways, first: RoutedBackend, new: Callable[[], RoutedBackend]) -> None:
        """``first``: its connection to the first backend; ``new``: makes another one's end."""
        self._ways = ways
        self._new = new
        self.ends = {0: first}
        self.attach(first)

    @property
    def place(self) -> str:
        """The name of the backend where it stands."""
        return self._ways.table.backends[self.session.here]

    # ---- asyncio's side ---------------------------------------------------------------------------------------------

    def buffer_updated(self, n: int) -> None:
        super().buffer_updated(n)
        self.go_over()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._going is not None:
            self._going.cancel()
        kept = [end for end in self.ends.values() if end is not self.peer]
        super().connection_lost(exc)
        for end in kept:
            end.abort()

    # ---- held -------------------------------------------------------------------------------------------------------

    def hold_reading(self, reason: int) -> None:
        self._gated = self._gated or reason == HOLD_GATE
        super().hold_reading(reason)

    def release_reading(self, reason: int) -> None:
        super().release_reading(reason)
        if reason == HOLD_GATE and self._gated:
            self._gated = False
            self.look_again()

    def look_again(self) -> None:
        """A class, or all traffic, was released: go on, unless what comes next is still held."""
        if self.session.waits and not (self._gated or self.lost or self.closing):
            self.session.look_again(now_ns())
            self._send()
        self.heed()
        self.go_over()

    def heed(self) -> None:
        """Don't be read while what comes next is held, or while a fetch with keys of a held class is to be ended."""
        session = self.session
        if session.waits or (session.blocked and session.busy(self._ways.gates.held)):
            self.hold_reading(HOLD_CLASS)
        else:
            self.release_reading(HOLD_CLASS)

    # ---- going over -------------------------------------------------------------------------------------------------

    def go_over(self) -> None:
        """Go where its next command belongs, if that is elsewhere, as soon as nothing is in flight."""
        session = self.session
        if session.want == HERE or self.lost or self.closing:
            return
        if session.waits:
            self.hold_reading(HOLD_CLASS)
            return
        self.hold_reading(HOLD_ROUTE)
        while session.want >= 0 and session.in_flight == 0 and not (self._gated or self._going or self.closing):
            self._step()
        if session.waits:
            self.hold_reading(HOLD_CLASS)
        if session.want < 0:
            self.release_reading(HOLD_ROUTE)

    def _step(self) -> None:
        """What comes next on the way to ``want``."""
        session = self.session
        name = self._ways.table.backends[session.want]
        stuck = session.stuck
        end = self.ends.get(session.want)
        if stuck is not None:
            self._stay("stuck", f"this connection stays at backend {self.place}: {stuck}")
        elif session.want == session.here:
            session.go_on(session.here, (), now_ns())
            self._send()
        elif end is None or end.lost or end.closing:
            self._going = asyncio.create_task(self._connect(session.want, name))
        elif not self._left and (words := session.leave()):
            self._left = True
            self._tell(words)
        else:
            self._go(end)

    async def _connect(self, place: int, name: str) -> None:
        try:
            end = await self._ways.ways[place].upstream.connect(self._new)
        except BackendDown as error:
            self._going = None
            if not (self.lost or self.closing or self._gated):  # who is held tries again at the release
                self._stay("unreachable", f"backend {name} can't be connected to: {error}")
                self.go_over()
            return
        self._going = None
        if self.lost:
            end.abort()
            return
        end.place, end.upstream = place, self._ways.ways[place].upstream
        end.before = self._ways.ways[place].login
        end.kept = True
        self.ends[place] = end
        self.go_over()

    def _go(self, end: RoutedBackend) -> None:
        session = self.session
        old = self.peer
        assert isinstance(old, RoutedBackend)
        now = Told.of(session)
        old.told, old.backend_id, old.kept = now, session.backend_id, True
        old.detach()
        full = old.reading_held
        old.release_reading(HOLD_PEER_FULL)
        self.attach(end)
        self.release_reading(HOLD_PEER_FULL)
        end.adopt(session)
        end.kept = self._left = False
        if full:
            end.hold_reading(HOLD_PEER_FULL)
        session.moved(end.backend_id, self._ways.home)
        session.go_on(end.place, [*end.before, *end.told.then(now)], now_ns())
        end.before = ()
        self._send()

    def _stay(self, kind: str, why: str) -> None:
        self._left = False
        self.session.stay(kind, why, now_ns())
        self._send()

    def _send(self) -> None:
        session = self.session
        self._tell(b"".join(session.to_backend))
        answers = b"".join(session.to_client)
        if answers:
            self.write(answers)
        if session.close_after and session.in_flight == 0:
            self.close()

    def _tell(self, words: bytes) -> None:
        if words and self.peer is not None:
            self.peer.write(words)


def end_at_first(client: Client) -> Endpoint | None:
    """A client's connection to the first backend."""
    return client.ends[0] if isinstance(client, RoutedClient) else client.peer
