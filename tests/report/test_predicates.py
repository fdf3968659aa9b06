"""The three readings of a rule (SQL, mask, one row) agree on every row."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.capture.format import SLOT_CROSS, SLOT_NONE, SLOT_UNKNOWN, Flag, ReplyKind, UnknownWhy
from proxy.report.live import LiveFindings
from proxy.report.rules import CANDIDATE, DERIVED, RULES
from proxy.report.rules.rule import Rule
from tests.capture.rows import batch

#: A cluster's rules, and what differs in targets with most differences.
ALL: list[Rule] = list(
    {
        rule.predicate: rule
        for target in ("redis-cluster", "redis-enterprise", "envoy")
        for rule in RULES[target]
        if target == "redis-cluster" or rule.id in ("cross-slot", "txn-command", "unverified-command")
    }.values()
)
NAMES = [
    "GET",
    "MGET",
    "EXEC",
    "MULTI",
    "SELECT",
    "SWAPDB",
    "MOVE",
    "COPY",
    "SORT",
    "EVAL",
    "FCALL",
    "SSUBSCRIBE",
    "SUNSUBSCRIBE",
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "KEYS",
    "SCAN",
    "FLUSHALL",
    "REPLICAOF",
    "FAILOVER",
    "SCRIPT LOAD",
    "FT.SEARCH",
    "",
]
FLAGS = st.lists(st.sampled_from(list(Flag)), max_size=3).map(lambda flags: int(sum(set(flags))))

rows = st.fixed_dictionaries(
    {
        "command": st.sampled_from(NAMES),
        "flags": FLAGS,
        "slot": st.sampled_from([SLOT_NONE, SLOT_CROSS, SLOT_UNKNOWN, 0, 16383]),
        "unknown": st.sampled_from([0, 0, *map(int, UnknownWhy)]),
        "nkeys": st.integers(0, 2),
        "txn": st.integers(0, 1),
        "db": st.just(0),
        "reply": st.sampled_from(list(ReplyKind)),
        "error": st.sampled_from(["", "", "ERR", "NOAUTH", "NOPERM", "NOSCRIPT", "EXECABORT", "WRONGTYPE"]),
        "gap": st.sampled_from(["", "", "", "disk full"]),
    }
)
derived = st.fixed_dictionaries({name: st.integers(0, 3) for name in DERIVED})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(rows, derived), min_size=1, max_size=40))
def test_sql_mask_and_row_say_the_same(given_rows: list[tuple[dict[str, Any], dict[str, int]]]) -> None:
    table = batch([row for row, _ in given_rows])
    for name in DERIVED:
        column = pa.array([extra[name] for _, extra in given_rows], pa.uint8())
        table = table.append_column(name, column)
    full = table.to_pylist()
    predicates = [rule.predicate for rule in ALL] + [CANDIDATE]
    with duckdb.connect() as db:
        db.register("judged", table)
        answers = db.execute(f"SELECT {', '.join(each.sql() for each in predicates)} FROM judged").fetchall()
    for i, predicate in enumerate(predicates):
        by_row = [predicate.matches(row) for row in full]
        assert [answer[i] for answer in answers] == by_row
        assert predicate.mask(table).to_pylist() == by_row


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, min_size=1, max_size=40))
def test_live_counts_are_what_the_rules_say_of_each_row(given_rows: list[dict[str, Any]]) -> None:
    table = batch(given_rows)
    live = LiveFindings()
    live.consume(table)
    expected = {rule.id: 0 for rule in RULES["redis-cluster"]}
    for row in table.to_pylist():
        row |= dict.fromkeys(DERIVED, 0)
        for rule in RULES["redis-cluster"]:
            expected[rule.id] += rule.judge(row) is not None
    assert live.failed() == 0
    assert live.counts() == expected


@given(rows, derived)
def test_a_rule_has_something_to_say_of_every_row_that_it_finds(row: dict[str, Any], extra: dict[str, int]) -> None:
    (full,) = batch([row]).to_pylist()
    full |= extra
    for rule in ALL:
        finding = rule.judge(full)
        if finding is not None:
            assert finding.severity in {"silent"} or finding.error
            assert finding.when in {"at command", "at queue", "at exec"}
            assert not finding.error.startswith("unknown") or finding.severity == "unknown"
