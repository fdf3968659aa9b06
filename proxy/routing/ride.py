"""Riding through an outage: what becomes of each command under way, and for how long. Pure: events in, orders out.

Knows: which commands may be sent a second time, which never, and the states of an outage. Refuses to know: clients,
sockets, clocks and servers (``net.riding`` has them).

    CALM --trouble--> AWAY --answers--> RETURNING --carried--> CALM
                       ^  |               |   |
                       |  +---too long--+ |   +--too long--+
                       +-----stuck------|-+                |
                                        v                  v
                                       GONE <--------------+   --answers--> CALM

The rule over everything: a command runs at most once for each time that its client sent it. What was refused with an
error that proves that it didn't run, and what only reads, may be sent again. A write whose reply never came may have
run: nobody but its client can decide what to do, so the client gets what Redis would have given it, the end of its
connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from protocol.traits import Trait

#: Errors that Redis gives before it runs a command: there is nothing to read or to write to here, now.
REFUSALS = frozenset({b"LOADING", b"MASTERDOWN", b"READONLY", b"CLUSTERDOWN"})
#: To a fetch that waited when its server became a replica: it popped nothing. CLIENT UNBLOCK … ERROR has other words.
UNBLOCKED = b"-UNBLOCKED force unblock"
#: What EXEC says when one of its commands was refused: none of them ran.
ABORTED = b"EXECABORT"
#: Commands without the table's mark of a read that change nothing but their own connection, or nothing at all.
HARMLESS = frozenset(
    {
        "PING", "ECHO", "TIME", "INFO", "ROLE", "HELLO", "SELECT", "WATCH", "UNWATCH", "CLIENT SETNAME",
        "CLIENT SETINFO", "CLIENT GETNAME", "CLIENT ID", "CLIENT INFO", "COMMAND", "COMMAND COUNT", "COMMAND DOCS",
        "COMMAND INFO",
    }
)  # fmt: skip


# ---- commands under way ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """A command that was sent on. ``name`` as the command table has it, "" if it hasn't; ``blocking``: it may wait in
    Redis, by its arguments."""

    name: str
    traits: int
    blocking: bool = False


class Said(StrEnum):
    """What is known of it."""

    NOTHING = "no reply came"
    REFUSED = "its reply proves that it didn't run"
    RAN = "it ran, or its reply is the client's business"


class Nature(StrEnum):
    READ = "may be sent twice"
    FETCH = "waits for an element that it takes out"
    LISTEN = "waits, and takes nothing out"
    WRITE = "changes data, or may"


class Fate(StrEnum):
    AGAIN = "is sent again"
    NIL = "is answered with a nil, as after its own timeout"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``passed``: so many of the oldest commands are over, and their replies go to the client as they are. ``fates``:
    of the others, in their order. ``close``: why the client's connection must end instead, in words; None: it stays.

    ``ambiguous_fetches``: fetches that may have popped an element for nobody. ``ambiguous_writes``: commands that may
    have run, and whose client is told nothing but the end.
    """

    passed: int
    fates: tuple[Fate, ...] = ()
    close: str | None = None
    ambiguous_fetches: int = 0
    ambiguous_writes: int = 0


def nature(sent: Sent) -> Nature:
    """What sending it twice would mean."""
    if sent.blocking and sent.traits & Trait.POP:
        return Nature.FETCH
    if sent.blocking and sent.traits & Trait.READONLY:
        return Nature.LISTEN
    if sent.name in HARMLESS or (sent.traits & Trait.READONLY and not sent.traits & Trait.SCRIPT):
        return Nature.READ
    return Nature.WRITE


def refused(sent: Sent, reply: bytes) -> bool:
    """Whether this reply, by its first bytes, proves that the command didn't run, and that it may be sent again.

    A script's own commands may be refused in its middle, with the same error: a script is never sent again.
    """
    if not reply.startswith(b"-") or sent.traits & Trait.SCRIPT:
        return False
    code = reply[1:].split(b" ", 1)[0].rstrip(b"\r\n")
    return code in REFUSALS or (reply.startswith(UNBLOCKED) and nature(sent) is Nature.FETCH)


