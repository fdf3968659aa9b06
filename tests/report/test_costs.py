"""Slow and costly commands: each rule with rows that it speaks of and rows that it must not speak of; the caps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.deprecations import deprecations
from proxy.capture.format import Flag, ReplyKind
from proxy.report.costs import Costs
from proxy.report.render_text import render_text
from proxy.report.rhythm import DAY_NS
from proxy.report.rules import costs as bounds
from proxy.report.rules.costs import RULES, THRESHOLDS, CostFacts, HotKey, judge_costs
from proxy.report.run import run
from proxy.report.studies import costs, patterns
from tests.capture.rows import START_NS
from tests.report.world import Rows, command

MS = 1_000_000
SHA = "6b1bf486c81ceb7edf3c093f4a5c1b1d4c6d3f6d"
Case = dict[str, Any] | list[dict[str, Any]]


def costs_of(rows: list[dict[str, Any]], **world: Any) -> Costs:
    return run(Rows(rows, **world)).costs


def many(count: int, make: Callable[[int], dict[str, Any]], *, each_ns: int = MS) -> list[dict[str, Any]]:
    """``count`` rows of one connection, each sent after the reply to the one before."""
    return [make(i) | {"seq": i, "ts": START_NS + i * each_ns, "latency_ns": each_ns // 2} for i in range(count)]


def array(text: str, items: int, **columns: Any) -> dict[str, Any]:
    return command(text, reply=ReplyKind.ARRAY, reply_items=items, **columns)


def geo(radius: str, unit: str, **columns: Any) -> dict[str, Any]:
    return array("GEORADIUS shops", 900, args=["georadius", "shops", "13", "52", radius, unit], **columns)


PASSING: list[tuple[str, str, Case]] = [
    ("keys-command", "KEYS", array("KEYS", 3)),
    ("keys-command", "KEYS", command("KEYS", reply=ReplyKind.ERROR, error="LOADING")),
    ("whole-collection-read", "SMEMBERS tags:<id>", array("SMEMBERS tags:17", 1000)),
    ("whole-collection-read", "SMEMBERS s", command("SMEMBERS s", reply=ReplyKind.SET, reply_items=5000)),
    ("whole-collection-read", "HGETALL h", array("HGETALL h", 2000)),
    ("whole-collection-read", "HGETALL h", command("HGETALL h", reply=ReplyKind.MAP, reply_items=1000)),
    ("whole-collection-read", "LRANGE l", array("LRANGE l", 1000)),
    ("whole-collection-read", "LRANGE l", array("LRANGE l", 100, args=["LRANGE", "l", "0", "-1"])),
    ("whole-collection-read", "ZRANGE z", array("ZRANGE z", 300, args=["ZRANGE", "z", "0", "-1", "WITHSCORES"])),
    ("read-batch-too-large", "MGET user:<id>", array("MGET user:1", 1001, nargs=1002)),
    ("read-batch-too-large", "GEOPOS shops", array("GEOPOS shops", 5000, nargs=5002)),
    ("write-batch-too-large", "SADD s", command("SADD s", nargs=1003)),
    ("write-batch-too-large", "RPUSH l", command("RPUSH l", nargs=9002)),
    ("write-batch-too-large", "ZADD z", command("ZADD z", nargs=2004)),
    ("write-batch-too-large", "MSET a", command("MSET a", nargs=2003)),
    ("write-batch-too-large", "DEL a", command("DEL a", nargs=1002)),
    ("scan-count-too-large", "SCAN", array("SCAN", 2, args=["SCAN", "0", "count", "10000"])),
    ("scan-count-too-large", "SSCAN s", array("SSCAN s", 2, args=["SSCAN", "s", "0", "MATCH", "x", "COUNT", "1001"])),
    ("scan-count-too-large", "HSCAN h", array("HSCAN h", 2, reply_bytes=100_000)),
    ("slow-delete", "DEL cart:<id>", command("DEL cart:7", latency_ns=5 * MS)),
    ("long-script", f"EVALSHA {SHA} q", command("EVALSHA q", flags=Flag.SCRIPT, script=SHA, latency_ns=6 * MS)),
    ("long-script", "FCALL q", command("FCALL q", flags=Flag.SCRIPT, latency_ns=6 * MS)),
    ("big-value", "GET page:<id>", command("GET page:1", reply_bytes=262_144)),
    ("big-value", "SET page:<id>", command("SET page:1", request_bytes=3_000_000, nargs=3)),
    ("long-transaction", "EXEC", array("EXEC", 101)),
    ("radius-of-everything", "GEORADIUS shops", geo("20000", "km")),
    ("radius-of-everything", "GEORADIUS shops", geo("20038000", "M")),
    ("radius-of-everything", "GEORADIUSBYMEMBER shops", array(
        "GEORADIUSBYMEMBER shops", 1, args=["GEORADIUSBYMEMBER", "shops", "m", "12430", "mi"])),
    ("radius-of-everything", "GEOSEARCH shops", array(
        "GEOSEARCH shops", 1, args=["GEOSEARCH", "shops", "FROMMEMBER", "m", "BYRADIUS", "21000", "km", "ASC"])),
    ("reads-in-a-row", "GET user:<id>", many(100, lambda i: command(f"GET user:{i}"))),
    ("reads-in-a-row", "HGETALL user:<id>", many(120, lambda i: command(f"HGETALL user:{i}"))),
    ("same-read-again", "GET flag", many(200, lambda i: command("GET flag" if i % 2 else f"SET x{i}"))),
    ("deprecated-command", "GETSET a", command("GETSET a")),
    ("deprecated-command", "SETEX s:<id>", [command("SETEX s:1"), command("SETEX s:2")]),
    ("deprecated-command", "GEORADIUS shops", geo("3", "km")),
]  # fmt: skip

FAILING: list[tuple[str, Case]] = [
    ("keys-command", command("KEYSPACE")),
    ("keys-command", array("SCAN", 2)),
    ("whole-collection-read", array("SMEMBERS s", 999)),
    ("whole-collection-read", array("HGETALL h", 1998)),  # 999 fields
    ("whole-collection-read", array("LRANGE l", 999, args=["LRANGE", "l", "0", "998"])),
    ("whole-collection-read", array("LRANGE l", 99, args=["LRANGE", "l", "0", "-1"])),
    ("whole-collection-read", command("SMEMBERS s", reply=ReplyKind.SIMPLE, flags=Flag.QUEUED)),
    ("whole-collection-read", array("MGET a", 5000)),
    ("read-batch-too-large", array("MGET a", 1000, nargs=1001)),
    ("read-batch-too-large", array("MGET a", 1000, nargs=0)),  # format 1: not known
    ("read-batch-too-large", command("RPUSH l", nargs=5000)),
    ("write-batch-too-large", command("ZADD z", nargs=2002)),
    ("write-batch-too-large", command("HSET h", nargs=2002)),
    ("write-batch-too-large", command("GEOADD g", nargs=3002)),
    ("scan-count-too-large", array("SCAN", 2, args=["SCAN", "0", "COUNT", "1000"])),
    ("scan-count-too-large", array("SCAN", 2, args=["SCAN", "0", "MATCH", "COUNT"])),
    ("scan-count-too-large", array("SCAN", 2, args=["SCAN", "0", "COUNT", "many"])),
    ("scan-count-too-large", array("HSCAN h", 2, reply_bytes=99_999)),
    ("slow-delete", command("DEL a", latency_ns=4 * MS)),
    ("slow-delete", command("UNLINK a", latency_ns=50 * MS)),
    ("slow-delete", command("DEL a", latency_ns=9 * MS, held_ns=8 * MS)),  # shunt held it
    ("long-script", command("EVAL q", flags=Flag.SCRIPT, latency_ns=4 * MS)),
    ("long-script", command("EVAL q", flags=Flag.SCRIPT | Flag.QUEUED, txn=1, latency_ns=90 * MS)),
    ("big-value", command("GET a", reply_bytes=262_143)),
    ("big-value", array("SMEMBERS s", 5000, reply_bytes=900_000)),  # many small ones
    ("big-value", array("SCAN", 2, reply_bytes=900_000)),
    ("long-transaction", array("EXEC", 100)),
    ("radius-of-everything", geo("19999", "km")),
    ("radius-of-everything", geo("20000", "m")),
    ("radius-of-everything", geo("all", "km")),
    ("radius-of-everything", array("GEORADIUS shops", 900)),  # no arguments recorded
    ("reads-in-a-row", many(99, lambda i: command(f"GET user:{i}"))),
    ("reads-in-a-row", [row | {"latency_ns": 200 * MS} for row in many(100, lambda i: command(f"GET user:{i}"))]),
    ("reads-in-a-row", many(400, lambda i: command(f"GET user:{i}" if i % 10 else f"SET user:{i}"))),  # runs of 9
    ("reads-in-a-row", many(200, lambda i: command(f"GET user:{i}"), each_ns=50 * MS)),  # 25 ms in between
    ("reads-in-a-row", many(200, lambda i: command(f"SET user:{i}"))),
    ("reads-in-a-row", many(200, lambda i: command("GET flag"))),
    ("reads-in-a-row", many(200, lambda i: command(f"GET user:{i}", txn=1, flags=Flag.QUEUED))),
    ("reads-in-a-row", [row | {"conn": i % 40} for i, row in enumerate(many(200, lambda i: command(f"GET user:{i}")))]),
    ("same-read-again", many(99, lambda i: command("GET flag"))),
    ("same-read-again", [row | {"conn": i % 2} for i, row in enumerate(many(190, lambda i: command("GET flag")))]),
    ("same-read-again", many(200, lambda i: command(f"GET user:{i}"))),
    ("deprecated-command", command("SET a")),
    ("deprecated-command", command("QUIT", flags=Flag.REPLIED_BY_PROXY)),
]  # fmt: skip


def rows_of(case: Case) -> list[dict[str, Any]]:
    return case if isinstance(case, list) else [case]


@pytest.mark.parametrize(("rule", "subject", "case"), PASSING)
def test_a_rule_speaks_of(rule: str, subject: str, case: Case) -> None:
    rows = [command("PING"), *rows_of(case)]
    (advice,) = [each for each in costs_of(rows).advice if each.rule == rule]
    assert advice.subject == subject
    assert "127.0.0.1" in advice.seen
    assert advice.why
    assert advice.instead
    (example,) = advice.examples
    assert example.conn == 1


@pytest.mark.parametrize(("rule", "case"), FAILING)
def test_a_rule_is_silent_about(rule: str, case: Case) -> None:
    assert [each for each in costs_of(rows_of(case)).advice if each.rule == rule] == []


def test_every_rule_has_cases_of_both_kinds() -> None:
    by_facts = {"hot-key"}  # below
    assert {rule for rule, *_ in PASSING} == {rule for rule, _ in FAILING} == {rule.id for rule in RULES} - by_facts


@pytest.mark.parametrize(
    ("share", "per_s", "said"), [(0.10, 100, True), (0.099, 5000, False), (0.9, 99, False)]
)  # fmt: skip
def test_a_hot_key_needs_a_share_and_a_rate(share: float, per_s: float, said: bool) -> None:
    facts = CostFacts(hot=(HotKey(b"stock", 1000, share, per_s),))
    assert [advice.subject for advice in judge_costs(facts)] == ["stock"] * said


def test_hot_keys_are_found_in_traffic() -> None:
    rows = many(3000, lambda i: command("INCR stock" if i % 5 else f"SET x{i}"), each_ns=MS)
    assert [each.subject for each in costs_of(rows).advice if each.rule == "hot-key"] == ["stock"]


def test_what_a_rule_saw_names_numbers_and_clients() -> None:
    rows = [
        array("MGET user:1", 5000, nargs=5001, client_name="web", client_addr="10.0.0.1:77", latency_ns=3 * MS),
        array("MGET user:2", 2000, nargs=2001, client_name="web", client_addr="10.0.0.1:78", latency_ns=2 * MS),
        array("MGET user:3", 1500, nargs=1501, client_addr="10.0.0.9:1", conn=2, latency_ns=MS),
    ]
    (advice,) = costs_of(rows).advice
    assert advice.seen == "3 times, up to 5,000 at once, 6.0 ms in all; sent by web (10.0.0.1) (2), 10.0.0.9 (1)."
    assert (advice.count, advice.examples[0].conn, advice.examples[0].seq) == (3, 1, 0)


def test_deprecated_commands_are_the_servers_and_say_what_replaces_them() -> None:
    (advice,) = costs_of([command("BRPOPLPUSH a b", flags=Flag.BLOCKING)]).advice
    assert "deprecated since 6.2.0, replaced by BLMOVE with the RIGHT and LEFT arguments" in advice.seen
    assert {
        "GEORADIUS",
        "HMSET",
        "GETSET",
        "SETEX",
        "PSETEX",
        "SETNX",
        "RPOPLPUSH",
        "SUBSTR",
        "SLAVEOF",
        "QUIT",
    } <= set(deprecations())
    assert all(each.since and each.instead for each in deprecations().values())


# ---- the slow list


def test_the_slow_list_names_pattern_client_sizes_and_when() -> None:
    rows = [
        command("GET user:1", latency_ns=10 * MS, reply_bytes=500, client_name="web"),
        command("GET user:2", latency_ns=30 * MS, reply_bytes=900, client_name="web"),
        command("GET user:3", latency_ns=9_999_999),
    ]
    found = costs_of(rows)
    (line,) = found.slow
    assert (found.slow_count, line.command, line.template, line.name, line.addr) == (
        2, b"GET", b"user:<id>", b"web", b"127.0.0.1")  # fmt: skip
    assert (line.count, line.total_ns, line.max_ns, line.reply_bytes, line.example.seq) == (2, 40 * MS, 30 * MS, 900, 1)
    assert (line.first_ts, line.last_ts) == (START_NS, START_NS + MS)


@pytest.mark.parametrize(
    "row",
    [
        command("BRPOP q", flags=Flag.BLOCKING, latency_ns=2_000 * MS),
        command("GET a", flags=Flag.QUEUED, txn=1, latency_ns=50 * MS),
        command("GET a", latency_ns=50 * MS, held_ns=45 * MS),
        command("GET a", latency_ns=-1, reply=ReplyKind.LOST),
        command("GET a", latency_ns=50 * MS, flags=Flag.REPLIED_BY_PROXY),
    ],
)
def test_waiting_is_no_slowness(row: dict[str, Any]) -> None:
    assert costs_of([row]).slow == ()


def test_the_threshold_is_an_option() -> None:
    report = run(Rows([command("GET a", latency_ns=2 * MS)]), slow_ns=2 * MS)
    assert [line.count for line in report.costs.slow] == [1]


def test_a_slow_command_that_comes_by_the_clock_has_a_schedule() -> None:
    rows = [
        command("SMEMBERS report:1", ts=START_NS + day * DAY_NS + i, latency_ns=40 * MS)
        for day in range(4)
        for i in (0, 1)
    ]  # fmt: skip
    rows += [command("GET a", ts=START_NS + i * DAY_NS // 7, latency_ns=20 * MS) for i in range(25)]
    by_command = {line.command: line.schedule for line in costs_of(rows).slow}
    assert by_command[b"GET"] is None
    found = by_command[b"SMEMBERS"]
    assert found is not None
    assert found.words == "daily, 22:13 UTC, 1 a day (4 of 4 days)"
    assert "daily, 22:13 UTC" in render_text(run(Rows(rows)), width=200)


# ---- patterns


def test_patterns_count_time_bytes_items_and_errors() -> None:
    rows = [
        *(command(f"GET user:{i}", latency_ns=i * MS, request_bytes=10, reply_bytes=100) for i in range(1, 101)),
        command("GET user:9", error="WRONGTYPE", reply=ReplyKind.ERROR, latency_ns=MS, request_bytes=10, reply_bytes=1),
        array("LRANGE l", 40, nargs=4, flags=Flag.QUEUED, txn=1, latency_ns=500 * MS),
    ]
    get, lrange = costs_of(rows).patterns
    assert (get.command, get.template, get.count, get.errors, get.most_args, get.most_items) == (
        b"GET", b"user:<id>", 101, 1, 1, -1)  # fmt: skip
    assert (get.request_bytes, get.reply_bytes) == (1010, 10_001)
    assert get.service is not None
    assert (get.service.count, get.service.max_ns, get.service.total_ns) == (101, 100 * MS, 5051 * MS)
    assert get.service.p50_ns == pytest.approx(50 * MS, rel=0.011)
    assert get.service.p99_ns == pytest.approx(99 * MS, rel=0.011)
    assert (lrange.service, lrange.most_args, lrange.most_items) == (None, 4, 40)


@pytest.mark.parametrize("chunk_rows", [400, 5000])
def test_patterns_beyond_the_cap_go_on_as_one_and_none_is_lost(
    monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    monkeypatch.setattr("proxy.report.studies.spending.MOST_PATTERNS", 10_000)
    monkeypatch.setattr("proxy.report.chunks.CHUNK_ROWS", chunk_rows)
    monkeypatch.setattr("proxy.report.studies.patterns.MERGE_ROWS", 500)
    names = [f"{a}{b}{c}" for a in "ghijklmnopqrstuvwxyz" for b in "ghijklmnop" for c in "ghijklmnopqrstu"]
    rows = [command(f"GET {name}", latency_ns=1000) for name in names] + [command("GET HOT", latency_ns=5 * MS)] * 30
    found = costs_of(rows, batch_rows=chunk_rows).patterns
    assert (found[0].template, found[0].count) == (b"HOT", 30)
    assert sum(line.count for line in found) == len(rows)
    (other,) = [line for line in found if line.other]
    assert other is found[-1]
    assert (other.command, other.template) == (b"", b"")
    assert len(found) <= 3 * patterns.KEPT + 1


def test_sites_beyond_the_cap_go_on_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.report.studies.costs._CAPPED", costs._CAPPED.replace(f"> {costs.SITES}", "> 3"))
    rows = [command(f"GET {name}", latency_ns=(20 + i) * MS) for i, name in enumerate("ghijklmn")]
    found = costs_of(rows)
    assert [(line.template, line.count, line.other) for line in found.slow] == [
        (b"n", 1, False), (b"m", 1, False), (b"l", 1, False), (b"", 5, True)]  # fmt: skip
    assert found.slow_count == 8


# ---- the rest


def test_an_old_capture_says_that_counts_are_not_known() -> None:
    found = run(Rows([command("MGET a", nargs=0), command("GET a", nargs=2)]))
    assert found.costs.uncounted == 1
    assert "Of 1 command the number of arguments" in render_text(found)


def test_chatter_is_searched_in_a_part_and_the_report_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.report.studies.chatter.WINDOW_ROWS", 100)
    report = run(Rows(many(300, lambda i: command(f"GET user:{i}"))))
    assert [each.count for each in report.costs.advice if each.rule == "reads-in-a-row"] == [100]
    assert "searched for in 100 of 300 commands" in render_text(report)


def test_the_page_lists_every_threshold_as_it_is() -> None:
    shown = {
        "10 ms": 10 * MS, "5 ms": 5 * MS, "1,000": 1000, "100": 100, "100 kB": 100_000, "256 KiB": 256 * 1024,
        "20,000 km": 20_000_000, "10": 10, "10 %": 0.10, "100 a second": 100,
    }  # fmt: skip
    constants = {name for name, value in vars(bounds).items() if name.isupper() and isinstance(value, int | float)}
    assert {name for name, *_ in THRESHOLDS} == constants - {"MS"}
    assert {name: shown[value] for name, value, _ in THRESHOLDS} == {
        name: getattr(bounds, name) for name, *_ in THRESHOLDS
    }
