"""Reads a capture: segments closed, open or torn, and compacted ones, as one stream of batches.

Knows: how frames become rows, and to say what was lost on the way. Refuses to know: how a row is shown (``render``)
and what it means (``report``). Memory: one frame at a time.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture import mirrored
from proxy.capture.compacted import READ_SCHEMA, read_about, read_batches
from proxy.capture.facts import BackendFacts
from proxy.capture.frames import HEAD_BYTES, Frame, FrameKind, Loss, Scanner, Tail
from proxy.capture.listing import CaptureError, CaptureFile, capture_files
from proxy.capture.migrations import MIGRATIONS, Migrations, UnknownVersion
from proxy.capture.mirrored import Mirrored
from proxy.capture.segments import SegmentHeader, is_written, unpack_batch, unpack_facts, unpack_scripts

__all__ = ["READ_SCHEMA", "Capture", "CaptureError", "Loss", "SegmentInfo", "with_added"]

_UNREADABLE = (UnknownVersion, ValueError, KeyError, TypeError, pa.ArrowException, OSError)


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """One file of a capture. ``state``: closed, open (being written), torn (damaged or not closed), compacted or
    unreadable. ``first_ns``, ``last_ns``: times of its rows, None if it has none. ``gaps``: gap rows, None if not
    known."""

    path: Path
    run: str
    worker: int
    number: int
    size: int
    rows: int = 0
    args: str = ""
    state: str = "open"
    first_ns: int | None = None
    last_ns: int | None = None
    gaps: int | None = None


class Capture:
    """A capture made of files and directories, in any mix. ``losses`` is filled while ``batches`` is read."""

    def __init__(self, paths: Sequence[Path], migrations: Migrations = MIGRATIONS) -> None:
        """Raises CaptureError if a path is missing, or is no file of a capture."""
        self.losses: list[Loss] = []
        self.files: list[CaptureFile] = capture_files(paths)
        self._migrations = migrations
        self._scripts: dict[bytes, bytes] | None = None
        self.facts: list[BackendFacts] = []  # of the files that were read

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows: batches of READ_SCHEMA, in file order (run, worker, segment). Each batch's schema metadata holds
        ``args``: its segment's none, keys or full; empty if not known."""
        self.losses.clear()
        self.facts.clear()
        scripts: dict[bytes, bytes] = {}
        for file in self.files:
            for batch, header in self.read(file, scripts):
                yield with_added(batch, header)
        self._scripts = scripts

    def scripts(self) -> dict[bytes, bytes]:
        """Script bodies by SHA-1 (40 hex digits), of all files. Reads them unless ``batches`` has run to its end."""
        if self._scripts is None:
            self._scripts = {}
            for file in self.files:
                try:
                    self._scripts.update(read_about(file.path).scripts if file.compacted else self._only_scripts(file))
                except _UNREADABLE:
                    continue  # ``batches`` says what is wrong
        return self._scripts

    def backend_facts(self) -> list[BackendFacts]:
        """Samples of what only the backend knows, in order of time; complete once ``batches`` has run to its end."""
        return sorted(self.facts, key=lambda sample: sample.ts_ns)

    def early_facts(self) -> list[BackendFacts]:
        """The same samples without reading a row, as far as they can be read."""
        found: list[BackendFacts] = []
        for file in self.files:
            with suppress(*_UNREADABLE):
                found.extend(read_about(file.path).facts if file.compacted else _only_facts(file))
        return found

    def mirrors(self) -> tuple[list[Mirrored], list[str]]:
        """What mirrors did meanwhile, and a line for each file of theirs that can't be read."""
        return mirrored.read(
            path
            for folder, run in {(file.path.parent, file.name.run) for file in self.files}
            for path in folder.glob(f"{glob.escape(run)}.w*{mirrored.SUFFIX}")
        )

    def segments(self) -> list[SegmentInfo]:
        """What ``capture ls`` shows. Reads frame heads only, but for segments that have no end their first and last
        batch."""
        return [_compacted_info(file) if file.compacted else self._info(file) for file in self.files]

    def read(self, file: CaptureFile, scripts: dict[bytes, bytes]) -> Iterator[tuple[pa.RecordBatch, SegmentHeader]]:
        """One file's batches with SCHEMA, each with the header that holds for it. Fills ``scripts`` and ``losses``."""
        return self._read_compacted(file, scripts) if file.compacted else self._read_segment(file, scripts)

    def _read_segment(
        self, file: CaptureFile, scripts: dict[bytes, bytes]
    ) -> Iterator[tuple[pa.RecordBatch, SegmentHeader]]:
        header = SegmentHeader(file.name.run, file.name.worker, 0, "", "", ())
        for frame in _frames(file):
            if isinstance(frame, Loss):
                self.losses.append(frame)
                continue
            try:
                if frame.head.kind == FrameKind.HEADER:
                    header = SegmentHeader.of_json(json.loads(frame.body or b""))
                elif frame.head.kind == FrameKind.SCRIPTS:
                    scripts.update(unpack_scripts(frame.body or b""))
                elif frame.head.kind == FrameKind.FACTS:
                    self.facts.extend(unpack_facts(frame.body or b""))
                elif frame.head.kind == FrameKind.BATCH:
                    yield self._batch(frame), header
            except _UNREADABLE as error:
                why = f"frame {frame.head.number} can't be read: {error}"
                self.losses.append(Loss(file.path, frame.offset, frame.head.length, why, frame.head.rows))

    def _read_compacted(
        self, file: CaptureFile, scripts: dict[bytes, bytes]
    ) -> Iterator[tuple[pa.RecordBatch, SegmentHeader]]:
        try:
            about = read_about(file.path)
            scripts.update(about.scripts)
            self.losses.extend(about.losses)
            self.facts.extend(about.facts)
            for batch in read_batches(file.path, self._migrations.schema_of(about.format)):
                yield self._migrations.upgrade(batch, about.format), about.header
        except _UNREADABLE as error:
            size = file.path.stat().st_size if file.path.exists() else 0
            self.losses.append(Loss(file.path, 0, size, " ".join(f"can't be read: {error}".split())))

    def _only_scripts(self, file: CaptureFile) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for frame in _frames(file, bodies=False):
            if isinstance(frame, Frame) and frame.head.kind == FrameKind.SCRIPTS:
                found.update(unpack_scripts(frame.body or b""))
        return found

    def _batch(self, frame: Frame) -> pa.RecordBatch:
        version = frame.head.version
        batch = unpack_batch(frame.body or b"", self._migrations.schema_of(version))
        return self._migrations.upgrade(batch, version)

    def _info(self, file: CaptureFile) -> SegmentInfo:
        size = file.path.stat().st_size if file.path.exists() else 0
        info = SegmentInfo(file.path, file.name.run, file.name.worker, file.name.number, size)
        batches: list[Frame] = []
        rows = 0
        for frame in _frames(file, bodies=False):
            if isinstance(frame, Loss):
                info = replace(info, state="torn")
                continue
            rows += frame.head.rows
            if frame.head.kind == FrameKind.BATCH:
                batches = [*batches[:1], frame]
            elif frame.head.kind == FrameKind.HEADER:
                info = replace(info, args=json.loads(frame.body or b"")["args"])
            elif frame.head.kind == FrameKind.END:
                data = json.loads(frame.body or b"")
                state = "closed" if info.state == "open" else info.state
                info = replace(info, args=data["args"], state=state, gaps=data["gaps"])
                info = replace(info, first_ns=data["first_ns"], last_ns=data["last_ns"])
                batches = []
        times = [self._times(file, frame) for frame in batches]
        if times:
            info = replace(info, first_ns=times[0][0], last_ns=times[-1][1])
        return replace(info, rows=rows)

    def _times(self, file: CaptureFile, frame: Frame) -> tuple[int | None, int | None]:
        """First and last time in one batch of a segment that has no end."""
        try:
            fd = file.open()
            try:
                body = os.pread(fd, frame.head.length, frame.offset + HEAD_BYTES)
            finally:
                os.close(fd)
            times = pc.min_max(self._batch(replace(frame, body=body)).column("ts")).as_py()
        except _UNREADABLE:
            return None, None
        return times["min"], times["max"]


