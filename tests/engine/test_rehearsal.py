"""What a target refuses: decisions as data, without sessions."""

from __future__ import annotations

from itertools import pairwise

import pytest

from protocol import keyspecs
from protocol.commands import table
from protocol.keyspecs import Keys
from proxy.engine.rehearsal import (
    BOUNDARY,
    READS_ARGUMENTS,
    SUSPECT,
    Asked,
    Refusals,
    Rehearsing,
    TransactionCheck,
    Txn,
    decide,
    suspects,
)
from proxy.report.targets import TARGETS, TargetError, find
from proxy.report.targets.rehearse import refusals, rehearsable

REDIS_CLUSTER = refusals(find("redis-cluster"))
CROSS = "CROSSSLOT Keys in request don't hash to the same slot"
ABORT = "EXECABORT Transaction discarded because of previous errors."
#: In the manner of Redis Enterprise: six commands may cross, a transaction is refused when the command is queued.
AT_QUEUE = Refusals(
    cross_slot=CROSS,
    may_cross=frozenset({"DEL", "MSET", "MGET", "EXISTS", "UNLINK", "TOUCH"}),
    transaction=TransactionCheck.AT_QUEUE,
    in_transaction=(
        f"{CROSS} (context='within MULTI', command='{{command}}', original-slot='{{first_slot}}', "
        "wrong-slot='{slot}', first-key='{first_key}', violating-key='{key}')"
    ),
    databases=1,
    select="ERR no database",
    at_once={"DEBUG": "ERR unknown command 'debug'"},
)


def asked(line: str) -> Asked:
    """The command of a line, as the engine would ask."""
    args = [word.encode() for word in line.split()]
    spec = keyspecs.lookup_name(args)
    if spec is None:
        return Asked("")
    fits = len(args) == spec.arity if spec.arity > 0 else len(args) >= -spec.arity
    found = keyspecs.find(args) if fits else None
    keys = [args[i] for i in found.indexes] if isinstance(found, Keys) else []
    return Asked(spec.name, keys, args if spec.name in READS_ARGUMENTS else (), fits)


def outcomes(rules: Refusals, lines: str) -> list[str]:
    """What each of some commands, separated by ``|``, meets: ``-``, or how and with what error."""
    txn: Txn | None = None
    seen = []
    for line in lines.split("|"):
        txn, decision = decide(rules, txn, asked(line))
        seen.append("-" if decision is None else f"{decision.way.value}: {decision.error.split(' (')[0]}")
    return seen


