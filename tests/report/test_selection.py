"""Reports on a part of a capture: what they say they are about, and that no doubt turns green."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.capture.format import SLOT_UNKNOWN, Flag
from proxy.cli.report import report_command
from tests.capture.rows import batch, write_capture
from tests.report.world import command, transaction

FINE = command("GET a")
CROSS = command("BRPOP queue:a queue:b", flags=Flag.BLOCKING)
UNKNOWN = command("FT.SEARCH", slot=SLOT_UNKNOWN, unknown=1)
TORN = transaction("SADD a", "SADD b")


def report(folder: Path, rows: list[dict[str, Any]], where: str, form: str = "text") -> Result:
    write_capture(folder, [batch([row | {"seq": i} for i, row in enumerate(rows)])])
    return CliRunner().invoke(report_command, [str(folder), "--where", where, "--format", form])


@pytest.mark.parametrize(
    ("rows", "where", "code"),
    [
        ([FINE, CROSS], "cmd:GET", 0),
        ([FINE, CROSS], "cmd:BRPOP", 1),
        ([FINE, UNKNOWN], "cmd:GET", 0),
        ([FINE, UNKNOWN], "cmd:GET or unknown:any", 3),
        ([FINE, UNKNOWN], "key:a", 3),
        ([FINE, {"gap": "disk full"}], "cmd:GET", 3),
        ([FINE, CROSS], "cmd:NOPE", 3),
        ([], "cmd:NOPE", 3),
        (TORN, "cmd:SADD", 3),
        (TORN, "cmd:SADD or cmd:EXEC", 1),
        (TORN, "cmd:EXEC", 1),
        ([*TORN, CROSS], "cmd:SADD or cmd:BRPOP", 1),
    ],
)
@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_the_verdict_is_about_what_passes_and_a_doubt_is_never_green(
    tmp_path: Path, rows: list[dict[str, Any]], where: str, code: int, form: str
) -> None:
    assert report(tmp_path, rows, where, form).exit_code == code


def test_the_first_line_says_what_the_report_is_about(tmp_path: Path) -> None:
    rows = [FINE, CROSS, CROSS, {"gap": "disk full"}]
    first, *_ = report(tmp_path / "a", rows, "\ncmd:GET and\ngap:none ").output.splitlines()
    assert first == "Only exchanges where cmd:GET and gap:none: 2 others and 1 gap left out, not judged."
    page = report(tmp_path / "b", [FINE, CROSS], "cmd:GET or cmd:a|b", "markdown").output
    assert "\nOnly exchanges where `cmd:GET or cmd:a\\|b`: 1 other left out, not judged.\n" in page
    lines = report(tmp_path / "c", [FINE, CROSS], "cmd:BRPOP", "jsonl")
    assert lines.stderr == "Only exchanges where cmd:BRPOP: 1 other left out, not judged.\n"
    assert len(lines.stdout.splitlines()) == 1


def test_json_has_the_selection_and_null_without_one(tmp_path: Path) -> None:
    document = json.loads(report(tmp_path, [*TORN, command("GET", nkeys=1)], "key:a", "json").output)
    assert document["selection"] == {"where": "key:a", "exchanges": 4, "gaps": 0, "doubtful": 1, "torn": 1}
    assert document["overview"]["commands"] == 1
    whole = json.loads(CliRunner().invoke(report_command, [str(tmp_path), "--format", "json"]).output)
    assert whole["selection"] is None


def test_the_reason_names_the_doubt(tmp_path: Path) -> None:
    text = " ".join(report(tmp_path, [*TORN, command("GET", nkeys=1)], "key:a").output.split())
    assert "CAN'T TELL Nothing seen would be refused, but 1 exchange may be wanted too" in text
    assert "the filter leaves the EXEC out of 1 transaction of which it lets commands pass." in text


def test_a_report_of_nothing_says_so(tmp_path: Path) -> None:
    assert "No exchange passes the filter." in report(tmp_path, [FINE], "cmd:NOPE").output