@lru_cache(maxsize=64)
def _constants(header: SegmentHeader) -> tuple[pa.Scalar, pa.Scalar, pa.Array, pa.Scalar, pa.Schema]:
    """Run, worker, backend names and one empty name, the index of that, the schema. Made once: without numpy installed,
    pyarrow looks for it each time that a Python value becomes an Arrow one."""
    return (
        pa.scalar(header.run, pa.string()),
        pa.scalar(header.worker, pa.int32()),
        pa.array([*header.backends, ""], pa.string()),
        pa.scalar(len(header.backends), pa.uint16()),
        READ_SCHEMA.with_metadata({"args": header.args}),
    )


def with_added(batch: pa.RecordBatch, header: SegmentHeader) -> pa.RecordBatch:
    """``batch`` with READ_SCHEMA's added columns, and ``args`` in the schema's metadata."""
    run, worker, names, unknown, schema = _constants(header)
    # Seen as unsigned, -1 is a big number: whatever is no index gets the empty name.
    backend = pc.min_element_wise(batch.column("backend").view(pa.uint16()), unknown)
    added = [pa.repeat(run, batch.num_rows), pa.repeat(worker, batch.num_rows), names.take(backend)]
    return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=schema)


def _only_facts(file: CaptureFile) -> Iterator[BackendFacts]:
    for frame in _frames(file, bodies=False):
        if isinstance(frame, Frame) and frame.head.kind == FrameKind.FACTS:
            yield from unpack_facts(frame.body or b"")


