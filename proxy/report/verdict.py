"""Why a verdict is what it is, in a sentence or two; the order of findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.report.document import FindingGroup, Verdict, verdict_of
from proxy.report.rules import Severity

# The order in which reservations are named behind "compatible".
_RESERVATIONS = {
    Severity.SILENT: "answer something else without an error",
    Severity.LATENT: "work only while slots lie where they lie",
    Severity.RESTRICTED: "are an administrator's and would be refused",
}


def explain(
    groups: Sequence[FindingGroup], counts: dict[str, int], *, commands: int, losses: Sequence[str]
) -> tuple[Verdict, str]:
    """The verdict of one target and its reason."""
    severities = [Severity(severity) for severity, count in counts.items() if count]
    verdict = verdict_of(severities, commands=commands, losses=len(losses))
    if verdict is Verdict.NOT_COMPATIBLE:
        refused = counts[Severity.ERROR]
        reason = f"{_commands(refused)} of {commands:,} would end in an error."
        if unknown := _unknowns(groups, losses):
            reason += f" Besides, it can't be told: {unknown}."
        return verdict, reason
    if verdict is Verdict.CANNOT_TELL:
        if not commands and not groups and not losses:
            return verdict, "the capture holds no commands."
        return verdict, f"nothing seen would be refused, but it can't be told: {_unknowns(groups, losses)}."
    reserved = [f"{_commands(counts[each])} {text}" for each, text in _RESERVATIONS.items() if counts[each]]
    reason = f"none of {_commands(commands)} would end in an error"
    return verdict, f"{reason}; but {'; '.join(reserved)}." if reserved else f"{reason}."


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
