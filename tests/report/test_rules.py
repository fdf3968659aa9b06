"""Every rule: rows that it finds, rows that it leaves alone, as data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from proxy.capture.format import SLOT_UNKNOWN, Flag, ReplyKind, UnknownWhy
from proxy.report.analysis import Analysis
from proxy.report.rules import RULES, candidates
from proxy.report.rules.scripts import ScriptFact
from proxy.report.scripts import script_facts
from tests.capture.rows import row as full_row
from tests.report.world import Rows, command, transaction

CROSSSLOT = "CROSSSLOT Keys in request don't hash to the same slot"
EXECABORT = "EXECABORT Transaction discarded because of previous errors."
SELECT = "ERR SELECT is not allowed in cluster mode"
READS = b"return redis.call('GET', ARGV[1])"
PURE = b"return redis.sha1hex(ARGV[1])"
NO_CLUSTER = b"#!lua flags=no-writes,no-cluster\nreturn redis.call('GET', KEYS[1])"
DECLARES = b"return redis.call('MGET', KEYS[1], KEYS[2])"
STRICT = b"#!lua\nreturn redis.call('GET', KEYS[1] .. 'x')"
CROSS_SLOT = b"#!lua flags=allow-cross-slot-keys\nreturn redis.call('GET', 'x')"
HIDDEN = b"return redis.call(ARGV[1], KEYS[1])"
SCRIPTS = {
    hashlib.sha1(body).hexdigest().encode(): body
    for body in (READS, PURE, NO_CLUSTER, DECLARES, STRICT, CROSS_SLOT, HIDDEN)
}
NON_LOCAL = "ERR Script attempted to access a non local key in a cluster node"


def sha(body: bytes) -> str:
    return hashlib.sha1(body).hexdigest()


REHEARSED = Flag.REHEARSED | Flag.REPLIED_BY_PROXY
ERROR_ERR: dict[str, Any] = {"reply": ReplyKind.ERROR, "error": "ERR"}

# (what happens, rows, findings as (seq, rule, error or its beginning, when))
CASES: list[tuple[str, list[dict[str, Any]], list[tuple[int, str, str, str]]]] = [
    ("one key", [command("GET a")], []),
    ("two keys of one tag", [command("MGET {t}a {t}b")], []),
    ("two slots", [command("BRPOP queue:a queue:b")], [(0, "cross-slot", CROSSSLOT, "at command")]),
    ("a watch of two slots", [command("WATCH a b")], [(0, "cross-slot", CROSSSLOT, "at command")]),
    ("no such key, but two slots", [command("RENAME a b", **ERROR_ERR)], [(0, "cross-slot", CROSSSLOT, "at command")]),
    (
        "the connection ended first",
        [command("BRPOP a b", reply=ReplyKind.LOST)],
        [(0, "cross-slot", CROSSSLOT, "at command")],
    ),
    ("NOAUTH comes before the slots", [command("MGET a b", reply=ReplyKind.ERROR, error="NOAUTH")], []),
    ("NOPERM too", [command("MGET a b", reply=ReplyKind.ERROR, error="NOPERM")], []),
    ("shunt answered it", [command("MGET a b", flags=Flag.REPLIED_BY_PROXY)], []),
    (
        "shunt refused it, because its keys live on several backends",
        [command("MGET a b", flags=Flag.REPLIED_BY_PROXY, reply=ReplyKind.ERROR, error="CROSSBACKEND")],
        [(0, "crossbackend", "unknown: shunt answered CROSSBACKEND", "at command")],
    ),
    ("a server said so itself", [command("GET a", reply=ReplyKind.ERROR, error="CROSSBACKEND")], []),
    (
        "shunt refused it in rehearsal",
        [command("MGET a b", flags=REHEARSED, reply=ReplyKind.ERROR, error="CROSSSLOT")],
        [(0, "cross-slot", CROSSSLOT, "at command")],
    ),
    (
        "shunt refused a database in rehearsal",
        [command("SELECT", flags=REHEARSED | Flag.FOREIGN_DB, **ERROR_ERR)],
        [(0, "select-database", SELECT, "at command")],
    ),
    (
        "shunt refused a transaction in rehearsal",
        transaction("SET a", "SET b", flags=REHEARSED, reply=ReplyKind.ERROR, error="CROSSSLOT"),
        [(3, "txn-cross-slot", CROSSSLOT, "at exec")],
    ),
    ("a transaction in one slot", transaction("SET {t}a", "SET {t}b"), []),
    ("a transaction without keys", transaction("PING"), []),
    (
        "a transaction over two slots",
        transaction("SADD queues", "LPUSH queue:a"),
        [(3, "txn-cross-slot", CROSSSLOT, "at exec")],
    ),
    (
        "the same, given up by a WATCH",
        transaction("SET a", "SET b", reply=ReplyKind.NULL),
        [(3, "txn-cross-slot", CROSSSLOT, "at exec")],
    ),
    (
        "a command of two slots inside MULTI",
        transaction("MSET a b"),
        [(1, "cross-slot", CROSSSLOT, "at queue"), (2, "txn-refused", EXECABORT, "at exec")],
    ),
    (
        "refused, and crossing as a whole: one finding on EXEC",
        transaction("MSET a b", "SET c"),
        [(1, "cross-slot", CROSSSLOT, "at queue"), (3, "txn-refused", EXECABORT, "at exec")],
    ),
    ("select 0", [command("SELECT")], []),
    ("select 1", [command("SELECT", flags=Flag.FOREIGN_DB)], [(0, "select-database", SELECT, "at command")]),
    (
        "select 1 and its work: one finding",
        [command("SELECT", flags=Flag.FOREIGN_DB), command("GET a", db=1), command("GET b", db=1)],
        [(0, "select-database", SELECT, "at command")],
    ),
    ("a database that the source lacks", [command("SELECT", flags=Flag.FOREIGN_DB, **ERROR_ERR)], []),
    (
        "another database, never selected: once per connection",
        [command("GET a", db=2), command("GET b", db=2), command("GET c", db=2, conn=2)],
        [(0, "database-in-use", SELECT, "at command"), (2, "database-in-use", SELECT, "at command")],
    ),
    ("swapdb", [command("SWAPDB", flags=Flag.FOREIGN_DB)], [(0, "other-database", "ERR SWAPDB is not", "at command")]),
    ("move", [command("MOVE a", flags=Flag.FOREIGN_DB)], [(0, "other-database", "ERR MOVE is not", "at command")]),
    (
        "copy db",
        [command("COPY {a}b {a}c", flags=Flag.FOREIGN_DB)],
        [(0, "other-database", "ERR Copying to", "at command")],
    ),
    ("copy in the same database", [command("COPY {a}b {a}c")], []),
    (
        "select 1 inside MULTI",
        [
            command("MULTI", txn=1),
            command("SELECT", txn=1, flags=Flag.QUEUED | Flag.FOREIGN_DB),
            command("EXEC", txn=1, flags=Flag.TXN_REFUSED_DB),
        ],
        [(2, "txn-other-database", "ERR SELECT is not allowed in cluster mode (inside", "at exec")],
    ),
    ("sort", [command("SORT a")], []),
    (
        "sort by",
        [command("SORT a", flags=Flag.SORT_PATTERN)],
        [(0, "sort-pattern", "ERR BY option of SORT denied", "at command")],
    ),
    (
        "sort get, arguments seen",
        [command("SORT a", flags=Flag.SORT_PATTERN, args=["SORT", "a", "get", "x*"])],
        [(0, "sort-pattern", "ERR GET option of SORT denied in Cluster mode.", "at command")],
    ),
    (
        "sort by inside MULTI",
        [command("SORT a", flags=Flag.SORT_PATTERN | Flag.QUEUED, txn=1)],
        [(0, "sort-pattern", "ERR BY option", "at exec")],
    ),
    (
        "sort by, and a store elsewhere",
        [command("SORT a b", flags=Flag.SORT_PATTERN)],
        [(0, "cross-slot", CROSSSLOT, "at command")],
    ),
    ("a script in one slot", [command("EVALSHA {t}a {t}b", flags=Flag.SCRIPT, script=sha(DECLARES))], []),
    (
        "a script over two slots",
        [command("EVALSHA a b", flags=Flag.SCRIPT, script=sha(DECLARES))],
        [(0, "script-cross-slot", CROSSSLOT, "at command")],
    ),
    (
        "a script without declared keys",
        [command("EVAL", flags=Flag.SCRIPT, script=sha(READS))],
        [(0, "script-undeclared-keys", NON_LOCAL, "at command"), (0, "script-no-keys", "unknown: ", "at command")],
    ),
    (
        "a script with a declared key and an undeclared one",
        [command("EVALSHA a", flags=Flag.SCRIPT, script=sha(READS))],
        [(0, "script-undeclared-keys", NON_LOCAL, "at command")],
    ),
    (
        "a script that the source refused",
        [command("EVALSHA a", flags=Flag.SCRIPT, script=sha(READS), **ERROR_ERR)],
        [],
    ),
    (
        "a #!lua script with an undeclared key",
        [command("EVAL a", flags=Flag.SCRIPT, script=sha(STRICT))],
        [(0, "script-undeclared-slots", "unknown: if these keys are in another slot", "at command")],
    ),
    (
        "a #!lua script that may cross slots",
        [command("EVAL a", flags=Flag.SCRIPT, script=sha(CROSS_SLOT))],
        [(0, "script-undeclared-keys", NON_LOCAL, "at command")],
    ),
    (
        "a script that cannot be read",
        [command("EVAL a", flags=Flag.SCRIPT, script=sha(HIDDEN))],
        [(0, "script-hidden-keys", "unknown: ", "at command")],
    ),
    (
        "a script that nobody knows",
        [command("EVALSHA", flags=Flag.SCRIPT, script="0" * 40)],
        [(0, "script-no-keys", "unknown: ", "at command")],
    ),
    (
        "a function without declared keys",
        [command("FCALL", flags=Flag.SCRIPT)],
        [(0, "script-no-keys", "unknown: ", "at command")],
    ),
    ("a script that cannot reach a key", [command("EVAL", flags=Flag.SCRIPT, script=sha(PURE))], []),
    (
        "a script that was not there",
        [command("EVALSHA", flags=Flag.SCRIPT, reply=ReplyKind.ERROR, error="NOSCRIPT")],
        [],
    ),
    (
        "a script that forbids a cluster",
        [command("EVAL a", flags=Flag.SCRIPT, script=sha(NO_CLUSTER))],
        [(0, "script-no-cluster", "ERR Can not run script on cluster", "at command")],
    ),
    ("script load", [command("SCRIPT") | {"command": "SCRIPT LOAD"}], [(0, "script-load", "NOSCRIPT", "at command")]),
    ("one shard channel", [command("SSUBSCRIBE a")], []),
    ("two shard channels", [command("SSUBSCRIBE a b")], [(0, "sharded-pubsub", CROSSSLOT, "at command")]),
    ("channels are no keys", [command("SUBSCRIBE")], []),
    (
        "keyspace notifications",
        [command("PSUBSCRIBE", args=["PSUBSCRIBE", "news", "__keyspace@0__:*"])],
        [(0, "keyspace-notifications", "", "at command")],
    ),
    ("other channels", [command("PSUBSCRIBE", args=["PSUBSCRIBE", "news"])], []),
    *(
        (name, [command(name)], [(0, "node-local", "", "at command")])
        for name in ("KEYS", "SCAN", "DBSIZE", "FLUSHDB", "FLUSHALL", "RANDOMKEY")
    ),
    (
        "replicaof",
        [command("REPLICAOF")],
        [(0, "forbidden-command", "ERR REPLICAOF not allowed in cluster mode.", "at command")],
    ),
    (
        "a command that came later than the target",
        [command("VADD a")],
        [(0, "missing-command", "ERR unknown command 'VADD'", "at command")],
    ),
    ("a command that the source lacks too", [command("VADD a", **ERROR_ERR)], []),
    (
        "watch and transaction in one slot",
        [command("WATCH {t}a"), *transaction("SET {t}b")],
        [],
    ),
    (
        "watch apart from its transaction",
        [command("WATCH a"), *transaction("SET b")],
        [(3, "watch-apart", "MOVED when queued", "at exec")],
    ),
    ("unwatched before", [command("WATCH a"), command("UNWATCH"), *transaction("SET b")], []),
    (
        "used up by an earlier transaction",
        [command("WATCH a"), *transaction("SET a"), *transaction("SET b", txn=2)],
        [],
    ),
    (
        "a module's command",
        [command("FT.SEARCH", slot=SLOT_UNKNOWN, unknown=UnknownWhy.NOT_IN_TABLE)],
        [(0, "keys-unknown", "unknown: the command is not in the command table", "at command")],
    ),
    (
        "a command that nobody knows",
        [command("FOO", slot=SLOT_UNKNOWN, unknown=UnknownWhy.NOT_IN_TABLE, **ERROR_ERR)],
        [],
    ),
    (
        "wrong number of arguments",
        [command("MSET", slot=SLOT_UNKNOWN, unknown=UnknownWhy.BAD_ARGUMENTS, **ERROR_ERR)],
        [],
    ),
    (
        "an unknown command inside MULTI",
        [
            command("MULTI", txn=1),
            command("FT.ADD", txn=1, flags=Flag.QUEUED, slot=SLOT_UNKNOWN, unknown=UnknownWhy.NOT_IN_TABLE),
            command("EXEC", txn=1, flags=Flag.TXN_UNKNOWN),
        ],
        [
            (1, "keys-unknown", "unknown: the command is not in the command table", "at queue"),
            (2, "txn-unknown", "unknown: the keys of a queued command", "at exec"),
        ],
    ),
    (
        "a gap",
        [command("GET a"), {"gap": "disk full", "gap_rows": 7, "command": ""}],
        [(1, "gap", "unknown: 7 commands were not recorded (disk full)", "at command")],
    ),
    ("errors of the source", [command("GET a", reply=ReplyKind.ERROR, error="WRONGTYPE")], []),
    ("commands without keys", [command("PING"), command("INFO"), command("PUBLISH"), command("CLUSTER")], []),
]


def judged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with Analysis(Rows(rows, scripts=SCRIPTS), occurrences=True) as analysis:
        return list(analysis.judging.occurrences("redis-cluster"))


class Worlds(Rows):
    """Each case in a run of its own, so that one analysis judges them all."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        for name, rows, _ in [*CASES, *SIDEKIQ]:
            yield from Rows(rows, run=name).batches()