CASES = [
    ("MGET {t}a {t}b", "-"),
    ("MGET a b", f"answer: {CROSS}"),
    ("MGET", "-"),
    ("MSET a 1 b", f"answer: {CROSS}"),
    ("NOPE a b", "-"),
    ("EVAL x 2 a b", f"answer: {CROSS}"),
    ("EVAL x 3 a b", "-"),
    ("SSUBSCRIBE a b", f"answer: {CROSS}"),
    ("SUBSCRIBE a b", "-"),
    ("SELECT 0", "-"),
    ("SELECT x", "-"),
    ("SELECT 00", "-"),
    ("SELECT", "-"),
    ("SELECT -1", "answer: ERR SELECT is not allowed in cluster mode"),
    ("SELECT 99999999999", "-"),
    ("SWAPDB x y", "answer: ERR SWAPDB is not allowed in cluster mode"),
    ("COPY a b DB 1", f"answer: {CROSS}"),
    ("COPY a a DB 1", "answer: ERR Copying to another database is not allowed in cluster mode"),
    ("COPY a a DB 1 DB 0", "-"),
    ("COPY a a DB 16", "answer: ERR DB index is out of range"),
    ("COPY a a REPLACE", "-"),
    ("COPY a a DB 1 NOW", "-"),
    ("SORT a BY w_*", "answer: ERR BY option of SORT denied in Cluster mode."),
    ("SORT a BY nosort GET #", "answer: ERR GET option of SORT denied in Cluster mode."),
    ("SORT a LIMIT x 1 BY w_*", "-"),
    ("SORT_RO a STORE b BY w_*", "-"),
    ("SORT a NOW BY w_*", "-"),
    ("SORT a BY", "-"),
    ("SORT a STORE b", f"answer: {CROSS}"),
    ("REPLICAOF NO ONE", "answer: ERR REPLICAOF not allowed in cluster mode."),
    ("EXEC", "-"),
    ("MULTI|SET a 1|SET b 1|EXEC", f"-|-|-|end: {CROSS}"),
    ("MULTI|SET a 1|SET b 1|DISCARD|SET a 1|EXEC", "-|-|-|-|-|-"),
    ("MULTI|SET a 1|SET b 1|RESET|EXEC", "-|-|-|-|-"),
    ("MULTI|SET a 1|MGET a b|SET b 1|EXEC", f"-|-|answer: {CROSS}|-|end: {ABORT}"),
    ("MULTI|SET a 1|SET b 1|MGET a b|EXEC", f"-|-|-|answer: {CROSS}|end: {CROSS}"),
    ("MULTI|GET|SET a 1|SET b 1|EXEC", "-|-|-|-|-"),
    ("MULTI|SET a 1|SET b 1|EXEC x|EXEC", "-|-|-|-|-"),
    ("MULTI|MULTI|SET a 1|SET b 1|EXEC", f"-|-|-|-|end: {CROSS}"),
    ("MULTI x|SET a 1|SET b 1|EXEC", "-|-|-|-"),
    ("MULTI|WATCH b|SET a 1|EXEC", "-|-|-|-"),
    ("MULTI|WATCH a b|SET a 1|EXEC", f"-|answer: {CROSS}|-|end: {ABORT}"),
    ("MULTI|SWAPDB 0 1|SET a 1|EXEC", f"-|later: ERR SWAPDB is not allowed in cluster mode|-|run: {ABORT}"),
    ("MULTI|MOVE a 1|SET b 1|EXEC", f"-|later: ERR MOVE is not allowed in cluster mode|-|end: {CROSS}"),
]


@pytest.mark.parametrize(("lines", "expected"), CASES, ids=[lines for lines, _ in CASES])
def test_redis_cluster_refuses_as_a_node_that_serves_every_slot(lines: str, expected: str) -> None:
    assert "|".join(outcomes(REDIS_CLUSTER, lines)) == expected


AT_QUEUE_CASES = [
    ("MGET a b", "-"),
    ("RENAME a b", f"answer: {CROSS}"),
    ("MULTI|SET a 1|SET b 1|SET a 2|EXEC", f"-|-|answer: {CROSS}|-|end: {ABORT}"),
    ("MULTI|MGET a b|EXEC", f"-|answer: {CROSS}|end: {ABORT}"),
    ("MULTI|SET a 1|SELECT 1|EXEC", f"-|-|later: ERR no database|run: {ABORT}"),
    ("MULTI|DEBUG JMAP|EXEC", f"-|answer: ERR unknown command 'debug'|end: {ABORT}"),
    ("SWAPDB 0 1", "-"),
]


@pytest.mark.parametrize(("lines", "expected"), AT_QUEUE_CASES, ids=[lines for lines, _ in AT_QUEUE_CASES])
def test_a_target_may_refuse_when_a_command_is_queued(lines: str, expected: str) -> None:
    assert "|".join(outcomes(AT_QUEUE, lines)) == expected


def test_an_error_may_name_the_keys_and_slots_that_do_not_fit() -> None:
    txn, _ = decide(AT_QUEUE, Txn(), asked("SET key1 x"))
    _, decision = decide(AT_QUEUE, txn, asked("SET key2 x"))
    assert decision is not None
    assert (
        decision.reply()
        == (
            f"-{CROSS} (context='within MULTI', command='SET', original-slot='9189', wrong-slot='4998', "
            "first-key='key1', violating-key='key2')\r\n"
        ).encode()
    )


def test_a_line_end_in_a_key_does_not_end_the_error() -> None:
    txn, _ = decide(AT_QUEUE, Txn(), Asked("SET", [b"a\r\nb"]))
    _, decision = decide(AT_QUEUE, txn, Asked("SET", [b"c\n"]))
    assert decision is not None
    assert decision.reply().count(b"\r\n") == 1


