"""``shunt import monitor``: a capture out of ``redis-cli MONITOR``'s output.

Knows: options, files, progress, what is printed. Refuses to know: lines and rows (``capture.monitor_import``).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import click
import pyarrow as pa

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.capture.format import ArgsMode
from proxy.capture.monitor_import import ImportCounts, MonitorImport
from proxy.capture.monitor_lines import LUA
from proxy.capture.retention import CaptureLimits
from proxy.capture.segments import SegmentHeader, run_name
from proxy.capture.store import Store
from proxy.capture.writer import FRAME_ROWS
from proxy.report.render_touched import render_touched
from proxy.report.touched import TouchedKeys
from proxy.version import VERSION

#: A longer line is read in pieces, which are unreadable.
MOST_LINE_BYTES = 64_000_000
_PROGRESS_LINES = 100_000
#: Nothing of the new directory is deleted while it is made.
_LIMITS = CaptureLimits(max_bytes=1 << 62)


class ImportFailed(click.ClickException):
    """One line: what, where, what now."""

    exit_code = 2


@click.group(name="import")
def import_group() -> None:
    """Make a capture out of what another tool recorded."""


@import_group.command("monitor")
@click.argument("source", metavar="FILE|-", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "-o", "output", metavar="DIR", required=True, type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the capture; it must be new or empty.",
)  # fmt: skip
@click.option(
    "--capture-args", "args", type=click.Choice(["none", "keys", "full"]), default="keys", show_default=True,
    help="What is kept of arguments, as for shunt run.",
)  # fmt: skip
def monitor_command(source: Path, output: Path, args: str) -> None:
    """Make a capture out of the output of redis-cli MONITOR.

    FILE holds its lines; - reads them from standard input, until Ctrl-C. There are no replies and no latencies in it:
    the verdict is what such a capture is for. At the end the keys are printed that scripts really touched.
    """
    try:
        if output.exists() and any(output.iterdir()):
            raise ImportFailed(f"{output} is not empty; name a new directory with -o")
        if source == Path("-"):
            counts, touched = _import(sys.stdin.buffer, "standard input", output, args)
        else:
            with source.open("rb") as lines:
                counts, touched = _import(lines, source.name, output, args)
    except OSError as error:
        raise ImportFailed(f"cannot import {source} to {output}: {error.strerror or error}") from None
    if not counts.commands and not counts.gaps:
        raise ImportFailed(f"{source} has no line of MONITOR; write one with: redis-cli MONITOR > FILE")
    click.echo(_summary(counts, output))
    if counts.script_lines:
        click.echo("\nKeys that scripts touched:\n\n" + render_touched(touched.result(), touched.unattached), nl=False)


def _import(lines: BinaryIO, name: str, output: Path, args: str) -> tuple[ImportCounts, TouchedKeys]:
    started_ns = time.time_ns()
    header = SegmentHeader(
        run_name(started_ns), 0, started_ns, VERSION, args, (f"MONITOR of {name} (no replies, no latencies)",)
    )
    store = Store(output, header, _LIMITS)
    batches = _Frames(lambda batch: store.write(batch, time.time()))
    touched = TouchedKeys()
    keeps = args != "none"
    played = MonitorImport(
        CommandTable(table().commands), ArgsMode[args.upper()], batches.add,
        store.add_script if keeps else lambda sha, body: None,
    )  # fmt: skip
    try:
        with contextlib.suppress(KeyboardInterrupt):  # how one ends redis-cli MONITOR | shunt import monitor -
            for raw in _lines(lines, _progress()):
                line = played.take(raw)
                if line is not None:
                    (touched.inside if line.source == LUA else touched.command)(line.args)
        played.finish()
        batches.flush()
        store.close(time.time())
    finally:
        store.abandon()
    return played.counts, touched


class _Frames:
    """Joins batches to frames of FRAME_ROWS."""

    def __init__(self, write: Callable[[pa.RecordBatch], None]) -> None:
        self._write = write
        self._waiting: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        if sum(each.num_rows for each in self._waiting) >= FRAME_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._write(pa.concat_batches(self._waiting))
            self._waiting = []


def _lines(lines: BinaryIO, show: Callable[[int], None]) -> Iterator[bytes]:
    count = 0
    while raw := lines.readline(MOST_LINE_BYTES):
        yield raw
        count += 1
        if count % _PROGRESS_LINES == 0:
            show(count)


def _progress() -> Callable[[int], None]:
    """Tells a terminal how many lines were read."""
    if not sys.stderr.isatty():
        return lambda count: None
    return lambda count: click.echo(f"\r{count:,} lines read ", nl=False, err=True)


def _summary(counts: ImportCounts, output: Path) -> str:
    text = f"{output}: {counts.commands:,} commands out of {counts.lines:,} lines, without replies and latencies"
    if counts.script_lines:
        text += f"; {counts.script_lines:,} commands of scripts are no rows"
    if counts.unreadable:
        text += f"; {counts.unreadable:,} lines could not be read"
    if counts.gaps:
        text += f"; {counts.gaps:,} gaps"
    return text