@pytest.fixture(scope="module")
def findings() -> dict[str, list[dict[str, Any]]]:
    """By the case's name."""
    by_case: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in [*CASES, *SIDEKIQ]}
    assert len(by_case) == len(CASES) + len(SIDEKIQ)
    with Analysis(Worlds([], scripts=SCRIPTS), occurrences=True) as analysis:
        for each in analysis.judging.occurrences("redis-cluster"):
            by_case[each["run"]].append(each)
    return by_case


@pytest.mark.parametrize(
    ("name", "expected"), [(name, found) for name, _, found in CASES], ids=[case[0] for case in CASES]
)
def test_a_rule_finds_what_a_cluster_refuses_and_nothing_else(
    findings: dict[str, list[dict[str, Any]]], name: str, expected: list[tuple[int, str, str, str]]
) -> None:
    found = [(each["seq"], each["rule"], each["error"], each["when"]) for each in findings[name]]
    assert [(seq, rule, when) for seq, rule, _, when in found] == [(seq, rule, when) for seq, rule, _, when in expected]
    for (_, _, error, _), (_, _, beginning, _) in zip(found, expected, strict=True):
        assert error.startswith(beginning)
        assert bool(error) == bool(beginning)


def test_every_rule_has_a_case_that_it_finds() -> None:
    found = {rule for _, _, expected in CASES for _, rule, _, _ in expected}
    assert found == {rule.id for rule in RULES["redis-cluster"]}


