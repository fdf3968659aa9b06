"""The gate: traffic is held until nothing is in flight, and released again. A pure machine: events in, orders out.

Knows: the states of a hold, how long each may last, and what must be done about commands that wait in Redis and
transactions that stand open. Refuses to know: clients, sockets, clocks (``net.holding`` has them), and who asks.

    OPEN --hold--> CLOSING --quiet--> HELD --release--> OPEN
                      |                 |
                      +---too slow------+--held too long--> OPEN: released by itself, and said so
                                        |
                                        +--pin--> PINNED --release--> OPEN

Who is about to commit pins a held gate: from then on it is released by nobody but them, however long that takes.

While it is CLOSING nothing new is dispatched. What is in flight gets its replies; a fetch that waits in Redis is ended
with CLIENT UNBLOCK (it reads a nil, as after its own timeout); an open transaction may finish until a deadline, and
is closed then: its EXEC was not sent, so nothing of it ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OPEN = "open"
    CLOSING = "closing"
    HELD = "held"
    PINNED = "pinned"


class Event(StrEnum):
    HOLD = "hold"  # somebody asks for it
    QUIET = "quiet"  # nothing is in flight, and no transaction stands open
    PATIENCE_OVER = "patience over"  # commands that wait in Redis have had their time
    TRANSACTIONS_OVER = "transactions over"  # open transactions have had theirs
    TOO_SLOW = "too slow"  # still not quiet at the end of the budget
    TOO_LONG = "too long"  # held for as long as it may be
    PIN = "pin"  # somebody is about to commit, and nothing may be released before that is over
    RELEASE = "release"  # somebody asks for it


class Order(StrEnum):
    STOP = "stop dispatching"
    END_BLOCKED = "end blocked commands"
    END_TRANSACTIONS = "close clients in a transaction"
    RESUME = "dispatch again"
    SAY_HELD = "answer: held"
    SAY_RELEASED = "answer: released"
    SAY_TOO_SLOW = "answer: not quiet in time, released"
    SAY_TOO_LONG = "say: held for too long, released"


#: (state, event) -> (next state, orders). What is not here can't happen: see ``IllegalEvent``.
TRANSITIONS: dict[tuple[State, Event], tuple[State, tuple[Order, ...]]] = {
    (State.OPEN, Event.HOLD): (State.CLOSING, (Order.STOP,)),
    (State.OPEN, Event.RELEASE): (State.OPEN, (Order.SAY_RELEASED,)),
    (State.CLOSING, Event.HOLD): (State.CLOSING, ()),
    (State.CLOSING, Event.QUIET): (State.HELD, (Order.SAY_HELD,)),
    (State.CLOSING, Event.PATIENCE_OVER): (State.CLOSING, (Order.END_BLOCKED,)),
    (State.CLOSING, Event.TRANSACTIONS_OVER): (State.CLOSING, (Order.END_TRANSACTIONS,)),
    (State.CLOSING, Event.TOO_SLOW): (State.OPEN, (Order.RESUME, Order.SAY_TOO_SLOW)),
    (State.CLOSING, Event.RELEASE): (State.OPEN, (Order.RESUME, Order.SAY_RELEASED)),
    (State.HELD, Event.HOLD): (State.HELD, (Order.SAY_HELD,)),
    (State.HELD, Event.TOO_LONG): (State.OPEN, (Order.RESUME, Order.SAY_TOO_LONG)),
    (State.HELD, Event.PIN): (State.PINNED, ()),
    (State.HELD, Event.RELEASE): (State.OPEN, (Order.RESUME, Order.SAY_RELEASED)),
    (State.PINNED, Event.HOLD): (State.PINNED, (Order.SAY_HELD,)),
    (State.PINNED, Event.PIN): (State.PINNED, ()),
    (State.PINNED, Event.RELEASE): (State.OPEN, (Order.RESUME, Order.SAY_RELEASED)),
}


class IllegalEvent(Exception):
    """An event that can't happen in this state: a defect of whoever sent it."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"gate: event {event!s} in state {state!s}")


@dataclass(frozen=True)
class Budget:
    """How long each part of a hold may last, in seconds from the hold's beginning.

    ``quiet_s``: until everything must be quiet, else it is released. ``hold_s``: until it is released by itself, quiet
    or not. ``patience_s``: what commands that wait in Redis get for their own timeouts; ``transactions_s``: what open
    transactions get to finish.

    The defaults are for a switch: Sidekiq 7.0 to 7.2 wait one second for a reply, and try again, which doubles jobs.
    """

    quiet_s: float = 0.3
    hold_s: float = 0.8
    patience_s: float = 0.0
    transactions_s: float = 0.2


@dataclass(frozen=True)
class Census:
    """What stands in the way of quiet, counted over all clients. ``half_sent``: clients of whom a part of a command
    has been sent on; ``blocked``: those whose oldest command in flight may wait in Redis."""

    in_flight: int = 0
    half_sent: int = 0
    transactions: int = 0
    blocked: int = 0

    @property
    def quiet(self) -> bool:
        return not (self.in_flight or self.half_sent or self.transactions)

    def words(self, units: str) -> str:
        """What a hold still waits for; ``units``: what is counted in flight."""
        waiting = f", {self.blocked} connections wait in Redis" if self.blocked else ""
        parts = (
            (self.in_flight, f"{units} in flight{waiting}"),
            (self.half_sent, "commands half sent"),
            (self.transactions, "transactions open"),
        )
        return "; ".join(f"{count} {what}" for count, what in parts if count) or "quiet"


class Gate:
    """One gate. Times are seconds of any one monotonic clock, handed in."""

    def __init__(self) -> None:
        self.state = State.OPEN
        self.since_s = 0.0
        self.budget = Budget()
        self._patience_over = self._transactions_over = False

    def hold(self, budget: Budget, now_s: float) -> tuple[Order, ...]:
        """Somebody asks for a hold. Asked again while one is on, it changes nothing: the first budget counts."""
        if self.state is State.OPEN:
            self.since_s, self.budget = now_s, budget
            self._patience_over = self._transactions_over = False
        return self._happens(Event.HOLD)

    def release(self) -> tuple[Order, ...]:
        """Somebody asks for the release; in an open gate that is done already."""
        return self._happens(Event.RELEASE)

    def pin(self) -> bool:
        """Somebody is about to commit. Returns whether the gate is held, and stays so until the release."""
        if self.state not in (State.HELD, State.PINNED):
            return False
        self._happens(Event.PIN)
        return True

    def look(self, census: Census, now_s: float) -> tuple[Order, ...]:
        """What the world is like now. At most one state is left in one look."""
        passed_s = now_s - self.since_s
        if self.state in (State.OPEN, State.PINNED):
            return ()
        if self.state is State.HELD:
            return self._happens(Event.TOO_LONG) if passed_s >= self.budget.hold_s else ()
        if census.quiet:
            return self._happens(Event.QUIET)
        if passed_s >= self.budget.quiet_s:
            return self._happens(Event.TOO_SLOW)
        orders: tuple[Order, ...] = ()
        if not self._patience_over and passed_s >= self.budget.patience_s and census.blocked:
            self._patience_over = True
            orders += self._happens(Event.PATIENCE_OVER)
        if not self._transactions_over and passed_s >= self.budget.transactions_s and census.transactions:
            self._transactions_over = True
            orders += self._happens(Event.TRANSACTIONS_OVER)
        return orders

    def _happens(self, event: Event) -> tuple[Order, ...]:
        if (self.state, event) not in TRANSITIONS:
            raise IllegalEvent(self.state, event)
        self.state, orders = TRANSITIONS[self.state, event]
        return orders
