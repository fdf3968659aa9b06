"""What a report says of commands that were refused in rehearsal."""

from __future__ import annotations

import json

from proxy.capture.format import Flag, ReplyKind
from proxy.report.render_json import render_json
from proxy.report.render_text import render_text
from proxy.report.run import run
from tests.report.world import Rows, command

REFUSED = Flag.REHEARSED | Flag.REPLIED_BY_PROXY
ROWS = [
    command("MGET a b", flags=REFUSED, reply=ReplyKind.ERROR, error="CROSSSLOT"),
    command("MGET a b", flags=REFUSED, reply=ReplyKind.ERROR, error="CROSSSLOT"),
    command("SWAPDB", txn=1, flags=REFUSED | Flag.QUEUED, reply=ReplyKind.SIMPLE),
    command("DEL a b", flags=REFUSED, reply=ReplyKind.NONE),
    command("GET a"),
]


def test_refusals_in_rehearsal_are_counted_by_command_and_error() -> None:
    report = run(Rows(ROWS))
    assert [(line.command, line.error, line.queued, line.count) for line in report.rehearsed] == [
        (b"MGET", b"CROSSSLOT", False, 2),
        (b"DEL", b"", False, 1),
        (b"SWAPDB", b"", True, 1),
    ]
    assert [line["count"] for line in json.loads(render_json(report))["rehearsed"]] == [2, 1, 1]


def test_the_text_names_them_in_a_table() -> None:
    text = render_text(run(Rows(ROWS)))
    assert "4 commands were refused in rehearsal" in " ".join(text.split())
    [line] = [line for line in text.splitlines() if line.split()[:2] == ["MGET", "CROSSSLOT"]]
    assert line.split()[2] == "2"
    assert "(in EXEC's reply)" in text
    assert "(replies were off)" in text


def test_a_capture_without_a_rehearsal_says_nothing_of_one() -> None:
    assert "ehears" not in render_text(run(Rows([command("GET a")])))
