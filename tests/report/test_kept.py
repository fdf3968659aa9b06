"""What a report keeps while it reads: where chunks end makes no difference to what is found."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from proxy.capture.format import Flag
from proxy.report import chunks
from proxy.report.analysis import Analysis
from proxy.report.document import Report
from proxy.report.run import run
from proxy.report.studies.in_order import in_order
from proxy.report.study import Database
from tests.report.world import Rows, command, transaction


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "seq": seq, "ts": 1000 + seq} for seq, row in enumerate(rows)]


def findings(report: Report) -> list[tuple[Any, ...]]:
    return [
        (each.rule, each.command, each.members, each.keys, each.count, each.first_ts, each.last_ts, each.examples)
        for target in report.targets
        for each in target.findings
    ]


CASES = {
    "a transaction, its WATCH before it": [
        command("WATCH w", txn=1), *transaction("SET {t}a", "SET {t}b"), command("GET a"),
    ],
    "a WATCH that was given up, and one that was not": [
        command("WATCH w", txn=1), command("UNWATCH", txn=1), *transaction("SET a", txn=2), command("WATCH w", txn=3),
        *transaction("SET b", txn=3),
    ],
    "transactions of two connections at once": [
        row for pair in zip(transaction("SADD queues", "LPUSH queue:a"),
                            transaction("SADD x", "LPUSH y", conn=2), strict=True) for row in pair
    ],
    "a transaction that was discarded, and one that never ends": [
        command("MULTI", txn=1), command("MGET a b", txn=1, flags=Flag.QUEUED), command("DISCARD", txn=1),
        *transaction("SET a", "SET b", txn=2), command("MULTI", txn=3), command("SET c", txn=3, flags=Flag.QUEUED),
    ],
    "keys that another slot function sees elsewhere": [
        command("WATCH {}a", txn=1), *transaction("SET {}b"), command("RENAME {}x {}y"), *transaction("SET {}c", txn=2),
    ],
    "the same keys again, and others of their pattern": [
        command(f"BRPOP job:{number} queue:{number}") for number in (111111, 222222, 111111, 333333, 222222, 111111)
    ],
    "a connection in another database": [
        command("GET a", db=2), command("MGET a b", db=2), *transaction("SET a", conn=2, txn=1),
    ],
}  # fmt: skip


@pytest.mark.parametrize("rows", CASES.values(), ids=CASES)
def test_where_chunks_end_makes_no_difference(rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    source = Rows(numbered(rows), batch_rows=1)
    whole = run(source, ("redis-cluster", "redis-enterprise"))
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 2)
    pieces = run(source, ("redis-cluster", "redis-enterprise"))
    assert findings(whole)
    assert findings(pieces) == findings(whole)
    assert pieces.remedies == whole.remedies
    assert pieces.ways == whole.ways


def test_examples_are_the_first_with_the_keys_that_came_first() -> None:
    rows = numbered(CASES["the same keys again, and others of their pattern"])
    (target,) = run(Rows(rows)).targets
    assert [example.seq for example in target.findings[0].examples] == [0, 2, 5]


def test_a_transaction_counts_as_one_use_of_its_keys_when_it_ran() -> None:
    rows = CASES["a transaction that was discarded, and one that never ends"]
    assert run(Rows(numbered(rows))).remedies.seen == 1


def test_occurrences_that_were_not_kept_are_not_taken_for_none() -> None:
    with Analysis(Rows([command("MGET a b")])) as analysis, pytest.raises(RuntimeError, match="not kept"):
        list(analysis.judging.occurrences("redis-cluster"))


@pytest.mark.parametrize("window_rows", [1, 7, 1000])
def test_windows_give_every_row_once_and_in_order(window_rows: int) -> None:
    db = Database(duckdb.connect())
    db.execute("CREATE TABLE events AS SELECT (i * 7919) % 5003 - 40 AS t, i % 3 AS kind FROM range(3000) r(i)")
    batches = in_order(db, "events", "t, kind", 100, window_rows)
    found = [(row["t"], row["kind"]) for batch in batches for row in batch.to_pylist()]
    assert found == db.rows("SELECT t, kind FROM events ORDER BY t, kind")
    db.execute("DELETE FROM events")
    assert list(in_order(db, "events", "t, kind", 100, window_rows)) == []
