"""What came of the commands that were sent, beside what the capture says of them.

Knows: how answers are counted, and which differences matter. Refuses to know: where answers come from, and how they
are shown (``summary``). Memory: bounded, whatever is replayed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from proxy.capture.format import ReplyKind
from proxy.replay.unit import Sent

#: Distinct lines of errors and of kinds; what is beyond is counted in one.
MOST_LINES = 1000
_ELSE = "others"
OWN = "(the replay's own)"
#: An ERR's text up to where a client's data may begin.
_FIXED = re.compile(r"[^'\"`:0-9<]{1,60}")
_ERR = "ERR"
_ABSENT = (ReplyKind.NONE, ReplyKind.LOST)


class Times:
    """Durations in ns, by their eight leading bits: below 1 % off, and never more than a few thousand counts."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.max_ns = 0

    def add(self, ns: int) -> None:
        ns = max(ns, 0)
        shift = max(ns.bit_length() - 8, 0)
        self._counts[ns >> shift << shift] += 1
        self.count += 1
        self.max_ns = max(self.max_ns, ns)

    def quantile(self, share: float) -> int | None:
        """The least duration that this share of all does not exceed; None without any."""
        left = share * self.count
        for ns in sorted(self._counts):
            left -= self._counts[ns]
            if left <= 0:
                return ns
        return None


@dataclass(slots=True)
class Both:
    """One command's latencies. ``count`` of both is the same: what was answered in both."""

    captured: Times = field(default_factory=Times)
    replayed: Times = field(default_factory=Times)
    waits: bool = False


@dataclass(slots=True)
class Tally:
    """Totals in commands. ``errors``: (on the target, captured, command); ``kinds``: (command, captured, replayed);
    ``lost``: why no answer came. An error that is not there is the empty string."""

    sent: int = 0
    answered: int = 0
    same: int = 0
    compared: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    errors: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    latencies: dict[str, Both] = field(default_factory=dict)
    lag: Times = field(default_factory=Times)
    opened: int = 0
    unasked: int = 0

    def answer(self, sent: Sent, kind: ReplyKind, error: str, latency_ns: int, *, waits: bool) -> None:
        """One answer. ``error``: an error reply's text as far as it is known, without its first byte."""
        self.answered += 1
        if sent.timed and sent.latency_ns >= 0:
            both = self.latencies.get(sent.name)
            if both is None:
                both = self.latencies[sent.name] = Both()
            both.captured.add(sent.latency_ns)
            both.replayed.add(latency_ns)
            both.waits = both.waits or waits
        if kind == ReplyKind.ERROR or sent.reply == ReplyKind.ERROR:
            self._error(sent, label(error) if kind == ReplyKind.ERROR else "")
        if sent.reply in _ABSENT:
            return
        self.compared += 1
        if sent.reply == kind:
            self.same += 1
        else:
            _count(self.kinds, (sent.name, name_of(sent.reply), name_of(kind)))

    def own_error(self, command: str, error: str) -> None:
        """The target refused what a replay's connection says first: AUTH, HELLO, SELECT."""
        _count(self.errors, (label(error), "", f"{command} {OWN}"))

    def only_target(self) -> int:
        """Errors of the target's where the capture has another answer, or none."""
        return sum(count for (here, there, _), count in self.errors.items() if here and not alike(here, there))

    def _error(self, sent: Sent, here: str) -> None:
        there = sent.error.decode("utf-8", "replace") if sent.reply == ReplyKind.ERROR else ""
        _count(self.errors, (here, there, sent.name))


def _count(counter: Counter[tuple[str, str, str]], line: tuple[str, str, str]) -> None:
    counter[line if line in counter or len(counter) < MOST_LINES else (_ELSE, _ELSE, _ELSE)] += 1


def alike(here: str, there: str) -> bool:
    """Whether two errors are the same one: a capture keeps the first word only."""
    return bool(here) and here.split(" ", 1)[0] == there


def label(text: str) -> str:
    """An error in a few words, without a client's data: its first word; of an ERR, what is fixed of its text."""
    word, _, rest = text.partition(" ")
    fixed = _FIXED.match(rest)
    return f"{_ERR} {fixed[0].rstrip(' ,.(')}" if word == _ERR and fixed else word[:40]


def name_of(kind: int) -> str:
    """A reply kind in lower case."""
    return ReplyKind(kind).name.lower() if kind in ReplyKind._value2member_map_ else str(kind)
