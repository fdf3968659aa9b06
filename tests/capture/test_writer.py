"""The writer: what it promises about loss, memory, disks that fail, and processes that are killed."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from proxy.capture.facts import BackendFacts, ClientGroup
from proxy.capture.reader import Capture
from proxy.capture.retention import CaptureLimits
from proxy.capture.segments import SegmentHeader, create_raw
from proxy.capture.writer import CaptureWriter
from tests.capture import rows

ROOT = Path(__file__).parents[2]
RUN = "20261123T030141Z-1"


def header(run: str = RUN, worker: int = 0, args: str = "keys") -> SegmentHeader:
    return SegmentHeader(run, worker, rows.START_NS, "0.1.0", args, ("127.0.0.1:6379",))


def limits(**given: float) -> CaptureLimits:
    return CaptureLimits(**{"min_free_bytes": 0, "min_free_share": 0.0, "flush_s": 0.01, **given})  # type: ignore[arg-type]


def numbered(first: int, count: int = 1, size: int = 0) -> pa.RecordBatch:
    return rows.batch([dict(seq=first + i, keys=[os.urandom(size)] if size else []) for i in range(count)])


def wait_for(what: Callable[[], object], seconds: float = 20) -> None:
    """Waits until ``what()`` is true; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def seqs_and_gaps(folder: Path) -> tuple[list[int], int]:
    """All rows' seqs in the order of reading, and how many rows the gap rows say are missing."""
    seqs, missing = [], 0
    for batch in Capture([folder]).batches():
        for row in batch.select(["seq", "gap", "gap_rows"]).to_pylist():
            if row["gap"]:
                missing += row["gap_rows"]
            else:
                seqs.append(row["seq"])
    return seqs, missing


def test_rows_are_readable_while_the_segment_is_still_open(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, header(), limits())
    writer.start()
    writer.consume(numbered(1, 3))
    wait_for(lambda: writer.stats().rows == 3)
    capture = Capture([tmp_path])
    assert [batch.column("seq").to_pylist() for batch in capture.batches()] == [[1, 2, 3]]
    assert capture.losses == []
    assert [(info.state, info.rows, info.args) for info in capture.segments()] == [("open", 3, "keys")]
    writer.close(10)
    assert [(info.state, info.rows, info.gaps) for info in Capture([tmp_path]).segments()] == [("closed", 3, 0)]


def test_nothing_is_written_when_there_is_nothing(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path / "new", header(), limits())
    writer.start()
    writer.consume(rows.batch([]))
    writer.close(10)
    assert list((tmp_path / "new").iterdir()) == []


def test_hand_overs_are_joined_and_long_ones_written_at_once(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, header(), limits(flush_s=3600))
    writer.start()
    batch = numbered(0, 4096)
    for _ in range(16):
        writer.consume(batch)
    wait_for(lambda: writer.stats().rows == 65_536)
    assert writer.stats().batches == 1
    writer.close(10)


def test_what_was_taken_until_a_flush_is_written_at_once_and_in_one_frame(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, header(), limits(flush_s=3600))
    writer.start()
    writer.flush()  # nothing waits: nothing is owed either
    for start in (0, 4):
        writer.consume(numbered(start, 4))
    assert writer.stats().rows == 0
    writer.flush()
    wait_for(lambda: writer.stats().rows == 8)
    assert writer.stats().batches == 1
    writer.consume(numbered(8, 4))
    writer.close(10)
    assert (writer.stats().rows, writer.stats().batches) == (12, 2)


def test_files_are_0600_and_a_directory_that_is_made_0700(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        writer = CaptureWriter(tmp_path / "a" / "b", header(), limits())
        writer.start()
        writer.consume(numbered(1))
        writer.close(10)
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "b").iterdir()] == [0o600]


def test_scripts_are_written_once_per_segment_and_again_in_the_next(tmp_path: Path) -> None:
    sha = b"a" * 40
    writer = CaptureWriter(tmp_path, header(), limits(segment_bytes=1))  # each frame fills a segment
    writer.start()
    for n in range(3):
        writer.add_script(sha, b"return 1")
        writer.consume(numbered(n))
        wait_for(lambda n=n: writer.stats().rows == n + 1)
    writer.close(10)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    assert [Capture([path]).scripts() for path in files] == [{sha: b"return 1"}] * 3
    assert writer.stats().scripts == 1


def test_backend_facts_are_written_with_the_next_rows_and_at_the_end_and_open_no_segment(tmp_path: Path) -> None:
    def sample(number: int) -> BackendFacts:
        return BackendFacts(number, "sample", "redis:6379", others=(ClientGroup("10.0.0.2", "cron", number),))

    alone = CaptureWriter(tmp_path / "alone", header(), limits())
    alone.start()
    alone.add_facts(sample(0))
    alone.close(10)
    assert list((tmp_path / "alone").iterdir()) == []
    writer = CaptureWriter(tmp_path / "capture", header(), limits())
    writer.start()
    for number in (1, 2):
        writer.add_facts(sample(number))
    writer.consume(numbered(1))
    wait_for(lambda: writer.stats().rows == 1)
    writer.add_facts(sample(3))
    writer.close(10)
    capture = Capture([tmp_path / "capture"])
    for _ in range(2):  # reading again doubles nothing
        assert sum(batch.num_rows for batch in capture.batches()) == 1
    assert capture.backend_facts() == [sample(1), sample(2), sample(3)]
    assert capture.losses == []