def _frames(file: CaptureFile, *, bodies: bool = True) -> Iterator[Frame | Loss]:
    """A segment's frames; where it is torn, a Loss. A segment that is being written just ends."""
    try:
        fd = file.open()
    except OSError as error:
        yield Loss(file.path, 0, 0, f"can't be opened: {error.strerror}")
        return
    try:
        yield from _frames_of(Scanner(fd, file.path, bodies=bodies), fd, file.path)
    finally:
        os.close(fd)


def _frames_of(scanner: Scanner, fd: int, path: Path) -> Iterator[Frame | Loss]:
    ended = False
    while True:
        tail: Tail | None = None
        for frame in scanner:
            if isinstance(frame, Tail):
                tail = frame
                break
            ended = ended or (isinstance(frame, Frame) and frame.head.kind == FrameKind.END)
            yield frame
        if not ended and is_written(fd):
            return
        # Its writer may have gone on while we read: only what stays the same is torn.
        if os.fstat(fd).st_size <= scanner.position + (tail.size if tail else 0):
            break
    if tail is not None:
        yield Loss(path, tail.offset, tail.size, "the last frame is cut short", tail.rows)
    elif not ended:
        yield Loss(path, scanner.position, 0, "the segment was not closed: what its writer still held is missing", None)


def _compacted_info(file: CaptureFile) -> SegmentInfo:
    size = file.path.stat().st_size if file.path.exists() else 0
    info = SegmentInfo(file.path, file.name.run, file.name.worker, file.name.number, size, state="unreadable")
    try:
        about = read_about(file.path)
    except _UNREADABLE:
        return info
    return replace(
        info, rows=about.rows, args=about.header.args, state="torn" if about.losses else "compacted",
        first_ns=about.first_ns, last_ns=about.last_ns, gaps=about.gaps,
    )  # fmt: skip
