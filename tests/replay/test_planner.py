"""What of a capture is sent, in which pieces and when; what is not, and why."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.capture.format import Flag, ReplyKind
from proxy.replay.choice import Reason
from proxy.replay.planner import IDLE_NS, TRANSACTION_ROWS
from proxy.replay.unit import NEVER_NS
from tests.replay.rows import MS, dialogue, planner, row, said

QUEUED = Flag.ARGS | Flag.QUEUED
ERROR: dict[str, Any] = {"reply": ReplyKind.ERROR, "error": b"ERR"}

#: Commands that are not sent even with --allow-writes.
NEVER = {
    "AUTH secret": Reason.CREDENTIALS,
    "SELECT 3": Reason.FOLLOWED,
    "HELLO 3": Reason.FOLLOWED,
    "RESET": Reason.FOLLOWED,
    "QUIT": Reason.FOLLOWED,
    "SUBSCRIBE news": Reason.REPLIES,
    "PUNSUBSCRIBE": Reason.REPLIES,
    "MONITOR": Reason.REPLIES,
    "PSYNC ? -1": Reason.REPLIES,
    "CLIENT REPLY OFF": Reason.REPLY_MODE,
    "CLIENT TRACKING ON": Reason.REPLY_MODE,
    "CONFIG SET maxmemory 1": Reason.SERVER,
    "SHUTDOWN NOSAVE": Reason.SERVER,
    "CLIENT KILL TYPE normal": Reason.SERVER,
    "MIGRATE host 1 key 0 1000": Reason.SERVER,
    "DEBUG SLEEP 1": Reason.SERVER,
}
#: Commands that need --allow-writes.
WRITES = ("SET a 1", "EVAL return 0", "EVALSHA 0 0", "FCALL f 0", "PFCOUNT h", "NOSUCH x", "PING", "SORT l", "FLUSHALL",
          "XREADGROUP GROUP g c STREAMS s >", "SCRIPT LOAD x", "PUBLISH c m")  # fmt: skip
READS = ("GET a", "MGET a b", "SMEMBERS s", "EVAL_RO x 0", "EVALSHA_RO x 0", "FCALL_RO f 0", "SCAN 0", "SORT_RO l",
         "XREAD STREAMS s 0", "TYPE a", "WATCH a", "UNWATCH")  # fmt: skip


@pytest.mark.parametrize("text", NEVER)
def test_what_is_about_the_server_or_the_connection_is_never_sent(text: str) -> None:
    plan = planner()
    assert plan.plan([row(text)]) == []
    [((reason, _), count)] = plan.counts.skipped.items()
    assert (reason, count) == (NEVER[text], 1)


@pytest.mark.parametrize("text", WRITES)
def test_without_allow_writes_only_what_is_flagged_readonly_is_sent(text: str) -> None:
    plan = planner(writes=False)
    assert plan.plan([row(text)]) == []
    assert [reason for reason, _ in plan.counts.skipped] == [Reason.NOT_READONLY]
    assert said(planner().plan([row(text)])) == [text]


@pytest.mark.parametrize("text", READS)
def test_what_only_reads_is_sent_in_any_case(text: str) -> None:
    assert said(planner(writes=False).plan([row(text)])) == [text]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (Flag(0), Reason.NO_ARGUMENTS),
        (Flag.ARGS | Flag.ARGS_CUT, Reason.CUT),
        (Flag.REDACTED, Reason.SECRET),
        (Flag.ARGS | Flag.REPLIED_BY_PROXY, Reason.BY_SHUNT),
    ],
)
def test_arguments_that_are_not_there_are_counted_and_never_guessed(flags: Flag, reason: Reason) -> None:
    plan = planner()
    assert plan.plan([row("SET a 1", flags=int(flags))]) == []
    assert plan.counts.skipped == {(reason, "SET"): 1}


# ---- transactions


def transaction(*inner: str, end: str = "EXEC", conn: int = 1, before: tuple[str, ...] = (), **given: Any) -> list[Any]:
    texts = [*before, "MULTI", *inner, end]
    rows = dialogue(*texts, conn=conn)
    first = len(before) + 1
    return [each._replace(flags=int(QUEUED), **given) if first <= n < len(texts) - 1 else each
            for n, each in enumerate(rows)]  # fmt: skip


def test_a_transaction_is_one_piece_and_stands_where_its_exec_stood() -> None:
    rows = transaction("SET a 1", "GET b")
    other = row("GET c", 1.5, conn=2)
    units = planner().plan([*rows[:2], other, *rows[2:]])
    assert said(units) == ["GET c", "MULTI | SET a 1 | GET b | EXEC"]
    assert units[1].writes == {(0, b"a")}
    assert units[1].reads == {(0, b"b")}
    assert units[1].due_ns == 3 * MS
    assert [sent.timed for sent in units[1].commands] == [False, False, False, True]


@pytest.mark.parametrize("left_out", [1, 2])
def test_a_transaction_that_lacks_a_row_is_not_sent(left_out: int) -> None:
    plan = planner()
    rows = transaction("SET a 1", "SET b 1")
    assert plan.plan(rows[:left_out] + rows[left_out + 1 :]) == []
    assert {reason for reason, _ in plan.counts.skipped} == {Reason.TORN}
    assert plan.counts.skipped.total() == 3


def test_a_transaction_without_its_beginning_is_not_sent() -> None:
    plan = planner()
    rows = transaction("SET a 1")[2:]
    assert plan.plan([*rows, row("GET a", 10, seq=9)])[0].commands[0].name == "GET"
    assert plan.counts.skipped == {(Reason.TORN, "EXEC"): 1}


def test_a_transaction_without_its_end_is_not_sent() -> None:
    plan = planner()
    assert plan.plan(transaction("SET a 1")[:-1]) == []
    plan.end()
    assert plan.counts.skipped == {(Reason.TORN, "MULTI"): 1, (Reason.TORN, "SET"): 1}


def test_of_a_transaction_all_is_sent_or_nothing() -> None:
    plan = planner(writes=False)
    assert said(plan.plan(transaction("GET a", "GET b"))) == ["MULTI | GET a | GET b | EXEC"]
    assert plan.plan(transaction("GET a", "SET b 1", conn=2)) == []
    assert plan.counts.skipped == {
        (Reason.NOT_READONLY, "SET"): 1, (Reason.WITH_OTHERS, "MULTI"): 1, (Reason.WITH_OTHERS, "GET"): 1,
        (Reason.WITH_OTHERS, "EXEC"): 1,
    }  # fmt: skip


def test_a_discarded_transaction_and_one_with_an_error_are_sent_as_captured() -> None:
    assert said(planner().plan(transaction("SET a 1", end="DISCARD"))) == ["MULTI | SET a 1 | DISCARD"]
    rows = transaction("NOSUCH")
    rows[1] = rows[1]._replace(**ERROR)
    rows[2] = rows[2]._replace(reply=ReplyKind.ERROR, error=b"EXECABORT")
    assert said(planner().plan(rows)) == ["MULTI | NOSUCH | EXEC"]


def test_what_was_watched_is_read_by_the_transaction_and_forgotten_without_it() -> None:
    rows = transaction("SET b 1", before=("WATCH a",))
    units = planner().plan(rows)
    assert said(units) == ["WATCH a", "MULTI | SET b 1 | EXEC"]
    assert units[1].reads == {(0, b"a")}
    skipped = planner(writes=False).plan(rows)
    assert said(skipped) == ["WATCH a", "UNWATCH"]
    assert skipped[1].own


def test_select_within_a_transaction_is_sent_and_leaves_the_database_open() -> None:
    [unit] = planner().plan(transaction("SELECT 4", "SET a 1"))
    assert said([unit]) == ["MULTI | SELECT 4 | SET a 1 | EXEC"]
    assert unit.moves_db


def test_a_transaction_that_would_need_too_much_memory_is_not_sent() -> None:
    plan = planner()
    many = (row("SET a 1", 1, seq=n + 1, flags=int(QUEUED)) for n in range(TRANSACTION_ROWS))
    assert plan.plan([row("MULTI"), *many, row("EXEC", 2, seq=TRANSACTION_ROWS + 1)]) == []
    assert {reason for reason, _ in plan.counts.skipped} == {Reason.TORN}


def test_reset_and_quit_end_a_transaction_that_is_then_not_sent() -> None:
    plan = planner()
    rows = [*transaction("SET a 1")[:-1], row("RESET", 3, seq=2), row("GET a", 4, seq=3)]
    assert said(plan.plan(rows)) == ["GET a"]
    assert plan.counts.skipped[Reason.TORN, "SET"] == 1


# ---- connections


def test_each_command_goes_to_the_database_that_it_was_captured_in() -> None:
    units = planner().plan([row("GET a"), row("SELECT 5", 1), row("GET a", 2, db=5)])
    assert [(unit.db, unit.reads) for unit in units] == [(0, {(0, b"a")}), (5, {(5, b"a")})]


@pytest.mark.parametrize(
    ("hello", "protocol"),
    [
        (row("HELLO 3", reply=ReplyKind.MAP), 3),
        (row("HELLO 3", reply=ReplyKind.MAP, args=[], flags=int(Flag.REDACTED)), 3),
        (row("HELLO 2", reply=ReplyKind.ARRAY), 2),
        (row("HELLO 3", **ERROR), 2),
        (row("HGETALL h", reply=ReplyKind.MAP), 3),
    ],
)
def test_a_connection_speaks_the_protocol_that_the_captured_one_spoke(hello: Any, protocol: int) -> None:
    assert planner().plan([hello, row("GET a", 1, seq=1)])[-1].protocol == protocol


def test_quit_closes_the_connection() -> None:
    assert said(planner().plan([row("GET a"), row("QUIT", 1)])) == ["GET a", "close"]


def test_a_silent_connection_is_closed_and_speaks_its_protocol_when_it_is_back() -> None:
    plan = planner()
    plan.plan([row("HELLO 3", reply=ReplyKind.MAP), row("GET a", 1)])
    later_ms = IDLE_NS / MS + 100
    assert said(plan.plan([row("GET b", later_ms, conn=2)])) == ["close", "GET b"]
    [unit] = plan.plan([row("GET c", later_ms + 1)])
    assert unit.protocol == 3


def test_a_connection_that_watches_a_key_is_kept_when_it_is_silent() -> None:
    plan = planner()
    plan.plan([row("WATCH a")])
    assert said(plan.plan([row("GET b", IDLE_NS / MS + 100, conn=2)])) == ["GET b"]


def test_the_longest_silent_connection_is_closed_when_there_are_too_many() -> None:
    plan = planner(most=2)
    rows = [row("GET a", n, conn=n) for n in range(1, 6)]
    units = [unit for each in rows for unit in plan.plan([each])]
    assert [unit.conn for unit in units if unit.ends] == [1, 2]


# ---- time


def test_the_pace_is_kept_at_every_speed() -> None:
    rows = dialogue(*["GET a"] * 5, every_ms=200)
    expected = {1.0: 200, 10.0: 20, 0.5: 400}
    for speed, step_ms in expected.items():
        assert [unit.due_ns for unit in planner(speed=speed).plan(rows)] == [n * step_ms * MS for n in range(5)]
    assert [unit.due_ns for unit in planner(speed=None).plan(rows)] == [None] * 5


def test_long_pauses_are_shortened_before_the_speed_and_counted() -> None:
    plan = planner(speed=2.0, max_gap_s=1)
    units = plan.plan([row("GET a"), row("SET b 1", 10_000), row("GET a", 10_500)])
    assert [unit.due_ns for unit in units] == [0, 500 * MS, 750 * MS]
    assert (plan.schedule.shortened, plan.schedule.shortened_ns) == (1, 9_000 * MS)


def test_a_clock_that_goes_back_does_not_go_back_in_the_plan() -> None:
    units = planner().plan([row("GET a", 100), row("GET a", 50), row("GET a", 150)])
    assert [unit.due_ns for unit in units] == [0, 0, 50 * MS]


# ---- what is ordered


@pytest.mark.parametrize(
    "given",
    [
        row("FLUSHALL"),
        row("EVAL return 0"),
        row("NOSUCH x"),
        row("SWAPDB 0 1", flags=int(Flag.ARGS | Flag.FOREIGN_DB)),
        row("COPY a b DB 3", flags=int(Flag.ARGS | Flag.FOREIGN_DB)),
        row("MGET a b", keys=[b"a"], flags=int(Flag.ARGS | Flag.KEYS_CUT)),
    ],
)
def test_what_may_touch_unseen_keys_goes_alone(given: Any) -> None:
    assert [unit.barrier for unit in planner().plan([given])] == [True]


@pytest.mark.parametrize("text", ["PING", "SCAN 0", "PUBLISH c m", "GET a", "INFO", "SCRIPT LOAD x"])
def test_what_has_no_keys_and_writes_none_is_not_ordered(text: str) -> None:
    assert [unit.barrier for unit in planner().plan([row(text)])] == [False]


def test_gaps_are_counted() -> None:
    plan = planner()
    assert plan.plan([row("GET a", gap=b"engine-full", gap_rows=7)]) == []
    assert (plan.counts.gaps, plan.counts.gap_rows, plan.counts.captured) == (1, 7, 0)


def test_an_answer_that_never_came_is_later_than_everything() -> None:
    lost = row("GET a", latency_ns=-1, reply=ReplyKind.LOST)
    imported = row("GET a", latency_ns=-1, reply=ReplyKind.NONE)
    waiting = row("BRPOP q 0", latency_ns=-1, reply=ReplyKind.NONE)
    assert [u.answered_ns for u in planner().plan([lost, imported, waiting])] == [NEVER_NS, imported.ts, NEVER_NS]
