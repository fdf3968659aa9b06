"""Filter expressions: what each finds, what is said of one that means nothing, and that all readings agree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.capture.filters.expression import MOST_CHARACTERS, FilterError, parse
from proxy.capture.filters.fields import fields
from proxy.capture.format import SLOT_CROSS, SLOT_NONE, SLOT_UNKNOWN, Flag, ReplyKind, UnknownWhy
from proxy.capture.predicate import Predicate
from proxy.capture.reader import with_added
from proxy.capture.segments import SegmentHeader
from tests.capture.rows import batch

HEADER = SegmentHeader("20261123T030141Z-7", 2, 0, "0", "keys", ("10.1.1.1:6379", "10.1.1.2:6379"))


def ns(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * 10**9


def table(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return with_added(batch(rows), HEADER)


def passes(expression: str, **row: Any) -> bool:
    (answer,) = parse(expression).keeps.mask(table([row])).to_pylist()
    return bool(answer)


ROW = dict(
    command="BRPOP", keys=["queue:a", "queue:b"], slot=SLOT_CROSS, latency_ns=10_000_000, held_ns=5_000, conn=12, seq=7,
    client_name="Sidekiq (web) 1", client_addr="10.0.0.5:50123", db=2, txn=3, request_bytes=1000, reply_bytes=2048,
    reply=ReplyKind.ARRAY, flags=Flag.BLOCKING | Flag.WRITE | Flag.POP, served_key="queue:b", backend=1, epoch=4,
    script="a3f5" + "0" * 36, ts=ns("2026-11-23T04:15:30"),
)  # fmt: skip


@pytest.mark.parametrize(
    "expression",
    [
        "cmd:BRPOP and key:queue:* and latency>=10ms and slot:cross",
        "cmd:brpop", "cmd=b?pop or cmd:b[lr]pop", "CMD:BRPOP AND NOT cmd:GET", "cmd != GET", 'cmd:"BRPOP"',
        "cmd:@blocking", "cmd:@write and cmd:@pop and not cmd:@script",
        "key:queue:b", "key:*:a and key:*:b", "key:any", "not key:none", "not key:queue:c", 'key:"queue:b"',
        "served:queue:b", "served:any", "script:A3F5", "script:any", "flag:pop", "flag:served",
        "txn:3", "txn:any", "txn>2", "txn<=3", "txn!=4",
        "client:'Sidekiq (web)*'", 'client:"*(web) 1"', "client:any",
        "addr:10.0.0.5", "addr:10.0.0.5:50123", "addr:10.0.*", "conn:12 and seq:7", "conn>=12 and seq<8",
        "run:20261123*", "worker:2", "db:2", "db>0", "db!=0", "backend:10.1.1.2:*", "epoch>=4 and epoch<=4",
        "latency:10ms", "latency<11ms", "latency<=10ms", "latency>9.99ms", "latency>9999us", "held>0", "held:5us",
        "request:1kB", "request>=1000", "request<1KiB", "reply:2KiB", "reply>2kB", "kind:array", "kind!=error",
        "error:none", "unknown:none", "gap:none",
        "time:2026-11-23", "time:2026-11-23T04", "time:2026-11-23T04:15", "time:2026-11-23T04:15:30Z", "time:04:15",
        "time>=2026-11-23", "time>2026-11-22", "time<2026-11-24", "time<=2026-11-23T04", "time>04:14", "time<04:16",
        "time>=04:15:30 and time<=04:15:30", "time:2026-11-23T04:15:30.0",
        "cmd:GET or cmd:BRPOP and db:2", "(cmd:GET or cmd:BRPOP) and db:2", "cmd:BRPOP or cmd:GET and db:9",
        "not (cmd:GET or db:0)", "not not cmd:BRPOP",
    ],
)  # fmt: skip
def test_an_expression_finds_what_it_describes(expression: str) -> None:
    assert passes(expression, **ROW)
    assert not passes(f"not ({expression})", **ROW)


@pytest.mark.parametrize(
    "expression",
    [
        "cmd:BRPO", "cmd:RPOP", "key:queue", "key:QUEUE:*", "key:queue:?:*", "served:queue:a", "script:a3f6",
        "client:Sidekiq", "addr:10.0.0.50", "addr:0.0.5", "latency>10ms", "latency<10ms", "held>5us", "reply>2KiB",
        "time>2026-11-23", "time<2026-11-23", "time>2026-11-23T04:15", "time>04:15", "time<04:15", "time:04:16",
        "time:2026-11-23T05", "(cmd:GET or cmd:BRPOP) and db:9", "not cmd:BRPOP or cmd:GET", 'key:"any"', "slot:none",
        "slot>=0", "flag:queued", "kind:bulk", "error:any", "txn<3", "worker:0", "run:2026", "gap:any",
    ],
)  # fmt: skip
def test_an_expression_leaves_out_what_it_does_not_describe(expression: str) -> None:
    assert not passes(expression, **ROW)


def test_a_subcommand_is_part_of_the_command() -> None:
    assert passes('cmd:"client *"', command="CLIENT SETNAME")
    assert not passes("cmd:client", command="CLIENT SETNAME")


@pytest.mark.parametrize("expression", ["latency<1s", "latency<=1s", "latency>0", "latency:0"])
def test_no_reply_is_neither_quick_nor_slow(expression: str) -> None:
    assert not passes(expression, latency_ns=-1)
    assert passes("latency:none", latency_ns=-1)


def test_what_has_no_slot_or_no_transaction_is_in_no_order() -> None:
    assert not passes("slot<100", slot=SLOT_NONE)
    assert not passes("txn<100", txn=0)
    assert passes("slot<=100", slot=100, keys=["x"])


@pytest.mark.parametrize("value", ["::1", r"\[::1\]:5", "[*::1*"])
def test_an_ipv6_address_is_found_without_its_brackets(value: str) -> None:
    if value.startswith("[*"):
        with pytest.raises(FilterError):
            parse(f"addr:{value}")
    else:
        assert passes(f"addr:{value}", client_addr="[::1]:5")


@pytest.mark.parametrize(
    ("expression", "column", "says"),
    [
        ("", 1, "expected a condition"),
        ("cmd", 4, "expected one of : = !="),
        ("cmd GET", 5, "expected one of : = !="),
        ("cmd:", 5, "expected a value"),
        ("cmd:GET key:a", 9, 'expected "and", "or" or the end'),
        ("cmd:GET and", 12, "expected a condition"),
        ("cmd:GET and or", 13, "expected a condition"),
        ("not", 4, "expected a condition"),
        ("(cmd:GET", 9, 'expected "and", "or" or ")"'),
        ("cmd:GET)", 8, 'expected "and", "or" or the end'),
        ("key:a(b)", 6, 'expected "and", "or" or the end'),
        ('client:"a b', 8, 'expected a second " behind this one'),
        ("cmd:GET or lateny>1ms", 12, 'no field "lateny"; did you mean "latency"?'),
        ("zebra:1", 1, 'no field "zebra"'),
        ("cmd>GET", 4, '"cmd" has no order'),
        ("slot<cross", 6, '"cross" has no order'),
        ("cmd:@writ", 5, 'did you mean "@write"?'),
        ("flag:txn_cros", 6, 'did you mean "txn_cross"?'),
        ("kind:bulkk", 6, 'is none of none, lost, simple, error, integer, bulk, null'),
        ("kind:'bulk'", 6, "is none of"),
        ("latency>10", 9, 'latency: "10" has no unit; write 10ms'),
        ("latency>10parsecs", 9, "is no duration"),
        ("request>1k", 9, "is no size"),
        ("slot:16384", 6, "is too large; the most is 16,383"),
        ("conn:9999999999999999999", 6, "is too large"),
        ("db:-1", 4, "is no whole number"),
        ("time>yesterday", 6, "is no time"),
        ("time:1969-01-01", 6, "is before 1970"),
        ("script:xyz", 8, "is no SHA-1"),
        ("key:[a", 5, 'has a "[" without its "]"'),
        ("x" * (MOST_CHARACTERS + 1), MOST_CHARACTERS + 1, "more than 2,000 characters"),
        ("(" * 1500 + "db:1" + ")" * 400, 1, "too many parentheses"),
    ],
)  # fmt: skip
def test_an_expression_that_means_nothing_names_the_column_and_what_was_expected(
    expression: str, column: int, says: str
) -> None:
    with pytest.raises(FilterError) as caught:
        parse(expression)
    assert caught.value.column == column
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gap_passes_unless_the_expression_asks_for_gaps() -> None:
    gap = {"gap": "disk full", "gap_rows": 3}
    assert passes("cmd:GET", **gap)
    assert passes("gap:any", **gap)
    assert passes("gap:disk*", **gap)
    assert not passes("cmd:GET and gap:none", **gap)
    assert not passes("cmd:GET or gap:none", **gap)


@pytest.mark.parametrize(
    ("expression", "row", "kept", "doubtful"),
    [
        ("key:a", dict(keys=[], nkeys=2), False, True),
        ("key:a", dict(keys=["a"], nkeys=2), True, False),
        ("not key:a", dict(keys=[], nkeys=2), False, True),
        ("not key:a", dict(keys=["a"], nkeys=2), False, False),
        ("key:a and not key:b", dict(keys=["c"], nkeys=3), False, True),
        ("key:a and db:1", dict(keys=[], nkeys=1, db=0), False, False),
        ("key:a or db:0", dict(keys=[], nkeys=1, db=0), True, False),
        ("key:a", dict(keys=["b"], keys_cut=[dict(index=0, length=900, hash=1)]), False, True),
        ("key:a", dict(keys=["b"]), False, False),
        ("key:a", dict(unknown=UnknownWhy.NOT_IN_TABLE, slot=SLOT_UNKNOWN), False, True),
        ("key:none", dict(unknown=UnknownWhy.NOT_IN_TABLE, slot=SLOT_UNKNOWN), False, True),
        ("slot:cross", dict(unknown=UnknownWhy.NOT_IN_TABLE, slot=SLOT_UNKNOWN), False, True),
        ("slot<5", dict(unknown=UnknownWhy.NOT_IN_TABLE, slot=SLOT_UNKNOWN), False, True),
        ("slot:unknown", dict(unknown=UnknownWhy.NOT_IN_TABLE, slot=SLOT_UNKNOWN), True, False),
        ("slot:cross", dict(unknown=UnknownWhy.NOT_IN_TABLE, slot=SLOT_UNKNOWN, error="ERR"), False, False),
        ("key:a", dict(gap="disk full"), True, False),
    ],
)  # fmt: skip
def test_what_the_known_keys_do_not_decide_is_in_doubt(
    expression: str, row: dict[str, Any], kept: bool, doubtful: bool
) -> None:
    chosen = parse(expression)
    rows = table([row])
    assert chosen.keeps.mask(rows).to_pylist() == [kept]
    assert (chosen.doubts is not None and chosen.doubts.mask(rows).to_pylist() == [True]) is doubtful


def test_an_expression_about_other_things_is_never_in_doubt() -> None:
    assert parse("cmd:GET and not (latency>1ms or client:x)").doubts is None


rows = st.fixed_dictionaries(
    {
        "command": st.sampled_from(["GET", "BRPOP", "CLIENT SETNAME", "EVAL", ""]),
        "keys": st.lists(st.sampled_from(["queue:a", "queue:low", "x", ""]), max_size=2),
        "nkeys": st.integers(0, 3),
        "slot": st.sampled_from([SLOT_NONE, SLOT_CROSS, SLOT_UNKNOWN, 0, 16383]),
        "unknown": st.sampled_from([0, *map(int, UnknownWhy)]),
        "error": st.sampled_from(["", "ERR", "WRONGTYPE"]),
        "client_name": st.sampled_from(["", "Sidekiq-server 7", "web"]),
        "client_addr": st.sampled_from(["10.0.0.5:1", "[::1]:2", "unix:3"]),
        "conn": st.integers(11, 13),
        "seq": st.sampled_from([0, 99, 100]),
        "txn": st.integers(0, 2),
        "db": st.integers(0, 2),
        "latency_ns": st.sampled_from([-1, 0, 10_000_000, 10_000_001]),
        "held_ns": st.integers(0, 1),
        "request_bytes": st.sampled_from([0, 65535, 65536]),
        "reply_bytes": st.sampled_from([0, 1_000_000, 1_000_001]),
        "reply": st.sampled_from(list(ReplyKind)),
        "flags": st.lists(st.sampled_from(list(Flag)), max_size=3).map(lambda flags: int(sum(set(flags)))),
        "script": st.sampled_from(["", "a3f5" + "0" * 36]),
        "backend": st.integers(-1, 1),
        "epoch": st.integers(0, 3),
        "ts": st.sampled_from(["2026-11-23T03:59:59", "2026-11-23T04:15:00", "2026-11-24T00:00:00"]).map(ns),
        "gap": st.sampled_from(["", "", "", "disk full"]),
    }
)
examples = st.sampled_from([f"({field.example})" for field in fields().values()])
expressions = st.recursive(
    examples,
    lambda inner: st.one_of(
        inner.map(lambda text: f"not {text}"),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
    ),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(rows, min_size=1, max_size=20), st.lists(expressions, min_size=1, max_size=5))
def test_sql_mask_and_row_say_the_same_of_every_expression(given_rows: list[dict[str, Any]], texts: list[str]) -> None:
    filters = [parse(text) for text in texts]
    predicates: list[Predicate] = [each.keeps for each in filters]
    predicates += [each.doubts for each in filters if each.doubts is not None]
    exchanges = table(given_rows)
    with duckdb.connect() as db:
        db.register("t", exchanges)
        answers = db.execute(f"SELECT {', '.join(each.sql() for each in predicates)} FROM t").fetchall()
    for i, predicate in enumerate(predicates):
        by_row = [predicate.matches(row) for row in exchanges.to_pylist()]
        assert predicate.mask(exchanges).to_pylist() == by_row
        assert [answer[i] for answer in answers] == by_row


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, min_size=1, max_size=20), expressions)
def test_a_row_passes_an_expression_or_its_opposite_or_is_in_doubt(given_rows: list[dict[str, Any]], text: str) -> None:
    exchanges = table([row | {"gap": ""} for row in given_rows])
    chosen, opposite = parse(text), parse(f"not {text}")
    for row in exchanges.to_pylist():
        doubtful = chosen.doubts is not None and chosen.doubts.matches(row)
        assert [chosen.keeps.matches(row), opposite.keeps.matches(row), doubtful].count(True) == 1
