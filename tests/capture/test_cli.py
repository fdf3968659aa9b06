"""``shunt capture``: what is printed, and the exit codes that scripts rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.capture.segments import SegmentFile, SegmentHeader
from tests.capture import rows

ROOT = Path(__file__).parents[2]


def shunt(*args: str | Path) -> subprocess.CompletedProcess[str]:
    code = "from proxy.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "capture", *map(str, args)], capture_output=True, text=True, cwd=ROOT, timeout=60
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return rows.write_capture(tmp_path / "captures", [rows.batch([dict(command="GET", keys=["é"]), {}])])


def segment(folder: Path) -> Path:
    return next(folder.iterdir())


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_cat_prints_an_object_a_line(folder: Path) -> None:
    done = shunt("cat", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["command"] for line in done.stdout.splitlines()] == ["GET", "PING"]
    assert '"key":"é"' in done.stdout


def test_cat_says_on_stderr_what_was_lost(folder: Path) -> None:
    flip(segment(folder), -400)
    done = shunt("cat", folder)
    assert done.returncode == 0
    assert done.stderr.startswith(f"lost: {segment(folder)}: at byte ")


def test_cat_ends_quietly_when_its_reader_has_seen_enough(tmp_path: Path) -> None:
    rows.write_capture(tmp_path, [rows.batch([{}] * 5000)] * 4)
    code = "from proxy.cli.main import main; main()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, "capture", "cat", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait(60) == 0


def test_ls_has_a_line_for_each_segment(folder: Path) -> None:
    SegmentFile.create(folder, SegmentHeader("20261123T030142Z-1", 2, 0, "0", "none", ()), 7, 0).abandon()
    done = shunt("ls", folder)
    assert done.returncode == 0
    head, *lines = [line.split() for line in done.stdout.splitlines()]
    assert head == ["segment", "run", "worker", "rows", "gaps", "bytes", "from", "to", "args", "state"]
    size = str((folder / lines[0][0]).stat().st_size)
    start = "2023-11-14T22:13:20Z"
    assert lines[0][1:] == ["20261123T030141Z-4242", "0", "2", "0", size, start, start, "keys", "closed"]
    assert lines[1][1:5] == ["20261123T030142Z-1", "2", "0", "?"]
    assert lines[1][-2:] == ["none", "torn"]


def test_verify_of_a_whole_capture_ends_with_0(folder: Path) -> None:
    done = shunt("verify", folder)
    assert (done.returncode, done.stdout) == (0, "1 segments, 2 exchanges: whole\n")


def test_verify_of_a_damaged_capture_ends_with_1_and_says_what_and_where(folder: Path) -> None:
    flip(segment(folder), -400)
    done = shunt("verify", folder)
    assert done.returncode == 1
    lost, total = done.stdout.splitlines()
    assert lost.startswith(f"lost: {segment(folder)}: at byte ")
    assert "frame 2 fails its checksum" in lost
    assert "2 rows lost" in lost
    assert total == "1 segments, 0 exchanges: 1 loss"


def test_verify_counts_a_gap_as_a_loss(tmp_path: Path) -> None:
    rows.write_capture(tmp_path, [rows.batch([{}, dict(gap="the capture's queue was full", gap_rows=3, conn=0)])])
    done = shunt("verify", tmp_path)
    assert done.returncode == 1
    assert "the capture's queue was full (3 rows lost)" in done.stdout
    assert done.stdout.endswith("1 segments, 1 exchanges: 1 loss\n")


def test_compact_says_what_it_made(folder: Path) -> None:
    before = shunt("cat", folder).stdout
    done = shunt("compact", folder)
    assert done.returncode == 0
    assert ".parquet: 1 segments, 2 rows, " in done.stdout
    assert shunt("cat", folder).stdout == before
    assert shunt("verify", folder).returncode == 0
    assert shunt("compact", folder).stdout == "nothing to compact: none of 1 files is a closed segment\n"


@pytest.mark.parametrize("verb", ["cat", "ls", "verify", "compact"])
def test_a_missing_capture_is_one_line_and_exit_code_2(verb: str, tmp_path: Path) -> None:
    done = shunt(verb, tmp_path / "missing")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"shunt: {tmp_path / 'missing'}: no such file or directory\n"
    assert shunt(verb).returncode == 2


def test_cat_where_prints_only_what_passes(tmp_path: Path) -> None:
    rows.write_capture(tmp_path, [rows.batch([dict(command="GET", keys=["a"]), {}, dict(command="GET", nkeys=1)])])
    done = shunt("cat", tmp_path, "--where", "cmd:get and key:a")
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [0]
    assert done.stderr == "left out: 1 exchange that may match, but not all of their keys are known\n"
    assert shunt("cat", tmp_path, "--where", "cmd:PING").stderr == ""


def test_an_expression_that_means_nothing_is_one_line_and_exit_code_2(folder: Path) -> None:
    done = shunt("cat", folder, "--where", "cmd:GET and lateny>1ms")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        'shunt: Invalid value for \'--where\': column 13: no field "lateny"; did you mean "latency"? '
        "(docs/filters.md has all fields)\n"
    )
