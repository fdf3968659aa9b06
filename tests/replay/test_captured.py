"""A capture's rows, which stand in the order of replies, come out in the order of commands, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest

from proxy.capture.segments import SegmentHeader
from proxy.replay.captured import SLICE_ROWS, InOrder, Row, Stream
from tests.capture.rows import START_NS, batch
from tests.replay.rows import MS

SECOND_MS = 1000


class Played:
    """An open capture out of dicts, as many rows in a batch as told. ``read``: batches so far."""

    def __init__(self, rows: Sequence[dict[str, Any]], per_batch: int = 50) -> None:
        self.rows, self.per_batch, self.read = rows, per_batch, 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        from proxy.capture.reader import with_added

        header = SegmentHeader("20261123T030141Z-1", 0, START_NS, "0", "full", ("here:1",))
        for start in range(0, len(self.rows), self.per_batch):
            self.read += 1
            yield with_added(batch(self.rows[start : start + self.per_batch]), header)


def at(ms: float, *, took_ms: float = 0.1, conn: int = 1, seq: int = 0, name: str = "GET") -> dict[str, Any]:
    return {"ts": START_NS + int(ms * MS), "latency_ns": int(took_ms * MS), "conn": conn, "seq": seq, "command": name}


def read(*sources: Played, first_ms: Sequence[float] | None = None, **bounds: int) -> tuple[InOrder, list[Row]]:
    starts = first_ms or [0] * len(sources)
    streams = [Stream(START_NS + int(ms * MS), each) for ms, each in zip(starts, sources, strict=True)]
    order = InOrder(streams, **bounds)
    return order, [row for rows in order for row in rows]


def test_a_command_that_waited_takes_its_place_before_what_was_answered_meanwhile() -> None:
    quick = [at(n * 10, seq=n) for n in range(100)]
    slow = at(5, took_ms=995, conn=2, name="BRPOP")
    order, rows = read(Played([*quick, slow]))
    assert [row.ts for row in rows] == sorted(row.ts for row in rows)
    assert rows[1].command == b"BRPOP"
    assert order.misplaced.rows == 0


def test_several_workers_and_runs_become_one_stream() -> None:
    one = Played([at(n * 2, seq=n) for n in range(300)])
    two = Played([at(n * 2 + 1, seq=n) for n in range(300)])
    later = Played([at(10 * SECOND_MS + n, seq=n) for n in range(10)])
    _, rows = read(one, two, later, first_ms=[0, 1, 10 * SECOND_MS])
    assert [row.ts for row in rows] == sorted(row.ts for row in rows)
    assert len({row.conn for row in rows}) == 3


def test_a_stream_is_not_opened_before_its_time() -> None:
    early, late = Played([at(n, seq=n) for n in range(1000)]), Played([at(60 * SECOND_MS)])
    order = InOrder([Stream(START_NS, early), Stream(START_NS + 60 * SECOND_MS * MS, late)])
    next(iter(order))
    assert (early.read > 0, late.read) == (True, 0)


@pytest.mark.parametrize("bounds", [{"most_rows": 100}, {"most_bytes": 1000}])
def test_what_waits_is_bounded_and_what_comes_too_late_is_counted(bounds: dict[str, int]) -> None:
    quick = [at(n, seq=n) for n in range(1000)]
    order, rows = read(Played([*quick, at(0.5, took_ms=999, conn=2, name="BRPOP")]), **bounds)
    assert len(rows) == 1001
    assert order.misplaced.rows == 1
    assert [row.seq for row in rows if row.command == b"GET"] == list(range(1000))


def test_no_more_is_read_than_the_window_asks_for() -> None:
    source = Played([at(n * 100, seq=n) for n in range(5000)], per_batch=SLICE_ROWS)
    first = next(rows for rows in InOrder([Stream(START_NS, source)], window_ns=SECOND_MS * MS) if rows)
    assert first[0].seq == 0
    assert source.read <= 3  # this one, the one behind it, and perhaps one to know where the window ends


def test_a_connections_order_is_that_of_its_rows_when_the_clock_goes_back() -> None:
    _, rows = read(Played([at(1000, seq=0), at(500, seq=1), at(1500, seq=2)]))
    assert [row.seq for row in rows] == [0, 1, 2]
