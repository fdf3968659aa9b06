"""Compaction: nothing is lost, nothing doubled, wherever it is cut off."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from proxy.capture import compact as compaction
from proxy.capture.compact import compact, groups
from proxy.capture.facts import BackendFacts
from proxy.capture.format import SCHEMA, Flag
from proxy.capture.listing import CaptureError
from proxy.capture.reader import Capture
from proxy.capture.render import lines
from proxy.capture.segments import SegmentFile, SegmentHeader
from tests.capture import rows

RUNS = ("20261123T030141Z-1", "20261123T030142Z-2")


def cat(folder: Path) -> list[str]:
    return [line for batch in Capture([folder]).batches() for line in lines(batch)]


def some_rows(chance: random.Random, count: int) -> pa.RecordBatch:
    def one() -> dict[str, Any]:
        if chance.random() < 0.1:
            return dict(gap="the capture's queue was full", gap_rows=chance.randrange(9), conn=0)
        keys = [chance.randbytes(chance.randrange(9)) for _ in range(chance.randrange(3))]
        cut = [dict(index=0, length=10**9, hash=2**64 - 1)] if keys and chance.random() < 0.2 else []
        return dict(
            keys=keys, keys_cut=cut, flags=chance.randrange(2**17) & ~(Flag.ARGS | Flag.SERVED), slot=-2,
            args=["GET", chance.randbytes(5)], served_key=chance.randbytes(3), backend=chance.randrange(-1, 3),
            reply_checksum=2**64 - 1, unknown=chance.randrange(6), script=b"b" * 40,
        )  # fmt: skip

    return rows.batch([one() for _ in range(count)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs, several segments each."""
    chance = random.Random(5)
    for run in RUNS:
        for number in range(1, 5):
            segment = SegmentFile.create(tmp_path, SegmentHeader(run, 0, 7, "0.1.0", "full", ("a", "b")), number, 0)
            segment.write_scripts({b"%d" % number * 40: b"return %d" % number})
            segment.write_facts([BackendFacts(number, "sample", run, {"maxclients": number})])
            for _ in range(3):
                segment.write_batch(some_rows(chance, 50))
            segment.close()
    return tmp_path


def test_rows_gaps_scripts_and_names_are_as_before(folder: Path) -> None:
    before, scripts = cat(folder), Capture([folder]).scripts()
    earlier = Capture([folder])
    table = pa.Table.from_batches(list(earlier.batches()))
    done = list(compact([folder]))
    assert [(one.segments, one.rows, one.losses) for one in done] == [(4, 600, 0)] * 2
    assert sorted(path.name for path in folder.iterdir()) == [f"{run}.w000.000001.parquet" for run in RUNS]
    assert cat(folder) == before
    capture = Capture([folder])
    assert pa.Table.from_batches(list(capture.batches())).equals(table)
    assert capture.scripts() == Capture([folder]).scripts() == scripts
    assert capture.losses == []
    assert len(capture.backend_facts()) == 8
    assert capture.backend_facts() == earlier.backend_facts()
    assert [(info.state, info.rows, info.args) for info in capture.segments()] == [("compacted", 600, "full")] * 2


def test_compacted_files_are_0600_and_as_old_as_their_segments(folder: Path) -> None:
    newest = max(path.stat().st_mtime_ns for path in folder.glob(f"{RUNS[0]}*"))
    (one, _) = compact([folder])
    assert one.path.stat().st_mode & 0o777 == 0o600
    assert one.path.stat().st_mtime_ns == newest


def test_open_segments_are_left_alone_and_torn_ones_keep_their_loss(folder: Path) -> None:
    live = SegmentFile.create(folder, SegmentHeader("20261123T030143Z-3", 0, 7, "0", "full", ()), 1, 0)
    live.write_batch(rows.batch([{}]))
    dead = SegmentFile.create(folder, SegmentHeader("20261123T030144Z-4", 0, 7, "0", "full", ()), 1, 0)
    dead.write_batch(rows.batch([{}]))
    dead.abandon()
    before = cat(folder)
    capture = Capture([folder])
    assert list(capture.batches())
    assert len(capture.losses) == 1
    assert [one.losses for one in compact([folder])] == [0, 0, 1]
    assert live.path.exists()
    assert not dead.path.exists()
    assert cat(folder) == before
    again = Capture([folder])
    assert list(again.batches())
    assert again.losses == capture.losses
    live.close()


def test_a_file_is_begun_anew_at_its_size_or_another_header(folder: Path) -> None:
    size = max(path.stat().st_size for path in folder.iterdir())
    assert [len(group) for group in groups([folder], file_bytes=size + 1)] == [2, 2, 2, 2]
    other = SegmentFile.create(folder, SegmentHeader(RUNS[1], 0, 7, "0.1.0", "none", ("a", "b")), 9, 0)
    other.write_batch(rows.batch([{}]))
    other.close()
    assert [len(group) for group in groups([folder])] == [4, 4, 1]


@pytest.mark.parametrize("at", ["os.fsync", "os.rename", "Path.unlink"])
def test_a_compaction_that_is_cut_off_loses_and_doubles_nothing(
    folder: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cat(folder)

    class Cut(BaseException):
        pass

    def cut(*_: Any, **__: Any) -> None:
        raise Cut

    owner, name = {"os": compaction.os, "Path": Path}[at.split(".")[0]], at.split(".")[1]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, cut)
        with pytest.raises(Cut):
            list(compact([folder]))
    assert cat(folder) == before
    list(compact([folder]))
    assert cat(folder) == before
    assert len(list(folder.iterdir())) == 2


def test_two_compactions_at_once_are_refused(folder: Path) -> None:
    first = compact([folder])
    next(first)
    with pytest.raises(CaptureError, match="another compaction"):
        next(compact([folder]))
    first.close()
    assert len(list(compact([folder]))) == 1


def test_a_damaged_parquet_file_is_a_loss(folder: Path) -> None:
    (one, _) = compact([folder])
    group = pa.parquet.read_metadata(one.path).row_group(0)
    largest = max((group.column(i) for i in range(group.num_columns)), key=lambda column: column.total_compressed_size)
    data = bytearray(one.path.read_bytes())
    data[largest.dictionary_page_offset + largest.total_compressed_size // 2] ^= 1
    one.path.write_bytes(data)
    capture = Capture([one.path])
    rows_read = sum(batch.num_rows for batch in capture.batches())
    assert rows_read < one.rows
    assert len(capture.losses) == 1
    assert "\n" not in str(capture.losses[0])


def test_row_groups_gather_many_small_frames(tmp_path: Path) -> None:
    rows.write_capture(tmp_path, [rows.batch([dict(seq=n)]) for n in range(300)])
    (one,) = compact([tmp_path])
    assert pa.parquet.read_metadata(one.path).num_row_groups == 1
    assert [batch.select(SCHEMA.names).num_rows for batch in Capture([tmp_path]).batches()] == [300]


def test_what_a_killed_compaction_had_begun_is_cleared_away(folder: Path) -> None:
    (folder / f".{RUNS[0]}.w000.000001.parquet.part").write_bytes(b"half a file")
    assert len(list(compact([folder]))) == 2
    assert len(list(folder.iterdir())) == 2
