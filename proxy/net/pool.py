"""Backend connections where clients share them: opened, lent, taken back, and counted against a limit.

Knows: shared connections (*trunks*) by what their clients have in common, idle ones that the next client may have, and
who waits for one. Refuses to know: RESP, and which command needs what (``engine.pooled``).

``key``: (RESP3, database, credentials of the client's own or None). A connection with the same credentials can be made
to fit another key by HELLO and SELECT; one with others can't.
"""

# Over 300 lines: one count of connections, and everything that changes it.
from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from proxy.engine.pooling import NO_CONNECTION, Key
from proxy.engine.recorder import Recorder
from proxy.net.endpoint import ReadBuffer, Traffic, now_ns
from proxy.net.sharing import PooledClient, PrivateBackend, Trunk
from proxy.net.upstream import BackendDown, Upstream

_log = logging.getLogger(__name__)

#: A connection that nobody has used for so long is closed, seconds.
IDLE_S = 60.0
#: Of the private connections that have been idle for longer than SPARE_S, all but SPARE are closed.
SPARE = 4
SPARE_S = 5.0
#: A trunk that has carried nothing for so long gives way to a client that waits, seconds.
GIVE_WAY_S = 10.0
#: A connection whose other end does not close after ours is broken off, seconds.
END_S = 2.0

Commands = list[tuple[bytes, ...]]
Waiter: TypeAlias = PooledClient | Trunk


@dataclass(frozen=True, slots=True)
class Limits:
    """``size``: trunks for each key; ``most``: all connections at once, None: no limit; ``wait_s``: longest wait for
    one; ``client_buffer``: bytes that a client may leave unread."""

    size: int
    most: int | None
    wait_s: float
    client_buffer: int


@dataclass(slots=True)
class PoolStats:
    """Connections now (``shared``, ``private``, ``idle``, clients ``waiting``) and totals since start."""

    shared: int = 0
    private: int = 0
    idle: int = 0
    waiting: int = 0
    leases: int = 0
    waits: int = 0
    wait_s: float = 0.0
    wait_timeouts: int = 0
    clients_overflowed: int = 0


