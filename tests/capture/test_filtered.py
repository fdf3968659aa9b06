"""A capture behind a filter: which rows come through, and what is counted of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from proxy.capture.filters.expression import parse
from proxy.capture.filters.filtered import Filtered, LeftOut
from proxy.capture.reader import Capture, with_added
from proxy.capture.segments import SegmentHeader
from tests.capture.rows import batch, write_capture


class Batches:
    """An open capture of batches given as small dicts."""

    losses: Sequence[object] = ("segment 1: torn",)

    def __init__(self, *batches: list[dict[str, Any]], worker: int = 0) -> None:
        header = SegmentHeader("run-1", worker, 0, "0", "full", ())
        self._batches = [with_added(batch(rows), header) for rows in batches]

    def batches(self) -> Iterator[pa.RecordBatch]:
        return iter(self._batches)

    def scripts(self) -> Mapping[bytes, bytes]:
        return {b"sha": b"body"}


def read(expression: str, *batches: list[dict[str, Any]]) -> tuple[list[int], LeftOut]:
    """The seq of each row that came through, and what was left out."""
    filtered = Filtered(Batches(*batches), parse(expression))
    return [row["seq"] for each in filtered.batches() for row in each.to_pylist()], filtered.left_out


def queued(name: str, txn: int = 1, **columns: Any) -> dict[str, Any]:
    return {"command": name, "txn": txn, **columns}


def test_only_rows_that_pass_come_through() -> None:
    rows = [dict(command="GET"), dict(command="SET"), dict(command="GET")]
    assert read("cmd:GET", rows) == ([0, 2], LeftOut(exchanges=1))


def test_batches_keep_what_their_segment_said_and_none_is_empty() -> None:
    filtered = Filtered(Batches([dict(command="GET"), {}], [{}], []), parse("cmd:GET"))
    (only,) = filtered.batches()
    assert only.schema.metadata == {b"args": b"full"}
    assert only.num_rows == 1


def test_losses_and_scripts_are_the_whole_captures() -> None:
    filtered = Filtered(Batches([{}]), parse("cmd:NOPE"))
    assert list(filtered.batches()) == []
    assert (filtered.losses, filtered.scripts()) == (("segment 1: torn",), {b"sha": b"body"})


def test_gaps_come_through_unless_the_expression_decides_on_them() -> None:
    rows = [dict(command="GET"), dict(gap="disk full"), {}]
    assert read("cmd:GET", rows) == ([0, 1], LeftOut(exchanges=1))
    assert read("cmd:GET and gap:none", rows) == ([0], LeftOut(exchanges=1, gaps=1))


def test_what_is_in_doubt_is_left_out_and_counted() -> None:
    assert read("key:a", [dict(keys=["a"]), dict(nkeys=1), {}]) == ([0], LeftOut(exchanges=2, doubtful=1))


def test_a_transaction_without_its_exec_is_counted() -> None:
    rows = [queued("MULTI"), queued("SADD"), queued("SADD"), queued("EXEC")]
    assert read("cmd:SADD", rows)[1].torn == 1
    assert read("cmd:SADD or cmd:EXEC", rows)[1].torn == 0
    assert read("cmd:EXEC", rows)[1].torn == 0
    assert read("cmd:MULTI", rows)[1].torn == 0
    assert read("cmd:NOPE", rows)[1].torn == 0


def test_a_transaction_in_two_batches_is_one() -> None:
    assert read("cmd:SADD", [queued("MULTI"), queued("SADD")], [queued("SADD"), queued("EXEC")])[1].torn == 1
    assert read("cmd:SADD", [queued("SADD")], [queued("EXEC")], [queued("SADD", 2)], [queued("EXEC", 2)])[1].torn == 2


def test_transactions_of_other_connections_are_other_transactions() -> None:
    rows = [queued("SADD", conn=1), queued("EXEC", conn=2), queued("EXEC", conn=1)]
    assert read("conn:1", rows)[1].torn == 0
    assert read("conn:1 and cmd:SADD", [rows[0]], [rows[1]])[1].torn == 0


def test_reading_again_counts_anew() -> None:
    filtered = Filtered(Batches([{}, {}]), parse("cmd:NOPE"))
    for _ in range(2):
        assert list(filtered.batches()) == []
        assert filtered.left_out == LeftOut(exchanges=2)


def test_a_capture_on_disk_can_be_filtered(tmp_path: Path) -> None:
    write_capture(tmp_path, [batch([dict(command="GET", keys=["a"]), {}])])
    filtered = Filtered(Capture([tmp_path]), parse("cmd:GET and run:2026* and worker:0 and backend:127.0.0.1:*"))
    (only,) = filtered.batches()
    assert only.num_rows == 1
