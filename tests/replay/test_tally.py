"""What came of a replay: differences that matter first, and never a client's data."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from proxy.capture.format import ReplyKind
from proxy.replay.planner import Planned
from proxy.replay.render import render
from proxy.replay.schedule import Pace, Schedule
from proxy.replay.summary import Setting, document, exit_code
from proxy.replay.tally import MOST_LINES, Tally, Times, label
from proxy.replay.unit import Sent

US = 1000
SETTING = Setting("there:6379", "max", 5, True)


def sent(name: str, reply: ReplyKind = ReplyKind.SIMPLE, error: bytes = b"", latency_us: float = 100) -> Sent:
    return Sent((name.encode(),), name, reply, error, int(latency_us * US))


def told(tally: Tally) -> dict:  # type: ignore[type-arg]
    return document(SETTING, Planned(), Schedule(Pace()), tally, elapsed_s=2, stopped="", misplaced=0, losses=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CROSSSLOT Keys in request don't hash to the same slot", "CROSSSLOT"),
        ("MOVED 3999 127.0.0.1:6381", "MOVED"),
        ("NOPERM User bob has no permissions to run the 'set' command", "NOPERM"),
        ("ERR unknown command 'SECRET', with args beginning with: 'a'", "ERR unknown command"),
        ("ERR unknown command `SECRET`", "ERR unknown command"),
        ("ERR user_script:1: secret", "ERR user_script"),
        ("ERR", "ERR"),
        ("", ""),
    ],
)
def test_an_error_is_named_without_a_clients_data(text: str, said: str) -> None:
    assert label(text) == said


def test_errors_that_only_the_target_gives_come_first() -> None:
    tally = Tally()
    for _ in range(5):
        tally.answer(
            sent("LPUSH", ReplyKind.ERROR, b"WRONGTYPE"), ReplyKind.ERROR, "WRONGTYPE Operation", 0, waits=False
        )
    tally.answer(sent("GET"), ReplyKind.ERROR, "MOVED 1 a:1", 0, waits=False)
    tally.answer(sent("SET", ReplyKind.ERROR, b"OOM"), ReplyKind.ERROR, "NOPERM no", 0, waits=False)
    tally.answer(sent("INCR", ReplyKind.ERROR, b"ERR"), ReplyKind.INTEGER, "", 0, waits=False)
    shown = told(tally)
    assert [(e["command"], e["target"], e["captured"], e["only_target"]) for e in shown["errors"]] == [
        ("GET", "MOVED", None, True), ("SET", "NOPERM", "OOM", True),
        ("LPUSH", "WRONGTYPE", "WRONGTYPE", False), ("INCR", None, "ERR", False),
    ]  # fmt: skip
    assert exit_code(shown) == 1
    out = io.StringIO()
    render(shown, Console(file=out, width=100))
    lines = out.getvalue()
    assert lines.index("only the target gives: 2") < lines.index("capture has too: 5") < lines.index("does not give: 1")


def test_reply_kinds_that_differ_are_counted_and_absent_ones_are_not_compared() -> None:
    tally = Tally()
    tally.answer(sent("GET", ReplyKind.BULK), ReplyKind.NULL, "", 0, waits=False)
    tally.answer(sent("GET", ReplyKind.BULK), ReplyKind.BULK, "", 0, waits=False)
    tally.answer(sent("GET", ReplyKind.LOST), ReplyKind.BULK, "", 0, waits=False)
    kinds = told(tally)["reply_kinds"]
    assert kinds == {
        "compared": 2, "same": 1,
        "different": [{"command": "GET", "captured": "bulk", "replayed": "null", "count": 1}],
    }  # fmt: skip
    assert exit_code(told(tally)) == 0


def test_latencies_stand_side_by_side() -> None:
    tally = Tally()
    for n in range(1, 101):
        tally.answer(sent("GET", latency_us=100), ReplyKind.SIMPLE, "", n * US, waits=False)
    tally.answer(sent("GET", latency_us=-1 / US), ReplyKind.SIMPLE, "", 10**9, waits=False)
    [line] = told(tally)["latencies"]
    assert line["captured_us"]["p50"] == pytest.approx(100, rel=0.01)
    assert line["replayed_us"]["p99"] == pytest.approx(99, rel=0.01)
    assert (line["count"], line["replayed_us"]["max"]) == (100, 100)
    assert line["ratio"]["p50"] == pytest.approx(0.5, rel=0.02)


def test_lines_are_bounded() -> None:
    tally = Tally()
    for n in range(MOST_LINES + 50):
        tally.answer(sent(f"C{n}"), ReplyKind.ERROR, "ERR no", 0, waits=False)
    assert len(tally.errors) == MOST_LINES + 1
    assert tally.errors.total() == MOST_LINES + 50


@given(st.lists(st.integers(0, 10**13), min_size=1), st.sampled_from([0.5, 0.99, 1.0]))
def test_a_quantile_is_within_one_percent(values: list[int], share: float) -> None:
    times = Times()
    for value in values:
        times.add(value)
    exact = sorted(values)[max(0, -(-int(share * 1000) * len(values) // 1000) - 1)]
    found = times.quantile(share)
    assert found is not None
    assert exact * 0.99 <= found <= exact
