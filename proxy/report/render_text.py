"""A report for a terminal of 100 columns: verdict first, then findings, then tables. Colours only on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from textwrap import wrap

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.report.cells import TOP_SUBJECTS, Section, TextTable, by_rule, moment, more, place
from proxy.report.document import FindingGroup, Report, TargetReport, Verdict
from proxy.report.heading import FINE_PRINT, change_line, key_list, overview, severity_counts, subject
from proxy.report.rules import Severity
from proxy.report.rules.advice import Advice, Level
from proxy.report.sections import sections
from proxy.report.selection import headline

WIDTH = 100
_SHOWN_FINDINGS = 40
_INDENT = " " * 4

_VERDICT_STYLES = {
    Verdict.COMPATIBLE: "bold green",
    Verdict.AFTER_CHANGES: "bold yellow",
    Verdict.NOT_COMPATIBLE: "bold red",
    Verdict.CANNOT_TELL: "bold yellow",
}
_SEVERITY_STYLES = {
    Severity.ERROR: "red",
    Severity.SILENT: "magenta",
    Severity.LATENT: "yellow",
    Severity.RESTRICTED: "cyan",
    Severity.UNKNOWN: "yellow",
}
_LEVEL_STYLES = {Level.HIGH: "red", Level.MEDIUM: "yellow", Level.LOW: "cyan"}


def render_text(report: Report, *, color: bool = False, width: int = WIDTH) -> str:
    """The report. ``color``: with terminal escapes; ``width`` in columns."""
    console, out = _console(color, width)
    if report.selection is not None:
        _paragraph(console, headline(report.selection), "")
        console.print()
    for target in report.targets:
        _verdict(console, target)
    for label, value in overview(report.overview):
        console.print(Text(f"  {label:<12}", style="dim") + Text(value))
    for loss in report.losses:
        console.print(Text("  damaged     ", style="yellow") + Text(loss))
    for target in report.targets:
        _findings(console, target)
    for section in sections(report):
        _section(console, section)
    console.print()
    _paragraph(console, FINE_PRINT, "")
    return _text(out)


def render_sections(made: Sequence[Section], *, color: bool = False, width: int = WIDTH) -> str:
    """Sections alone, as a report shows them."""
    console, out = _console(color, width)
    for section in made:
        _section(console, section)
    return _text(out)


def _console(color: bool, width: int) -> tuple[Console, StringIO]:
    out = StringIO()
    console = Console(
        file=out, width=width, force_terminal=color, no_color=not color, highlight=False, emoji=False, markup=False,
        color_system="standard" if color else None, legacy_windows=False,
    )  # fmt: skip
    return console, out


def _text(out: StringIO) -> str:
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _verdict(console: Console, target: TargetReport) -> None:
    style = _VERDICT_STYLES[target.verdict]
    console.print(Text(f"{target.target}: ", style="bold") + Text(target.words.upper(), style=style))
    reason = target.reason[0].upper() + target.reason[1:]
    _paragraph(console, reason, "  ")
    console.print()


def _findings(console: Console, target: TargetReport) -> None:
    if not target.findings:
        return
    console.print()
    console.print(Text(f"Findings for {target.target}: {severity_counts(target.counts)}", style="bold"))
    rule = None
    for group in target.findings[:_SHOWN_FINDINGS]:
        heading = (group.rule, group.error, group.when)
        if heading != rule:
            _heading(console, group)
            rule = heading
        _group(console, group)
    left = len(target.findings) - _SHOWN_FINDINGS
    if left > 0:
        console.print(f"\n  and {left:,} more groups; the json format has all")


def _heading(console: Console, group: FindingGroup) -> None:
    console.print()
    severity = Text(f"  {group.severity.upper()} ", style=f"bold {_SEVERITY_STYLES[group.severity]}")
    console.print(severity + Text(group.rule, style="bold") + Text(f": {group.title}"))
    if group.severity is Severity.UNKNOWN:
        _paragraph(console, group.error.removeprefix("unknown: "), _INDENT)
    elif group.error:
        _paragraph(console, f"{group.when}: {group.error}", _INDENT)
    else:
        _paragraph(console, "no error: another answer than from a single Redis", _INDENT)


def _group(console: Console, group: FindingGroup) -> None:
    count = f"{group.count:,}×"
    text = f"{count:>10}  {subject(group)}"
    if keys := key_list(group):
        text += f"  {keys}"
    lines = wrap(text, WIDTH - 4, subsequent_indent=" " * 14, break_on_hyphens=False)
    for line in lines:
        console.print(Text(_INDENT + line))
    if change := change_line(group):
        _paragraph(console, change, " " * 16)
    examples = ", ".join(place(each) for each in group.examples)
    last = f" to {moment(group.last_ts, group.first_ts)}" if group.count > 1 else ""
    console.print(Text(f"{' ' * 16}{moment(group.first_ts)}{last}, conn/seq {examples}", style="dim"))


def _section(console: Console, section: Section) -> None:
    console.print()
    console.rule(Text(section.title, style="bold"), align="left", characters="─", style="dim")
    for paragraph in section.paragraphs:
        console.print()
        _paragraph(console, paragraph, "")
    for group in by_rule(section.advice):
        _advice(console, group)
    for table in section.tables:
        _table(console, table)


def _advice(console: Console, group: Sequence[Advice]) -> None:
    """What one rule says of its subjects; why and what instead stand once, below them."""
    console.print()
    rule = group[0]
    level = Text(f"  {rule.level.upper()} ", style=f"bold {_LEVEL_STYLES[rule.level]}")
    console.print(level + Text(rule.rule, style="bold") + Text(f": {rule.title}"))
    for advice in group[:TOP_SUBJECTS]:
        _paragraph(console, f"{advice.subject}: {advice.seen}", _INDENT)
        if advice.examples:
            last = f" to {moment(advice.last_ts, advice.first_ts)}" if advice.count > 1 else ""
            examples = ", ".join(place(each) for each in advice.examples)
            console.print(Text(f"{_INDENT}{moment(advice.first_ts)}{last}, conn/seq {examples}", style="dim"))
    if left := more(len(group) - TOP_SUBJECTS, "subject").strip():
        _paragraph(console, left, _INDENT)
    for label, text in (("why", rule.why), ("instead", rule.instead)):
        _paragraph(console, f"{label}: {text}", _INDENT)


def _paragraph(console: Console, text: str, indent: str) -> None:
    for line in wrap(text, console.width - len(indent), break_on_hyphens=False):
        console.print(Text(indent + line))


def _table(console: Console, table: TextTable) -> None:
    console.print()
    console.print(Text(table.title, style="bold"))
    grid = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for place_, column in enumerate(table.columns):
        grid.add_column(
            Text(column.heading), justify="right" if column.number else "left", no_wrap=True,
            overflow="ellipsis", min_width=min(12, len(column.heading)) if place_ else None,
        )  # fmt: skip
    for row in table.rows:
        grid.add_row(*(Text(cell) for cell in row))
    console.print(grid)
    if table.note:
        _paragraph(console, table.note, "")
