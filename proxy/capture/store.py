"""The store: one worker's segments in a directory, one open at most; opens, rotates, deletes.

Knows: when a segment is full or old, and what must go so that a write fits. Refuses to know: threads and queues
(``writer``). Every call takes the time as an argument and raises OSError when the disk does not take what it should;
the call can be made again later, and nothing is written twice.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from proxy.capture.facts import BackendFacts
from proxy.capture.retention import CaptureLimits, Kept, deletable, floor_bytes, kept_files
from proxy.capture.segments import RawFile, SegmentFile, SegmentHeader, create_raw, pack_batch

#: The directory is read again after this time, for what other processes wrote and deleted.
_LOOK_S = 10.0
#: Samples of backend facts that wait for a segment at most: the newest.
_FACTS_MOST = 1000
#: Room that a frame's head and the END frame may need on top of a batch.
_SLACK_BYTES = 4096


class NoRoom(OSError):
    """The limits leave no room, and nothing is left to delete."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.ENOSPC, why)


@dataclass(slots=True)
class StoreStats:
    """Totals since start. ``bytes`` are bytes written to files; the rest are counts."""

    rows: int = 0
    bytes: int = 0
    batches: int = 0
    segments: int = 0
    deleted_segments: int = 0
    scripts: int = 0
    scripts_dropped: int = 0


class Store:
    """Writes batches and scripts into the directory's open segment."""

    def __init__(
        self,
        directory: Path,
        header: SegmentHeader,
        limits: CaptureLimits,
        create: Callable[[Path], RawFile] = create_raw,
    ) -> None:
        self.stats = StoreStats()
        self._directory = directory
        self._header = header
        self._open_header: SegmentHeader | None = None  # of the open segment
        self._limits = limits
        self._create = create
        self._segment: SegmentFile | None = None
        self._number = 0
        self._opened_s = 0.0
        self._scripts: dict[bytes, bytes] = {}
        self._script_bytes = 0
        self._unwritten: dict[bytes, bytes] = {}  # scripts that the open segment lacks
        self._new_scripts = False  # some of them are in no segment at all
        self._facts: deque[BackendFacts] = deque(maxlen=_FACTS_MOST)
        self._kept_bytes = 0  # of the whole directory as last seen, and what was written since if all write as fast
        self._looked_s: float | None = None

    def name_backends(self, backends: tuple[str, ...]) -> None:
        """What rows count from now on, those before first; the next batch begins a segment that says so."""
        self._header = replace(self._header, backends=backends)

    def write(self, batch: pa.RecordBatch, now_s: float) -> None:
        """Appends one batch. ``now_s``: seconds since the epoch."""
        if self._segment is not None and self._header is not self._open_header:
            self._rotate()
        self.tick(now_s)
        body = pack_batch(batch)
        self._make_room(len(body) + _SLACK_BYTES, now_s)
        segment = self._open(now_s)
        self._write_scripts(segment)
        self._write_facts(segment)
        self._wrote(segment.write_packed(body, batch))
        self.stats.rows += batch.num_rows
        self.stats.batches += 1
        if segment.size >= self._limits.rotate_bytes:
            self._rotate()

    def tick(self, now_s: float) -> None:
        """What time alone asks for: closes an old or broken segment, deletes what is too old or too much."""
        segment = self._segment
        if segment is not None and (
            segment.broken
            or segment.size >= self._limits.rotate_bytes
            or now_s - self._opened_s >= self._limits.segment_age_s
        ):
            self._rotate()
        if self._looked_s is None or abs(now_s - self._looked_s) >= _LOOK_S:
            self._retain(0, now_s)

    def add_script(self, sha: bytes, body: bytes) -> None:
        """Remembers a script; it is written before the next batch, and once in each later segment."""
        if sha in self._scripts:
            return
        if self._script_bytes + len(body) > self._limits.script_bytes:
            self.stats.scripts_dropped += 1
            return
        self._script_bytes += len(body)
        self._scripts[sha] = self._unwritten[sha] = body
        self._new_scripts = True
        self.stats.scripts += 1

    def add_facts(self, sample: BackendFacts) -> None:
        """Remembers a sample of backend facts; it is written before the next batch, or into a segment that closes.
        Facts alone open no segment: without commands there is nothing to tell."""
        self._facts.append(sample)

    def close(self, now_s: float) -> None:
        """Closes the open segment, opening one if scripts wait to be written."""
        if self._new_scripts:
            self._write_scripts(self._open(now_s))
        if self._segment is not None:
            self._write_facts(self._segment)
            self._rotate()

    def abandon(self) -> None:
        """Lets go of an open segment that could not be closed."""
        if self._segment is not None:
            self._segment.abandon()
            self._segment = None

    def _open(self, now_s: float) -> SegmentFile:
        while self._segment is None:
            number, self._open_header = self._number + 1, self._header
            with contextlib.suppress(FileExistsError):  # then this number is taken: try the next
                self._segment = SegmentFile.create(
                    self._directory, self._open_header, number, int(now_s * 1e9), self._create
                )
                self._opened_s = now_s
                self.stats.segments += 1
                self._wrote(self._segment.size)
            self._number = number
        return self._segment

    def _write_scripts(self, segment: SegmentFile) -> None:
        if self._unwritten:
            self._wrote(segment.write_scripts(self._unwritten))
            self._unwritten = {}
            self._new_scripts = False

    def _write_facts(self, segment: SegmentFile) -> None:
        if self._facts and not segment.broken:
            self._wrote(segment.write_facts(self._facts))
            self._facts.clear()

    def _wrote(self, size: int) -> None:
        self.stats.bytes += size
        self._kept_bytes += size * self._limits.writers

    def _rotate(self) -> None:
        segment = self._segment
        if segment is None:
            return
        try:
            segment.close()
        except OSError:
            if not segment.broken:
                raise
            segment.abandon()
        self._segment = None
        self._unwritten = dict(self._scripts)

    def _make_room(self, size: int, now_s: float) -> None:
        if self._kept_bytes + size > self._limits.max_bytes or self._free_after(size) < 0:
            self._retain(size, now_s)
            if self._free_after(size) < 0:
                raise NoRoom("less disk space is free than a capture must leave")
            if self._kept_bytes + size > self._limits.max_bytes:
                raise NoRoom("the capture's byte limit is reached, and no closed segment is left to delete")

    def _free_after(self, size: int) -> int:
        """Bytes that would be free above the floor after writing ``size`` more; negative: it doesn't fit."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize - floor_bytes(self._limits, disk.f_blocks * disk.f_frsize) - size

    def _retain(self, size: int, now_s: float) -> None:
        """Deletes what is too old, and the oldest closed files until ``size`` more bytes fit."""
        kept = kept_files(self._directory)
        total = sum(each.size for each in kept)
        age = self._limits.max_age_s
        excess = max(total + size - self._limits.max_bytes, -self._free_after(size))
        for each in deletable(kept, excess, None if age is None else now_s - age):
            total -= each.size
            self._delete(each)
        self._kept_bytes = total
        self._looked_s = now_s

    def _delete(self, kept: Kept) -> None:
        with contextlib.suppress(FileNotFoundError):  # another worker may have been quicker
            kept.path.unlink()
            self.stats.deleted_segments += 1
