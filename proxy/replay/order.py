"""Which unit may start: the order of each connection and of each key, as captured.

Knows: units that were admitted and are not answered yet, and who waits for whom. Refuses to know: clocks and sockets.

Two commands that are written to two sockets are run in whichever order the server reads those, so an order between
connections is only kept by waiting for an answer. The rules, for a unit B that comes behind A in the capture:

    same connection     B starts after A; after A's answer if the capture has that answer before B
    same key            B starts after A; after A's answer unless both only read
    same key, A waits   in Redis (BRPOP): after A's answer only if the capture has it before B. It may be B that wakes A
    no known keys       a barrier: B waits for all before it, and all behind it wait for B

Every wait is for a unit that was admitted earlier, so none can be circular.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.replay.unit import Key, Unit


@dataclass(slots=True)
class _Connection:
    """``last``: the unit admitted last. ``behind``: the last one whose captured answer precedes it; ``ahead``: the one
    after that."""

    last: Unit
    ahead: Unit | None
    behind: Unit | None = None


@dataclass(slots=True)
class _KeyState:
    """Unanswered units on one key. ``writer``: the last that writes; ``readers``: those since; ``blocking``: those that
    may wait in Redis, whenever they came."""

    last: Unit
    writer: Unit | None = None
    readers: dict[Unit, None] = field(default_factory=dict)
    blocking: dict[Unit, None] = field(default_factory=dict)
    active: int = 0


class Order:
    """Takes units in captured order. ``outstanding``: those admitted and not answered; ``bytes``: their commands'."""

    def __init__(self) -> None:
        self._connections: dict[int, _Connection] = {}
        self._keys: dict[Key, _KeyState] = {}
        self._unanswered: dict[Unit, None] = {}
        self._barrier: Unit | None = None
        self.bytes = 0

    @property
    def outstanding(self) -> int:
        return len(self._unanswered)

    def admit(self, unit: Unit) -> bool:
        """Whether the unit may start at once; if not, ``started`` or ``answered`` of another gives it."""
        self._behind_connection(unit)
        if self._barrier is not None:
            _after(unit, self._barrier, answer=True)
        if unit.barrier:
            for other in self._unanswered:
                _after(unit, other, answer=not other.blocking or other.answered_ns <= unit.at_ns)
            self._barrier = unit
        for key in unit.writes:
            self._behind_key(unit, key, writes=True)
        for key in unit.reads:
            self._behind_key(unit, key, writes=False)
        self._unanswered[unit] = None
        self.bytes += unit.size
        return unit.waits == 0

    def started(self, unit: Unit) -> list[Unit]:
        """The unit's bytes are on their way: what may start now, in captured order."""
        unit.started = True
        return _freed(unit.on_start)

    def answered(self, unit: Unit) -> list[Unit]:
        """The unit's last answer is here, or will never come: what may start now, in captured order."""
        unit.answered = True
        del self._unanswered[unit]
        self.bytes -= unit.size
        if self._barrier is unit:
            self._barrier = None
        connection = self._connections[unit.conn]
        if connection.last is unit:
            del self._connections[unit.conn]
        for key in (*unit.writes, *unit.reads):
            self._leave(unit, key)
        return _freed(unit.on_answer)

    def _behind_connection(self, unit: Unit) -> None:
        connection = self._connections.get(unit.conn)
        if connection is None:
            self._connections[unit.conn] = _Connection(unit, unit)
            return
        last = connection.last
        _after(unit, last, answer=unit.ends)
        # Captured times of one connection only go up, so this looks at each unit once.
        while connection.ahead is not None and connection.ahead.answered_ns <= unit.at_ns:
            connection.behind, connection.ahead = connection.ahead, connection.ahead.next_here
        if connection.behind is not None and not (unit.ends and connection.behind is last):
            _after(unit, connection.behind, answer=True)
        last.next_here = unit
        connection.last = unit
        connection.ahead = connection.ahead or unit

    def _behind_key(self, unit: Unit, key: Key, *, writes: bool) -> None:
        state = self._keys.get(key)
        if state is None:
            state = self._keys[key] = _KeyState(unit)
        else:
            _after(unit, state.last, answer=False)
            if state.writer is not None:
                _behind_other(unit, state.writer)
            for other in state.blocking:
                if writes or key in other.writes:
                    _behind_other(unit, other)
            if writes:
                for other in state.readers:
                    _behind_other(unit, other)
        state.last = unit
        state.active += 1
        if unit.blocking:
            state.blocking[unit] = None
        elif writes:
            state.writer = unit
            state.readers.clear()
        else:
            state.readers[unit] = None

    def _leave(self, unit: Unit, key: Key) -> None:
        state = self._keys[key]
        state.active -= 1
        if not state.active:
            del self._keys[key]
            return
        if state.writer is unit:
            state.writer = None
        state.readers.pop(unit, None)
        state.blocking.pop(unit, None)


def _behind_other(unit: Unit, other: Unit) -> None:
    """``unit`` conflicts with ``other``. On one connection the server keeps their order."""
    if other.conn != unit.conn:
        _after(unit, other, answer=not other.blocking or other.answered_ns <= unit.at_ns)


def _after(unit: Unit, other: Unit, *, answer: bool) -> None:
    if answer:
        if not other.answered:
            other.on_answer.append(unit)
            unit.waits += 1
    elif not other.started:
        other.on_start.append(unit)
        unit.waits += 1


def _freed(waiting: list[Unit]) -> list[Unit]:
    free = []
    for unit in waiting:
        unit.waits -= 1
        if not unit.waits:
            free.append(unit)
    waiting.clear()
    return free
