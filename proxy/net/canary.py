"""Clients that were chosen by SPLIT: a connection to the backend, and one to the target for their reads.

Knows: that the target's connection is brought into the client's state, and has shown that it takes it, before any
command goes there; and that whatever goes wrong with it, the client goes back to the backend. Refuses to know: which
command goes where (``engine.canary``), who is chosen, and how long a split lasts (``splitting``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import hiredis

from proxy.engine.access import Access, encode
from proxy.engine.canary import Canary, CanarySession
from proxy.engine.canary_commands import STUCK, UNREACHABLE
from proxy.engine.recorder import Recorder
from proxy.engine.session import Session
from proxy.net.backend import Backend
from proxy.net.client import Client
from proxy.net.endpoint import ReadBuffer, Traffic, now_ns
from proxy.net.routing import RoutedBackend, RoutedClient, Told, Ways, Words
from proxy.net.upstream import BackendDown

#: What a new connection is told first must be answered within this time, seconds.
ANSWER_S = 1.0


@dataclass(frozen=True, slots=True)
class Split:
    """What the clients of one split are made of. ``ways``: to the backend and to the target. ``chooses(label)``:
    whether a client that comes now is chosen; asked once for each."""

    canary: Canary
    ways: Ways
    chooses: Callable[[str], bool]

    def session(self, recorder: Recorder, label: str, access: Access | None) -> CanarySession | None:
        """A new client's, if it is chosen. ``access``: as the listener and the backend have it."""
        if not self.canary.on or not self.chooses(label):
            return None
        accesses = [] if access is None else [access, replace(access, prelude=self.ways.ways[1].prelude)]
        marks = [way.mark for way in self.ways.ways]
        return CanarySession(recorder, label.encode(), accesses, self.ways.table, marks, self.canary)

    def backend(self, session: Session | None, buffer: ReadBuffer, traffic: Traffic) -> CanaryBackend:
        """The end of a connection for one of them."""
        made = CanaryBackend(session, buffer, traffic)
        made.split = self
        return made

    def client(
        self,
        session: Session,
        first: CanaryBackend,
        buffer: ReadBuffer,
        traffic: Traffic,
        on_made: Callable[[Client], None],
        on_lost: Callable[[Client], bool | None],
    ) -> CanaryClient:
        """One of them; ``first``: its connection to the backend."""
        made = CanaryClient(session, buffer, traffic, on_made, on_lost)
        made.open(self.ways, first, lambda: self.backend(None, buffer, traffic))
        return made


