"""What each target finds and leaves alone, as data: (target, rows, findings as (seq, rule, beginning, when))."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from protocol.slots import enterprise_slot, slot
from proxy.capture.format import SLOT_UNKNOWN, Flag, UnknownWhy
from proxy.report.analysis import Analysis
from proxy.report.document import Verdict
from proxy.report.rules import RULES
from proxy.report.run import run
from proxy.report.targets import TARGETS
from tests.report.world import Rows, command, transaction

Found = list[tuple[int, str, str, str]]
CROSSSLOT = "CROSSSLOT Keys in request don't hash to the same slot"
AT, QUEUE, EXEC = "at command", "at queue", "at exec"
SELECT_1 = command("SELECT", flags=Flag.FOREIGN_DB)
SORT_BY = command("SORT a", flags=Flag.SORT_PATTERN)
WATCH_APART = [command("WATCH a"), *transaction("SET b")]
SCRIPT_LOAD = [{**command("PING"), "command": "SCRIPT LOAD"}]
COMPUTES = b"return redis.call('get', KEYS[1] .. ':x')"
SHEBANG = b"#!lua\n" + COMPUTES
SCRIPTS = {hashlib.sha1(body).hexdigest().encode(): body for body in (COMPUTES, SHEBANG)}


def calls(body: bytes) -> list[dict[str, Any]]:
    return [command("EVALSHA a", flags=Flag.SCRIPT, script=hashlib.sha1(body).hexdigest())]


NO_KEYS = [command("EVALSHA", flags=Flag.SCRIPT, script="0" * 40)]
NOTIFICATIONS = [command("SUBSCRIBE", args=["SUBSCRIBE", "__keyevent@0__:expired"])]


def config_get() -> list[dict[str, Any]]:
    return [{**command("PING"), "command": "CONFIG GET"}]


CASES: list[tuple[str, list[dict[str, Any]], Found]] = [
    # ---- the same as today
    ("single", [command("BRPOP a b"), *transaction("SET a", "MGET b c"), SELECT_1, SORT_BY, *NO_KEYS], []),
    ("single", [*WATCH_APART, *SCRIPT_LOAD, *NOTIFICATIONS, command("KEYS"), command("REPLICAOF")], []),
    ("single", [command("VADD a")], [(0, "missing-command", "ERR unknown command 'VADD'", AT)]),
    ("single", [command("FT.SEARCH", slot=SLOT_UNKNOWN, unknown=1)], [(0, "keys-unknown", "unknown: the command", AT)]),
    ("single", [command("SORT a", slot=SLOT_UNKNOWN, unknown=UnknownWhy.NO_KEY_SPEC)], []),
    ("single", [command("GET a", db=3), {"gap": "disk full"}], [(1, "gap", "unknown: ", AT)]),
    ("single-redis-8", [command("VADD a"), command("DELEX a")], [(1, "missing-command", "ERR unknown command", AT)]),
    ("single-redis-7.0", [command("HEXPIRE a")], [(0, "missing-command", "ERR unknown command 'HEXPIRE'", AT)]),
    (
        "single-redis-7.0",
        [{**command("PING"), "command": "CLIENT SETINFO"}],
        [(0, "forbidden-command", "ERR unknown subcommand", AT)],
    ),
    ("single-redis-6.2", [command("LMPOP a")], [(0, "missing-command", "ERR unknown command 'LMPOP'", AT)]),
    ("single-valkey-8", [command("HEXPIRE a")], [(0, "missing-command", "ERR unknown command 'HEXPIRE'", AT)]),
    ("single-valkey-8", [{**command("PING"), "command": "CLIENT SETINFO"}], []),
    ("elasticache", [command("BRPOP a b"), SELECT_1], []),
    ("elasticache", config_get(), [(0, "forbidden-command", "ERR unknown command 'CONFIG GET'", AT)]),
    ("redis-enterprise-single", [command("BRPOP a b"), *transaction("SET a", "SET b")], []),
    ("redis-enterprise-single", [SELECT_1], [(0, "select-database", "(refused", AT)]),
    ("redis-enterprise-single", [command("HEXPIRE a")], [(0, "unverified-command", "unknown: ", AT)]),
    ("dragonfly", [command("BRPOP a b"), SELECT_1, *transaction("SET a", "SET b")], []),
    ("dragonfly", NO_KEYS, [(0, "script-no-keys", "unknown: ", AT)]),
    # ---- sharded, open source
    ("redis-cluster-8", [command("MGET a b")], [(0, "cross-slot", CROSSSLOT, AT)]),
    ("redis-cluster-8", [command("VADD a")], []),
    ("redis-cluster-8", [SORT_BY], [(0, "sort-pattern", "ERR BY option of SORT denied in Cluster mode when keys", AT)]),
    ("valkey-cluster", [SELECT_1], [(0, "select-database", "ERR SELECT is not allowed in cluster mode", AT)]),
    ("valkey-cluster", [command("HEXPIRE a")], [(0, "missing-command", "ERR unknown command 'HEXPIRE'", AT)]),
    ("valkey-cluster-9", [SELECT_1], [(0, "select-database", "ERR DB index is out of range", AT)]),
    ("valkey-cluster-9", [command("HEXPIRE a")], [(0, "unverified-command", "unknown: ", AT)]),
    ("valkey-cluster-9", transaction("SET a", "SET b"), [(3, "txn-cross-slot", CROSSSLOT, EXEC)]),
    # ---- Redis Enterprise
    ("redis-enterprise", [command("MGET a b"), command("DEL a b"), command("KEYS"), *SCRIPT_LOAD], []),
    ("redis-enterprise", [command("BRPOP a b")], [(0, "cross-slot", CROSSSLOT, AT)]),
    (
        "redis-enterprise",
        transaction("MGET a b"),
        [(1, "cross-slot", f"{CROSSSLOT} (context='within MULTI'", QUEUE), (2, "txn-refused", "EXECABORT", EXEC)],
    ),
    (
        "redis-enterprise",
        transaction("SET a", "SET b"),
        [(3, "txn-cross-slot", f"{CROSSSLOT} (context='within MULTI'", QUEUE)],
    ),
    ("redis-enterprise", WATCH_APART, [(3, "watch-apart", f"{CROSSSLOT} (context=", EXEC)]),
    ("redis-enterprise", [SORT_BY], [(0, "sort-pattern", "unknown: ", AT)]),
    ("redis-enterprise", NOTIFICATIONS, [(0, "keyspace-notifications", "unknown: ", AT)]),
    ("redis-enterprise", [command("RESET")], [(0, "forbidden-command", "(refused", AT)]),
    ("redis-enterprise-oss-api", [command("MGET a b")], [(0, "cross-slot", CROSSSLOT, AT)]),
    ("redis-enterprise-oss-api", [command("KEYS")], [(0, "node-local", "", AT)]),
    ("redis-cloud-pro", [command("MGET a b")], []),
    ("redis-cloud-pro", [command("WAIT")], [(0, "missing-command", "(refused", AT)]),
    ("redis-cloud-pro-oss-api", [command("MGET a b")], [(0, "cross-slot", CROSSSLOT, AT)]),
    ("active-active", [command("MGET a b")], []),
    ("active-active", [command("DEL a b")], [(0, "cross-slot", CROSSSLOT, AT)]),
    ("active-active", [command("FLUSHALL")], [(0, "missing-command", "(refused", AT)]),
    ("azure-managed-enterprise", [command("DEL a b")], []),
    ("azure-managed-enterprise", [command("BRPOP a b")], [(0, "cross-slot", CROSSSLOT, AT)]),
    ("azure-managed-oss", [command("DEL a b")], [(0, "cross-slot", CROSSSLOT, AT)]),
    # ---- other offerings
    ("elasticache-cluster", config_get(), [(0, "forbidden-command", "ERR unknown command 'CONFIG GET'", AT)]),
    ("elasticache-cluster", [command("BRPOP a")], []),
    ("elasticache-serverless", [command("BRPOP a")], [(0, "unverified-command", "unknown: not verified", AT)]),
    ("elasticache-serverless", [command("KEYS")], [(0, "missing-command", "ERR unknown command 'KEYS'", AT)]),
    ("elasticache-serverless", [command("SCAN"), *SCRIPT_LOAD], []),
    ("memorystore-cluster", config_get(), [(0, "forbidden-command", "NOPERM", AT)]),
    ("memorystore-cluster", [command("BRPOP a"), command("MONITOR")], [(1, "unverified-command", "unknown: ", AT)]),
    ("dragonfly-cluster", transaction("SET a", "SET b"), [(3, "txn-cross-slot", CROSSSLOT, EXEC)]),
    ("dragonfly-cluster", [SORT_BY], [(0, "sort-pattern", "unknown: ", AT)]),
    # ---- scripts with undeclared keys
    ("single", calls(COMPUTES), []),
    ("redis-cluster-8", calls(COMPUTES), [(0, "script-undeclared-keys", "ERR Script attempted to access a non", AT)]),
    ("redis-cluster-8", calls(SHEBANG), [(0, "script-undeclared-slots", "unknown: ", AT)]),
    ("redis-enterprise", calls(COMPUTES), [(0, "script-undeclared-keys", "(no error: the script sees", AT)]),
    ("redis-enterprise", calls(SHEBANG), [(0, "script-undeclared-keys", "(no error: the script sees", AT)]),
    ("dragonfly", calls(COMPUTES), [(0, "script-undeclared-keys", "ERR script tried accessing undeclared key", AT)]),
    ("elasticache-serverless", calls(COMPUTES), [(0, "script-undeclared-keys", "ERR Script attempted to acc", AT)]),
    # ---- proxies
    ("envoy", [command("MGET a b"), command("GET a"), *transaction("SET {t}a", "GET {t}b")], []),
    ("envoy", [command("RENAME a b")], [(0, "cross-slot", CROSSSLOT, AT)]),
    ("envoy", [command("BRPOP a b")], [(0, "missing-command", "ERR unknown command 'BRPOP', with args", AT)]),
    (
        "envoy",
        transaction("SADD {t}a", "EXISTS {t}b"),
        [(2, "txn-command", "'EXISTS' command is not supported within transaction; EXEC then runs the rest", QUEUE)],
    ),
    ("envoy", [command("HELLO")], [(0, "missing-command", "NOPROTO", AT)]),
    (
        "twemproxy",
        [command("SINTER a b"), command("MGET a b")],
        [(0, "cross-slot", "(no error: it runs on the first", AT)],
    ),
    (
        "twemproxy",
        transaction("SET a"),
        [(0, "missing-command", "(the connection is closed)", QUEUE), (2, "missing-command", "(the connection", EXEC)],
    ),
    ("twemproxy", [command("BRPOP a")], [(0, "missing-command", "(the connection is closed)", AT)]),
    ("twemproxy", [SELECT_1], [(0, "missing-command", "(the connection is closed)", AT)]),
]  # fmt: skip
IDS = [f"{index}-{name}" for index, (name, _, _) in enumerate(CASES)]


class Worlds(Rows):
    """Each case in a run of its own, so that one analysis judges them all."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        for name, (_, rows, _) in zip(IDS, CASES, strict=True):
            yield from Rows(rows, run=name).batches()