def test_exec_is_spoiled_by_the_source_if_that_refused_a_command_first() -> None:
    txn: Txn | None = Txn()
    for line in ("GET a", "GET b"):
        txn, _ = decide(REDIS_CLUSTER, txn, asked(line))
    _, decision = decide(REDIS_CLUSTER, txn, asked("EXEC"))
    assert decision is not None
    assert decision.reply(refused_at=0) == f"-{ABORT}\r\n".encode()
    assert decision.reply(refused_at=2) == f"-{CROSS}\r\n".encode()


def test_of_a_command_that_is_not_whole_only_what_is_certain_is_decided() -> None:
    assert decide(REDIS_CLUSTER, None, Asked("MSET", [b"a", b"b"], whole=False))[1] is not None
    assert decide(REDIS_CLUSTER, None, Asked("COPY", [b"a"], whole=False))[1] is None
    assert decide(REDIS_CLUSTER, None, Asked("SWAPDB", whole=False))[1] is None


@pytest.mark.parametrize("percent", [1, 30, 50, 99, 100])
def test_the_share_of_connections_is_exact_and_spread(percent: int) -> None:
    rehearsing = Rehearsing(REDIS_CLUSTER, percent, b"")
    chosen = [conn for conn in range(1, 201) if rehearsing.chooses(conn)]
    assert len(chosen) == 2 * percent
    gaps = [after - before for before, after in pairwise(chosen)]
    assert max(gaps, default=1) - min(gaps, default=1) <= 1


def test_every_command_that_may_be_refused_is_a_suspect() -> None:
    commands = table().commands
    marks = dict(zip(commands, suspects(REDIS_CLUSTER, commands.values()), strict=True))
    assert {name for name, mark in marks.items() if mark == BOUNDARY} == {"MULTI", "EXEC", "DISCARD", "RESET"}
    for lines, expected in CASES:
        if "|" not in lines and expected != "-":
            assert marks[asked(lines).name] == SUSPECT, lines
    assert not any(marks[name] for name in ("GET", "SET", "LPUSH", "HSET", "PING", "INFO", "SUBSCRIBE", "SPUBLISH"))


REHEARSABLE = [name for name in TARGETS if name not in ("envoy", "twemproxy")]


@pytest.mark.parametrize("name", REHEARSABLE)
def test_every_target_answers_in_redis_words_and_says_where_a_text_is_not_known(name: str) -> None:
    rules = refusals(rehearsable(name))
    texts = [rules.cross_slot, rules.exec_abort, rules.select, rules.copy, rules.sort_by, rules.sort_get]
    texts += [*rules.when_run.values(), *rules.at_once.values()]
    for text in filter(None, texts):
        assert text.split(" ")[0].isupper(), text
        assert not text.startswith("("), text
        assert "{" not in text, text
        assert "not verified" not in text or name in text


@pytest.mark.parametrize("name", ["envoy", "twemproxy"])
def test_a_target_whose_slots_nobody_knows_is_not_rehearsed(name: str) -> None:
    with pytest.raises(TargetError, match=f"{name} can't be rehearsed"):
        rehearsable(name)


@pytest.mark.parametrize(
    ("name", "lines", "expected"),
    [
        ("single", "MGET a b", ["-"]),
        ("single", "MULTI|SET a 1|SET b 1|EXEC", ["-", "-", "-", "-"]),
        ("redis-enterprise", "MGET a b", ["-"]),
        ("redis-enterprise", "MGET {}a {}b|SINTER {}a {}b", ["-", "-"]),
        ("redis-enterprise", "SINTER a b", [f"answer: {CROSS}"]),
        ("redis-cluster", "SINTER {}a {}b", [f"answer: {CROSS}"]),
        ("valkey-cluster-9", "MGET a b", [f"answer: {CROSS}"]),
    ],
)
def test_a_target_by_name(name: str, lines: str, expected: list[str]) -> None:
    assert outcomes(refusals(rehearsable(name)), lines) == expected
