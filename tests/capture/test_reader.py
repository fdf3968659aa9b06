"""Reading: order, columns, migrations, and what is said when something can't be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from proxy.capture.compact import compact
from proxy.capture.compacted import About, read_about
from proxy.capture.format import FORMAT_VERSION, SCHEMA
from proxy.capture.frames import FrameKind, pack_frame
from proxy.capture.migrations import CHAIN, MIGRATIONS, Migrations, Step, UnknownVersion
from proxy.capture.reader import READ_SCHEMA, Capture, CaptureError, with_added
from proxy.capture.segments import SegmentFile, SegmentHeader, pack_json
from tests.capture import rows

EARLY, LATE = "20261123T030141Z-9", "20261123T030142Z-1"


def test_segments_are_read_by_run_worker_and_number(tmp_path: Path) -> None:
    seq = 0
    for run in (EARLY, LATE):
        for worker in (0, 2, 10):
            for number in (1, 2, 10):
                header = SegmentHeader(run, worker, 0, "0", "keys", (f"{run}-backend",))
                segment = SegmentFile.create(tmp_path, header, number, 0)
                segment.write_batch(rows.batch([dict(seq=seq)]))
                segment.close()
                seq += 1
    batches = list(Capture([tmp_path / name for name in sorted(os.listdir(tmp_path))[::-1]] + [tmp_path]).batches())
    assert [batch.column("seq")[0].as_py() for batch in batches] == list(range(seq))
    assert all(batch.schema == READ_SCHEMA for batch in batches)
    last = batches[-1].select(["run", "worker", "backend_name"]).to_pylist()
    assert last == [{"run": LATE, "worker": 10, "backend_name": f"{LATE}-backend"}]


def test_a_backend_that_the_header_doesn_t_name_is_empty(tmp_path: Path) -> None:
    rows.write_capture(tmp_path, [rows.batch([dict(backend=n) for n in (0, 1, 2, -1)])], backends=("a", "b"))
    (batch,) = Capture([tmp_path]).batches()
    assert batch.column("backend_name").to_pylist() == ["a", "b", "", ""]


def test_a_lost_header_costs_the_backends_names_alone(tmp_path: Path) -> None:
    rows.write_capture(tmp_path, [rows.batch([{}])], worker=3)
    path = next(tmp_path.iterdir())
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    capture = Capture([path])
    (batch,) = capture.batches()
    row = batch.to_pylist()[0]
    assert (row["run"], row["worker"], row["backend_name"]) == ("20261123T030141Z-4242", 3, "")
    assert [(loss.offset, loss.rows) for loss in capture.losses] == [(0, 0)]


def test_what_is_no_capture_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for path in (tmp_path / "missing", tmp_path / "notes.txt"):
        with pytest.raises(CaptureError, match=str(path)) as caught:
            Capture([path])
        assert "\n" not in str(caught.value)
    assert list(Capture([tmp_path]).batches()) == []


def test_a_segment_that_vanishes_while_reading_is_a_loss(tmp_path: Path) -> None:
    rows.write_capture(tmp_path, [rows.batch([{}])])
    capture = Capture([tmp_path])
    next(tmp_path.iterdir()).unlink()
    assert list(capture.batches()) == []
    assert ["No such file" in str(loss) for loss in capture.losses] == [True]


def test_a_segment_that_is_closed_between_listing_and_reading_is_still_read(tmp_path: Path) -> None:
    segment = SegmentFile.create(tmp_path, SegmentHeader(EARLY, 0, 0, "0", "keys", ()), 1, 0)
    segment.write_batch(rows.batch([{}]))
    capture = Capture([tmp_path])
    segment.close()
    assert sum(batch.num_rows for batch in capture.batches()) == 1
    assert capture.losses == []


def test_the_file_that_is_truncated_and_written_to_is_read_again_from_where_it_was(tmp_path: Path) -> None:
    segment = SegmentFile.create(tmp_path, SegmentHeader(EARLY, 0, 0, "0", "keys", ()), 1, 0)
    segment.write_batch(rows.batch([dict(seq=0)]))
    reading = Capture([tmp_path]).batches()
    assert next(reading).column("seq").to_pylist() == [0]
    segment.write_batch(rows.batch([dict(seq=1)]))
    assert next(reading).column("seq").to_pylist() == [1]
    segment.close()
    assert list(reading) == []


OLD_SCHEMA = pa.schema([pa.field("ts", pa.int64(), nullable=False), pa.field("name", pa.binary(), nullable=False)])


def write_old(folder: Path, version: int) -> Path:
    """A segment of another format version, whose rows have a time and a name only."""
    path = folder / f"{EARLY}.w000.000001.shunt"
    batch = pa.RecordBatch.from_pylist([dict(ts=5, name=b"get"), dict(ts=6, name=b"set")], schema=OLD_SCHEMA)
    about = dict(run=EARLY, worker=0, started_ns=0, shunt="0", args="keys", backends=["a"])
    totals = dict(rows=2, gaps=0, first_ns=5, last_ns=6)
    bodies = [
        (FrameKind.HEADER, pack_json(about), 0),
        (FrameKind.BATCH, bytes(batch.serialize()), 2),
        (FrameKind.END, pack_json({**about, **totals}), 0),
    ]
    parts = [b"".join(pack_frame(k, version, b"12345678", n, body, r)) for n, (k, body, r) in enumerate(bodies)]
    path.write_bytes(b"".join(parts))
    return path


def named_like_today(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.rename_columns(["ts", "command"])


def upper_case_in_full(batch: pa.RecordBatch) -> pa.RecordBatch:
    return rows.batch([dict(ts=row["ts"], command=row["command"].upper()) for row in batch.to_pylist()])


def test_old_versions_go_through_a_chain_of_migrations(tmp_path: Path) -> None:
    path = write_old(tmp_path, 1)
    chain = {1: Step(OLD_SCHEMA, named_like_today), 2: Step(pa.schema([]), upper_case_in_full)}
    capture = Capture([path], Migrations(chain, 3, SCHEMA))
    (batch,) = capture.batches()
    assert batch.select(["ts", "command"]).to_pylist() == [dict(ts=5, command=b"GET"), dict(ts=6, command=b"SET")]
    assert capture.losses == []


def test_a_newer_version_is_a_loss_that_names_it(tmp_path: Path) -> None:
    capture = Capture([write_old(tmp_path, 99)])
    assert list(capture.batches()) == []
    assert [loss.rows for loss in capture.losses] == [2]
    assert "format version 99; this shunt reads up to 2" in str(capture.losses[0])


def test_the_chain_of_migrations_has_no_hole() -> None:
    assert sorted(CHAIN) == list(range(1, FORMAT_VERSION))
    assert MIGRATIONS.schema_of(FORMAT_VERSION) == SCHEMA
    with pytest.raises(UnknownVersion):
        MIGRATIONS.schema_of(FORMAT_VERSION + 1)


#: Format version 1, column for column, as its segments and compacted files have it.
FIRST = [
    "ts",
    "conn",
    "seq",
    "client_addr",
    "client_name",
    "db",
    "command",
    "keys",
    "keys_cut",
    "nkeys",
    "slot",
    "unknown",
    "txn",
    "latency_ns",
    "held_ns",
    "request_bytes",
    "reply_bytes",
    "reply",
    "error",
    "served_key",
    "backend",
    "epoch",
    "flags",
    "script",
    "args",
    "reply_checksum",
    "gap",
    "gap_rows",
]


def write_first(folder: Path) -> pa.RecordBatch:
    """A segment of version 1; its batch."""
    batch = rows.batch([dict(command="GET", keys=["a"]), dict(gap="x", gap_rows=3)]).select(FIRST)
    about = dict(run=EARLY, worker=0, started_ns=0, shunt="0", args="keys", backends=["a"])
    totals = dict(rows=2, gaps=1, first_ns=rows.START_NS, last_ns=rows.START_NS)
    bodies = [
        (FrameKind.HEADER, pack_json(about), 0),
        (FrameKind.BATCH, bytes(batch.serialize()), 2),
        (FrameKind.END, pack_json({**about, **totals}), 0),
    ]
    parts = [b"".join(pack_frame(k, 1, b"12345678", n, body, r)) for n, (k, body, r) in enumerate(bodies)]
    (folder / f"{EARLY}.w000.000001.shunt").write_bytes(b"".join(parts))
    return batch


def as_first(capture: Capture) -> tuple[list[dict[str, Any]], list[tuple[int, int]]]:
    """A capture's rows in version 1's columns, and what stands in the columns that came with version 2."""
    table = pa.Table.from_batches(list(capture.batches()))
    assert capture.losses == []
    counts = zip(table.column("nargs").to_pylist(), table.column("reply_items").to_pylist(), strict=True)
    return table.select(FIRST).to_pylist(), list(counts)


def test_version_1_reads_with_counts_that_are_not_known(tmp_path: Path) -> None:
    batch = write_first(tmp_path)
    assert as_first(Capture([tmp_path])) == (batch.to_pylist(), [(0, -1), (0, -1)])


def test_a_segment_of_version_1_is_compacted_into_todays_columns(tmp_path: Path) -> None:
    batch = write_first(tmp_path)
    assert [(done.rows, done.losses) for done in compact([tmp_path])] == [(2, 0)]
    (path,) = tmp_path.glob("*.parquet")
    assert (read_about(path).format, pq.read_schema(path).names) == (FORMAT_VERSION, READ_SCHEMA.names)
    assert as_first(Capture([tmp_path])) == (batch.to_pylist(), [(0, -1), (0, -1)])


def test_a_file_that_version_1_has_compacted_still_reads(tmp_path: Path) -> None:
    batch = write_first(tmp_path)
    header = SegmentHeader(EARLY, 0, 0, "0", "keys", ("a",))
    added = pa.Table.from_batches([with_added(rows.batch([{}, {}]), header)])
    old = pa.Table.from_batches([batch])
    for name in ("run", "worker", "backend_name"):
        old = old.append_column(added.schema.field(name), added.column(name))
    about = About(header, [1], 2, 1, rows.START_NS, rows.START_NS, format=1)
    (tmp_path / f"{EARLY}.w000.000001.shunt").unlink()
    with pq.ParquetWriter(tmp_path / f"{EARLY}.w000.000001.parquet", old.schema) as writer:
        writer.write_table(old)
        writer.add_key_value_metadata(about.metadata())
    assert as_first(Capture([tmp_path])) == (batch.to_pylist(), [(0, -1), (0, -1)])


def test_plain_pyarrow_reads_the_bodies_as_a_stream(tmp_path: Path) -> None:
    """As docs/capture-format.md says."""
    batches = [rows.batch([dict(seq=0)]), rows.batch([dict(seq=1), dict(seq=2)])]
    rows.write_capture(tmp_path, batches)
    data = next(tmp_path.iterdir()).read_bytes()
    stream, at = b"", 0
    while at < len(data):
        kind, length = data[at + 8], int.from_bytes(data[at + 16 : at + 24], "little")
        if kind in (2, 3):
            stream += data[at + 48 : at + 48 + length]
        at += 48 + length
    table = pa.ipc.open_stream(stream).read_all()
    assert table.equals(pa.Table.from_batches(batches))