@pytest.fixture(scope="module")
def findings() -> dict[str, Found]:
    """By the case's name: what its target's rules find in its run."""
    found: dict[str, Found] = {name: [] for name in IDS}
    with Analysis(Worlds([], scripts=SCRIPTS), targets=tuple(TARGETS), occurrences=True) as analysis:
        for target in TARGETS:
            for each in analysis.judging.occurrences(target):
                if each["run"].endswith(f"-{target}") and CASES[int(each["run"].split("-")[0])][0] == target:
                    found[each["run"]].append((each["seq"], each["rule"], each["error"], each["when"]))
    return found


@pytest.mark.parametrize(("name", "expected"), [(name, case[2]) for name, case in zip(IDS, CASES, strict=True)])
def test_a_target_finds_what_it_refuses_and_nothing_else(
    findings: dict[str, Found], name: str, expected: Found
) -> None:
    found = findings[name]
    assert [(seq, rule, when) for seq, rule, _, when in found] == [(seq, rule, when) for seq, rule, _, when in expected]
    for (_, _, error, _), (_, _, beginning, _) in zip(found, expected, strict=True):
        assert error.startswith(beginning)
        assert bool(error) == bool(beginning)


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_a_case_that_it_finds(name: str) -> None:
    assert name == "redis-cluster" or [case for case in CASES if case[0] == name and case[2]]


