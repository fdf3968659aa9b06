"""Two captures compared: what is gone, new and still there, and which patterns changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.capture.format import Flag, ReplyKind
from proxy.cli.diff import diff_command
from proxy.report.analysis import Analysis
from proxy.report.studies.paces import MOST_SLICES, Paces, PaceTable
from tests.capture.rows import START_NS, batch, write_capture
from tests.report.world import Rows, command

MS = 1_000_000
S = 1_000 * MS


def gets(count: int, *, each_ns: int = 10 * MS, latency_ns: int = MS, key: str = "user:1") -> list[dict[str, Any]]:
    """Reads of one key, each by another connection, so that nothing is to be said of them."""
    return [
        command(f"GET {key}", ts=START_NS + i * each_ns, latency_ns=latency_ns + i % 7 * MS // 100, conn=i, seq=0)
        for i in range(count)
    ]


def large(**columns: Any) -> dict[str, Any]:
    return command("MGET {t}user:1", nargs=5001, reply=ReplyKind.ARRAY, reply_items=5000, **columns)


CROSS = command("MGET a b")


def diff(folder: Path, before: list[dict[str, Any]], after: list[dict[str, Any]], *options: str) -> Result:
    for name, rows in (("before", before), ("after", after)):
        write_capture(folder / name, [batch(rows)])
    return CliRunner().invoke(diff_command, [str(folder / "before"), str(folder / "after"), *options])


def as_json(folder: Path, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, Any]:
    done = diff(folder, before, after, "--format", "json")
    found: dict[str, Any] = json.loads(done.output)
    assert found["exit_code"] == done.exit_code
    return found


def names(items: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(item["of"], item["rule"], item["subject"]) for item in items]


def test_findings_and_advice_are_gone_new_and_still_there(tmp_path: Path) -> None:
    before = [*gets(10), CROSS, command("GETSET g"), large()]
    after = [*gets(10), CROSS, CROSS, command("GETSET g"), command("SELECT", flags=Flag.FOREIGN_DB), command("KEYS")]
    found = as_json(tmp_path, before, after)
    assert names(found["gone"]) == [("advice", "read-batch-too-large", "MGET {t}user:<id>")]
    assert set(names(found["new"])) == {
        ("redis-cluster", "select-database", "SELECT"), ("redis-cluster", "node-local", "KEYS"),
        ("advice", "keys-command", "KEYS"),
    }  # fmt: skip
    assert [(*names([item])[0], item["before"], item["after"]) for item in found["still"]] == [
        ("redis-cluster", "cross-slot", "MGET a b", 1, 2), ("advice", "deprecated-command", "GETSET g", 1, 1),
    ]  # fmt: skip
    assert found["exit_code"] == 1


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ([command("GET a")], [command("GET a")], 0),
        ([CROSS], [CROSS], 0),
        ([CROSS], [command("GET a")], 0),
        ([command("GET a")], [CROSS], 1),
        ([command("GET a")], [command("KEYS")], 1),
    ],
)
def test_the_exit_code_says_whether_something_is_new(
    tmp_path: Path, before: list[dict[str, Any]], after: list[dict[str, Any]], code: int
) -> None:
    assert diff(tmp_path, before, after).exit_code == code


@pytest.mark.parametrize("options", [["--target", "nope"], ["--slow", "soon"]])
def test_a_wrong_option_is_one_line_and_exit_code_2(tmp_path: Path, options: list[str]) -> None:
    done = diff(tmp_path, [CROSS], [CROSS], *options)
    assert (done.exit_code, len(done.output.splitlines())) == (2, 1)


def test_a_filter_compares_only_what_passes_and_says_what_was_left_out(tmp_path: Path) -> None:
    new = [command("GET a"), CROSS, command("KEYS")]
    assert diff(tmp_path / "all", [command("GET a")], new).exit_code == 1
    done = diff(tmp_path / "some", [command("GET a")], new, "--where", "cmd:GET")
    assert done.exit_code == 0
    assert [line.partition(": ")[2] for line in done.stderr.splitlines()] == [
        "Only exchanges where cmd:GET: 0 others left out, not judged.",
        "Only exchanges where cmd:GET: 2 others left out, not judged.",
    ]


def test_a_capture_that_is_not_there_is_exit_code_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(diff_command, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 2


def pattern(found: dict[str, Any], command: str) -> dict[str, Any]:
    (one,) = [each for each in found["patterns"] if each["command"] == command]
    return one  # type: ignore[no-any-return]


def test_a_change_larger_than_the_noise_is_told(tmp_path: Path) -> None:
    found = pattern(as_json(tmp_path, gets(3000), gets(6000, each_ns=5 * MS, latency_ns=2 * MS)), "GET")
    assert found["latency"]["beyond_noise"]
    assert found["volume"]["beyond_noise"]
    assert found["latency"]["ratio"] == pytest.approx(2, rel=0.1)
    assert found["volume"]["ratio"] == pytest.approx(2, rel=0.02)
    assert found["before"]["per_s"] == pytest.approx(100, rel=0.01)
    assert found["after"]["p50_ns"] == pytest.approx(2 * MS, rel=0.03)


def test_rates_do_not_change_with_a_captures_length(tmp_path: Path) -> None:
    found = pattern(as_json(tmp_path, gets(2000), gets(9000)), "GET")
    assert not found["volume"]["beyond_noise"]
    assert not found["latency"]["beyond_noise"]
    assert found["after"]["per_s"] == pytest.approx(found["before"]["per_s"], rel=0.01)


def test_too_short_captures_are_no_answer(tmp_path: Path) -> None:
    done = diff(tmp_path, gets(100), gets(100, latency_ns=9 * MS))
    assert done.exit_code == 0
    (line,) = [line for line in done.output.splitlines() if line.startswith("GET")]
    assert line.split().count("?") == 2


def test_patterns_that_came_or_went_are_named(tmp_path: Path) -> None:
    found = as_json(tmp_path, [command("GET a")], [command("HGET b")])
    assert pattern(found, "GET")["after"] is None
    assert pattern(found, "HGET")["before"] is None
    text = diff(tmp_path / "text", [command("GET a")], [command("HGET b")]).output
    assert [line.split().count("gone") for line in text.splitlines() if line.startswith("GET ")] == [2]


def test_text_fits_a_terminal_of_100_columns_and_names_what_is_new(tmp_path: Path) -> None:
    text = diff(tmp_path, [*gets(3000), CROSS], [*gets(3000, latency_ns=3 * MS), command("KEYS")]).output
    assert max(map(len, text.splitlines())) <= 100
    assert "New (2)" in text
    assert "Gone (1)" in text
    assert "redis-cluster: compatible after 1 change before, compatible now." in text
    assert "×2.9" in text or "×3.0" in text


# ---- slices of time


def table_of(rows: list[dict[str, Any]], **world: Any) -> PaceTable:
    with Analysis(Rows(rows, **world), more=(Paces,)) as analysis:
        (paces,) = analysis.added
        assert isinstance(paces, Paces)
        return paces.table()


@pytest.mark.parametrize("seconds", [4, 100, 4000, 400_000])
@pytest.mark.parametrize("chunk_rows", [100, 100_000])
def test_slices_grow_with_the_capture(monkeypatch: pytest.MonkeyPatch, seconds: int, chunk_rows: int) -> None:
    monkeypatch.setattr("proxy.report.chunks.CHUNK_ROWS", chunk_rows)
    rows = gets(1000, each_ns=seconds * S // 1000)
    table = table_of(rows, batch_rows=100)
    pace = table.paces[b"GET", b"user:<id>"]
    assert len(pace.counts) <= MOST_SLICES
    assert len(pace.counts) * table.slice_s == pytest.approx(seconds, abs=3 * table.slice_s)
    assert sum(pace.counts) == pytest.approx(1000, abs=2.1 * 1000 / seconds * table.slice_s)
    assert max(pace.counts) - min(pace.counts) <= 1 + 1000 / seconds * table.slice_s / 10


def test_slices_without_any_command_are_left_out_and_a_patterns_own_pauses_are_zeros() -> None:
    rows = [*gets(1000), *(row | {"ts": row["ts"] + 1000 * S} for row in gets(1000))]
    table = table_of([*rows, command("PING", ts=START_NS + 8 * S)])
    pings = table.paces[b"PING", b""].counts
    assert sum(pings) == 1
    assert len(pings) == len(table.paces[b"GET", b"user:<id>"].counts)
    assert min(table.paces[b"GET", b"user:<id>"].counts) > 0


def test_medians_are_those_of_each_slice() -> None:
    rows = [row | {"latency_ns": (1 if i < 500 else 4) * MS} for i, row in enumerate(gets(1000))]
    medians = table_of(rows).paces[b"GET", b"user:<id>"].medians
    assert medians[0] == pytest.approx(MS, rel=0.045)
    assert medians[-1] == pytest.approx(4 * MS, rel=0.045)


def test_waits_have_no_latency_and_are_counted() -> None:
    rows = [row | {"command": "BRPOP", "flags": Flag.BLOCKING} for row in gets(1000)]
    pace = table_of(rows).paces[b"BRPOP", b"user:<id>"]
    assert pace.medians == ()
    assert sum(pace.counts) > 900
