"""Compaction: closed segments become Parquet files, which take less room and which any tool reads.

Knows: which segments go together, and in what order things must happen so that a cut-off compaction loses nothing and
doubles nothing: write aside, force to the disk, rename, then delete the segments. Refuses to know: the file's metadata
(``compacted``) and how segments are read (``reader``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.compacted import About, parquet_writer, read_about
from proxy.capture.listing import CaptureError, CaptureFile, capture_files
from proxy.capture.reader import Capture, with_added
from proxy.capture.segments import (
    OPEN_SUFFIX,
    PARQUET_SUFFIX,
    SUFFIX,
    SegmentHeader,
    SegmentName,
    is_written,
    missing_rows,
    sync_directory,
)

#: One Parquet file takes the place of segments of about this many bytes, so that retention can delete in steps.
FILE_BYTES = 1_000_000_000
#: Rows are gathered up to so many rows or bytes for one row group.
_GROUP_ROWS = 131_072
_GROUP_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class Compacted:
    """What became of one group of segments. Sizes in bytes."""

    path: Path
    segments: int
    rows: int
    bytes_before: int
    bytes_after: int
    losses: int


def lower_priority() -> None:
    """Makes this process give way to all others; the kernel derives the priority of its reads and writes from that."""
    with contextlib.suppress(OSError):
        os.nice(19)


def compact(
    paths: Sequence[Path], progress: Callable[[int], None] = lambda _: None, file_bytes: int = FILE_BYTES
) -> Iterator[Compacted]:
    """Compacts all closed segments under ``paths``, and yields each new file. ``progress`` is told bytes of segments as
    they are read. Raises CaptureError or OSError; what was not yielded by then is as it was."""
    with contextlib.ExitStack() as locks:
        for folder in sorted({path if path.is_dir() else path.parent for path in paths if path.exists()}):
            locks.callback(os.close, _lock(folder))
            _clean_up(folder)
        for group in groups(paths, file_bytes):
            yield _compact(group, progress)


def groups(paths: Sequence[Path], file_bytes: int = FILE_BYTES) -> list[list[CaptureFile]]:
    """Closed segments that go into one Parquet file each: of one directory, run, worker and header, about
    ``file_bytes``."""
    closed = [file for file in capture_files(paths) if not file.compacted and _is_closed(file)]
    found: list[list[CaptureFile]] = []
    for _, alike in groupby(closed, key=lambda file: (file.path.parent, _header(file))):
        size = file_bytes
        for file in alike:
            if size >= file_bytes:
                found.append([])
                size = 0
            found[-1].append(file)
            size += file.path.stat().st_size
    return found


def _lock(folder: Path) -> int:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise CaptureError(f"{folder}: another compaction is at work there") from None
    return fd


def _clean_up(folder: Path) -> None:
    """Finishes what a cut-off compaction left: half a file goes, and so do segments that a whole file holds."""
    for path in folder.glob(f".*{PARQUET_SUFFIX}.part"):
        path.unlink(missing_ok=True)
    for path in folder.glob(f"*{PARQUET_SUFFIX}"):
        with contextlib.suppress(OSError, ValueError, KeyError, pa.ArrowException):
            about = read_about(path)
            for number in about.numbers:
                name = SegmentName(about.header.run, about.header.worker, number)
                (folder / name.file(SUFFIX)).unlink(missing_ok=True)


def _is_closed(file: CaptureFile) -> bool:
    if not file.path.name.endswith(OPEN_SUFFIX):
        return True
    fd = file.open()
    try:
        return not is_written(fd)
    finally:
        os.close(fd)


def _header(file: CaptureFile) -> SegmentHeader:
    for _, header in Capture([file.path]).read(file, {}):
        return header
    return SegmentHeader(file.name.run, file.name.worker, 0, "", "", ())


def _compact(group: list[CaptureFile], progress: Callable[[int], None]) -> Compacted:
    first, folder = group[0], group[0].path.parent
    about = About(_header(first), [file.name.number for file in group])
    target = folder / first.name.file(PARQUET_SUFFIX)
    part = folder / f".{target.name}.part"
    stats = [file.path.stat() for file in group]
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as out:
            with parquet_writer(out) as writer:
                for table in _row_groups(group, about, progress):
                    writer.write_table(table)
                writer.add_key_value_metadata(about.metadata())
            out.flush()
            os.fsync(out.fileno())
        ended_ns = max(stat.st_mtime_ns for stat in stats)
        os.utime(part, ns=(ended_ns, ended_ns))  # retention goes by age
        os.rename(part, target)
        sync_directory(folder)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    for file in group:
        file.path.unlink(missing_ok=True)
    before = sum(stat.st_size for stat in stats)
    return Compacted(target, len(group), about.rows, before, target.stat().st_size, len(about.losses))


def _row_groups(group: list[CaptureFile], about: About, progress: Callable[[int], None]) -> Iterator[pa.Table]:
    """The group's rows in pieces of a row group's size; counts them into ``about``."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for file in group:
        capture = Capture([file.path])
        for batch, header in capture.read(file, about.scripts):
            _count(batch, about)
            waiting.append(with_added(batch, header))
            rows += batch.num_rows
            size += batch.nbytes
            if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
                yield pa.Table.from_batches(waiting)
                waiting, rows, size = [], 0, 0
        about.losses.extend(capture.losses)
        about.facts.extend(capture.facts)
        progress(file.path.stat().st_size)
    if waiting:
        yield pa.Table.from_batches(waiting)


def _count(batch: pa.RecordBatch, about: About) -> None:
    times = pc.min_max(batch.column("ts")).as_py()
    about.rows += batch.num_rows
    about.gaps += missing_rows(batch)[0]
    about.first_ns = min(times["min"], times["min"] if about.first_ns is None else about.first_ns)
    about.last_ns = max(times["max"], times["max"] if about.last_ns is None else about.last_ns)
