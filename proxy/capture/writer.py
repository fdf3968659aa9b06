"""The capture's consumer: takes batches from the data path, and writes them in a thread of its own.

Knows: a bounded queue, when to write, and that what did not fit becomes a gap. Refuses to know: files and limits on
disk (``store``).

What is written is handed to the kernel at once (``write``), so that a killed process loses at most the last flush
interval. It is forced to the disk (``fsync``) when a segment closes: a power cut loses at most the open segment.

While the disk fails or is slow, batches wait in the queue and are tried again each flush interval. Only when the queue
is full are rows lost: the newest, and one gap row takes their place.
"""

# Over 300 lines: one queue, both of its ends, and what is lost between them.
from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from proxy.capture.facts import BackendFacts
from proxy.capture.gaps import gap_batch
from proxy.capture.retention import CaptureLimits
from proxy.capture.segments import RawFile, SegmentHeader, create_raw, missing_rows
from proxy.capture.store import Store

__all__ = ["CaptureLimits", "CaptureStats", "CaptureWriter", "SegmentHeader"]

log = logging.getLogger(__name__)

#: A frame is written as soon as this many rows wait.
FRAME_ROWS = 65_536
_TICK_S = 10.0


@dataclass(frozen=True, slots=True)
class CaptureStats:
    """Totals since start. ``gaps`` and ``gap_rows``: gap rows made by the writer, and exchanges lost there.
    ``failing``: why nothing can be written just now, or None. ``errors``: writes that failed and were tried again."""

    rows: int = 0
    bytes: int = 0
    batches: int = 0
    segments: int = 0
    deleted_segments: int = 0
    gaps: int = 0
    gap_rows: int = 0
    failing: str | None = None
    errors: int = 0
    scripts: int = 0
    scripts_dropped: int = 0
    queued_bytes: int = 0


@dataclass(slots=True)
class _Item:
    """What waits to be written: a batch, or (``why``) the loss of ``rows`` rows from ``ts_ns`` on."""

    queued_s: float  # monotonic
    rows: int
    size: int = 0
    batch: pa.RecordBatch | None = None
    why: str = ""
    ts_ns: int = 0

    @property
    def weight(self) -> int:
        """Rows that it becomes in the file."""
        return 1 if self.batch is None else self.rows

    def record(self) -> pa.RecordBatch:
        return gap_batch(self.ts_ns, self.why, self.rows) if self.batch is None else self.batch


