"""Whole reports: numbers, verdicts, renderers, the command line."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.capture.format import SLOT_UNKNOWN, Flag, ReplyKind
from proxy.cli.report import report_command
from proxy.report.document import Report, Verdict, worst
from proxy.report.render_markdown import code, render_markdown
from proxy.report.render_rules import rules_page
from proxy.report.render_text import render_text
from proxy.report.run import run
from tests.capture.rows import batch, write_capture
from tests.report.world import Rows, command, transaction

ERROR = command("BRPOP queue:a queue:b", flags=Flag.BLOCKING)
UNKNOWN = command("FT.SEARCH", slot=SLOT_UNKNOWN, unknown=1)
SILENT = command("KEYS")
FINE = command("GET a")
HEARTBEAT = transaction("SADD processes", "HSET h:1:ab", "EXPIRE h:1:ab", "RPOP h:1:ab-signals", conn=7)
NASTY = "k\x1b[31m|`\n"


def report_of(rows: list[dict[str, Any]], **world: Any) -> Report:
    return run(Rows(rows, **world))


@pytest.mark.parametrize(
    ("rows", "losses", "verdict"),
    [
        ([FINE], [], Verdict.COMPATIBLE),
        ([FINE, SILENT], [], Verdict.COMPATIBLE),
        ([FINE, UNKNOWN], [], Verdict.CANNOT_TELL),
        ([ERROR, UNKNOWN], [], Verdict.AFTER_CHANGES),
        ([*HEARTBEAT, ERROR], [], Verdict.NOT_COMPATIBLE),
        ([FINE, {"gap": "disk full"}], [], Verdict.CANNOT_TELL),
        ([FINE], ["segment 1: torn"], Verdict.CANNOT_TELL),
        ([ERROR], ["segment 1: torn"], Verdict.AFTER_CHANGES),
        ([], [], Verdict.CANNOT_TELL),
    ],
)
def test_errors_decide_then_the_unknown(rows: list[dict[str, Any]], losses: list[str], verdict: Verdict) -> None:
    report = report_of(rows, losses=losses)
    assert report.verdict is verdict
    assert report.targets[0].reason


def test_the_worst_of_several_verdicts_counts() -> None:
    assert worst([Verdict.COMPATIBLE, Verdict.CANNOT_TELL]) is Verdict.CANNOT_TELL
    assert worst([Verdict.AFTER_CHANGES, Verdict.CANNOT_TELL]) is Verdict.AFTER_CHANGES
    assert worst([Verdict.CANNOT_TELL, Verdict.NOT_COMPATIBLE]) is Verdict.NOT_COMPATIBLE


def test_keys_of_a_group_are_a_set_of_templates() -> None:
    rows = [
        command("BRPOP queue:a queue:b"),
        command("BRPOP queue:b queue:a"),
        command("MGET stat:2026-11-22 stat:2026-11-23"),
        command("MGET stat:2026-11-23 stat:2026-11-24"),
    ]
    groups = report_of(rows).targets[0].findings
    assert {(group.command, group.keys, group.count) for group in groups} == {
        (b"BRPOP", (b"queue:a", b"queue:b"), 2),
        (b"MGET", (b"stat:<date>",), 2),
    }
    assert [example.seq for group in groups for example in group.examples] == [0, 1, 2, 3]


def test_transactions_are_grouped_by_their_commands_and_templates() -> None:
    rows = [row for i in range(5) for row in transaction("SADD queues", f"LPUSH queue:{i}", txn=i + 1)]
    (group,) = report_of(rows).targets[0].findings
    assert (group.members, group.keys, group.count) == ((b"LPUSH", b"SADD"), (b"queue:<id>", b"queues"), 5)
    assert len(group.examples) == 3


def test_service_times_leave_out_blocking_and_queued_commands() -> None:
    rows = [
        *(command("GET a", latency_ns=latency) for latency in range(1_000_000, 101_000_000, 1_000_000)),
        command("BRPOP a", flags=Flag.BLOCKING, latency_ns=2_000_000_000),
        command("GET a", flags=Flag.QUEUED, txn=1, latency_ns=9_000_000_000),
        command("GET a", latency_ns=-1, reply=ReplyKind.LOST),
    ]
    get, brpop = report_of(rows).commands
    assert (get.command, get.count, get.queued) == (b"GET", 102, 1)
    assert get.service is not None
    assert (get.service.count, get.service.max_ns) == (100, 100_000_000)
    assert get.service.p50_ns == pytest.approx(50_000_000, rel=0.011)
    assert get.service.p99_ns == pytest.approx(99_000_000, rel=0.011)
    assert brpop.service is None
    assert brpop.wait is not None
    assert brpop.wait.max_ns == 2_000_000_000


def test_tables_count_what_was_seen() -> None:
    rows = [
        command("GET a", reply=ReplyKind.ERROR, error="WRONGTYPE", reply_bytes=70, request_bytes=30),
        command(
            "MGET {t}a {t}b", client_addr="10.0.0.1:1", client_name="x", conn=2, reply_bytes=900, request_bytes=100
        ),
        command("GET a", client_addr="10.0.0.1:2", client_name="x", conn=3, latency_ns=5_000_000),
    ]
    report = report_of(rows)
    assert [(line.error, line.command, line.count) for line in report.errors] == [(b"WRONGTYPE", b"GET", 1)]
    assert [(line.addr, line.name, line.connections, line.commands) for line in report.clients] == [
        (b"10.0.0.1", b"x", 2, 2),
        (b"127.0.0.1", b"", 1, 1),
    ]
    assert [(line.key, line.count) for line in report.hot_keys] == [(b"a", 2), (b"{t}a", 1), (b"{t}b", 1)]
    assert [(line.key, line.bytes) for line in report.heavy_keys][:2] == [(b"{t}a", 500), (b"{t}b", 500)]
    assert report.slowest[0].latency_ns == 5_000_000
    assert report.biggest_replies[0].command == b"MGET"
    assert (report.overview.commands, report.overview.connections, report.overview.clients) == (3, 3, 2)


def test_a_capture_without_key_names_is_judged_by_its_slots() -> None:
    rows = [{**ERROR, "keys": [], "nkeys": 2}, {**FINE, "keys": [], "nkeys": 1}]
    report = report_of(rows)
    assert report.verdict is Verdict.AFTER_CHANGES
    assert report.hot_keys == ()


ALL = [FINE, ERROR, UNKNOWN, SILENT, *transaction("SET a", f"SET {'x' * 600}"), {**FINE, "keys": [NASTY]}]


def test_the_text_starts_with_the_verdict_and_fits_100_columns() -> None:
    text = render_text(report_of([*ALL, {"gap": "disk full", "gap_rows": 3}], losses=["seg: torn"]))
    assert text.startswith("redis-cluster: COMPATIBLE AFTER 2 CHANGES\n")
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text
    assert "k\\x1b[31m" in text


def test_colours_come_only_when_asked_for() -> None:
    assert "\x1b[" in render_text(report_of([ERROR]), color=True)


def test_a_key_cannot_break_a_markdown_table() -> None:
    text = render_markdown(report_of(ALL))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows
    assert all(line.endswith("|") for line in rows)
    assert code("a|b`c") == "`` a\\|b`c ``"


def test_an_empty_capture_renders_in_every_format() -> None:
    report = report_of([])
    assert "CAN'T TELL" in render_text(report)
    assert "can't tell" in render_markdown(report)


# -- the command line --------------------------------------------------------------


def shunt_report(tmp_path: Path, rows: list[dict[str, Any]], *arguments: str) -> Result:
    directory = write_capture(tmp_path / "captures", [batch(rows)])
    return CliRunner().invoke(report_command, [str(directory), *arguments])


@pytest.mark.parametrize(("rows", "code"), [([FINE], 0), ([ERROR], 1), ([UNKNOWN], 3), ([ERROR, UNKNOWN], 1)])
@pytest.mark.parametrize("form", ["text", "json", "jsonl", "markdown", "html"])
def test_the_exit_code_is_the_verdict_in_every_format(
    tmp_path: Path, rows: list[dict[str, Any]], code: int, form: str
) -> None:
    assert shunt_report(tmp_path, rows, "--format", form).exit_code == code


def test_jsonl_is_one_line_per_occurrence_with_these_fields(tmp_path: Path) -> None:
    result = shunt_report(tmp_path, [FINE, ERROR, SILENT], "--format", "jsonl")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first == {
        "conn": 1,
        "seq": 1,
        "rule": "cross-slot",
        "target": "redis-cluster",
        "severity": "error",
        "command": "BRPOP",
        "keys": ["queue:a", "queue:b"],
        "error": "CROSSSLOT Keys in request don't hash to the same slot",
        "when": "at command",
        "blocks": True,
        "ts": first["ts"],
        "run": "20261123T030141Z-4242",
        "worker": 0,
    }
    assert (second["rule"], second["severity"], second["error"]) == ("node-local", "silent", "")


def test_json_is_one_document_with_groups_and_examples(tmp_path: Path) -> None:
    document = json.loads(shunt_report(tmp_path, ALL, "--format", "json").stdout)
    assert (document["verdict"], document["exit_code"]) == ("compatible after 2 changes", 1)
    (target,) = document["targets"]
    assert target["counts"]["error"] == sum(f["count"] for f in target["findings"] if f["severity"] == "error")
    assert target["findings"][0]["examples"][0]["conn"] == 1


def test_an_unknown_target_is_one_line_that_lists_the_targets(tmp_path: Path) -> None:
    result = shunt_report(tmp_path, [FINE], "--target", "elsewhere")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: unknown target 'elsewhere'; there is: active-active, ")


def test_a_capture_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(report_command, [str(tmp_path / "nothing")])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_a_report_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    file.touch(mode=0o644)
    result = shunt_report(tmp_path, [ERROR], "-o", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("redis-cluster: COMPATIBLE AFTER 1 CHANGE")


def test_html_is_one_file_of_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert shunt_report(tmp_path, [ERROR], "--format", "html", "-o", str(file)).exit_code == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("<!DOCTYPE html>")


def test_html_is_not_written_to_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.cli.report._to_terminal", lambda output: output is None)
    result = shunt_report(tmp_path, [FINE], "--format", "html")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == ["Error: a terminal does not show html; add -o report.html"]


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    result = shunt_report(tmp_path, [FINE], "-o", str(tmp_path / "no" / "report.txt"))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_the_page_about_rules_is_made_of_the_rules_as_they_are() -> None:
    page = Path(__file__).parents[2] / "docs" / "rules.md"
    assert page.read_text(encoding="utf-8") == rules_page(), "run: make docs"