def test_scripts_beyond_their_bound_are_counted_and_mode_none_has_none(tmp_path: Path) -> None:
    for args, kept, dropped in (("keys", {b"a" * 40: b"12345"}, 1), ("none", {}, 0)):
        writer = CaptureWriter(tmp_path / args, header(args=args), limits(script_bytes=8))
        writer.start()
        writer.add_script(b"a" * 40, b"12345")
        writer.add_script(b"b" * 40, b"67890")
        writer.consume(numbered(1))
        writer.close(10)
        assert Capture([tmp_path / args]).scripts() == kept
        assert writer.stats().scripts_dropped == dropped


class Valve(io.RawIOBase):
    """A file that passes writes on while it is open, and else fails or waits."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._raw = create_raw(path)
        self._disk = disk

    def fileno(self) -> int:
        return self._raw.fileno()

    def write(self, data: bytes | memoryview, /) -> int:
        self._disk.open.wait(20)
        left = self._disk.left
        if left is not None:
            data = memoryview(data)[:left]
            if not data:
                raise OSError(self._disk.error, os.strerror(self._disk.error))
            self._disk.left = left - len(data)
        return self._raw.write(data) or 0

    def truncate(self, size: int | None = None, /) -> int:
        if self._disk.stuck:
            raise OSError(errno.EIO, "Input/output error")
        return self._raw.truncate(size or 0)

    def close(self) -> None:
        self._raw.close()


class Disk:
    """What the test does to the writer's disk."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.left: int | None = None  # bytes that it takes before it fails
        self.error = errno.ENOSPC
        self.stuck = False  # what was written can't be taken back

    def create(self, path: Path) -> Valve:
        return Valve(path, self)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("stuck", [False, True])
@pytest.mark.parametrize("left", [0, 1, 47, 48, 100, 1000])
def test_a_failed_write_loses_nothing_once_the_disk_is_well_again(
    tmp_path: Path, error: int, stuck: bool, left: int
) -> None:
    disk = Disk()
    writer = CaptureWriter(tmp_path, header(), limits(), create=disk.create)
    writer.start()
    writer.consume(numbered(0))
    wait_for(lambda: writer.stats().rows == 1)
    disk.left, disk.error, disk.stuck = left, error, stuck
    writer.consume(numbered(1))
    wait_for(lambda: writer.stats().failing)
    writer.consume(numbered(2))
    assert writer.stats().failing == os.strerror(error)
    disk.left, disk.stuck = None, False
    wait_for(lambda: writer.stats().rows == 3)
    writer.close(10)
    assert seqs_and_gaps(tmp_path) == ([0, 1, 2], 0)
    stats = writer.stats()
    assert (stats.failing, stats.gaps, stats.gap_rows) == (None, 0, 0)
    assert stats.errors > 0


def test_a_slow_disk_costs_a_gap_and_never_the_caller_s_time(tmp_path: Path) -> None:
    disk = Disk()
    one = numbered(0, 100)
    room = one.get_total_buffer_size() * 5
    writer = CaptureWriter(tmp_path, header(), limits(queue_bytes=room), create=disk.create)
    writer.start()
    disk.open.clear()  # from here on each write waits
    for n in range(20):
        writer.consume(numbered(n * 100, 100))
    lost = writer.stats().gap_rows
    assert lost >= 1400
    assert writer.stats().queued_bytes <= room
    disk.open.set()
    wait_for(lambda: writer.stats().queued_bytes == 0)
    writer.consume(numbered(2000, 100))
    writer.close(10)
    seqs, missing = seqs_and_gaps(tmp_path)
    assert missing == lost
    assert seqs == [*range(2000 - lost), *range(2000, 2100)]
    assert 1 <= writer.stats().gaps <= 2  # the writer may take up a first part while the rest is being lost


def test_the_gap_stands_where_the_rows_are_missing(tmp_path: Path) -> None:
    disk = Disk()
    disk.open.clear()
    writer = CaptureWriter(tmp_path, header(), limits(queue_bytes=1), create=disk.create)
    writer.consume(rows.batch([dict(ts=77, seq=0), dict(ts=78, seq=1), dict(gap="resync", gap_rows=5)]))
    writer.consume(rows.batch([dict(ts=79, seq=2)]))
    disk.open.set()
    writer.start()
    writer.close(10)
    (batch,) = Capture([tmp_path]).batches()
    gap = batch.to_pylist()[0]
    assert (gap["ts"], gap["gap_rows"], gap["gap"]) == (77, 8, b"the capture's queue was full")
    assert (writer.stats().gaps, writer.stats().gap_rows) == (1, 8)


