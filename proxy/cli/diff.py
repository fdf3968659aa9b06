"""``shunt diff``: what changed between two captures.

Knows: options, formats, the exit code. Refuses to know: what is compared, and how (``proxy.report.diff``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from proxy.capture.filters.filtered import Filter, Filtered
from proxy.capture.reader import Capture, CaptureError
from proxy.cli.filters import where_option
from proxy.cli.report import ReportError, chosen_targets, selection_of, slow_ns, terminal_width
from proxy.report.analysis import Analysis
from proxy.report.diff import compare
from proxy.report.document import Report
from proxy.report.render_diff import diff_json, diff_text
from proxy.report.render_text import WIDTH
from proxy.report.run import build
from proxy.report.selection import headline
from proxy.report.studies.paces import Paces, PaceTable
from proxy.report.targets import DEFAULT


@click.command("diff")
@click.argument("before", metavar="A", type=click.Path(path_type=Path))
@click.argument("after", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--target", "targets", multiple=True, metavar="TARGET",
    help=f"Judge against this kind of Redis (shunt targets lists them), or all. May be repeated. [default: {DEFAULT}]",
)  # fmt: skip
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--slow", "slow", metavar="DURATION", default="10ms", show_default=True, callback=slow_ns,
    help="What counts as a slow command.",
)  # fmt: skip
@where_option
@click.pass_context
def diff_command(
    ctx: click.Context,
    before: Path,
    after: Path,
    targets: tuple[str, ...],
    form: str,
    slow: int,
    where: Filter | None,
) -> None:
    """Say what changed from capture A to capture B: findings and advice, latency and volume.

    A and B are capture directories or files of one. Exit codes: 0 nothing new was found in B, 1 something was, 2 usage.
    """
    chosen = chosen_targets(targets)
    try:
        one, old = _read(before, chosen, slow, where)
        two, new = _read(after, chosen, slow, where)
    except CaptureError as error:
        raise ReportError(str(error)) from None
    found = compare(one, two, (old, new))
    if form == "json":
        sys.stdout.write(diff_json(found))
    else:
        terminal = sys.stdout.isatty()
        width = max(WIDTH, min(terminal_width(), 160)) if terminal else WIDTH
        sys.stdout.write(diff_text(found, color=terminal and "NO_COLOR" not in os.environ, width=width))
    ctx.exit(found.exit_code)


def _read(path: Path, targets: tuple[str, ...], slow: int, where: Filter | None) -> tuple[Report, PaceTable]:
    """The report of one capture, and its paces. With a filter, a line on stderr says what was left out."""
    capture = Capture([path])
    source = Filtered(capture, where) if where else capture
    with Analysis(source, targets=targets, slow_ns=slow, more=(Paces,)) as analysis:
        paces = analysis.added[0]
        assert isinstance(paces, Paces)
        selection = selection_of(source) if isinstance(source, Filtered) else None
        if selection is not None:
            click.echo(f"{path}: {headline(selection)}", err=True)
        return build(analysis, source, targets, selection), paces.table()