class CaptureWriter:
    """Give ``consume`` to the data path; call ``start`` before and ``close`` after."""

    def __init__(
        self,
        directory: Path,
        header: SegmentHeader,
        limits: CaptureLimits,
        *,
        create: Callable[[Path], RawFile] = create_raw,
    ) -> None:
        self._directory = directory
        self._named = f"{header.run}.w{header.worker:03}"
        self._backends = header.backends
        self._keeps_scripts = header.args != "none"
        self._limits = limits
        self._store = Store(directory, header, limits, create)
        self._frame_bytes = min(limits.frame_bytes, limits.rotate_bytes)
        self._wake = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._queued_rows = 0
        self._queued_bytes = 0
        self._in_hand = 0  # the queue's first items, which the thread is writing
        self._scripts: list[tuple[bytes, bytes]] = []
        self._facts: list[BackendFacts] = []
        self._closing = False
        self._flush = False  # what waits is due
        self._failing: str | None = None
        self._retry_s = 0.0  # monotonic; not before this
        self._gaps = 0
        self._gap_rows = 0
        self._errors = 0
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> None:
        """Makes the directory (0700) if it is missing, and starts the thread. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._thread.start()

    def beside(self, suffix: str) -> Path:
        """Where a file of this worker's lies that is no segment."""
        return self._directory / (self._named + suffix)

    def consume(self, batch: pa.RecordBatch) -> None:
        """Takes a batch with SCHEMA. Never blocks on the disk; what doesn't fit into the queue is counted as lost."""
        if batch.num_rows == 0:
            return
        size = batch.get_total_buffer_size()
        with self._wake:
            if self._closing or self._queued_bytes + size > self._limits.queue_bytes:
                self._lose(batch, "the capture's queue was full" if not self._closing else "the capture was closed")
                return
            first = not self._queue
            self._push(_Item(time.monotonic(), batch.num_rows, size, batch))
            if first or self._is_full():
                self._wake.notify()

    def flush(self) -> None:
        """What was taken until now is due: it is written as soon as the disk takes it. Does not wait for that."""
        with self._wake:
            if self._queue:
                self._flush = True
                self._wake.notify()

    def backend(self, label: str) -> int:
        """What rows are to hold in their ``backend`` for this one."""
        if label not in self._backends:
            self._backends += (label,)
            self._store.name_backends(self._backends)
        return self._backends.index(label)

    def add_script(self, sha: bytes, body: bytes) -> None:
        """Takes a script's body; its SHA is 40 hex digits. Written once per segment, not in mode none."""
        if self._keeps_scripts:
            with self._wake:
                self._scripts.append((sha, body))

    def add_facts(self, sample: BackendFacts) -> None:
        """Takes a sample of what only the backend knows. Written with the next rows."""
        with self._wake:
            self._facts.append(sample)

    def close(self, timeout_s: float) -> None:
        """Writes what waits, closes the segment, ends the thread. Blocks up to ``timeout_s``: not for the event loop.
        What could not be written by then is counted as lost."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        with self._wake:
            lost = sum(item.rows for item in self._queue if item.batch is not None)
            if lost:
                self._gaps += 1
                self._gap_rows += lost
                self._queue.clear()
                log.error("capture %s: %d rows were not written before the end", self._directory, lost)

    def stats(self) -> CaptureStats:
        """Totals so far; may be called from any thread."""
        of = self._store.stats
        return CaptureStats(
            rows=of.rows, bytes=of.bytes, batches=of.batches, segments=of.segments,
            deleted_segments=of.deleted_segments, gaps=self._gaps, gap_rows=self._gap_rows, failing=self._failing,
            errors=self._errors, scripts=of.scripts, scripts_dropped=of.scripts_dropped,
            queued_bytes=self._queued_bytes,
        )  # fmt: skip

    def _lose(self, batch: pa.RecordBatch, why: str) -> None:
        """Counts a batch as lost, in the gap that ends the queue, or in a new one. Holds the lock."""
        gaps, missing = missing_rows(batch)
        rows = batch.num_rows - gaps + missing
        self._gap_rows += rows
        if len(self._queue) > self._in_hand and self._queue[-1].why == why:
            self._queue[-1].rows += rows
            return
        self._gaps += 1
        self._push(_Item(time.monotonic(), rows, why=why, ts_ns=batch.column("ts")[0].as_py()))

    def _push(self, item: _Item) -> None:
        self._queue.append(item)
        self._queued_rows += item.weight
        self._queued_bytes += item.size

    def _is_full(self) -> bool:
        return self._queued_rows >= FRAME_ROWS or self._queued_bytes >= self._frame_bytes

    def _run(self) -> None:
        while True:
            with self._wake:
                closing = self._wait()
                items = self._take()
                scripts, self._scripts = self._scripts, []
                facts, self._facts = self._facts, []
            for sha, body in scripts:
                self._store.add_script(sha, body)
            for sample in facts:
                self._store.add_facts(sample)
            done = self._attempt(items, closing)
            if closing and (not done or not self._queue):
                self._end(done)
                return

    def _wait(self) -> bool:
        """Waits until something is due; returns whether we are closing. Holds the lock but while waiting."""
        tick_s = time.monotonic() + _TICK_S
        while not self._closing:
            now = time.monotonic()
            due = tick_s
            if self._queue:
                due = now if self._flush or self._is_full() else self._queue[0].queued_s + self._limits.flush_s
            due = min(max(due, self._retry_s), tick_s)
            if due <= now:
                break
            self._wake.wait(due - now)
        return self._closing

    def _take(self) -> list[_Item]:
        """The first items, up to one frame. They stay in the queue until they are written. Holds the lock."""
        if not self._closing and time.monotonic() < self._retry_s:
            return []
        rows = size = count = 0
        for item in self._queue:
            if count and (rows + item.weight > FRAME_ROWS or size + item.size > self._frame_bytes):
                break
            rows += item.weight
            size += item.size
            count += 1
        self._in_hand = count
        self._flush = self._flush and count < len(self._queue)
        return list(islice(self._queue, count))

    def _attempt(self, items: list[_Item], closing: bool) -> bool:
        """Writes ``items`` as one frame; returns whether that went well."""
        try:
            if items:
                self._store.write(_joined(items), time.time())
            else:
                self._store.tick(time.time())
        except OSError as error:
            self._failed(f"{error.strerror or error}")
            return False
        except Exception as error:  # a batch that can't be packed must not stop those after it
            log.exception("capture %s: %d batches could not be packed", self._directory, len(items))
            self._settle(items)
            with self._wake:
                for item in items:
                    if item.batch is not None:
                        self._lose(item.batch, f"could not be packed: {type(error).__name__}")
            return True
        self._settle(items)
        if self._failing is not None:
            log.warning("capture %s: writing again", self._directory)
            self._failing = None
        return True

    def _failed(self, why: str) -> None:
        with self._wake:
            self._in_hand = 0
            self._errors += 1
            self._retry_s = time.monotonic() + max(self._limits.flush_s, 0.01)
        if self._failing != why:
            log.error("capture %s: can't write: %s; rows wait until the queue is full", self._directory, why)
        self._failing = why

    def _settle(self, items: list[_Item]) -> None:
        """Takes what was written out of the queue."""
        with self._wake:
            for item in items:
                self._queue.popleft()
                self._queued_rows -= item.weight
                self._queued_bytes -= item.size
            self._in_hand = 0

    def _end(self, done: bool) -> None:
        try:
            if done:
                self._store.close(time.time())
        except OSError as error:
            self._failed(f"{error.strerror or error}")
        finally:
            self._store.abandon()


def _joined(items: list[_Item]) -> pa.RecordBatch:
    records = [item.record() for item in items]
    return records[0] if len(records) == 1 else pa.concat_batches(records)
