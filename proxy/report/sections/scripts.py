"""The section on scripts: what reading their bodies tells of the keys that they touch without declaring them."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.report.cells import Section, TextTable, columns, count, more, name, plural, size
from proxy.report.document import Report
from proxy.report.lua import Call
from proxy.report.printable import printable, shorten
from proxy.report.scripts import ScriptLine

TOP_SCRIPTS = 20
_LINES_EACH = 6
_WIDTH = 64


def scripts(report: Report) -> Section:
    """The bodies with something to say. Empty where the capture has no script."""
    if not report.scripts:
        return Section("scripts", "Scripts")
    telling = [line for line in report.scripts if line.flagged or line.untold]
    said = f"{plural(len(report.scripts), 'script body')} in the capture".replace("bodys", "bodies")
    if not telling:
        return Section("scripts", "Scripts", (f"{said}: every key that they touch is declared in KEYS.",))
    rows = tuple(row for line in telling[:TOP_SCRIPTS] for row in _rows(line))
    note = "A key that is made of a declared one lies in its slot only if the declared one has a hash tag."
    table = TextTable(
        "Keys that are not declared", columns("script", "calls*", "line*", "what"), rows,
        note + more(len(telling) - TOP_SCRIPTS, "script"),
    )  # fmt: skip
    return Section(
        "scripts", "Scripts", (f"{said}, {len(telling)} of them with something to see to.",), tables=(table,)
    )


def _rows(line: ScriptLine) -> Iterator[tuple[str, ...]]:
    what = [(str(call.line), shorten(_call(call), _WIDTH)) for call in line.flagged]
    what += [("", shorten(f"can't be told: {why}", _WIDTH)) for why in line.untold]
    left = len(what) - _LINES_EACH
    what = what[:_LINES_EACH] + ([("", f"(and {left} more)")] if left > 0 else [])
    for place, (at, text) in enumerate(what):
        if place:
            yield "", "", at, text
        else:
            yield _name(line), "–" if line.count is None else count(line.count), at, text


def _name(line: ScriptLine) -> str:
    return name(line.name, 16) if line.name else f"{printable(line.sha[:12])} {size(line.size)}"


def _call(call: Call) -> str:
    keys = ", ".join(f"{printable(use.text)} ({use.origin})" for use in call.undeclared)
    return f"{printable(call.command or b'?')} {keys}"
