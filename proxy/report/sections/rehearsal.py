"""The section on rehearsal: what clients were refused, as the target would have refused it."""

from __future__ import annotations

from proxy.report.cells import Section, TextTable, columns, moment
from proxy.report.document import RehearsedLine, Report
from proxy.report.printable import printable


def rehearsal(report: Report) -> Section:
    """Nothing where nothing was rehearsed."""
    if not report.rehearsed:
        return Section("rehearsal", "Rehearsal")
    total = sum(line.count for line in report.rehearsed)
    rows = tuple(
        (printable(line.command), _seen(line), f"{line.count:,}", moment(line.first_ts), moment(line.last_ts))
        for line in report.rehearsed
    )
    text = (
        f"{total:,} command{'s were' if total > 1 else ' was'} refused in rehearsal (shunt run --rehearse): the "
        "backend has not run them, their clients got the target's error. They count among the findings like any other."
    )
    heads = columns("command", "error", "count*", "first (UTC)", "last (UTC)")
    return Section("rehearsal", "Rehearsal", (text,), tables=(TextTable("Refused in rehearsal", heads, rows),))


def _seen(line: RehearsedLine) -> str:
    if line.queued:
        return "(in EXEC's reply)"
    return printable(line.error) or "(replies were off)"