def test_every_rule_of_any_target_has_a_case() -> None:
    only_here = {rule.id for rules in RULES.values() for rule in rules} - {rule.id for rule in RULES["redis-cluster"]}
    assert only_here <= {rule for _, _, expected in CASES for _, rule, _, _ in expected}


@pytest.mark.parametrize("rows", [[], [command("GET a")], [command("MGET a b"), command("BRPOP a")]])
def test_a_target_that_was_not_chosen_gets_the_same_verdict_as_one_that_was(rows: list[dict[str, Any]]) -> None:
    every = {report.target: report for report in run(Rows(rows), tuple(TARGETS)).targets}
    for line in run(Rows(rows)).ways.targets:
        assert (line.words, line.counts) == (every[line.target].words, every[line.target].counts), line.target


# ---- another slot function

EMPTY = "MGET {}a {}b"  # two slots of a cluster, one of Redis Enterprise
LAST = "RENAME {a}1 {a}2}"  # one slot of a cluster, two of Redis Enterprise


def counts(rows: list[dict[str, Any]], target: str) -> dict[str, int]:
    (report,) = run(Rows(rows), (target,)).targets
    return {group.rule: group.count for group in report.findings}


def test_the_two_slot_functions_differ_where_the_cases_say() -> None:
    assert slot(b"{}a") != slot(b"{}b")
    assert enterprise_slot(b"{}a") == enterprise_slot(b"{}b")
    assert slot(b"{a}1") == slot(b"{a}2}")
    assert enterprise_slot(b"{a}1") != enterprise_slot(b"{a}2}")


