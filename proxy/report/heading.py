"""What stands above a report's sections: the overview, and each target's findings, as text cells.

Knows: wording. Refuses to know: colours, frames, line widths.
"""

from __future__ import annotations

from proxy.report.cells import moment, name, plural, size, span
from proxy.report.document import FindingGroup, Overview
from proxy.report.printable import printable
from proxy.report.rules import Change, Severity

_KEY_TEMPLATES = 6

#: Fine print under every report.
FINE_PRINT = (
    "Scripts are read, not run: a line that is never reached counts too. Pipelines are legal in a cluster, but a "
    "cluster client has to split them by node. Most sharded targets need a client library that speaks cluster "
    "(shunt targets NAME). What was not captured was not judged."
)


def overview(seen: Overview) -> list[tuple[str, str]]:
    """Label and value of each line of the overview."""
    if not seen.commands:
        return [("captured", "no commands")]
    seconds = (seen.last_ts - seen.first_ts) / 1e9
    rate = f", {seen.commands / seconds:,.0f} commands/s" if seconds >= 1 else ""
    lines = [
        ("captured", f"{moment(seen.first_ts)} to {moment(seen.last_ts, seen.first_ts)} UTC ({span(seconds)}{rate})"),
        ("commands", f"{seen.commands:,} ({size(seen.request_bytes)} in, {size(seen.reply_bytes)} out)"),
        ("connections", f"{seen.connections:,} from {plural(seen.clients, 'client')}, in {plural(seen.runs, 'run')}"),
        ("backend", ", ".join(seen.backends) or "not named"),
    ]
    if seen.gaps:
        missing = f", at least {seen.gap_rows:,} commands missing" if seen.gap_rows else ""
        lines.append(("gaps", f"{seen.gaps:,}{missing}"))
    return lines


def subject(group: FindingGroup) -> str:
    """What a finding is about: the command, or a transaction's commands."""
    if group.rule == "gap":
        return "(not recorded)"
    if group.members:
        names = [printable(member) for member in group.members]
        return f"MULTI {' '.join(names[:8])}{' …' if len(names) > 8 else ''} EXEC"
    return printable(group.command)


def change_line(group: FindingGroup) -> str:
    """Who can make a finding go away, and how; empty where it does not keep the target from being compatible."""
    if not group.blocks:
        return ""
    whose = f"Sidekiq's {group.whose}: " if group.whose else ""
    who = {Change.NOBODY: "can't be changed: ", Change.TARGET: "on the target: "}.get(group.change, "change: ")
    return f"{whose}{who}{group.remedy}"


def key_list(group: FindingGroup) -> str:
    """The key templates of a finding."""
    names = [name(key) for key in group.keys[:_KEY_TEMPLATES]]
    more = len(group.keys) - _KEY_TEMPLATES
    return " ".join([*names, f"(and {more} more)"] if more > 0 else names)


def severity_counts(counts: dict[str, int]) -> str:
    """The severities that occurred: "3 error, 1 silent"."""
    return ", ".join(f"{counts[each]:,} {each}" for each in Severity if counts[each]) or "none"
