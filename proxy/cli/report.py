"""``shunt report``: what a capture says of each target, and what the traffic was like.

Knows: options, formats, where the output goes, the exit code. Refuses to know: rules and tables (``proxy.report``).
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from proxy.capture.filters.filtered import Filter, Filtered
from proxy.capture.reader import Capture, CaptureError
from proxy.cli.filters import where_option
from proxy.report.analysis import Analysis
from proxy.report.charts import depths
from proxy.report.document import Report, Selection, Verdict, worst
from proxy.report.render_json import render_json, render_jsonl
from proxy.report.render_markdown import render_markdown
from proxy.report.render_text import WIDTH, render_text
from proxy.report.rules import Severity
from proxy.report.run import build
from proxy.report.selection import headline, qualified_verdict
from proxy.report.source import Source
from proxy.report.targets import DEFAULT, TARGETS, TargetError, find
from proxy.report.verdict import verdict_of
from proxy.units import parse_duration_s

EXIT_USAGE = 2
_PROGRESS_AFTER_S = 1.0


class ReportError(click.ClickException):
    """One line: what, where, what now."""

    exit_code = EXIT_USAGE


def slow_ns(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """The option --slow in ns. Raises ReportError."""
    try:
        return max(1, int(parse_duration_s(value) * 1e9))
    except ValueError as error:
        raise ReportError(f"--slow: {value!r} {error}") from None


@click.command("report")
@click.argument("captures", metavar="CAPTURE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--target", "targets", multiple=True, metavar="TARGET",
    help=f"Judge against this kind of Redis (shunt targets lists them), or all. May be repeated. [default: {DEFAULT}]",
)  # fmt: skip
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "jsonl", "markdown", "html"]), default="text",
    show_default=True, help="text to read; json: one document; jsonl: one line per occurrence; markdown for a ticket; "
    "html: one file with charts, to hand on.",
)  # fmt: skip
@click.option(
    "-o", "output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="Write here (mode 0600: a report holds key names) instead of to standard output.",
)  # fmt: skip
@where_option
@click.option(
    "--slow", "slow", metavar="DURATION", default="10ms", show_default=True, callback=slow_ns,
    help="List commands that took this long; as Redis' own slowlog has it.",
)  # fmt: skip
@click.pass_context
def report_command(
    ctx: click.Context,
    captures: tuple[Path, ...],
    targets: tuple[str, ...],
    form: str,
    output: Path | None,
    where: Filter | None,
    slow: int,
) -> None:
    """Say what a clustered Redis would refuse of a capture, and what the traffic was like.

    CAPTURE is a capture directory or a file of one. Exit codes: 0 compatible, 1 not compatible as it is (perhaps
    after changes), 3 can't tell, 2 usage.
    """
    chosen = chosen_targets(targets)
    if form == "html" and _to_terminal(output):
        raise ReportError("a terminal does not show html; add -o report.html")
    try:
        capture = Capture(captures)
        source = Filtered(capture, where) if where else capture
        with Analysis(source, _progress(), targets=chosen, slow_ns=slow, occurrences=form == "jsonl") as analysis:
            _end_progress()
            selection = selection_of(source) if isinstance(source, Filtered) else None
            if form == "jsonl":
                verdicts: list[Verdict] = []
                _write(render_jsonl(_occurrences(analysis, source, chosen, verdicts)), output)
                code = _without_words(worst(verdicts), selection).exit_code
            else:
                report = build(analysis, source, chosen, selection)
                _write([_render(report, form, output)], output)
                code = report.verdict.exit_code
    except CaptureError as error:
        raise ReportError(str(error)) from None
    ctx.exit(code)


def selection_of(source: Filtered) -> Selection:
    """What a filter has left out of a capture that has been read."""
    left_out = source.left_out
    return Selection(source.filter.text, left_out.exchanges, left_out.gaps, left_out.doubtful, left_out.torn)


def _without_words(verdict: Verdict, selection: Selection | None) -> Verdict:
    """The verdict of a report that has no place to say what it is about: stderr says it."""
    if selection is None:
        return verdict
    click.echo(headline(selection), err=True)
    return qualified_verdict(verdict, selection)


def chosen_targets(names: Sequence[str]) -> tuple[str, ...]:
    """The targets of these names; ``all`` is every one."""
    if "all" in names:
        return tuple(TARGETS)
    try:
        return tuple(dict.fromkeys(find(name).id for name in names or (DEFAULT,)))
    except TargetError as error:
        raise ReportError(str(error)) from None


def _render(report: Report, form: str, output: Path | None) -> str:
    if form == "json":
        return render_json(report)
    if form == "markdown":
        return render_markdown(report)
    if form == "html":
        from proxy.report.render_html import render_html  # what draws charts is large: only where it is needed

        return render_html(report, depths(report))
    terminal = _to_terminal(output)
    width = max(WIDTH, min(terminal_width(), 140)) if terminal else WIDTH
    return render_text(report, color=terminal and "NO_COLOR" not in os.environ, width=width)


def _to_terminal(output: Path | None) -> bool:
    return output is None and sys.stdout.isatty()


def terminal_width() -> int:
    """Columns of standard output."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except OSError:
        return WIDTH


def _occurrences(
    analysis: Analysis, source: Source, targets: Iterable[str], verdicts: list[Verdict]
) -> Iterator[dict[str, Any]]:
    """Every occurrence of every target; at each target's end its verdict goes into ``verdicts``."""
    commands = analysis.overview().commands
    for target in targets:
        unknown = blocks = False
        for occurrence in analysis.judging.occurrences(target):
            unknown |= occurrence["severity"] == Severity.UNKNOWN
            blocks |= occurrence["blocks"]
            yield occurrence
        for loss in source.losses:
            yield {
                "conn": None, "seq": None, "rule": "damaged", "target": target, "severity": str(Severity.UNKNOWN),
                "command": b"", "keys": [], "error": f"unknown: {loss}", "when": "at command",
            }  # fmt: skip
        verdicts.append(
            verdict_of(blocks=blocks, fixed=False, unknown=unknown, losses=len(source.losses), commands=commands)
        )


def _write(parts: Iterable[str], output: Path | None) -> None:
    if output is None:
        try:
            for part in parts:
                sys.stdout.write(part)
            sys.stdout.flush()
        except BrokenPipeError:  # a pager that was left: nobody wants the rest, the exit code still counts
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            for _ in parts:
                pass
        return
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchmod(fd, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.writelines(parts)
    except OSError as error:
        raise ReportError(f"cannot write {output}: {error.strerror}") from None


def _progress() -> Callable[[int], None] | None:
    """Tells a terminal how many rows were read, once reading takes a while."""
    if not sys.stderr.isatty():
        return None
    started = time.monotonic()

    def show(rows: int) -> None:
        if time.monotonic() - started > _PROGRESS_AFTER_S:
            click.echo(f"\r{rows:,} commands read ", nl=False, err=True)

    return show


def _end_progress() -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
