"""Sends planned units to the target at their time, as the order allows.

Knows: the event loop, the connections, and when there is room for more. Refuses to know: what is sent and when
(``planner``), who waits for whom (``order``), what answers mean (``tally``): it asks them.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Iterator

from proxy.address import Address
from proxy.capture.format import ReplyKind
from proxy.replay.connection import Connection, Waiting
from proxy.replay.order import Order
from proxy.replay.tally import Tally
from proxy.replay.unit import Unit

#: Units, and bytes of theirs, that are admitted and not answered.
MOST_UNITS = 4096
MOST_BYTES = 64_000_000
#: Units that are read ahead while there is time for it, and how much time that has to be.
AHEAD_UNITS = 2048
READ_S = 0.005
#: An answer that does not come within this time will not come; nor a connection.
ANSWER_S = 30.0
CONNECT_S = 5.0
#: So many connections in a row that fail end the replay.
CONNECTS_FAILED = 20
#: After Ctrl-C answers are waited for this long.
LAST_ANSWERS_S = 2.0
_BURST = 32


class Replay:
    """One replay. ``planned``: lists of units in the order in which they are to start; reading it may take a while.
    ``stopped``: why it ended before its time; empty: it did not."""

    def __init__(
        self, planned: Iterator[list[Unit]], target: Address, context: ssl.SSLContext | None, tally: Tally
    ) -> None:
        self.tally = tally
        self.stopped = ""
        self.behind_ns = 0  # of the unit that started last
        self.elapsed_s = 0.0
        self._planned = planned
        self._target = target
        self._context = context
        self._order = Order()
        self._connections: dict[int, Connection] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._failed_in_a_row = 0
        self._ready: deque[Unit] = deque()
        self._starting = False
        self._changed = asyncio.Event()  # there is room, nothing is outstanding, or the replay was stopped
        self._started_ns = 0
        password = target.password
        words = [b"AUTH", *([target.user.encode()] if target.user else [])]
        self._credentials = () if password is None else (*words, password.get_secret_value().encode())

    def stop(self, why: str) -> None:
        """Start no more commands. ``run`` returns when those under way are answered, soon in any case."""
        self.stopped = self.stopped or why
        self._changed.set()

    async def run(self) -> None:
        """Until everything is answered, or ``stop``."""
        began_ns = self._started_ns = time.perf_counter_ns()
        watching = asyncio.create_task(self._give_up_on_answers())
        try:
            await self._feed()
            await self._last_answers()
        finally:
            self.elapsed_s = (time.perf_counter_ns() - began_ns) / 1e9
            watching.cancel()
            for task in self._connecting:
                task.cancel()
            await self._close()

    async def _close(self) -> None:
        for connection in list(self._connections.values()):
            connection.end("the replay was ended" if self.stopped else "")
        ends = time.monotonic() + LAST_ANSWERS_S
        while self._connections and time.monotonic() < ends:
            await self._change(LAST_ANSWERS_S)

    async def _feed(self) -> None:
        ahead: deque[Unit] = deque()
        reading = True
        burst = 0
        while reading and not ahead and not self.stopped:
            first = next(self._planned, None)  # the clock starts when there is something to send
            reading = first is not None
            ahead.extend(first or ())
            self._started_ns = time.perf_counter_ns()
        while not self.stopped and (reading or ahead):
            left_s = self._left_s(ahead[0]) if ahead else 0.0
            if reading and (not ahead or (left_s > READ_S and len(ahead) < AHEAD_UNITS)):
                units = next(self._planned, None)
                reading = units is not None
                ahead.extend(units or ())
                await asyncio.sleep(0)
            elif left_s > 0:
                await self._change(left_s)
            elif not self._has_room():
                await self._change(None)
            else:
                self._admit(ahead.popleft())
                burst += 1
                if burst % _BURST == 0:
                    await asyncio.sleep(0)

    async def _last_answers(self) -> None:
        ends = time.monotonic() + LAST_ANSWERS_S
        while self._order.outstanding:
            left_s = ends - time.monotonic() if self.stopped else None
            if left_s is not None and left_s <= 0:
                return
            await self._change(left_s)

    async def _change(self, within_s: float | None) -> None:
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._changed.wait()

    def _left_s(self, unit: Unit) -> float:
        return 0.0 if unit.due_ns is None else (self._started_ns + unit.due_ns - time.perf_counter_ns()) / 1e9

    def _has_room(self) -> bool:
        return self._order.outstanding < MOST_UNITS and self._order.bytes < MOST_BYTES

    # ---- units ----------------------------------------------------------------------------------------------------

    def _admit(self, unit: Unit) -> None:
        if self._order.admit(unit):
            self._start([unit])

    def _start(self, units: list[Unit]) -> None:
        """Start these and whatever may start because of them. Called from within itself it only takes them in."""
        self._ready.extend(units)
        if self._starting:
            return
        self._starting = True
        try:
            while self._ready:
                self._start_one(self._ready.popleft())
        finally:
            self._starting = False

    def _start_one(self, unit: Unit) -> None:
        if self.stopped:
            return
        if unit.due_ns is not None:
            self.behind_ns = time.perf_counter_ns() - self._started_ns - unit.due_ns
            self.tally.lag.add(self.behind_ns)
        connection = self._connections.get(unit.conn)
        if unit.ends:
            if connection is not None:
                del self._connections[unit.conn]
                connection.end()
            self._ready.extend(self._order.started(unit))
            self._answered(unit)
            return
        if not unit.own:
            self.tally.sent += len(unit.commands)
        (connection or self._open(unit.conn)).send(unit)
        self._ready.extend(self._order.started(unit))

    def _answered(self, unit: Unit) -> None:
        free = self._order.answered(unit)
        if not self._changed.is_set() and (self._has_room() or not self._order.outstanding):
            self._changed.set()
        if free:
            self._start(free)

    # ---- connections ----------------------------------------------------------------------------------------------

    def _open(self, conn: int) -> Connection:
        connection = self._connections[conn] = Connection(conn, self, self._credentials)
        self.tally.opened += 1
        task = asyncio.create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return connection

    async def _connect(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        target = self._target
        try:
            async with asyncio.timeout(CONNECT_S):
                if target.scheme == "unix":
                    await loop.create_unix_connection(lambda: connection, target.path)
                else:
                    await loop.create_connection(lambda: connection, target.host, target.port, ssl=self._context)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            why = "no connection within 5 s" if isinstance(error, TimeoutError) else f"can't connect: {_line(error)}"
            self._failed_in_a_row += 1
            connection.failed(why)
            if self._failed_in_a_row >= CONNECTS_FAILED:
                self.stop(f"{CONNECTS_FAILED} connections in a row failed ({why})")
        else:
            self._failed_in_a_row = 0

    async def _give_up_on_answers(self) -> None:
        while True:
            await asyncio.sleep(1)
            now_ns = time.perf_counter_ns()
            for connection in list(self._connections.values()):
                if connection.overdue(now_ns, int(ANSWER_S * 1e9)):
                    connection.end(f"no answer within {ANSWER_S:g} s")

    # ---- connection.Answers ---------------------------------------------------------------------------------------

    def on_answer(self, waiting: Waiting, kind: ReplyKind, error: str, latency_ns: int) -> None:
        """A command was answered."""
        unit = waiting.unit
        if unit is None:
            if kind == ReplyKind.ERROR:
                self.tally.own_error(waiting.sent.name, error)
            return
        if not unit.own:
            self.tally.answer(waiting.sent, kind, error, latency_ns, waits=unit.blocking)
        if waiting.last:
            self._answered(unit)

    def on_unasked(self) -> None:
        """The target answered what was not asked."""
        self.tally.unasked += 1

    def on_end(self, connection: Connection, units: list[Unit], commands: int, why: str) -> None:
        """A connection is no more; ``units`` will not be answered, nor ``commands`` of them."""
        if self._connections.get(connection.conn) is connection:
            del self._connections[connection.conn]
        if commands:
            self.tally.lost[why] += commands
        for unit in units:
            self._answered(unit)
        self._changed.set()


def _line(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()