@pytest.mark.parametrize(
    ("rows", "redis", "enterprise"),
    [
        ([command("RENAME {}a {}b")], {"cross-slot": 1}, {}),
        ([command(LAST)], {}, {"cross-slot": 1}),
        (transaction("SET {}a", "SET {}b"), {"txn-cross-slot": 1}, {}),
        (transaction("SET {a}1", "SET {a}2}"), {}, {"txn-cross-slot": 1}),
        (transaction(LAST), {}, {"cross-slot": 1, "txn-refused": 1}),
        ([command("WATCH {}a"), *transaction("SET {}b")], {"watch-apart": 1}, {}),
        ([command("WATCH {a}1"), *transaction("SET {a}2}")], {}, {"watch-apart": 1}),
    ],
)
def test_a_target_with_its_own_slot_function_is_judged_by_it(
    rows: list[dict[str, Any]], redis: dict[str, int], enterprise: dict[str, int]
) -> None:
    plain = [*transaction("SET c", conn=8), command("RENAME {t}a {t}b", conn=9)]  # the same by both
    assert counts([*rows, *plain], "redis-cluster") == redis
    assert counts([*rows, *plain], "redis-enterprise") == enterprise
    with Analysis(Rows([*rows, *plain]), targets=("redis-enterprise",), occurrences=True) as analysis:
        found = [each["rule"] for each in analysis.judging.occurrences("redis-enterprise")]
    assert sorted(found) == sorted(enterprise)


def test_without_odd_braces_both_slot_functions_say_the_same() -> None:
    rows = [command("RENAME a b"), command("RENAME {t}a {t}b"), *transaction("SET a", "SET b")]
    assert counts(rows, "redis-cluster") == counts(rows, "redis-enterprise")


def test_a_target_that_answers_without_a_part_of_the_data_is_not_compatible() -> None:
    (report,) = run(Rows([command("SINTER a b")]), ("twemproxy",)).targets
    assert report.verdict is Verdict.AFTER_CHANGES
    assert report.counts["error"] == 0
    assert "without a part of the data" in report.reason


def test_a_setting_of_the_target_is_a_change() -> None:
    (report,) = run(Rows([SELECT_1]), ("valkey-cluster-9",)).targets
    assert (report.words, report.findings[0].change) == ("compatible after 1 change", "target")


def test_a_command_without_a_substitute_is_no_change() -> None:
    (report,) = run(Rows([command("BRPOP a")]), ("envoy",)).targets
    assert report.verdict is Verdict.NOT_COMPATIBLE
    assert "can't change: BRPOP (1×)" in report.reason
