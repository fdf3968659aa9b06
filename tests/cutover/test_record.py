"""The route record: the old one or the new one, after whatever the disk does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.cutover.record import HISTORY, RealDisk, Recorded, RecordError, RouteFile
from proxy.routing.route import Backend, Fence, Route

OLD = Backend("main", "redis://10.0.0.1:6379")
NEW = Backend("new", "rediss://10.0.0.2:6379/3")
START = Recorded(Route(0, OLD))


def following(recorded: Recorded, backend: Backend = NEW) -> Recorded:
    route = recorded.route.to(backend, fence=Fence.PENDING, at="2026-11-24T12:00:00Z", by="unix uid 0")
    return recorded.then(route)


class BadDisk(RealDisk):
    """A disk that fails in one of the things that are asked of it."""

    def __init__(self, *bad: str) -> None:
        self.bad = bad

    def write(self, path: Path, data: bytes) -> None:
        if "write" in self.bad:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        super().write(path, data)

    def rename(self, path: Path, to: Path) -> None:
        if "rename" in self.bad:
            raise OSError(30, "Read-only file system")
        super().rename(path, to)

    def sync(self, folder: Path) -> None:
        if "sync" in self.bad:
            raise OSError(5, "Input/output error")


def committed(path: Path, recorded: Recorded) -> RouteFile:
    file = RouteFile(path)
    file.prepare(recorded)
    file.commit()
    return file


def put_in_force(file: RouteFile, recorded: Recorded) -> None:
    file.prepare(recorded)
    file.commit()


def test_what_was_committed_is_read_back(tmp_path: Path) -> None:
    wanted = following(following(START), OLD)
    committed(tmp_path / "route.json", wanted)
    assert RouteFile(tmp_path / "route.json").read() == wanted


def test_without_a_file_there_is_no_record(tmp_path: Path) -> None:
    assert RouteFile(tmp_path / "route.json").read() is None


def test_what_was_only_prepared_is_not_in_force(tmp_path: Path) -> None:
    file = committed(tmp_path / "route.json", START)
    file.prepare(following(START))
    assert RouteFile(tmp_path / "route.json").read() == START


@pytest.mark.parametrize("bad", ["write", "rename", "sync"])
@pytest.mark.parametrize("there", [True, False], ids=["with a record", "without one"])
def test_a_disk_that_fails_leaves_the_old_record_in_force(tmp_path: Path, bad: str, there: bool) -> None:
    path = tmp_path / "route.json"
    if there:
        committed(path, START)
    file = RouteFile(path, BadDisk(bad))
    with pytest.raises(RecordError, match=r"--route-file .*route\.json: can't be"):
        put_in_force(file, following(START))
    assert RouteFile(path).read() == (START if there else None)


def test_a_record_that_can_not_be_taken_back_is_said_to_be_uncertain(tmp_path: Path) -> None:
    path = tmp_path / "route.json"
    committed(path, START)
    disk = BadDisk("sync")
    file = RouteFile(path, disk)
    file.prepare(following(START))
    disk.bad = ("sync", "write")
    with pytest.raises(RecordError, match="IT MAY NAME THE TARGET"):
        file.commit()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "route": {}, "history": []}', "\x00"])
def test_a_file_that_is_no_record_is_an_error_and_never_a_route(tmp_path: Path, text: str) -> None:
    path = tmp_path / "route.json"
    path.write_text(text)
    with pytest.raises(RecordError, match="is no route record"):
        RouteFile(path).read()


def test_one_process_at_a_time_has_it(tmp_path: Path) -> None:
    first, second = RouteFile(tmp_path / "route.json"), RouteFile(tmp_path / "route.json")
    first.lock()
    with pytest.raises(RecordError, match="another shunt has it"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    committed(tmp_path / "route.json", START)
    assert (tmp_path / "route.json").stat().st_mode & 0o777 == 0o600


def test_the_history_is_bounded_and_begins_with_the_newest(tmp_path: Path) -> None:
    recorded = START
    for turn in range(HISTORY + 5):
        recorded = following(recorded, OLD if turn % 2 else NEW)
    assert len(recorded.history) == HISTORY
    assert recorded.history[0].epoch == recorded.route.epoch - 1
    committed(tmp_path / "route.json", recorded)
    assert json.loads((tmp_path / "route.json").read_text())["route"]["epoch"] == HISTORY + 5


def test_a_route_told_anew_is_no_step_of_history() -> None:
    recorded = following(START)
    assert recorded.then(recorded.route.fenced()).history == recorded.history
