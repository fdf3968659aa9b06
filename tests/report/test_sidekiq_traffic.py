"""Sidekiq's operations, told by their keys, and what of them can be changed."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.report.document import Verdict
from proxy.report.rules import Change
from proxy.report.rules.sidekiq_traffic import HEARTBEAT, shape_of
from proxy.report.run import run
from tests.report.world import Rows, command, transaction

PROCESS = transaction("SADD processes", "EXISTS h:1:ab", "HMSET h:1:ab", "EXPIRE h:1:ab", "RPOP h:1:ab-signals")
STATS = transaction("INCRBY stat:processed", "INCRBY stat:failed", "UNLINK h:1:ab:workers")

#: What happens, rows, the operation (its beginning), who can change it.
CASES: list[tuple[str, list[dict[str, Any]], str, Change]] = [
    ("fetch", [command("BRPOP queue:a queue:b")], "fetch of several", Change.APPLICATION),
    ("fetch of numbered queues", [command("BRPOP queue:1 queue:2")], "fetch of several", Change.APPLICATION),
    ("fetch in a namespace", [command("BRPOP app:queue:a app:queue:b")], "fetch of several", Change.APPLICATION),
    ("push up to 6.2", transaction("SADD queues", "LPUSH queue:a"), "push up to 6.2", Change.APPLICATION),
    ("in a namespace", transaction("SADD x:queues", "LPUSH x:queue:a"), "push up to 6.2", Change.APPLICATION),
    ("statistics", STATS, "statistics up to 6.5", Change.APPLICATION),
    ("heartbeat", PROCESS, HEARTBEAT, Change.NOBODY),
    ("clear", transaction("UNLINK queue:a", "SREM queues"), "clearing of a queue", Change.NOBODY),
    ("one process", transaction("SISMEMBER processes", "HMGET h:1:ab"), "look at one process", Change.NOBODY),
    ("history", [command("MGET stat:processed:2026-11-22 stat:processed:2026-11-23")], "history", Change.NOBODY),
    ("reset", [command("MSET stat:failed stat:processed")], "reset of the stat", Change.NOBODY),
    ("super_fetch", [command("BLMOVE queue:a queue:sq|h:1:ab|a")], "super_fetch", Change.APPLICATION),
    ("not Sidekiq's", [command("MGET user:1 user:2")], "", Change.APPLICATION),
    ("not Sidekiq's either", transaction("SET a", "LPUSH b"), "", Change.APPLICATION),
    ("another list", [command("BRPOP jobs:a jobs:b")], "", Change.APPLICATION),
]


@pytest.mark.parametrize(("rows", "name", "change"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_operation_is_told_by_its_keys(rows: list[dict[str, Any]], name: str, change: Change) -> None:
    (report,) = run(Rows(rows)).targets
    (group,) = report.findings
    assert group.whose.startswith(name)
    assert bool(group.whose) == bool(name)
    assert group.change is change
    assert report.verdict is (Verdict.NOT_COMPATIBLE if change is Change.NOBODY else Verdict.AFTER_CHANGES)


def test_nothing_is_made_of_no_keys() -> None:
    assert shape_of(b"BRPOP", (), ()) is None
