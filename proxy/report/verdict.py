"""The verdict and why it is what it is, in a sentence or two; the order of findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.report.document import FindingGroup, TargetReport, Verdict
from proxy.report.printable import printable
from proxy.report.rules import Change, Severity

#: So many findings that nobody can change are named in the reason.
_NAMED = 3

# The order in which reservations are named behind "compatible".
_RESERVATIONS = {
    Severity.SILENT: "answer something else without an error",
    Severity.LATENT: "work only while slots lie where they lie",
    Severity.RESTRICTED: "are an administrator's and would be refused",
}


def verdict_of(*, blocks: bool, fixed: bool, unknown: bool, losses: int, commands: int) -> Verdict:
    """The verdict: what blocks decides, then whatever is not known. An empty capture says nothing.

    ``fixed``: something that blocks can be changed by nobody.
    """
    if blocks:
        return Verdict.NOT_COMPATIBLE if fixed else Verdict.AFTER_CHANGES
    return Verdict.CANNOT_TELL if unknown or losses or not commands else Verdict.COMPATIBLE


def judge(
    target: str, title: str, groups: Sequence[FindingGroup], *, commands: int, losses: Sequence[str]
) -> TargetReport:
    """One target's verdict and its reason, out of all its findings."""
    counts = dict.fromkeys(map(str, Severity), 0)
    for group in groups:
        counts[group.severity] += group.count
    blocking = [group for group in groups if group.blocks]
    fixed = [group for group in blocking if group.change is Change.NOBODY]
    verdict = verdict_of(
        blocks=bool(blocking), fixed=bool(fixed), unknown=counts[Severity.UNKNOWN] > 0, losses=len(losses),
        commands=commands,
    )  # fmt: skip
    changes = sum(not group.follows for group in blocking) if verdict is Verdict.AFTER_CHANGES else 0
    reason = _reason(verdict, groups, commands=commands, losses=losses, counts=counts)
    return TargetReport(target, verdict, reason, counts, tuple(in_order(groups)), title, changes)


def _reason(
    verdict: Verdict, groups: Sequence[FindingGroup], *, commands: int, losses: Sequence[str], counts: dict[str, int]
) -> str:
    if verdict in (Verdict.NOT_COMPATIBLE, Verdict.AFTER_CHANGES):
        return _refusal(verdict, groups, commands) + _besides(groups, losses)
    if verdict is Verdict.CANNOT_TELL:
        if not commands and not groups and not losses:
            return "the capture holds no commands."
        return f"nothing seen would be refused, but it can't be told: {_unknowns(groups, losses)}."
    reserved = [f"{_commands(counts[each])} {text}" for each, text in _RESERVATIONS.items() if counts[each]]
    reason = f"none of {_commands(commands)} would end in an error"
    return f"{reason}; but {'; '.join(reserved)}." if reserved else f"{reason}."


def _refusal(verdict: Verdict, groups: Sequence[FindingGroup], commands: int) -> str:
    refused = sum(group.count for group in groups if group.severity is Severity.ERROR)
    wrong = sum(group.count for group in groups if group.blocks and group.severity is not Severity.ERROR)
    parts = [f"{_commands(refused)} of {commands:,} would end in an error"] if refused or not wrong else []
    if wrong:
        parts.append(f"{_commands(wrong)} would answer without a part of the data")
    reason = ", ".join(parts)
    if verdict is Verdict.AFTER_CHANGES:
        return f"{reason}; every one can be changed."
    fixed: dict[str, int] = {}
    for group in groups:
        if group.blocks and group.change is Change.NOBODY:
            name = f"Sidekiq's {group.whose}" if group.whose else _name(group)
            fixed[name] = fixed.get(name, 0) + group.count
    most = sorted(fixed.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name} ({count:,}×)" for name, count in most[:_NAMED])
    more = f" and {len(most) - _NAMED} more" if len(most) > _NAMED else ""
    return f"{reason}. The application can't change: {named}{more}."


def _name(group: FindingGroup) -> str:
    return printable(group.command)


def _besides(groups: Sequence[FindingGroup], losses: Sequence[str]) -> str:
    unknown = _unknowns(groups, losses)
    return f" Besides, it can't be told: {unknown}." if unknown else ""


def in_order(groups: Sequence[FindingGroup]) -> list[FindingGroup]:
    """Worst severity first, then the rule with most occurrences; a rule's groups stay together."""
    totals: dict[str, int] = {}
    for group in groups:
        totals[group.rule] = totals.get(group.rule, 0) + group.count
    order = {severity: place for place, severity in enumerate(Severity)}

    def place(group: FindingGroup) -> tuple[int, int, str, str, str, int]:
        return (order[group.severity], -totals[group.rule], group.rule, group.when, group.error, -group.count)

    return sorted(groups, key=place)


def _unknowns(groups: Sequence[FindingGroup], losses: Sequence[str]) -> str:
    by_title: dict[str, int] = {}
    for group in groups:
        if group.severity is Severity.UNKNOWN:
            by_title[group.title] = by_title.get(group.title, 0) + group.count
    parts = [f"{title} ({count:,}×)" for title, count in by_title.items()]
    if losses:
        parts.append(f"the capture is damaged ({len(losses):,}×)")
    return ", ".join(parts)


def _commands(count: int) -> str:
    return f"{count:,} command" if count == 1 else f"{count:,} commands"