class Pool:
    """All backend connections of one worker. ``login``: what a new one is told first, as the backend's URL has it."""

    def __init__(
        self,
        upstream: Upstream,
        recorder: Recorder,
        buffer: ReadBuffer,
        traffic: Traffic,
        limits: Limits,
        login: Sequence[tuple[bytes, ...]] = (),
    ) -> None:
        self.client_buffer = limits.client_buffer
        self.overflowed = 0  # clients closed because they did not read
        self.recorder = recorder
        self.call_soon: Callable[..., object] = asyncio.get_running_loop().call_soon
        self._upstream = upstream
        self._buffer = buffer
        self._traffic = traffic
        self._limits = limits
        self._login = [command for command in login if command[0] == b"AUTH"]
        self._stats = PoolStats()
        self._trunks: dict[Key, list[Trunk]] = {}
        self._idle: deque[tuple[PrivateBackend, float]] = deque()
        self._private: set[PrivateBackend] = set()  # lent ones
        self._ending: dict[PrivateBackend | Trunk, float] = {}  # since when; they still count
        self._former: dict[PrivateBackend | Trunk, float] = {}  # the same of the backend before; they don't count
        self._opening = 0
        self._waiters: dict[Waiter, float] = {}  # since when, oldest first
        self._timers: dict[Waiter, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._held: asyncio.Event | None = None  # until it is set nothing is lent; who waits goes on waiting
        self._moves = 0  # to other backends

    def hold(self) -> None:
        """Lend and open nothing until ``go_on``."""
        self._held = self._held or asyncio.Event()

    def go_on(self) -> None:
        """Serve those who have waited."""
        held, self._held = self._held, None
        if held is not None:
            held.set()
        self._room_again()

    def new_private(self) -> PrivateBackend:
        """The end of a private connection that is to be opened. It counts once a client has it."""
        return PrivateBackend(None, self._buffer, self._traffic, self, None)

    @property
    def most(self) -> int | None:
        """Most connections that there may be; None: there is no limit."""
        return self._limits.most

    def move(self, login: Sequence[tuple[bytes, ...]], moved: Iterable[PrivateBackend]) -> None:
        """The upstream is another backend now: end what is connected to the old one. Traffic must be held, and clients
        that keep a private connection must have got one of ``moved``, or have been closed. ``login``: what a new
        connection is told first."""
        self._login = [command for command in login if command[0] == b"AUTH"]
        self._moves += 1
        for trunk in self._all_trunks():
            if trunk in self._waiters:
                self._stop_waiting(trunk)
                self._forget(trunk)
                trunk.fail("the backend is another one now")
            elif trunk.transport is None:  # its connection is being opened
                self._forget(trunk)
                trunk.fail("the backend is another one now")
            else:
                self._end_trunk(trunk, "the backend is another one now")
        while self._idle:
            self.retire(self._idle.popleft()[0])
        lent = set(moved)
        self._former.update(dict.fromkeys(self._private - lent, time.monotonic()))
        self._former.update(self._ending)
        self._private = lent
        self._ending.clear()

    # ---- shared -----------------------------------------------------------------------------------------------------

    def trunk(self, key: Key) -> Trunk:
        """A shared connection for clients with this key; it takes commands while it is being opened.

        The first one as long as it keeps up: the more clients share a write, the less it costs. The others are for
        when it doesn't: a long reply is under way, or its socket takes no more.
        """
        trunks = self._trunks.setdefault(key, [])
        for trunk in trunks:
            if not trunk.busy:
                return trunk
        if trunks and (len(trunks) >= self._limits.size or not self._has_room()):
            return min(trunks, key=lambda trunk: trunk.out_length)
        trunk = Trunk(None, self._buffer, self._traffic, self, key)
        trunk.first = not trunks
        trunk.introduce(self._greeting(key))
        trunks.append(trunk)
        self._want(trunk)
        return trunk

    def trunk_lost(self, trunk: Trunk) -> None:
        """A trunk's connection has ended; its clients have been closed."""
        if not self._closed and trunk in self._trunks.get(trunk.key, ()):
            _log.warning("backend %s: a shared connection ended: %s", self._upstream.address.label, trunk.failure)
            self._upstream.doubt()
        self._forget(trunk)
        self._ended(trunk)
        self._room_again()

    def _ended(self, connection: Trunk | PrivateBackend) -> None:
        self._ending.pop(connection, None)
        self._former.pop(connection, None)

    def _forget(self, trunk: Trunk) -> None:
        trunks = self._trunks.get(trunk.key, [])
        if trunk in trunks:
            trunks.remove(trunk)
        if trunks:
            trunks[0].first = True
        else:
            self._trunks.pop(trunk.key, None)

    def connections(self) -> list[Trunk | PrivateBackend]:
        """All of them, those that are ending too."""
        trunks = [trunk for trunks in self._trunks.values() for trunk in trunks]
        return [*trunks, *self._private, *(each for each, _ in self._idle), *self._ending, *self._former]

    # ---- private ----------------------------------------------------------------------------------------------------

    def lease(self, client: PooledClient) -> None:
        """Give the client a connection of its own: ``leased`` or ``not_leased`` is called, now or later."""
        self._stats.leases += 1
        found = None if self._waiters or self._held else self._take_idle(client.session.key())
        if found is None:
            self._want(client)
        else:
            self._hand(found, client)

    def give_back(self, backend: PrivateBackend, state: Key | None) -> None:
        """A client needs its connection no more, whose state now is as given."""
        if state is None or not backend.usable or self._closed or backend in self._former:
            self.retire(backend)
            return
        self._private.discard(backend)
        backend.give(state)
        self._idle.append((backend, time.monotonic()))
        self._room_again()

    def give_up(self, client: PooledClient) -> None:
        """A client that waits for a connection has gone."""
        self._stop_waiting(client)

    def retire(self, backend: PrivateBackend) -> None:
        """End a connection that nobody may have any more."""
        self._private.discard(backend)
        if not backend.lost:
            ending = self._former if backend in self._former else self._ending
            ending[backend] = time.monotonic()
            backend.retire()

    def private_lost(self, backend: PrivateBackend) -> None:
        """A private connection has ended."""
        self._private.discard(backend)
        self._ended(backend)
        self._idle = deque(entry for entry in self._idle if entry[0] is not backend)
        self._room_again()

    def refused(self, why: str) -> None:
        """The backend refused what a connection was told first."""
        _log.error("backend %s refuses a connection's first words: %s", self._upstream.address.label, why)

    def _hand(self, backend: PrivateBackend, client: PooledClient) -> None:
        assert backend.state is not None
        self._private.add(backend)
        client.leased(backend, _conversion(backend.state, client.session.key()))

    def _take_idle(self, key: Key) -> PrivateBackend | None:
        """An idle connection: one that fits if there is one, else one that can be made to, the last used first."""
        fits = None
        for backend, _ in reversed(self._idle):
            if not backend.usable:
                continue  # it is ending
            if backend.state == key:
                fits = backend
                break
            if fits is None and backend.state is not None and backend.state[2] == key[2]:
                fits = backend
        if fits is not None:
            self._idle = deque(entry for entry in self._idle if entry[0] is not fits)
        return fits

    # ---- room and waiting -------------------------------------------------------------------------------------------

    def _total(self) -> int:
        waiting = sum(isinstance(waiter, Trunk) for waiter in self._waiters)
        trunks = sum(len(trunks) for trunks in self._trunks.values()) - waiting
        return trunks + len(self._private) + len(self._idle) + self._opening + len(self._ending)

    def _has_room(self) -> bool:
        return self._limits.most is None or self._total() < self._limits.most

    def _want(self, waiter: Waiter) -> None:
        """Open a connection for the waiter as soon as there is room."""
        if isinstance(waiter, Trunk):  # first: many clients wait for it
            self._waiters = {waiter: time.monotonic(), **self._waiters}
        else:
            self._waiters[waiter] = time.monotonic()
        self._room_again()
        if waiter not in self._waiters:
            return
        self._stats.waits += 1
        loop = asyncio.get_running_loop()
        self._timers[waiter] = loop.call_later(self._limits.wait_s, self._timed_out, waiter)

    def _room_again(self) -> None:
        """Serve those who wait, in their order, as far as there are connections for them."""
        while self._waiters and not self._closed:
            waiter = next(iter(self._waiters))
            if self._held and not isinstance(waiter, Trunk):  # what a trunk is to carry has been dispatched already
                return
            found = None if isinstance(waiter, Trunk) else self._take_idle(waiter.session.key())
            if found is not None and not isinstance(waiter, Trunk):
                self._stop_waiting(waiter)
                self._hand(found, waiter)
                continue
            if self._limits.most is not None and self._total() >= self._limits.most:
                if len(self._ending) < len(self._waiters):
                    self._make_room()
                return  # until one has ended
            self._stop_waiting(waiter)
            self._open(waiter)

    def _make_room(self) -> None:
        """End one connection that nobody uses: an idle one, or a trunk with nothing in flight."""
        if self._idle:
            self.retire(self._idle.popleft()[0])
            return
        for trunk in self._all_trunks():
            if trunk not in self._waiters and trunk.usable and self._is_idle(trunk, GIVE_WAY_S):
                self._end_trunk(trunk, "its place was needed")
                return

    def _is_idle(self, trunk: Trunk, for_s: float) -> bool:
        return trunk.waiting == 0 and trunk.used_ns > 0 and now_ns() - trunk.used_ns > for_s * 1e9

    def _end_trunk(self, trunk: Trunk, why: str) -> None:
        """End a trunk with nothing in flight: no client notices."""
        self._forget(trunk)
        self._ending[trunk] = time.monotonic()
        trunk.failure = why
        trunk.abort()

    def _all_trunks(self) -> list[Trunk]:
        return [trunk for trunks in self._trunks.values() for trunk in trunks]

    def _stop_waiting(self, waiter: Waiter) -> None:
        since = self._waiters.pop(waiter, None)
        timer = self._timers.pop(waiter, None)
        if timer is not None and since is not None:
            timer.cancel()
            self._stats.wait_s += time.monotonic() - since

    def _timed_out(self, waiter: Waiter) -> None:
        if self._held:  # the time of a hold is not the limit's doing
            loop = asyncio.get_running_loop()
            self._timers[waiter] = loop.call_later(self._limits.wait_s, self._timed_out, waiter)
            return
        self._stats.wait_timeouts += 1
        self._stop_waiting(waiter)
        if isinstance(waiter, Trunk):
            self._forget(waiter)
            waiter.fail("no connection became free", NO_CONNECTION)
        else:
            waiter.not_leased(NO_CONNECTION)

    # ---- opening ----------------------------------------------------------------------------------------------------

    def _open(self, waiter: Waiter) -> None:
        if isinstance(waiter, Trunk):
            work = self._open_trunk(waiter)
        else:
            self._opening += 1  # now, not when the task first runs: it counts against the limit
            work = self._open_private(waiter)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_trunk(self, trunk: Trunk) -> None:
        moves = self._moves
        try:
            await self._upstream.connect(lambda: trunk)
            if moves != self._moves:
                trunk.abort()  # nobody has it any more
        except BackendDown as error:
            self._forget(trunk)
            trunk.fail(str(error))
            self._room_again()

    async def _open_private(self, client: PooledClient) -> None:
        key = client.session.key()
        try:
            backend = await self._connect_private()
        except BackendDown:
            self._opening -= 1
            client.not_leased(None)
            self._room_again()
            return
        self._opening -= 1
        self._private.add(backend)
        client.leased(backend, self._greeting(key))

    async def _connect_private(self) -> PrivateBackend:
        """A connection to what is the backend when nothing is held any more. Raises BackendDown."""
        while True:
            moves = self._moves
            backend = await self._upstream.connect(self.new_private)
            while self._held is not None:
                await self._held.wait()
            if moves == self._moves and not backend.lost:
                return backend
            backend.abort()
            if moves == self._moves:
                raise BackendDown("it closed the connection")

    def _greeting(self, key: Key) -> Commands:
        """What a new connection is told so that it fits ``key``."""
        resp3, db, credentials = key
        commands: Commands = [(b"AUTH", *credentials)] if credentials is not None else list(self._login)
        return commands + _conversion((False, 0, None), (resp3, db, None))

    # ---- the rest ---------------------------------------------------------------------------------------------------

    def sweep(self, now_s: float) -> None:
        """Close what nobody has used for a while."""
        while self._idle and now_s - self._idle[0][1] > (SPARE_S if len(self._idle) > SPARE else IDLE_S):
            self.retire(self._idle.popleft()[0])
        for trunk in self._all_trunks():
            if self._is_idle(trunk, IDLE_S):
                self._end_trunk(trunk, "it was idle")
        for ending, since in [*self._ending.items(), *self._former.items()]:
            if now_s - since > END_S:
                ending.abort()

    def stats(self) -> PoolStats:
        """A snapshot."""
        now = replace(self._stats)
        now.shared = len(self._all_trunks())
        now.private = len(self._private) + self._opening
        now.idle = len(self._idle)
        now.waiting = len(self._timers)
        now.clients_overflowed = self.overflowed
        return now

    async def close(self) -> None:
        """Close every connection; the clients have gone."""
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in self._timers.values():
            timer.cancel()
        for backend in [*self._private, *self._ending, *self._former, *(backend for backend, _ in self._idle)]:
            backend.abort()
        for trunk in self._all_trunks():
            trunk.abort()


def _conversion(state: Key, key: Key) -> Commands:
    """What a connection in ``state`` is told so that it fits ``key``; the credentials are the same."""
    commands: Commands = []
    if state[0] != key[0]:
        commands.append((b"HELLO", b"3" if key[0] else b"2"))
    if state[1] != key[1]:
        commands.append((b"SELECT", b"%d" % key[1]))
    return commands
