"""A capture's rows by the time that their commands arrived, in bounded memory.

Knows: that each worker's rows come in the order of their *replies*, and how they become one stream in the order of
their *commands*. Refuses to know: files and filters (``capture``), and what a row means.

A command that waited 5 s in Redis has its row 5 s behind its place. So rows are kept until the streams are WINDOW_NS
further, or until MOST_ROWS or MOST_BYTES of them wait; a row that comes even later takes the next place, is counted,
and still stands in the order of its connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple, Protocol

import pyarrow as pa

from proxy.capture.render import values

WINDOW_NS = 10 * 10**9
MOST_ROWS = 65_536
MOST_BYTES = 64_000_000
#: Rows that become Python objects at once: the event loop stands still meanwhile.
SLICE_ROWS = 128
_CONNS_BITS = 40


class Row(NamedTuple):
    """A row's columns that a replay needs, named as in ``capture.format``; ``conn`` is unique in the whole capture."""

    ts: int
    conn: int
    seq: int
    db: int
    command: bytes
    keys: list[bytes]
    nkeys: int
    unknown: int
    latency_ns: int
    held_ns: int
    request_bytes: int
    reply: int
    error: bytes
    flags: int
    args: list[bytes]
    gap: bytes
    gap_rows: int


class Source(Protocol):
    """An open capture, filtered or not."""

    def batches(self) -> Iterator[pa.RecordBatch]: ...


@dataclass(frozen=True, slots=True)
class Stream:
    """One worker's part of one run. ``first_ns``: its least time, 0 if not known."""

    first_ns: int
    source: Source


@dataclass(slots=True)
class Misplaced:
    """Rows that came later than the window allows: they are sent later than captured."""

    rows: int = 0


@dataclass(slots=True)
class _Open:
    """A stream that is being read. ``front``: the latest reply seen."""

    rows: Iterator[list[Row]]
    front: int = 0
    last: dict[int, int] = field(default_factory=dict)


class InOrder:
    """All rows of ``streams`` in the order of their commands, in small lists. ``misplaced`` counts while it is read."""

    def __init__(
        self, streams: Sequence[Stream], *, window_ns: int = WINDOW_NS, most_rows: int = MOST_ROWS,
        most_bytes: int = MOST_BYTES,
    ) -> None:  # fmt: skip
        self.misplaced = Misplaced()
        self._waiting_streams = sorted(streams, key=lambda stream: stream.first_ns, reverse=True)
        self._window_ns, self._most_rows, self._most_bytes = window_ns, most_rows, most_bytes
        self._open: list[_Open] = []
        self._heap: list[tuple[int, int, Row]] = []
        self._bytes = 0
        self._number = 0
        self._opened = 0
        self._given_ns = 0

    def __iter__(self) -> Iterator[list[Row]]:
        while (front := self._read_one()) is not None:
            yield self._release(front - self._window_ns)
        while self._heap:
            yield self._release(None, SLICE_ROWS)

    def _read_one(self) -> int | None:
        """Reads a slice of the stream that is furthest back; the least front of all, None at the end."""
        while self._waiting_streams and (
            not self._open or self._waiting_streams[-1].first_ns <= min(each.front for each in self._open)
        ):
            stream = self._waiting_streams.pop()
            self._opened += 1
            base = self._opened << _CONNS_BITS
            self._open.append(_Open(_slices(stream.source.batches(), base), stream.first_ns))
        if not self._open:
            return None
        here = min(self._open, key=lambda each: each.front)
        rows = next(here.rows, None)
        if rows is None:
            self._open.remove(here)
            return min((each.front for each in self._open), default=here.front)
        self._take(here, rows)
        return min(each.front for each in self._open)

    def _take(self, stream: _Open, rows: list[Row]) -> None:
        for row in rows:
            stream.front = max(stream.front, row.ts + max(row.latency_ns, 0))
            # A wall clock may be set back; a connection's order is that of its rows.
            at = max(row.ts, stream.last.get(row.conn, 0))
            stream.last[row.conn] = at
            heappush(self._heap, (at, self._number, row))
            self._number += 1
            self._bytes += row.request_bytes
        if len(stream.last) > self._most_rows:  # older than the window: nothing of theirs can be overtaken
            oldest = stream.front - self._window_ns
            stream.last = {conn: at for conn, at in stream.last.items() if at > oldest}

    def _release(self, until_ns: int | None, most: int | None = None) -> list[Row]:
        """What is older than ``until_ns``, or too much to keep; with None everything, but at most ``most``."""
        heap, given = self._heap, []
        while heap and (
            until_ns is None or heap[0][0] <= until_ns or len(heap) > self._most_rows or self._bytes > self._most_bytes
        ):
            at, _, row = heappop(heap)
            self._bytes -= row.request_bytes
            if at < self._given_ns:
                self.misplaced.rows += 1
            else:
                self._given_ns = at
            given.append(row)
            if most is not None and len(given) >= most:
                break
        return given


def _slices(batches: Iterator[pa.RecordBatch], base: int) -> Iterator[list[Row]]:
    """The rows of ``batches``; the next batch is read and unpacked by a thread meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="capture") as pool:
        coming: Future[pa.RecordBatch | None] = pool.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = pool.submit(next, batches, None)
            for start in range(0, batch.num_rows, SLICE_ROWS):
                yield list(_rows(batch.slice(start, SLICE_ROWS), base))


def _rows(batch: pa.RecordBatch, base: int) -> Iterable[Row]:
    columns = [values(batch.column(name)) for name in Row._fields]
    columns[1] = [base + conn for conn in columns[1]]
    return map(Row._make, zip(*columns, strict=True))