def resolve(sent: Sequence[Sent], replies: Sequence[bytes], broken: bool, in_transaction: bool = False) -> Verdict:
    """What becomes of commands under way, oldest first.

    ``replies``: the first bytes of those that came. ``broken``: no more will come; else all have come.
    ``in_transaction``: a MULTI that was answered before stands open.
    """
    units = list(_units(sent))
    said = [_of_unit(sent, replies, first, end) for first, end in units]
    ran = max((at for at, each in enumerate(said) if each is Said.RAN), default=-1)
    passed = units[ran][1] if ran >= 0 else 0
    if broken and in_transaction:
        in_doubt = any(each.name == "EXEC" for each in sent[len(replies) :])
        return Verdict(passed, close="it stood in a transaction", ambiguous_writes=int(in_doubt))
    return _decide(sent, units[ran + 1 :], said[ran + 1 :], passed, broken)


def _decide(
    sent: Sequence[Sent], units: Sequence[tuple[int, int]], said: Sequence[Said], passed: int, broken: bool
) -> Verdict:
    fates: list[Fate] = []
    fetches = writes = 0
    close: str | None = None
    for (first, end), outcome in zip(units, said, strict=True):
        kind = Nature.READ if outcome is Said.REFUSED else _nature_of_unit(sent, first, end)
        if kind is None:
            close = close or "it stood in a transaction"
        elif kind is Nature.WRITE:
            writes += 1
            close = f"the reply to {sent[end - 1].name or 'its command'} never came, and it may have run"
        elif kind in (Nature.FETCH, Nature.LISTEN):
            fetches += kind is Nature.FETCH
        fates += [Fate.NIL if kind in (Nature.FETCH, Nature.LISTEN) else Fate.AGAIN] * (end - first)
    return Verdict(passed, () if close else tuple(fates), close, fetches, writes)


def _units(sent: Sequence[Sent]) -> Iterator[tuple[int, int]]:
    """What runs or doesn't run as one: a command, or a transaction from MULTI to EXEC; as (first, behind the last)."""
    first = 0
    in_multi = False
    for at, each in enumerate(sent):
        in_multi = (in_multi or each.name == "MULTI") and each.name not in ("EXEC", "DISCARD")
        if not in_multi:
            yield first, at + 1
            first = at + 1
    if first < len(sent):
        yield first, len(sent)


def _of_unit(sent: Sequence[Sent], replies: Sequence[bytes], first: int, end: int) -> Said:
    if end > len(replies):
        return Said.NOTHING
    if end - first == 1:
        return Said.REFUSED if refused(sent[first], replies[first]) else Said.RAN
    inner = any(refused(sent[at], replies[at]) for at in range(first, end - 1))
    return Said.REFUSED if inner and replies[end - 1].startswith(b"-" + ABORTED) else Said.RAN


def _nature_of_unit(sent: Sequence[Sent], first: int, end: int) -> Nature | None:
    """None: a transaction without its end, of which nothing ran."""
    if sent[first].name != "MULTI":
        return nature(sent[first])
    if sent[end - 1].name == "DISCARD":
        return Nature.READ
    return Nature.WRITE if sent[end - 1].name == "EXEC" else None


# ---- the outage ------------------------------------------------------------------------------------------------------


class State(StrEnum):
    CALM = "calm"
    AWAY = "away"  # some clients have no backend that serves them; it is asked again and again
    RETURNING = "returning"  # it answers: clients get new connections
    GONE = "gone"  # for longer than clients may wait: they meet what there is


class Event(StrEnum):
    TROUBLE = "trouble"  # a client's connection broke, or its command was refused
    ANSWERS = "answers"  # the backend serves, as far as it can be told
    SILENT = "silent"  # it does not
    CARRIED = "carried"  # nobody waits any more
    STUCK = "stuck"  # somebody's new connection didn't come about, or was refused again
    TOO_LONG = "too long"


class Order(StrEnum):
    BEGIN = "have clients wait, and ask for the backend"
    REJOIN = "give clients new connections"
    SAY_OVER = "say: it is over"
    GIVE_UP = "let those who wait meet what there is"
    CLOSE = "let this client meet what there is"
    SAY_BACK = "say: it is back, after all"


