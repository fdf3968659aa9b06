"""Retention and rotation, with the time as an argument."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from proxy.capture.reader import Capture
from proxy.capture.retention import GB, CaptureLimits, Kept, deletable, floor_bytes, kept_files
from proxy.capture.segments import SegmentHeader, SegmentName
from proxy.capture.store import NoRoom, Store
from tests.capture import rows

NOW = 1_800_000_000.0


def store(folder: Path, run: str = "20261123T030141Z-1", **given: float) -> Store:
    header = SegmentHeader(run, 0, rows.START_NS, "0.1.0", "keys", ("a",))
    return Store(folder, header, CaptureLimits(**{"min_free_bytes": 0, "min_free_share": 0.0, **given}))  # type: ignore[arg-type]


def batch(seq: int = 0, size: int = 1000) -> object:
    return rows.batch([dict(seq=seq, keys=[os.urandom(size)])])


def numbers(folder: Path) -> list[int]:
    return [file.name.number for file in Capture([folder]).files]


def test_a_segment_closes_when_it_is_full(tmp_path: Path) -> None:
    capture = store(tmp_path, segment_bytes=20_000)
    for n in range(20):
        capture.write(batch(n), NOW)
    capture.close(NOW)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == capture.stats.segments > 2
    assert max(sizes) < 26_000


def test_a_segment_closes_after_an_hour_even_if_nothing_comes(tmp_path: Path) -> None:
    capture = store(tmp_path)
    capture.write(batch(), NOW)
    capture.tick(NOW + 3599)
    assert [info.state for info in Capture([tmp_path]).segments()] == ["open"]
    capture.tick(NOW + 3600)
    assert [info.state for info in Capture([tmp_path]).segments()] == ["closed"]
    assert capture.stats.segments == 1


def test_the_oldest_closed_segments_go_first_and_are_counted(tmp_path: Path) -> None:
    capture = store(tmp_path, max_bytes=100_000, segment_bytes=10_000)
    for n in range(200):
        capture.write(batch(n), NOW + n)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100_000
    left = numbers(tmp_path)
    assert left == list(range(left[0], left[0] + len(left)))
    assert left[-1] == capture.stats.segments
    assert capture.stats.deleted_segments == left[0] - 1 > 0


def test_segments_that_are_too_old_go(tmp_path: Path) -> None:
    capture = store(tmp_path, max_age_s=100, segment_bytes=1)
    for n in range(3):
        capture.write(batch(n), NOW)
        os.utime(sorted(tmp_path.iterdir())[-1], (NOW + 50 * n,) * 2)
    capture.tick(NOW + 120)
    assert numbers(tmp_path) == [2, 3]
    assert capture.stats.deleted_segments == 1


def test_an_open_segment_is_never_deleted_not_even_another_process_s(tmp_path: Path) -> None:
    other = store(tmp_path, run="20261123T030140Z-9")
    other.write(batch(size=40_000), NOW)
    mine = store(tmp_path, max_bytes=40_000)
    with pytest.raises(NoRoom):
        mine.write(batch(), NOW)
    assert [info.state for info in Capture([tmp_path]).segments()] == ["open"]
    other.close(NOW)
    mine.write(batch(), NOW + 1)
    mine.close(NOW + 1)
    assert [info.run for info in Capture([tmp_path]).segments()] == ["20261123T030141Z-1"]
    assert mine.stats.deleted_segments == 1


def test_a_segment_that_a_killed_process_left_open_can_be_deleted(tmp_path: Path) -> None:
    dead = store(tmp_path, run="20261123T030140Z-9")
    dead.write(batch(size=40_000), NOW)
    dead.abandon()
    mine = store(tmp_path, max_bytes=40_000)
    mine.write(batch(), NOW)
    assert mine.stats.deleted_segments == 1


def test_free_space_is_kept_above_the_floor(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    for n in range(3):
        early = store(tmp_path, run=f"20261123T03014{n}Z-1")
        early.write(batch(), NOW)
        early.close(NOW)
    capture = store(tmp_path, min_free_share=2 * free / (disk.f_blocks * disk.f_frsize))
    with pytest.raises(NoRoom, match="less disk space is free"):
        capture.write(batch(), NOW)
    assert numbers(tmp_path) == []
    assert capture.stats.deleted_segments == 3


@pytest.mark.parametrize(
    ("disk", "floor"),
    [(100 * GB, 5 * GB), (20 * GB, GB), (10 * GB, GB), (2 * GB, GB), (GB, GB // 2), (4_000_000, 2_000_000)],
)
def test_the_floor_is_a_gigabyte_or_a_twentieth_of_the_disk(disk: int, floor: int) -> None:
    assert floor_bytes(CaptureLimits(), disk) == floor


def test_what_goes_is_no_more_than_needed() -> None:
    kept = [Kept(float(n), SegmentName("r", 0, n), Path(str(n)), 10, open=n == 1) for n in range(5)]
    assert [k.name.number for k in deletable(kept, 0, None)] == []
    assert [k.name.number for k in deletable(kept, 11, None)] == [0, 2]
    assert [k.name.number for k in deletable(kept, 0, 2.5)] == [0, 2]
    assert [k.name.number for k in deletable(kept, 1000, None)] == [0, 2, 3, 4]


def test_other_files_are_none_of_ours(tmp_path: Path) -> None:
    for name in ("notes.txt", "x.parquet", ".20261123T030141Z-1.w000.000001.parquet.part", "a.shunt"):
        (tmp_path / name).write_bytes(b"x")
    assert kept_files(tmp_path) == []


def test_a_reader_s_look_at_the_lock_does_not_make_a_writer_look_dead(tmp_path: Path) -> None:
    capture = store(tmp_path)
    capture.write(batch(), NOW)
    path = next(tmp_path.iterdir())
    with path.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert [kept.open for kept in kept_files(tmp_path)] == [True]
    capture.close(NOW)
    assert [kept.open for kept in kept_files(tmp_path)] == [False]


def test_the_limit_is_one_for_all_workers_of_a_run(tmp_path: Path) -> None:
    limit = 200_000
    workers = []
    for number in range(4):
        header = SegmentHeader("20261123T030141Z-1", number, rows.START_NS, "0.1.0", "keys", ("a",))
        limits = CaptureLimits(max_bytes=limit, writers=4, min_free_bytes=0, min_free_share=0.0)
        workers.append(Store(tmp_path, header, limits))
    most = 0
    for n in range(120):
        workers[0].write(batch(n, 2000), NOW)  # the one that writes most
        workers[1 + n % 3].write(batch(n, 2000), NOW)
        most = max(most, sum(path.stat().st_size for path in tmp_path.iterdir()))
        assert sum(kept.open for kept in kept_files(tmp_path)) <= 4
    for worker in workers:
        worker.close(NOW)
    assert limit / 2 < most <= limit + 3 * 10_000  # each other worker at most by what it wrote since its last look
    capture = Capture([tmp_path])
    assert sum(each.num_rows for each in capture.batches()) > 0
    assert capture.losses == []
    assert sum(worker.stats.deleted_segments for worker in workers) > 0


def test_a_segment_that_another_worker_is_just_making_is_not_deleted(tmp_path: Path) -> None:
    name = SegmentName("20261123T030141Z-1", 1, 1).file(".shunt.open")
    (tmp_path / name).touch()
    assert [kept.open for kept in kept_files(tmp_path)] == [True]
