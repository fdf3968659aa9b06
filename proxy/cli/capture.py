"""``shunt capture``: print, list, verify and compact captures.

Knows: what these verbs print and how they end. Refuses to know: how a capture is read (``capture.reader``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from proxy.capture.compact import compact, groups, lower_priority
from proxy.capture.filters.filtered import Filter, Filtered
from proxy.capture.reader import Capture, CaptureError
from proxy.capture.render import lines, text
from proxy.cli.filters import doubts, where_option

_CHUNK_LINES = 1000
_PATHS = click.argument("captures", metavar="CAPTURE...", nargs=-1, required=True, type=click.Path(path_type=Path))


class CaptureUsage(click.ClickException):
    """A capture that can't be read: one line, exit code 2."""

    exit_code = 2


def _capture(paths: tuple[Path, ...]) -> Capture:
    try:
        return Capture(paths)
    except (CaptureError, OSError) as error:
        raise CaptureUsage(str(error)) from None


@click.group(name="capture")
def capture_group() -> None:
    """Print, list, verify and compact captures. A CAPTURE is a directory, a segment, or a compacted file."""


@capture_group.command()
@_PATHS
@where_option
def cat(captures: tuple[Path, ...], where: Filter | None) -> None:
    """Print one JSON object a line for each exchange and each gap."""
    capture = _capture(captures)
    source = Filtered(capture, where) if where else capture
    try:
        for chunk in _chunks(source.batches()):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    for loss in capture.losses:
        click.echo(f"lost: {loss}", err=True)
    if isinstance(source, Filtered) and (line := doubts(source.left_out)):
        click.echo(line, err=True)


def _chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    for batch in batches:
        rows = lines(batch)
        while chunk := list(islice(rows, _CHUNK_LINES)):
            yield ("\n".join(chunk) + "\n").encode()


@capture_group.command()
@_PATHS
def ls(captures: tuple[Path, ...]) -> None:
    """List the segments: whose they are, what they hold, and their state (closed, open, torn, compacted)."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("segment", "run", "worker", "rows", "gaps", "bytes", "from", "to", "args", "state"):
        numeric = name in ("worker", "rows", "gaps", "bytes")
        table.add_column(name, overflow="fold", justify="right" if numeric else "left")
    for info in _capture(captures).segments():
        table.add_row(
            info.path.name, info.run, str(info.worker), str(info.rows), "?" if info.gaps is None else str(info.gaps),
            str(info.size), _when(info.first_ns), _when(info.last_ns), info.args or "?", info.state,
        )  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)  # whole lines for whoever reads them
    console.print(table)


def _when(ns: int | None) -> str:
    return "-" if ns is None else datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@capture_group.command()
@_PATHS
def verify(captures: tuple[Path, ...]) -> None:
    """Read everything; exit 0 if nothing was lost, 1 if something was, each loss on a line of its own."""
    capture = _capture(captures)
    rows = found = 0
    for file in capture.files:
        for batch, _ in capture.read(file, {}):
            rows += batch.num_rows
            gaps = batch.filter(pc.not_equal(batch.column("gap"), b""))
            for gap in gaps.select(["ts", "conn", "gap", "gap_rows"]).to_pylist():
                found += 1
                rows -= 1
                click.echo(f"lost: {file.path}: {_gap(gap)}")
        for loss in capture.losses:
            click.echo(f"lost: {loss}")
        found += len(capture.losses)
        capture.losses.clear()
    state = "whole" if not found else f"{found} losses" if found > 1 else "1 loss"
    click.echo(f"{len(capture.files)} segments, {rows} exchanges: {state}")
    sys.exit(1 if found else 0)


def _gap(row: dict[str, Any]) -> str:
    why, rows, conn = row["gap"], row["gap_rows"], row["conn"]
    many = f"{rows} rows" if rows else "an unknown number of rows"
    whose = f" of connection {conn}" if conn else ""
    return f"gap at {_when(row['ts'])}: {text(why)} ({many}{whose} lost)"


@capture_group.command(name="compact")
@_PATHS
def compact_command(captures: tuple[Path, ...]) -> None:
    """Turn closed segments into Parquet files (zstd), at the lowest priority, and delete them."""
    capture = _capture(captures)
    lower_priority()
    console = Console(stderr=True)
    bar = Progress(TextColumn("compacting"), BarColumn(), DownloadColumn(), console=console, transient=True)
    bar.disable = not console.is_terminal
    try:
        with bar:
            task = bar.add_task("", total=sum(f.path.stat().st_size for group in groups(captures) for f in group))
            done = 0
            for one in compact(captures, lambda size: bar.advance(task, size)):
                done += 1
                lost = f", {one.losses} losses noted in it" if one.losses else ""
                before, after = decimal(one.bytes_before), decimal(one.bytes_after)
                click.echo(f"{one.path}: {one.segments} segments, {one.rows} rows, {before} -> {after}{lost}")
    except (CaptureError, OSError) as error:
        raise CaptureUsage(str(error)) from None
    if not done:
        click.echo(f"nothing to compact: none of {len(capture.files)} files is a closed segment")