class CanaryBackend(RoutedBackend):
    """A connection to the backend (``place`` 0) or to the target."""

    split: Split
    _reader: hiredis.Reader
    _due = 0
    _answered: asyncio.Future[None] | None = None

    async def ask(self, commands: Sequence[Words]) -> None:
        """Have it told something, and wait for the answers, while it carries no client's commands. Raises BackendDown:
        one is refused, or does not come."""
        self._reader, self._due = hiredis.Reader(), len(commands)
        self._answered = asyncio.get_running_loop().create_future()
        self.write(b"".join(encode(words) for words in commands))
        if self.lost:
            raise BackendDown("it closed the connection")
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._answered
        except TimeoutError:
            self.abort()
            raise BackendDown(f"no answer within {ANSWER_S:g} s") from None
        finally:
            self._answered = None

    def buffer_updated(self, n: int) -> None:
        if self._answered is None and not self.kept:
            Backend.buffer_updated(self, n)  # what RoutedBackend does beside it is in ``look``
            client = self.peer
            if isinstance(client, CanaryClient):
                client.look()
        elif self._answered is None:
            self.abort()
        elif not self._answered.done():
            self._hear(bytes(memoryview(cast(bytearray, self.get_buffer(-1)))[:n]))

    def _hear(self, data: bytes) -> None:
        assert self._answered is not None
        try:
            self._reader.feed(data)
            while self._due and (said := self._reader.gets()) is not False:
                if isinstance(said, hiredis.ReplyError):
                    self._answered.set_exception(BackendDown(str(said)))
                    return
                self._due -= 1
        except hiredis.ProtocolError as error:
            self._answered.set_exception(BackendDown(f"it does not speak RESP: {error}"))
            return
        if not self._due:
            self._answered.set_result(None)

    def eof_received(self) -> bool:
        return False if self._survived() else bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._survived():
            self.mark_lost()
            return
        super().connection_lost(exc)

    def _survived(self) -> bool:
        """Whether its client goes on without it."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(BackendDown("it closed the connection"))
        client = self.peer
        return self.place > 0 and isinstance(client, CanaryClient) and client.outlives()


class CanaryClient(RoutedClient):
    """A client that was chosen. Nothing of it is ever refused for the split's sake."""

    session: CanarySession

    def buffer_updated(self, n: int) -> None:
        Client.buffer_updated(self, n)
        self.look()

    def come_home(self) -> None:
        """The split is over."""
        self.session.recall()
        self.go_over()

    def stalls(self, longest_s: float) -> bool:
        """Whether the target has not begun to answer for so long, although its answer would be taken."""
        asked_ns = self.session.asked_ns
        held = self.peer is not None and self.peer.reading_held
        return 0 <= asked_ns < now_ns() - longest_s * 1e9 and not held

    def cut_off(self) -> None:
        """Do without the target's answer."""
        if self.session.here and self.peer is not None:
            self.peer.abort()

    def outlives(self) -> bool:
        """The connection to the target, where it stands, has ended: whether it goes back, unharmed."""
        session = self.session
        if self.lost or self.closing or session.ending or not session.reclaim(now_ns()):
            return False
        self.go_over()
        return True

    def move(self, backend: Backend) -> None:
        kept = [end for end in self.ends.values() if end is not self.peer]
        super().move(backend)
        for end in kept:
            end.abort()
        self.ends = {0: cast(RoutedBackend, backend)}  # it goes over to no other any more
        self.session.settled()

    def look(self) -> None:
        """After each read: go where it must. Where it stands at the target and its commands are no longer told from
        each other, it is closed."""
        session = self.session
        if session.want >= 0:
            self.go_over()
        elif session.here:
            if session.piped:
                self.close()
        elif len(self.ends) > 1 and session.over:
            self._forget_target()

    # ---- going over -------------------------------------------------------------------------------------------------

    def go_over(self) -> None:
        super().go_over()
        if len(self.ends) > 1 and not self.session.here and self.session.over:
            self._forget_target()

    def _forget_target(self) -> None:
        if self._going is None:
            self.ends.pop(1).abort()

    def _step(self) -> None:
        session = self.session
        place = session.want
        if place == session.here:
            session.go_on(place, (), now_ns())
            self._send()
        elif place and not session.joins():
            self._remain()
        elif session.stuck is not None:
            self._cant_leave()
        elif self._is_ready(place):
            self._go(self.ends[place])
        else:
            self._going = asyncio.create_task(self._prepare(place))

    def _is_ready(self, place: int) -> bool:
        end = self.ends.get(place)
        return not (end is None or end.lost or end.closing or end.before) and end.told == Told.of(self.session)

    def _cant_leave(self) -> None:
        if self.session.here:
            self.close()
            return
        self.session.leave_split(STUCK)
        self._remain()

    def _remain(self) -> None:
        """What waits goes to the backend."""
        self.session.stay("", "", now_ns())
        self._send()

    async def _prepare(self, place: int) -> None:
        """Have a connection there, in the client's state."""
        try:
            await self._reach(place)
        except BackendDown:
            self._going = None
            if not place:
                self.close()  # it has no Redis: as every client whose backend is gone
                return
            self.session.leave_split(UNREACHABLE)
        self._going = None
        self.go_over()

    async def _reach(self, place: int) -> None:
        """Raises BackendDown."""
        end: Any = self.ends.get(place)
        proof: list[Words] = []
        if end is None or end.lost or end.closing:
            way = self._ways.ways[place]
            end = await way.upstream.connect(self._new)
            if self.lost:
                end.abort()
                raise BackendDown("its client has gone")
            end.place, end.upstream, end.before, end.kept = place, way.upstream, way.login, True
            self.ends[place] = end  # from here on it ends with the client
            proof = [(b"PING",)]  # a server without room accepts, says so and closes
        now = Told.of(self.session)
        words = [*end.before, *end.told.then(now), *proof]
        if words:
            await end.ask(words)
        end.before, end.told = (), now
