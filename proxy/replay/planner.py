"""What of a capture is sent, in which pieces, and when.

Knows: transactions, databases, protocols, and what is left out with its reason. Refuses to know: clocks,
sockets, files; rows come in, units go out. Memory: one state for each connection that is open.

A transaction is one unit: MULTI, what was queued, EXEC. It stands where its EXEC stood, because that is when it ran.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from protocol.commands import Kind
from proxy.capture.format import Flag, ReplyKind
from proxy.replay.captured import Row
from proxy.replay.choice import Choice, Reason, choice, not_recorded
from proxy.replay.schedule import Pace, Schedule
from proxy.replay.unit import NEVER_NS, Key, Sent, Unit
from proxy.replay.waiting import bounded

#: A connection that is silent this long is closed (captures do not say when one closes), and opened when it is back;
#: one that watches keys or is within a transaction, after the longer time.
IDLE_NS = 30 * 10**9
IDLE_HELD_NS = 600 * 10**9
#: How often that is looked for, in captured time.
_LOOK_NS = 10**9
#: Of one transaction; a longer one is not sent.
TRANSACTION_ROWS = 65_536
TRANSACTION_BYTES = 64_000_000
#: Closed connections that are remembered to have spoken RESP3.
_RESP3_KEPT = 65_536

_RESP3_ONLY = {ReplyKind.MAP, ReplyKind.SET, ReplyKind.DOUBLE, ReplyKind.BOOLEAN, ReplyKind.BIGNUM, ReplyKind.VERBATIM}
_BY_SHUNT, _BLOCKING = Flag.REPLIED_BY_PROXY.value, Flag.BLOCKING.value
_KEYS_UNSURE = Flag.KEYS_CUT.value | Flag.FOREIGN_DB.value
_UNWATCH = Sent((b"UNWATCH",), "UNWATCH", ReplyKind.NONE, b"", -1, False)


@dataclass(slots=True)
class Planned:
    """Totals so far, in captured commands."""

    captured: int = 0
    planned: int = 0
    transactions: int = 0
    skipped: Counter[tuple[Reason, str]] = field(default_factory=Counter)
    gaps: int = 0
    gap_rows: int = 0
    barriers: int = 0


@dataclass(slots=True)
class _Transaction:
    rows: list[tuple[Row, Choice]]
    bytes: int = 0


@dataclass(slots=True)
class _State:
    """A captured connection. ``used``: something was sent on it."""

    last_ns: int
    protocol: int = 2
    used: bool = False
    watched: set[Key] = field(default_factory=set)
    transaction: _Transaction | None = None


class Planner:
    """Takes rows in the order of their commands. ``counts`` holds what became of them."""

    def __init__(self, pace: Pace, *, allow_writes: bool, most_connections: int) -> None:
        self.counts = Planned()
        self.schedule = Schedule(pace)
        self._allow_writes = allow_writes
        self._most_connections = most_connections
        self._states: OrderedDict[int, _State] = OrderedDict()
        self._resp3: OrderedDict[int, None] = OrderedDict()
        self._look_ns = 0
        self._out: list[Unit] = []

    def plan(self, rows: Iterable[Row]) -> list[Unit]:
        """The units that these rows complete, in the order in which they are to start."""
        for row in rows:
            if row.gap:
                self.counts.gaps += 1
                self.counts.gap_rows += row.gap_rows
                continue
            self.counts.captured += 1
            self._advance(row.ts)
            self._row(row, self._state(row), choice(row.command, self._allow_writes))
        out, self._out = self._out, []
        return out

    def end(self) -> None:
        """No more rows: what is left of transactions is not sent."""
        for state in self._states.values():
            self._tear(state)
        self._states.clear()

    # ---- connections ----------------------------------------------------------------------------------------------

    def _advance(self, ts: int) -> None:
        self.schedule.advance(ts)
        now_ns = self.schedule.now_ns
        if now_ns >= self._look_ns or len(self._states) > self._most_connections:
            self._look_ns = now_ns + _LOOK_NS
            self._close_idle()

    def _close_idle(self) -> None:
        """Closes connections that were silent for long, and the longest silent ones where there are too many."""
        for _ in range(len(self._states)):
            conn, state = next(iter(self._states.items()))
            held = bool(state.watched) or state.transaction is not None
            idle_ns = self.schedule.now_ns - state.last_ns
            if len(self._states) > self._most_connections or idle_ns > (IDLE_HELD_NS if held else IDLE_NS):
                self._close(conn, state)
            elif held and idle_ns > IDLE_NS:
                self._states.move_to_end(conn)
            else:
                return

    def _close(self, conn: int, state: _State) -> None:
        self._tear(state)
        del self._states[conn]
        if state.protocol == 3:
            self._resp3[conn] = None
            if len(self._resp3) > _RESP3_KEPT:
                self._resp3.popitem(last=False)
        if state.used:
            self._out.append(
                Unit(conn, self.schedule.now_ns, self.schedule.now_ns, (), self.schedule.due_ns, ends=True)
            )

    def _state(self, row: Row) -> _State:
        state = self._states.get(row.conn)
        if state is None:
            state = self._states[row.conn] = _State(row.ts, 3 if row.conn in self._resp3 else 2)
        else:
            self._states.move_to_end(row.conn)
        state.last_ns = max(row.ts, state.last_ns)
        if row.reply in _RESP3_ONLY:
            state.protocol = 3
        return state

    # ---- one row --------------------------------------------------------------------------------------------------

    def _row(self, row: Row, state: _State, chosen: Choice) -> None:
        if state.transaction is not None:
            self._within(row, state, chosen, state.transaction)
        elif row.flags & _BY_SHUNT:
            self._skip(Reason.BY_SHUNT, chosen)
        elif chosen.kind == Kind.MULTI and row.reply != ReplyKind.ERROR:
            state.transaction = _Transaction([(row, chosen)])
        elif chosen.why_not == Reason.FOLLOWED:
            self._skip(Reason.FOLLOWED, chosen)
            self._follow(row, state, chosen)
        elif chosen.kind in (Kind.EXEC, Kind.DISCARD) and row.reply != ReplyKind.ERROR:
            self._skip(Reason.TORN, chosen)
            self._forget_watched(row, state)
        elif why := chosen.why_not or not_recorded(row.flags):
            self._skip(why, chosen)
        else:
            self._send(self._single(row, state, chosen), state)
            if chosen.kind == Kind.WATCH:
                state.watched.update(_keys(row))
            elif chosen.kind == Kind.UNWATCH:
                state.watched.clear()

    def _follow(self, row: Row, state: _State, chosen: Choice) -> None:
        """HELLO, RESET and QUIT; SELECT is in the database of the rows behind it."""
        if chosen.kind == Kind.QUIT:
            self._close(row.conn, state)
            self._resp3.pop(row.conn, None)
        elif chosen.kind == Kind.RESET:
            state.protocol = 2
            self._forget_watched(row, state)
        elif chosen.kind == Kind.HELLO and row.reply != ReplyKind.ERROR:
            told = row.args[1:2] == [b"3"] if row.reply == ReplyKind.NONE else row.reply == ReplyKind.MAP
            state.protocol = 3 if told else 2

    def _single(self, row: Row, state: _State, chosen: Choice) -> Unit:
        args: Sequence[bytes] = row.args
        blocking = bool(row.flags & _BLOCKING)
        patience_s = 0.0
        if blocking:
            speed = self.schedule.pace.speed
            waited_s = max(row.latency_ns, 0) / 1e9 / speed if speed else 0.0
            args, patience_s = bounded(chosen.name, args, row.reply, waited_s)
        keys = frozenset(_keys(row))
        reads = chosen.reads or chosen.kind == Kind.WATCH
        return Unit(
            row.conn, row.ts, _answered_ns(row), (_sent(row, chosen, args),), self.schedule.due_ns, row.db,
            state.protocol, reads=keys if reads else frozenset(), writes=frozenset() if reads else keys,
            blocking=blocking, barrier=_alone(row, chosen), patience_s=patience_s, size=row.request_bytes,
        )  # fmt: skip

    # ---- transactions ---------------------------------------------------------------------------------------------

    def _within(self, row: Row, state: _State, chosen: Choice, transaction: _Transaction) -> None:
        transaction.rows.append((row, chosen))
        transaction.bytes += row.request_bytes
        if chosen.kind in (Kind.EXEC, Kind.DISCARD):
            state.transaction = None
            self._end_transaction(row, state, transaction)
        elif chosen.kind in (Kind.QUIT, Kind.RESET):
            transaction.rows.pop()
            self._tear(state)
            self._row(row, state, chosen)
        elif len(transaction.rows) > TRANSACTION_ROWS or transaction.bytes > TRANSACTION_BYTES:
            self._tear(state)  # the rest of it, and its EXEC, are then without their beginning

    def _end_transaction(self, row: Row, state: _State, transaction: _Transaction) -> None:
        rows = transaction.rows
        reasons = [_why_not_within(each, chosen) for each, chosen in rows]
        if row.seq - rows[0][0].seq != len(rows) - 1:
            reasons = [Reason.TORN] * len(rows)
        if any(reasons):
            for (_, chosen), why in zip(rows, reasons, strict=True):
                self._skip(why or Reason.WITH_OTHERS, chosen)
            self._forget_watched(row, state)
            return
        inner = rows[1:-1]
        writes = frozenset(key for each, chosen in inner if not chosen.reads for key in _keys(each))
        reads = frozenset(key for each, chosen in inner if chosen.reads for key in _keys(each)) | state.watched
        last = rows[-1][0]
        unit = Unit(
            row.conn, row.ts, _answered_ns(row),
            tuple(_sent(each, chosen, each.args, timed=each is last) for each, chosen in rows),
            self.schedule.due_ns, rows[0][0].db, state.protocol, reads=reads - writes, writes=writes,
            barrier=any(_alone(each, chosen) for each, chosen in inner), size=transaction.bytes,
            moves_db=any(chosen.kind == Kind.SELECT for _, chosen in inner),
        )  # fmt: skip
        state.watched.clear()
        self.counts.transactions += 1
        self._send(unit, state)

    def _tear(self, state: _State) -> None:
        transaction, state.transaction = state.transaction, None
        for _, chosen in transaction.rows if transaction else ():
            self._skip(Reason.TORN, chosen)

    def _forget_watched(self, row: Row, state: _State) -> None:
        """What ends the captured WATCH is not sent, so the replay's own UNWATCH takes its place."""
        if state.watched:
            state.watched.clear()
            single = Unit(row.conn, row.ts, row.ts, (_UNWATCH,), self.schedule.due_ns, row.db, state.protocol, own=True)
            self._out.append(single)

    # ---- counting -------------------------------------------------------------------------------------------------

    def _send(self, unit: Unit, state: _State) -> None:
        state.used = True
        self.counts.planned += len(unit.commands)
        self.counts.barriers += unit.barrier
        self._out.append(unit)

    def _skip(self, why: Reason, chosen: Choice) -> None:
        self.counts.skipped[why, chosen.name] += 1


