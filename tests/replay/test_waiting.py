"""Commands that wait in Redis wait no longer than the replay's pace allows."""

from __future__ import annotations

import pytest

from proxy.capture.format import ReplyKind
from proxy.replay.waiting import bounded
from tests.replay.rows import planner, row

ARRAY, NULL, LOST = ReplyKind.ARRAY, ReplyKind.NULL, ReplyKind.LOST

CASES = [
    ("BRPOP q 0", ARRAY, 3.0, "BRPOP q 4.000"),
    ("BRPOP q r 2", NULL, 2.0, "BRPOP q r 2.000"),
    ("BRPOP q 2", NULL, 0.2, "BRPOP q 0.200"),
    ("BRPOP q 2", NULL, 0.0, "BRPOP q 0.010"),
    ("BRPOP q 2", ARRAY, 0.0, "BRPOP q 1.000"),
    ("BRPOP q 0.5", ARRAY, 0.1, "BRPOP q 0.500"),
    ("BRPOP q 0", LOST, 0.0, "BRPOP q 0.010"),
    ("BLMOVE a b LEFT RIGHT 0", ARRAY, 0.0, "BLMOVE a b LEFT RIGHT 1.000"),
    ("BLMPOP 0 1 q LEFT", ARRAY, 0.0, "BLMPOP 1.000 1 q LEFT"),
    ("WAIT 1 0", ReplyKind.INTEGER, 0.25, "WAIT 1 1250"),
    ("XREAD COUNT 1 BLOCK 0 STREAMS s $", NULL, 0.0, "XREAD COUNT 1 BLOCK 10 STREAMS s $"),
    ("xread block 5 streams block 0", ARRAY, 0.0, "xread block 5 streams block 0"),
    ("XREAD STREAMS s 0", ARRAY, 0.0, "XREAD STREAMS s 0"),
    ("BRPOP q soon", ReplyKind.ERROR, 0.0, "BRPOP q soon"),
    ("BRPOP q -1", ReplyKind.ERROR, 0.0, "BRPOP q -1"),
    ("BRPOP q nan", ReplyKind.ERROR, 0.0, "BRPOP q nan"),
    ("BRPOP", ReplyKind.ERROR, 0.0, "BRPOP"),
]


@pytest.mark.parametrize(("text", "reply", "waited_s", "sent"), CASES)
def test_the_timeout_is_the_captured_wait_at_the_replays_pace(
    text: str, reply: ReplyKind, waited_s: float, sent: str
) -> None:
    args = [word.encode() for word in text.split(" ")]
    got, _ = bounded(text.split(" ", 1)[0].upper(), args, reply, waited_s)
    assert b" ".join(got).decode() == sent


@pytest.mark.parametrize(("speed", "timeout"), [(1.0, b"4.000"), (10.0, b"1.300"), (None, b"1.000")])
def test_a_served_wait_shrinks_with_the_speed(speed: float | None, timeout: bytes) -> None:
    [unit] = planner(speed=speed).plan([row("BRPOP q 0", took_ms=3000, reply=ARRAY)])
    assert unit.commands[0].args[-1] == timeout
    assert unit.blocking
