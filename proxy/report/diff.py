"""What changed between two captures: findings and advice gone, new and still there; latency and volume by pattern.

Knows: what makes two findings the same, and which patterns are compared. Refuses to know: how it is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from proxy.report.costs import PatternLine
from proxy.report.document import Overview, Report
from proxy.report.noise import Change, change, mean, median
from proxy.report.printable import printable
from proxy.report.sections import sections
from proxy.report.studies.paces import Pace, PaceTable, Pattern

#: Patterns with the most time in either capture, and with the most commands, that are tested for a change.
TESTED = 40


@dataclass(frozen=True)
class Item:
    """A finding of a target, or an advice: ``of`` is the target, or "advice". ``level``: severity or level. Counts are
    occurrences; 0: it is not there."""

    of: str
    rule: str
    level: str
    subject: str
    before: int
    after: int


@dataclass(frozen=True)
class Side:
    """A pattern in one capture. ``per_s`` and ``bytes_per_s`` by the capture's whole duration. ns; None: it has no
    service time."""

    count: int
    per_s: float
    bytes_per_s: float
    errors: int
    p50_ns: int | None
    p99_ns: int | None


@dataclass(frozen=True)
class PatternDiff:
    """A pattern in both captures; None: it is not there. ``latency``, ``volume``: None if it can't be told."""

    command: bytes
    template: bytes
    before: Side | None
    after: Side | None
    latency: Change | None
    volume: Change | None


@dataclass(frozen=True)
class Diff:
    """Two captures compared. ``slices_s``: how long the slices are that the test compares, of each."""

    before: Overview
    after: Overview
    verdicts: tuple[tuple[str, str, str], ...]  # target, before, after
    new: tuple[Item, ...]
    gone: tuple[Item, ...]
    still: tuple[Item, ...]
    patterns: tuple[PatternDiff, ...]
    slices_s: tuple[float, float]

    @property
    def exit_code(self) -> int:
        """1 if there is a finding or an advice that was not there before."""
        return int(bool(self.new))


def compare(before: Report, after: Report, paces: tuple[PaceTable, PaceTable]) -> Diff:
    """The difference of two reports on the same targets."""
    old, new = _items(before), _items(after)
    both = [_joined(old.get(key), new.get(key)) for key in {**old, **new}]
    by_target = {target.target: target.words for target in after.targets}
    return Diff(
        before=before.overview,
        after=after.overview,
        verdicts=tuple((each.target, each.words, by_target[each.target]) for each in before.targets),
        new=tuple(item for item in both if not item.before),
        gone=tuple(item for item in both if not item.after),
        still=tuple(item for item in both if item.before and item.after),
        patterns=tuple(_patterns(before, after, paces)),
        slices_s=(paces[0].slice_s, paces[1].slice_s),
    )


def seconds(overview: Overview) -> float:
    """How long a capture is; at least a nanosecond."""
    return max(1, overview.last_ts - overview.first_ts) / 1e9


Key = tuple[object, ...]


def _items(report: Report) -> dict[Key, Item]:
    """Findings by target, rule, command, members, keys and moment; advice by rule and subject. Worst first, as
    reported."""
    found: dict[Key, Item] = {}
    for target in report.targets:
        for group in target.findings:
            words = [group.command, *(group.members and (b"(" + b" ".join(group.members) + b")",)), *group.keys]
            subject = printable(b" ".join(words))
            _add(found, (target.target, group.rule, subject, group.when), Item(
                target.target, group.rule, str(group.severity), subject, group.count, 0))  # fmt: skip
    for section in sections(report):
        for advice in section.advice:
            _add(found, ("advice", advice.rule, advice.subject), Item(
                "advice", advice.rule, str(advice.level), advice.subject, advice.count, 0))  # fmt: skip
    return found


def _add(found: dict[Key, Item], key: Key, item: Item) -> None:
    seen = found.get(key)
    count = item.before + (seen.before if seen else 0)
    found[key] = Item(item.of, item.rule, item.level, item.subject, count, 0)


def _joined(old: Item | None, new: Item | None) -> Item:
    item = new or old
    assert item is not None
    counts = (old.before if old else 0, new.before if new else 0)
    return Item(item.of, item.rule, item.level, item.subject, *counts)


def _patterns(before: Report, after: Report, paces: tuple[PaceTable, PaceTable]) -> Iterator[PatternDiff]:
    """The patterns with the most time in either capture, the longest first."""
    sides = [{(line.command, line.template): line for line in report.costs.patterns if not line.other}
             for report in (before, after)]  # fmt: skip
    lasting = [seconds(report.overview) for report in (before, after)]
    chosen = _most(sides, lasting, _time) | _most(sides, lasting, lambda line: line.count)
    order = sorted(
        chosen,
        key=lambda each: (-max(_rate(side.get(each), s, _time) for side, s in zip(sides, lasting, strict=True)), each),
    )
    for pattern in order:
        one, two = (_side(side.get(pattern), lasts) for side, lasts in zip(sides, lasting, strict=True))
        both = one is not None and two is not None
        old, new = (table.paces.get(pattern, Pace()) for table in paces)
        yield PatternDiff(
            *pattern, one, two,
            change(old.medians, new.medians, median) if both else None,
            _volume(old, new, paces) if both else None,
        )  # fmt: skip


def _volume(old: Pace, new: Pace, paces: tuple[PaceTable, PaceTable]) -> Change | None:
    before, after = ([n / table.slice_s for n in pace.counts] for pace, table in zip((old, new), paces, strict=True))
    return change(before, after, mean)


def _most(
    sides: Sequence[dict[Pattern, PatternLine]], lasting: Sequence[float], by: Callable[[PatternLine], int]
) -> set[Pattern]:
    found: set[Pattern] = set()
    for side, lasts in zip(sides, lasting, strict=True):
        found.update(sorted(side, key=lambda each: (-_rate(side[each], lasts, by), each))[:TESTED])
    return found


def _time(line: PatternLine) -> int:
    return line.service.total_ns if line.service else 0


def _rate(line: PatternLine | None, lasts_s: float, by: Callable[[PatternLine], int]) -> float:
    return by(line) / lasts_s if line else 0.0


def _side(line: PatternLine | None, lasts_s: float) -> Side | None:
    if line is None:
        return None
    times = line.service
    return Side(
        line.count, line.count / lasts_s, (line.request_bytes + line.reply_bytes) / lasts_s, line.errors,
        times.p50_ns if times else None, times.p99_ns if times else None,
    )  # fmt: skip