def test_what_a_case_finds_passes_the_mask_that_comes_first() -> None:
    exempt = {"gap", "database-in-use", "watch-apart"}
    for _, rows, expected in CASES:
        for seq, rule, _, _ in expected:
            assert rule in exempt or candidates(["redis-cluster"]).matches(full_row(rows[seq]))


def test_an_exec_finding_carries_its_transactions_keys() -> None:
    rows = transaction("SADD queues", "LPUSH queue:a", "LPUSH queue:a")
    assert [each["keys"] for each in judged(rows)] == [[b"queue:a", b"queues"]]


def test_connections_of_two_runs_are_kept_apart() -> None:
    class TwoRuns(Rows):
        def batches(self) -> Any:
            yield from Rows([command("SELECT", flags=Flag.FOREIGN_DB)], run="run-1").batches()
            yield from Rows([command("GET a", db=1)], run="run-2").batches()

    with Analysis(TwoRuns([]), occurrences=True) as analysis:
        found = [(each["run"], each["conn"], each["rule"]) for each in analysis.judging.occurrences("redis-cluster")]
    assert found == [("run-1", 1, "select-database"), ("run-2", 1, "database-in-use")]


def test_a_transaction_that_spans_two_batches_is_judged_as_one() -> None:
    rows = transaction("SADD queues", "LPUSH queue:a")
    rows = [{**row, "seq": i, "ts": 1000 + i} for i, row in enumerate(rows)]
    with Analysis(Rows(rows, batch_rows=2), occurrences=True) as analysis:
        (found,) = analysis.judging.occurrences("redis-cluster")
    assert found["keys"] == [b"queue:a", b"queues"]