def test_what_a_failing_disk_did_not_take_by_the_end_is_counted(tmp_path: Path) -> None:
    disk = Disk()
    disk.left = 0
    writer = CaptureWriter(tmp_path, header(), limits(), create=disk.create)
    writer.start()
    writer.consume(numbered(0, 7))
    wait_for(lambda: writer.stats().failing)
    writer.close(10)
    assert writer.stats().gap_rows == 7
    writer.consume(numbered(7, 2))
    assert writer.stats().gap_rows == 9


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                if not file.write(bytes(4096)):
                    return
            except OSError:
                return


def test_a_full_disk_costs_a_gap_and_a_counter_and_recovers(tiny_disk: Path) -> None:
    ballast, folder = tiny_disk / "ballast", tiny_disk / "captures"
    writer = CaptureWriter(folder, header(), limits(queue_bytes=200_000, max_bytes=2_000_000))
    writer.start()
    writer.consume(numbered(0, 10, size=500))
    wait_for(lambda: writer.stats().rows == 10)
    fill(ballast)
    sent = 10
    while writer.stats().gap_rows < 1000:  # the queue holds some; the rest is lost
        writer.consume(numbered(sent, 10, size=500))
        sent += 10
    wait_for(lambda: writer.stats().failing)
    assert "space" in (writer.stats().failing or "")
    ballast.unlink()
    wait_for(lambda: writer.stats().failing is None and writer.stats().queued_bytes == 0)
    writer.consume(numbered(sent, 10, size=500))
    sent += 10
    writer.close(10)
    lost = writer.stats().gap_rows
    seqs, missing = seqs_and_gaps(folder)
    assert missing == lost
    assert len(seqs) + lost == sent
    assert seqs == sorted(seqs)
    assert seqs[:10] == list(range(10))
    assert seqs[-10:] == list(range(sent - 10, sent))
    capture = Capture([folder])
    assert list(capture.batches())
    assert capture.losses == []


CHILD = """
    import os, sys, time
    from pathlib import Path
    from tests.capture.test_writer import CaptureWriter, header, limits, numbered
    writer = CaptureWriter(Path(sys.argv[1]), header(), limits(flush_s=0.02, segment_bytes=200_000))
    writer.start()
    sent = 0
    while True:
        writer.consume(numbered(sent, 50, size=50))
        sent += 50
        os.write(1, b"%d %d\\n" % (writer.stats().rows, sent))  # written by now, handed over by now
        time.sleep(0.001)
"""


@pytest.mark.parametrize("kill_after", [1, 200, 2000, 10_000])
def test_kill_9_loses_at_most_what_was_not_flushed_yet(tmp_path: Path, kill_after: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert child.stdout is not None
    flushed = 0
    for line in child.stdout:
        flushed = int(line.split()[0])
        if flushed >= kill_after:
            break
    child.send_signal(signal.SIGKILL)
    last = [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
    child.wait()
    flushed, sent = map(int, last[-1].split()) if last else (flushed, 1 << 60)
    seqs, missing = seqs_and_gaps(tmp_path)
    assert missing == 0
    assert seqs == list(range(len(seqs)))
    assert flushed <= len(seqs) <= sent + 50
    capture = Capture([tmp_path])
    assert sum(batch.num_rows for batch in capture.batches()) == len(seqs)
    states = [info.state for info in capture.segments()]
    assert states[-1] in ("torn", "closed")
    assert bool(capture.losses) == (states[-1] == "torn")
    writer = CaptureWriter(tmp_path, header("20261123T030142Z-2"), limits())  # the next start goes on beside it
    writer.start()
    writer.consume(numbered(len(seqs), 5))
    writer.close(10)
    assert seqs_and_gaps(tmp_path)[0] == list(range(len(seqs) + 5))


def test_two_writers_share_a_directory(tmp_path: Path) -> None:
    writers = [CaptureWriter(tmp_path, header(worker=n), limits(segment_bytes=20_000)) for n in range(2)]
    for writer in writers:
        writer.start()
    for n in range(40):
        for worker, writer in enumerate(writers):
            writer.consume(numbered(worker * 100_000 + n * 10, 10, size=100))
    for writer in writers:
        writer.close(10)
    capture = Capture([tmp_path])
    seen: dict[int, list[int]] = {0: [], 1: []}
    for batch in capture.batches():
        seen[batch.column("worker")[0].as_py()] += batch.column("seq").to_pylist()
    assert seen == {0: list(range(400)), 1: list(range(100_000, 100_400))}
    assert capture.losses == []


def test_a_batch_that_can_t_be_packed_becomes_a_gap_and_the_next_is_written(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path, header(), limits())
    writer.start()
    writer.consume(numbered(0, 4).drop_columns(["command"]))
    wait_for(lambda: writer.stats().gap_rows == 4)
    writer.consume(numbered(4, 4))
    writer.close(10)
    assert seqs_and_gaps(tmp_path) == ([4, 5, 6, 7], 4)
