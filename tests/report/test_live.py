"""Findings counted while the traffic runs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from proxy.capture.format import SLOT_CROSS, Flag
from proxy.report.live import LiveFindings
from proxy.report.rules import RULES
from tests.capture.rows import batch
from tests.report.world import command, transaction


def counts(*batches: list[dict[str, Any]]) -> dict[str, int]:
    live = LiveFindings()
    for rows in batches:
        live.consume(batch(rows))
    assert live.failed() == 0
    return {rule: count for rule, count in live.counts().items() if count}


def test_all_rules_are_counted_from_the_start_with_zero() -> None:
    assert LiveFindings().counts() == {rule.id: 0 for rule in RULES["redis-cluster"]}


def test_findings_add_up_over_batches() -> None:
    assert counts([command("BRPOP a b")], [command("GET a"), command("MGET a b"), *transaction("SET a", "SET b")]) == {
        "cross-slot": 2,
        "txn-cross-slot": 1,
    }


def test_a_long_batch_is_judged_in_pieces_and_whole_when_somebody_asks() -> None:
    live, rows = LiveFindings(), batch([command("GET a"), command("MGET a b"), command("DBSIZE")] * 4)
    live.consume(pa.concat_batches([rows] * 4096))
    turns: list[int] = []
    live.judge_on(lambda judge_on, later: turns.append(live.judge_next()))
    assert turns == [True]  # two pieces of 16,384 rows, the third waits
    live.consume(rows)
    assert live.counts() == LiveFindings().counts() | {"cross-slot": 16_388, "node-local": 16_388}
    assert not live.judge_next()


def test_an_empty_batch_is_nothing() -> None:
    assert counts([]) == {}


def test_a_gap_is_counted_and_its_columns_are_not_judged() -> None:
    assert counts([{"gap": "disk full", "slot": SLOT_CROSS, "db": 3}]) == {"gap": 1}


def test_a_database_is_counted_once_per_connection() -> None:
    work = [command("GET a", db=1, conn=conn) for conn in (1, 2, 2)]
    assert counts([command("SELECT", flags=Flag.FOREIGN_DB)], work, work) == {
        "select-database": 1,
        "database-in-use": 1,
    }


def test_a_subscription_to_keyspace_notifications_is_seen_in_its_arguments() -> None:
    seen = command("SUBSCRIBE", args=["SUBSCRIBE", "__keyevent@0__:expired"])
    assert counts([seen, command("SUBSCRIBE", args=["SUBSCRIBE", "news"]), command("SUBSCRIBE")]) == {
        "keyspace-notifications": 1
    }


def test_another_target_counts_what_that_one_refuses() -> None:
    rows = [command("MGET a b"), command("BRPOP a b"), command("FLUSHALL"), command("SELECT", flags=Flag.FOREIGN_DB)]
    found = {}
    for target in ("redis-cluster", "active-active", "envoy", "single"):
        live = LiveFindings(target)
        live.consume(batch(rows))
        assert live.failed() == 0
        found[target] = {rule: count for rule, count in live.counts().items() if count}
    assert found == {
        "redis-cluster": {"cross-slot": 2, "node-local": 1, "select-database": 1},
        "active-active": {"cross-slot": 1, "missing-command": 1, "select-database": 1},
        "envoy": {"missing-command": 1, "select-database": 1},
        "single": {},
    }


def test_work_in_another_database_is_nothing_where_there_are_several() -> None:
    live = LiveFindings("single")
    live.consume(batch([command("GET a", db=3)]))
    assert (live.failed(), sum(live.counts().values())) == (0, 0)


def test_a_batch_that_cannot_be_judged_is_counted_and_harms_nobody() -> None:
    live = LiveFindings()
    live.consume(batch([command("GET a")]).select(["ts"]))
    assert live.failed() == 1


@pytest.mark.parametrize("text", ["BRPOP a b", "FLUSHALL"])
def test_severities_add_up_the_rules(text: str) -> None:
    live = LiveFindings()
    live.consume(batch([command(text)]))
    assert sum(live.severities().values()) == sum(live.counts().values()) == 1
