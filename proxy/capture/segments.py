"""Segment files: their names, their header, and how rows become frames in them.

Knows: what each frame kind's body holds, and how a file is named, locked, closed. Refuses to know: when to rotate or
delete one (``store``), threads and queues (``writer``), and how damage is told (``frames``).

The bodies of a segment's SCHEMA and BATCH frames, one after another, are an Arrow IPC stream.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.facts import BackendFacts
from proxy.capture.format import FORMAT_VERSION, SCHEMA, SCRIPT_SCHEMA
from proxy.capture.frames import ALIGN, FrameKind, pack_frame

SUFFIX = ".shunt"
OPEN_SUFFIX = ".shunt.open"
PARQUET_SUFFIX = ".parquet"
_NAME = re.compile(r"(?P<run>.+)\.w(?P<worker>\d+)\.(?P<number>\d+)\.(shunt|shunt\.open|parquet)")
#: No extra threads: on a small machine the other core is the backend's.
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)

_NO_GAP = pa.scalar(b"")
_READ_OPTIONS = pa.ipc.IpcReadOptions(use_threads=False)


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """Whose capture this is. ``run`` is unique per start; ``args`` is none, keys or full; ``backends`` are what the
    rows' ``backend`` column counts."""

    run: str
    worker: int
    started_ns: int
    shunt: str
    args: str
    backends: tuple[str, ...]

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> SegmentHeader:
        """Out of a HEADER frame's JSON. Raises KeyError, TypeError or ValueError."""
        return cls(
            str(data["run"]), int(data["worker"]), int(data["started_ns"]), str(data["shunt"]),
            str(data["args"]), tuple(str(name) for name in data["backends"]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """What a segment's file name says; sorts in the order of reading."""

    run: str
    worker: int
    number: int

    @classmethod
    def of(cls, path: Path) -> SegmentName | None:
        """The name's parts, or None if the file isn't named like a segment or a compacted one."""
        match = _NAME.fullmatch(path.name)
        return cls(match["run"], int(match["worker"]), int(match["number"])) if match else None

    def file(self, suffix: str = SUFFIX) -> str:
        """The file's name."""
        return f"{self.run}.w{self.worker:03}.{self.number:06}{suffix}"


def run_name(started_ns: int) -> str:
    """What the run that this process began at ``started_ns`` is called: unique on this machine, sorts by time."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started_ns // 1_000_000_000)) + f"-{os.getpid()}"


class RawFile(Protocol):
    """What a segment needs of a file; tests put a failing disk here."""

    def fileno(self) -> int: ...
    def write(self, data: bytes | memoryview, /) -> int | None: ...
    def truncate(self, size: int, /) -> int: ...
    def close(self) -> None: ...


def create_raw(path: Path) -> RawFile:
    """A new file, 0600, unbuffered. Raises OSError (FileExistsError if it is there)."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(fd, "wb", buffering=0)


def is_written(fd: int) -> bool:
    """Whether a living process still writes to this segment: it holds a lock for as long as it does."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def pack_json(data: Mapping[str, Any]) -> bytes:
    """JSON with spaces after it, up to a multiple of ALIGN bytes."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % ALIGN)


@lru_cache(maxsize=16)
def schema_message(schema: pa.Schema) -> bytes:
    """A schema as an Arrow IPC message: the beginning of a stream."""
    return bytes(schema.serialize())


_SCHEMA_LENGTH = len(schema_message(SCHEMA))


def pack_batch(batch: pa.RecordBatch) -> memoryview:
    """A batch with SCHEMA as an Arrow IPC message with lz4 bodies. Raises pa.ArrowException."""
    sink = pa.BufferOutputStream()
    writer = pa.ipc.new_stream(sink, SCHEMA, options=_OPTIONS)
    writer.write_batch(batch)
    # Not writer.close(): that would add the end-of-stream mark.
    return memoryview(sink.getvalue())[_SCHEMA_LENGTH:]


def unpack_batch(body: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """The inverse of pack_batch. Raises pa.ArrowException or OSError."""
    # Not pa.ipc.read_record_batch: that decompresses each column in another thread, which takes longer for most frames.
    with pa.ipc.open_stream(schema_message(schema) + body, options=_READ_OPTIONS) as stream:
        return stream.read_next_batch()


def pack_scripts(scripts: Mapping[bytes, bytes]) -> bytes:
    """Script bodies by SHA as a whole Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCRIPT_SCHEMA, options=_OPTIONS) as writer:
        writer.write_batch(
            pa.record_batch([pa.array(scripts, pa.binary()), pa.array(scripts.values(), pa.binary())], SCRIPT_SCHEMA)
        )
    return bytes(sink.getvalue())


def unpack_scripts(body: bytes) -> dict[bytes, bytes]:
    """The inverse of pack_scripts. Raises pa.ArrowException or OSError."""
    table = pa.ipc.open_stream(pa.py_buffer(body)).read_all()
    return dict(zip(table.column("sha").to_pylist(), table.column("body").to_pylist(), strict=True))


def pack_facts(samples: Sequence[BackendFacts]) -> bytes:
    """Samples of backend facts as a FACTS frame's JSON."""
    return pack_json({"samples": [sample.as_json() for sample in samples]})


def unpack_facts(body: bytes) -> list[BackendFacts]:
    """The inverse of pack_facts. Raises KeyError, TypeError or ValueError."""
    return [BackendFacts.of_json(sample) for sample in json.loads(body)["samples"]]


def missing_rows(batch: pa.RecordBatch) -> tuple[int, int]:
    """How many gap rows ``batch`` holds, and how many missing rows these stand for."""
    gaps = pc.sum(pc.not_equal(batch.column("gap"), _NO_GAP)).as_py() or 0
    return gaps, (pc.sum(batch.column("gap_rows")).as_py() or 0) if gaps else 0


class SegmentFile:
    """One segment being written. Each ``write_*`` puts one whole frame, or takes back what it put and raises OSError.

    After a failure that could not be taken back ``broken`` is true: the file must be closed, and a reader will skip its
    end.
    """

    def __init__(self, raw: RawFile, path: Path, header: SegmentHeader, number: int, opened_ns: int) -> None:
        self.path = path
        self.opened_ns = opened_ns
        self.size = 0
        self.rows = 0
        self.gaps = 0
        self.broken = False
        self._raw = raw
        self._id = secrets.token_bytes(8)
        self._frames = 0
        self._ended = False
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._about = {**asdict(header), "number": number, "opened_ns": opened_ns, "format": FORMAT_VERSION}

    @classmethod
    def create(
        cls, directory: Path, header: SegmentHeader, number: int, opened_ns: int, create: Any = create_raw
    ) -> SegmentFile:
        """A new open segment with its first two frames written. Makes the directory (0700). Raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / SegmentName(header.run, header.worker, number).file(OPEN_SUFFIX)
        raw: RawFile = create(path)
        segment = cls(raw, path, header, number, opened_ns)
        try:
            fcntl.flock(raw.fileno(), fcntl.LOCK_EX)
            segment._put(FrameKind.HEADER, pack_json(segment._about))
            segment._put(FrameKind.SCHEMA, schema_message(SCHEMA))
        except OSError:
            raw.close()
            path.unlink(missing_ok=True)
            raise
        return segment

    def write_batch(self, batch: pa.RecordBatch) -> int:
        """One BATCH frame (SCHEMA, at least one row). Returns its size in bytes."""
        return self.write_packed(pack_batch(batch), batch)

    def write_packed(self, body: memoryview, batch: pa.RecordBatch) -> int:
        """Like write_batch, for a batch that is packed already into ``body``."""
        size = self._put(FrameKind.BATCH, body, batch.num_rows)
        times = pc.min_max(batch.column("ts")).as_py()
        self._first_ns = times["min"] if self._first_ns is None else min(self._first_ns, times["min"])
        self._last_ns = times["max"] if self._last_ns is None else max(self._last_ns, times["max"])
        self.rows += batch.num_rows
        self.gaps += missing_rows(batch)[0]
        return size

    def write_scripts(self, scripts: Mapping[bytes, bytes]) -> int:
        """One SCRIPTS frame. Returns its size in bytes."""
        return self._put(FrameKind.SCRIPTS, pack_scripts(scripts))

    def write_facts(self, samples: Sequence[BackendFacts]) -> int:
        """One FACTS frame. Returns its size in bytes."""
        return self._put(FrameKind.FACTS, pack_facts(samples))

    def close(self) -> Path:
        """Writes the END frame, forces the file to the disk, renames it to its closed name. Raises OSError: the segment
        is still open then, and this can be tried again, or ``abandon`` ends it."""
        totals = {"rows": self.rows, "gaps": self.gaps, "first_ns": self._first_ns, "last_ns": self._last_ns}
        if not self.broken and not self._ended:
            self._put(FrameKind.END, pack_json({**self._about, **totals}))
            self._ended = True
        os.fsync(self._raw.fileno())
        closed = self.path.with_name(self.path.name.removesuffix(OPEN_SUFFIX) + SUFFIX)
        os.rename(self.path, closed)
        self.path = closed
        self._raw.close()
        sync_directory(closed.parent)
        return closed

    def abandon(self) -> None:
        """Lets go of the file as it is. A reader will say that it was not closed."""
        with contextlib.suppress(OSError):
            self._raw.close()

    def _put(self, kind: FrameKind, body: bytes | memoryview, rows: int = 0) -> int:
        start = self.size
        try:
            for part in pack_frame(kind, FORMAT_VERSION, self._id, self._frames, body, rows):
                left = memoryview(part)
                while left:
                    written = self._raw.write(left) or 0
                    self.size += written
                    left = left[written:]
                    if not written:
                        raise OSError("the disk took nothing")
        except OSError:
            self._take_back(start)
            raise
        self._frames += 1
        return self.size - start

    def _take_back(self, start: int) -> None:
        try:
            self._raw.truncate(start)
            os.lseek(self._raw.fileno(), start, os.SEEK_SET)
            self.size = start
        except OSError:
            self.broken = True


def sync_directory(directory: Path) -> None:
    """Makes a rename in ``directory`` last through a power cut. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
