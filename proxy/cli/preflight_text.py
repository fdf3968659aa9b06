"""A preflight for a terminal: what is well first and in short, what is not last, just above the verdict.

Knows: columns, colours, how much of a list is shown. Refuses to know: checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from proxy.console.verb import printable
from proxy.cutover.finding import Finding, Level, Preflight

#: Details that are shown of a finding; --json has all.
DETAILS = 8
#: So many unknown findings with one reason are joined.
JOINED = 3
_LABELS = {Level.PASS: "ok", Level.UNKNOWN: "?", Level.WARN: "WARN", Level.FAIL: "FAIL"}
_STYLES = {Level.PASS: "green", Level.UNKNOWN: "magenta", Level.WARN: "bold yellow", Level.FAIL: "bold red"}
#: In this order: what is read last is what was not scrolled away.
_ORDER = (Level.PASS, Level.UNKNOWN, Level.WARN, Level.FAIL)
_LABEL = 6
_CHECK = 13
_INDENT = 2 + _LABEL + _CHECK


def render(found: Preflight, *, color: bool, width: int) -> str:
    """The whole text. ``width`` in columns."""
    out = StringIO()
    console = Console(
        file=out, width=width, force_terminal=color, no_color=not color, highlight=False, emoji=False, markup=False,
        color_system="standard" if color else None, legacy_windows=False, soft_wrap=True,
    )  # fmt: skip
    for line in _lines(found, width):
        console.print(line)
    return out.getvalue()


def _lines(found: Preflight, width: int) -> Iterator[Text]:
    yield Text("from ", style="dim") + Text(found.source, style="bold")
    yield Text("  to ", style="dim") + Text(found.target, style="bold")
    if found.capture:
        yield Text(f"with the capture {printable(found.capture)}", style="dim")
    for level in _ORDER:
        here = [finding for finding in found.findings if finding.level is level]
        if here:
            yield Text()
        for finding in _joined(here):
            yield from _finding(finding, width)
    yield Text()
    reserved = found.count(Level.WARN) or found.count(Level.UNKNOWN)
    yield Text(found.verdict, style="bold red" if not found.ready else "bold yellow" if reserved else "bold green")


def _finding(finding: Finding, width: int) -> Iterator[Text]:
    style = _STYLES[finding.level]
    head = Text("  ") + Text(f"{_LABELS[finding.level]:<{_LABEL}}", style=style)
    head += Text(f"{finding.check:<{_CHECK}}", style="bold" if finding.level is not Level.PASS else "")
    for line in _wrapped(finding.text, width):
        yield head + Text(line)
        head = Text(" " * _INDENT)
    if finding.level is Level.PASS:
        return
    for detail in finding.details[:DETAILS]:
        yield from _hanging("· ", detail, width, "dim")
    if len(finding.details) > DETAILS:
        yield from _hanging("  ", f"and {len(finding.details) - DETAILS:,} more: --json has all", width, "dim")
    if finding.do:
        yield from _hanging("→ ", finding.do, width, "cyan")


def _joined(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Unknown findings that have one reason are one line, if there are several of them."""
    left = list(findings)
    while left:
        first = left.pop(0)
        alike = [first, *(each for each in left if first.why and each.why == first.why)]
        if len(alike) < JOINED:
            yield first
            continue
        left = [each for each in left if each not in alike]
        checks = list(dict.fromkeys(each.check for each in alike))
        text = f"{first.why[0].upper()}{first.why[1:]}. So it is not known of: {', '.join(checks)}."
        yield Finding(f"{len(checks)} checks", first.side, first.level, text)


def _hanging(sign: str, text: str, width: int, style: str) -> Iterator[Text]:
    for line in _wrapped(text, width - len(sign)):
        yield Text(" " * _INDENT + sign + line, style=style)
        sign = " " * len(sign)


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(printable(text), max(width - _INDENT, 30), break_on_hyphens=False) or [""]