#: (state, event) -> (next state, orders). What is not here can't happen: see ``IllegalEvent``.
TRANSITIONS: dict[tuple[State, Event], tuple[State, tuple[Order, ...]]] = {
    (State.CALM, Event.TROUBLE): (State.AWAY, (Order.BEGIN,)),
    (State.AWAY, Event.TROUBLE): (State.AWAY, ()),
    (State.AWAY, Event.SILENT): (State.AWAY, ()),
    (State.AWAY, Event.ANSWERS): (State.RETURNING, (Order.REJOIN,)),
    (State.AWAY, Event.TOO_LONG): (State.GONE, (Order.GIVE_UP,)),
    (State.RETURNING, Event.TROUBLE): (State.RETURNING, ()),
    (State.RETURNING, Event.CARRIED): (State.CALM, (Order.SAY_OVER,)),
    (State.RETURNING, Event.STUCK): (State.AWAY, ()),
    (State.RETURNING, Event.TOO_LONG): (State.GONE, (Order.GIVE_UP,)),
    (State.GONE, Event.TROUBLE): (State.GONE, (Order.CLOSE,)),
    (State.GONE, Event.SILENT): (State.GONE, ()),
    (State.GONE, Event.ANSWERS): (State.CALM, (Order.SAY_BACK,)),
}


class IllegalEvent(Exception):
    """An event that can't happen in this state: a defect of whoever sent it."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"ride: event {event!s} in state {state!s}")


#: Between two attempts, seconds: the first, and the longest. Each is multiplied with a number from 0.5 to 1.
AGAIN_FIRST_S = 0.05
AGAIN_LONGEST_S = 1.0
#: An outage that begins so soon after another is the same one, with its limit and its pauses, seconds.
RELAPSE_S = 1.0


class Ride:
    """Outages, one after the other. Times are seconds of any one monotonic clock, handed in.

    ``limit_s``: how long clients wait, counted from the first trouble; None: not at all, but in a planned outage.
    ``relapse``: the present outage goes on where another seemed to have ended.
    """

    def __init__(self, limit_s: float | None) -> None:
        self.state = State.CALM
        self.since_s = 0.0
        self.relapse = False
        self.pause_s = AGAIN_FIRST_S
        self._limit_s = limit_s
        self._planned_s: float | None = None
        self._over_s = float("-inf")

    @property
    def longest_s(self) -> float:
        """How long clients wait; 0: not at all."""
        return max(self._limit_s or 0.0, self._planned_s or 0.0)

    @property
    def takes(self) -> bool:
        """Whether a client in trouble may wait."""
        return self.longest_s > 0 and self.state is not State.GONE

    def plan(self, longest_s: float | None) -> None:
        """An outage is planned, and may last so long; None: the plan is over."""
        self._planned_s = longest_s

    def left_s(self, now_s: float) -> float:
        """How long clients go on waiting."""
        return max(self.since_s + self.longest_s - now_s, 0.0)

    def pause(self, share: float) -> float:
        """How long to wait before the next attempt; ``share``: a random number from 0 to 1. The next is longer."""
        pause_s = self.pause_s * (0.5 + share / 2)
        self.pause_s = min(self.pause_s * 2, AGAIN_LONGEST_S)
        return pause_s

    def look(self, now_s: float) -> tuple[Order, ...]:
        """The time now."""
        if self.state in (State.AWAY, State.RETURNING) and not self.left_s(now_s):
            return self.happens(Event.TOO_LONG, now_s)
        return ()

    def happens(self, event: Event, now_s: float) -> tuple[Order, ...]:
        """Returns what is to be done. Raises IllegalEvent."""
        if (self.state, event) not in TRANSITIONS:
            raise IllegalEvent(self.state, event)
        if self.state is State.CALM:
            self.relapse = now_s - self._over_s <= RELAPSE_S
            if not self.relapse:
                self.since_s, self.pause_s = now_s, AGAIN_FIRST_S
        self.state, orders = TRANSITIONS[self.state, event]
        if self.state is State.CALM:
            self._over_s = now_s
        return orders
