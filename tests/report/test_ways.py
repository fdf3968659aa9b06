"""Which way to go: the three ways, their evidence, and what one queue per process changes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.report.document import Way
from proxy.report.render_json import render_json
from proxy.report.render_markdown import render_markdown
from proxy.report.render_text import render_text
from proxy.report.run import run
from proxy.report.targets import TARGETS
from tests.report.world import Rows, command, transaction

FETCH = command("BRPOP queue:a queue:b")
PUSH = transaction("SADD queues", "LPUSH queue:a")
HEARTBEAT = transaction("SADD processes", "HSET h:1:ab", "EXPIRE h:1:ab", conn=7)


def ways(rows: list[dict[str, Any]]) -> dict[str, Way]:
    return {way.id: way for way in run(Rows(rows)).ways.ways}


@pytest.mark.parametrize(
    ("rows", "answers"),
    [
        ([command("GET a")], ("compatible", "compatible", "changes nothing")),
        ([FETCH], ("compatible", "compatible after 1 change", "compatible")),
        ([FETCH, *PUSH], ("compatible", "compatible after 2 changes", "compatible after 1 change")),
        ([FETCH, *HEARTBEAT], ("compatible", "not compatible", "not compatible")),
    ],
)
def test_each_way_is_answered_by_its_best_targets(rows: list[dict[str, Any]], answers: tuple[str, ...]) -> None:
    found = ways(rows)
    for name, answer in zip("ABC", answers, strict=True):
        assert found[name].answer.startswith(answer), name


def test_a_way_names_its_targets_its_evidence_and_its_cost() -> None:
    found = ways([FETCH, FETCH, *PUSH])
    assert "single" in found["A"].targets
    assert "redis-cluster" in found["B"].targets
    assert all(way.cost for way in found.values())
    fetches, pushes = found["B"].evidence[1:]
    assert fetches.startswith("2× Sidekiq's fetch of several queues on queue:a, queue:b, for example 1/0: ")
    assert pushes.startswith("1× Sidekiq's push up to 6.2 on queue:a, queues, for example 1/")
    assert found["C"].evidence[0].startswith("2 BRPOP or BLPOP over several slots")


def test_what_stays_of_the_heartbeat_is_said_in_the_cost_of_simpler_queues() -> None:
    assert "Web UI" in ways([FETCH, *HEARTBEAT])["C"].cost
    assert "Web UI" not in ways([FETCH])["C"].cost


def test_another_database_leaves_the_targets_that_have_one() -> None:
    found = ways([command("SELECT", flags=1 << 17)])
    assert "single" in found["A"].targets
    assert "redis-enterprise-single" not in found["A"].targets


def test_every_target_is_in_the_table_and_nobody_was_asked() -> None:
    report = run(Rows([FETCH]))
    assert {line.target for line in report.ways.targets} == set(TARGETS)
    assert [target.target for target in report.targets] == ["redis-cluster"]


def test_a_target_on_which_blocking_commands_are_not_verified_is_never_green() -> None:
    lines = {line.target: line for line in run(Rows([command("BRPOP queue:a")])).ways.targets}
    assert lines["elasticache-serverless"].words == "can't tell"
    assert lines["elasticache-cluster"].words == "compatible"


def test_an_empty_capture_shows_no_way() -> None:
    assert ways([]) == {}


def test_every_format_shows_the_ways() -> None:
    report = run(Rows([FETCH, *HEARTBEAT]))
    assert "Which way to go" in render_text(report)
    assert "## Which way to go" in render_markdown(report)
    document = json.loads(render_json(report))
    assert [way["id"] for way in document["ways"]["ways"]] == ["A", "B", "C"]
    assert len(document["ways"]["targets"]) == len(TARGETS)
