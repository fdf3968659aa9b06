"""The steps of a switch, and what undoes them. A pure machine: events in, orders out.

Knows: in which order things are done, that everything before COMMIT can be taken back, and that everything after it
must be done, however often it has to be tried. Refuses to know: how a step is done (``switching``), clocks and servers.

    CHECK -> FOLLOW -> WARM -> LOAD -> PREPARE -> HOLD -> INTRODUCE -> MATCH -> PROMOTE -> SPOIL -> PIN -> COMMIT
        the source has every write, and nobody else was written to: nothing is lost by going back
    COMMIT -> MOVE -> RELEASE -> FENCE
        the target has, or is about to have, writes that the source lacks: there is no going back

Without ``follow`` there is no replication: FOLLOW, MATCH, PROMOTE and FENCE are left out. A step that fails before
COMMIT is undone too, since it may have been done halfway. COMMIT itself is one rename: it fails whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Step(StrEnum):
    CHECK = "check the target"
    FOLLOW = "have the target follow the source"
    WARM = "open connections to the target"
    LOAD = "load scripts and functions into the target"
    PREPARE = "write the next route record beside the old one"
    HOLD = "hold traffic until nothing is in flight"
    INTRODUCE = "bring the connections into the clients' state"
    MATCH = "wait until the target has every write"
    PROMOTE = "have the target take writes"
    SPOIL = "have EXEC after WATCH answer nil"
    PIN = "keep traffic held whatever it takes"
    COMMIT = "commit the route record"
    MOVE = "send the clients' commands to the target"
    RELEASE = "let traffic go on"
    FENCE = "have the source follow the target"


class Undo(StrEnum):
    FOLLOW_ON = "have the target follow the source, or leave it as it was"
    ABANDON = "close the connections to the target"
    DISCARD = "remove the next route record"
    RELEASE = "let traffic go on, to the source"


#: Only where the target is to have the source's data by replication.
FOLLOWING = frozenset({Step.FOLLOW, Step.MATCH, Step.PROMOTE, Step.FENCE})
#: What takes a step back. The later step is undone first. A target that has got the source's data follows on, also
#: after its promotion: whoever tries again need not copy anew.
UNDO: dict[Step, Undo] = {
    Step.FOLLOW: Undo.FOLLOW_ON,
    Step.WARM: Undo.ABANDON,
    Step.PREPARE: Undo.DISCARD,
    Step.HOLD: Undo.RELEASE,
}
#: What clients wait for: undone first, since it is the only thing that they feel.
URGENT = frozenset({Undo.RELEASE})


class Event(StrEnum):
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"  # the operator wants it to end


class State(StrEnum):
    GOING = "going"  # before the commit
    ROLLING = "rolling forward"  # after it
    DONE = "done"
    ABORTED = "aborted"


class IllegalEvent(Exception):
    """An event that can't happen in this state: a defect of whoever sent it."""


@dataclass
class Switch:
    """One switch. ``step``: what is to be done now."""

    follow: bool
    state: State = State.GOING
    _steps: list[Step] = field(init=False)
    _at: int = 0

    def __post_init__(self) -> None:
        self._steps = [step for step in Step if self.follow or step not in FOLLOWING]

    @property
    def step(self) -> Step:
        return self._steps[self._at]

    def happens(self, event: Event) -> tuple[Undo, ...]:
        """``step`` was done, or failed, or the operator wants it to end. Returns what must be undone, in this order.

        Raises IllegalEvent in a switch that is over.
        """
        if self.state in (State.DONE, State.ABORTED):
            raise IllegalEvent(f"switch: event {event} in state {self.state}")
        if event is Event.DONE:
            return self._go_on()
        if self.state is State.ROLLING:
            return ()  # the same step again: there is no way back
        self.state = State.ABORTED
        undo = [UNDO[step] for step in reversed(self._steps[: self._at + 1]) if step in UNDO]
        return tuple(sorted(undo, key=lambda each: each not in URGENT))

    def _go_on(self) -> tuple[Undo, ...]:
        if self.step is Step.COMMIT:
            self.state = State.ROLLING
        if self._at + 1 == len(self._steps):
            self.state = State.DONE
        else:
            self._at += 1
        return ()
