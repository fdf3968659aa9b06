"""When a captured moment is due in a replay.

Knows: the speed, and that long pauses are shortened. Refuses to know: what is due, and clocks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """``speed``: 1.0 is as captured; None: as fast as the order allows. ``max_gap_ns``: longer captured pauses are
    shortened to this."""

    speed: float | None = 1.0
    max_gap_ns: int = 5 * 10**9


class Schedule:
    """Moves on with the captured rows. ``now_ns``: the latest captured time; ``captured_ns``: since the first.
    ``shortened`` pauses have ``shortened_ns`` left out."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.now_ns = 0
        self.captured_ns = 0
        self.shortened = 0
        self.shortened_ns = 0

    def advance(self, ts: int) -> None:
        """A row of this time; an earlier one than the last is of the same moment."""
        if ts <= self.now_ns:
            return
        gap_ns = ts - self.now_ns if self.now_ns else 0
        self.now_ns = ts
        self.captured_ns += gap_ns
        if gap_ns > self.pace.max_gap_ns:
            self.shortened += 1
            self.shortened_ns += gap_ns - self.pace.max_gap_ns

    @property
    def due_ns(self) -> int | None:
        """The current moment, from the replay's start; None where there is no pace."""
        speed = self.pace.speed
        return None if speed is None else int((self.captured_ns - self.shortened_ns) / speed)
