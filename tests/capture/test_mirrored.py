"""What a mirror has done, in its file beside a capture's segments."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from proxy.capture import mirrored
from proxy.capture.mirrored import Mirrored, MirroredRead


def one(target: str = "new:6379", **more: object) -> Mirrored:
    read = MirroredRead(
        "GET", "user:<id>", compared=10, differed=1, again=2, shapes=Counter({"null → string": 1}),
        source_ns=Counter({5: 10}), target_ns=Counter({7: 10}),
    )  # fmt: skip
    fields: dict[str, object] = {
        "effects": 5, "answered": 5, "missed": Counter(BRPOP=1), "dropped": Counter({"queue-full": 2}),
        "errors": [("EVAL", "NOSCRIPT", 3)], "reads": [read],
    }  # fmt: skip
    return Mirrored(target, "all", 100, ("queue:*",), 1.5, **(fields | more))  # type: ignore[arg-type]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / f"run.w000{mirrored.SUFFIX}"
    mirrored.write(path, [one()])
    mirrored.write(path, [one(), one("other:1")])
    assert mirrored.read([path]) == ([one(), one("other:1")], [])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o077 == 0


def test_workers_and_times_are_added_up(tmp_path: Path) -> None:
    paths = [tmp_path / f"run.w00{number}{mirrored.SUFFIX}" for number in range(2)]
    for path in paths:
        mirrored.write(path, [one(), one()])
    [whole], _ = mirrored.read(paths)
    [read] = whole.reads
    assert (whole.effects, whole.missed, whole.dropped, whole.errors) == (
        20, {"BRPOP": 4}, {"queue-full": 8}, [("EVAL", "NOSCRIPT", 12)],
    )  # fmt: skip
    assert (read.compared, read.shapes, read.source_ns) == (40, {"null → string": 4}, {5: 40})


def test_a_file_that_cant_be_read_is_named(tmp_path: Path) -> None:
    bad = {"cut.mirror.json": '{"format": 1, "mir', "new.mirror.json": '{"format": 2}', "odd.mirror.json": "[]"}
    for name, text in bad.items():
        (tmp_path / name).write_text(text)
    found, lines = mirrored.read(tmp_path / name for name in bad)
    assert found == []
    assert [line.split(":")[0] for line in lines] == list(bad)
    assert "it has format 2, this shunt knows 1" in lines[1]