@pytest.mark.parametrize(
    ("body", "key_free"),
    [
        (b"return 1", True),
        (b"return redis.sha1hex(ARGV[1]) .. ARGV[2]", True),
        (b"redis.log(redis.LOG_WARNING, 'x') return redis.status_reply('OK')", True),
        (b"return redis.call('TIME')", True),
        (b"return redis.call( \"publish\", ARGV[1], ARGV[2])", True),
        (b"return redis.call('GET', 'a')", False),
        (b"return redis.pcall('DEL', ARGV[1])", False),
        (b"local call = redis.call return call('GET', 'a')", False),
        (b"return redis['call']('GET', 'a')", False),
        (b"return redis.call('TIME' .. ARGV[1])", False),
        (b"return _G['re' .. 'dis']", False),
        (b"return loadstring(ARGV[1])()", False),
    ],
)  # fmt: skip
def test_a_script_is_key_free_only_if_it_cannot_reach_a_key(body: bytes, key_free: bool) -> None:
    assert bool(script_facts(body) & ScriptFact.NO_KEYS) == key_free


# sidekiq.md, section 3: operation, its commands, and whether a cluster refuses it.
HEARTBEAT_64 = (
    "INCRBY stat:processed", "INCRBY stat:processed:2026-11-23", "EXPIRE stat:processed:2026-11-23",
    "INCRBY stat:failed", "INCRBY stat:failed:2026-11-23", "EXPIRE stat:failed:2026-11-23", "UNLINK h:1:ab:workers",
)  # fmt: skip
SIDEKIQ: list[tuple[str, list[dict[str, Any]], bool]] = [
    ("BRPOP of three queues", [command("BRPOP queue:default queue:critical queue:low")], True),
    ("BRPOP of one queue", [command("BRPOP queue:default")], False),
    ("BRPOP of queues with one tag", [command("BRPOP queue:{q}a queue:{q}b")], False),
    ("push up to 6.2", transaction("SADD queues", "LPUSH queue:default"), True),
    ("push from 6.3", [command("SADD queues"), command("LPUSH queue:default")], False),
    ("heartbeat's statistics up to 6.4", transaction(*HEARTBEAT_64), True),
    ("heartbeat's statistics from 7.0", [command(text) for text in HEARTBEAT_64], False),
    ("heartbeat's process", transaction("SADD processes", "EXISTS h:1:ab", "HSET h:1:ab", "RPOP h:1:ab-signals"), True),
    ("poller", [command("EVALSHA retry", flags=Flag.SCRIPT), command("EVALSHA schedule", flags=Flag.SCRIPT)], False),
    ("dead job", transaction("ZADD dead", "ZREMRANGEBYSCORE dead", "ZREMRANGEBYRANK dead"), False),
    ("clear queue", transaction("UNLINK queue:default", "SREM queues"), True),
    ("one process", transaction("SISMEMBER processes", "HMGET h:1:ab"), True),
    ("history page", [command("MGET stat:processed:2026-11-22 stat:processed:2026-11-23")], True),
    ("reset of the statistics", [command("MSET stat:failed stat:processed")], True),
    ("another database", [command("SELECT", flags=Flag.FOREIGN_DB)], True),
    ("INFO and PING", [command("INFO"), command("PING")], False),
]


@pytest.mark.parametrize(("name", "refused"), [(name, refused) for name, _, refused in SIDEKIQ])
def test_sidekiqs_operations_are_judged_as_a_cluster_judged_them(
    findings: dict[str, list[dict[str, Any]]], name: str, refused: bool
) -> None:
    assert any(each["severity"] == "error" for each in findings[name]) == refused
