"""Which way to go: the three ways of a migration guide, each with its evidence and its cost. Pure.

Knows: the verdicts of all targets, and how a verdict would read if each worker served one queue. Refuses to know: rows,
rules, how it is shown (``sections.ways``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from proxy.report.document import NO_WAYS, FindingGroup, TargetLine, TargetReport, Verdict, Way, Ways
from proxy.report.printable import printable
from proxy.report.rules import Change
from proxy.report.rules.sidekiq_traffic import HEARTBEAT
from proxy.report.targets import DEFAULT, TARGETS, Kind
from proxy.report.verdict import judge

#: So many pieces of evidence are named.
EVIDENCE = 4
#: From the best verdict to the worst.
_ORDER = (Verdict.COMPATIBLE, Verdict.CANNOT_TELL, Verdict.AFTER_CHANGES, Verdict.NOT_COMPATIBLE)
#: What a way is explained by, if no target is better.
_PLAIN = (DEFAULT, "single")
#: Commands that wait on several queues at once.
_WAITING = (b"BRPOP", b"BLPOP")


def ways(reports: Sequence[TargetReport], *, commands: int, losses: Sequence[str]) -> Ways:
    """The ways, out of the verdicts of all targets. Nothing to say of an empty capture."""
    if not commands:
        return NO_WAYS
    single = _of(reports, Kind.SINGLE)
    sharded = [*_of(reports, Kind.SHARDED), *_of(reports, Kind.PROXY)]
    simpler = [_one_queue_each(report, commands, losses) for report in sharded]
    lines = tuple(_line(report) for report in sorted(reports, key=_rank))
    return Ways((_as_today(single), _after_changes(sharded), _simpler(sharded, simpler)), lines)


def _as_today(reports: Sequence[TargetReport]) -> Way:
    best = _best(reports)
    cost = "One primary's memory and CPU stay the limit; nothing in the application changes but the address."
    if best and best[0].changes:
        cost = "One primary's memory and CPU stay the limit, and the application needs the changes named."
    return Way("A", "A target that behaves like today's", _answer(best), _ids(best), _evidence(best), cost)


def _after_changes(reports: Sequence[TargetReport]) -> Way:
    best = _best(reports)
    cost = "Each change is work in the application before the switch. Keys with one hash tag share one slot's load."
    return Way("B", "Sharded, after the listed changes", _answer(best), _ids(best), _evidence(best), cost)


def _simpler(before: Sequence[TargetReport], after: Sequence[TargetReport]) -> Way:
    waits = _waits(before)
    title = "Simpler queue usage: each worker process serves one queue"
    cost = "At least one process per queue; weights between queues become numbers of processes and threads."
    best = _best(after)
    if not waits:
        return Way("C", title, "changes nothing: no BRPOP over several slots was seen", (), (), cost)
    evidence = (f"{waits:,} BRPOP or BLPOP over several slots become one-key commands", *_evidence(best))
    if any(group.whose == HEARTBEAT for report in best for group in report.findings):
        cost += " Jobs run, but processes are not seen in the Web UI and can't be quieted from there."
    return Way("C", title, _answer(best), _ids(best), evidence, cost)


def _one_queue_each(report: TargetReport, commands: int, losses: Sequence[str]) -> TargetReport:
    """The verdict as if every BRPOP over several keys had been one-key BRPOPs."""
    kept = [group for group in report.findings if not _is_wait(group)]
    return judge(report.target, report.title, kept, commands=commands, losses=losses)


def _is_wait(group: FindingGroup) -> bool:
    return group.rule == "cross-slot" and group.command in _WAITING


def _waits(reports: Sequence[TargetReport]) -> int:
    """BRPOPs over several slots, by the target that counts most of them."""
    return max((sum(group.count for group in report.findings if _is_wait(group)) for report in reports), default=0)


def _of(reports: Iterable[TargetReport], kind: Kind) -> list[TargetReport]:
    return [report for report in reports if TARGETS[report.target].kind is kind]


def _rank(report: TargetReport) -> tuple[int, int, int, int, str]:
    """Best first: compatible, can't tell, after few changes, not; then fewer surprises."""
    fixed = sum(group.count for group in report.findings if group.blocks and group.change is Change.NOBODY)
    return (_ORDER.index(report.verdict), report.changes, fixed, sum(report.counts.values()), _place(report))


def _place(report: TargetReport) -> str:
    """Among equals the plainest comes first, the others in order of their names."""
    return "" if report.target in _PLAIN else report.target


def _best(reports: Sequence[TargetReport]) -> list[TargetReport]:
    """The targets with the best verdict, and as few changes."""
    if not reports:
        return []
    top = min(map(_rank, reports))[:2]
    return sorted((report for report in reports if _rank(report)[:2] == top), key=_rank)


def _answer(best: Sequence[TargetReport]) -> str:
    return best[0].words if best else "no such target"


def _ids(best: Sequence[TargetReport]) -> tuple[str, ...]:
    return tuple(report.target for report in best)


def _evidence(best: Sequence[TargetReport]) -> tuple[str, ...]:
    """The first target's reason, and its most frequent blocking findings with what to do."""
    if not best:
        return ()
    first = best[0]
    blocking = sorted((group for group in first.findings if group.blocks and not group.follows), key=lambda g: -g.count)
    shown = [f"{first.target}: {first.reason}", *map(_finding, blocking[:EVIDENCE])]
    if len(blocking) > EVIDENCE:
        shown.append(f"and {len(blocking) - EVIDENCE:,} more call sites")
    return tuple(shown)


def _finding(group: FindingGroup) -> str:
    what = f"Sidekiq's {group.whose}" if group.whose else " ".join(map(printable, group.members or (group.command,)))
    keys = ", ".join(map(printable, group.keys[:3])) + (" …" if len(group.keys) > 3 else "")
    place = f" on {keys}" if keys else ""
    example = f", for example {group.examples[0].conn}/{group.examples[0].seq}" if group.examples else ""
    return f"{group.count:,}× {what}{place}{example}: {group.remedy or group.error}"


def _line(report: TargetReport) -> TargetLine:
    fixed = sum(group.count for group in report.findings if group.blocks and group.change is Change.NOBODY)
    return TargetLine(
        report.target, report.title, str(TARGETS[report.target].kind), report.words, report.verdict.exit_code,
        report.changes, report.counts, fixed, report.reason,
    )  # fmt: skip