def _why_not_within(row: Row, chosen: Choice) -> Reason | None:
    if row.flags & _BY_SHUNT:
        return Reason.BY_SHUNT
    why = None if chosen.kind == Kind.SELECT else chosen.why_not  # in a transaction SELECT is queued like any other
    return why or not_recorded(row.flags)


def _keys(row: Row) -> list[Key]:
    return [(row.db, key) for key in row.keys]


def _alone(row: Row, chosen: Choice) -> bool:
    """Whether it may touch keys that the capture does not name."""
    if row.unknown or len(row.keys) < row.nkeys:
        return True
    if row.flags & _KEYS_UNSURE and chosen.kind != Kind.SELECT:
        return True
    return chosen.writes_unseen and not row.keys


def _answered_ns(row: Row) -> int:
    """When the captured answer came. A client that got none (CLIENT REPLY OFF, an imported capture) is taken not to
    have pipelined; one that left before its answer, or that may have waited for it, to have had none."""
    if row.latency_ns >= 0:
        return row.ts + row.latency_ns
    return NEVER_NS if row.reply == ReplyKind.LOST or row.flags & _BLOCKING else row.ts


def _sent(row: Row, chosen: Choice, args: Sequence[bytes], *, timed: bool = True) -> Sent:
    latency_ns = row.latency_ns - row.held_ns if row.latency_ns >= 0 else -1
    return Sent(args, chosen.name, row.reply, row.error, latency_ns, timed)
