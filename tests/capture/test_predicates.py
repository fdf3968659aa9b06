"""What a pattern means, and that the three readings of a predicate (SQL, mask, one row) agree on every row."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.capture.glob import AnyMatches, Glob, Matches
from proxy.capture.predicate import Fewer, Filled, Predicate, TimeOfDay

MINUTE_NS = 60 * 10**9


def matching(pattern: str, value: bytes) -> bool:
    return Matches("x", Glob.of(pattern)).matches({"x": value})


@pytest.mark.parametrize(
    ("pattern", "values", "others"),
    [
        ("GET", [b"GET"], [b"GETSET", b"get", b""]),
        ("", [b""], [b"a"]),
        ("*", [b"", b"a\n\x00\xff"], []),
        ("queue:*", [b"queue:", b"queue:\na"], [b"aqueue:", b"queue"]),
        ("*:lock", [b":lock", b"a:lock"], [b"a:lock1"]),
        ("h?llo", [b"hello", b"h\xffllo", b"h\nllo"], [b"hllo", "héllo".encode()]),
        ("h[ae]llo", [b"hello", b"hallo"], [b"hillo"]),
        ("h[a-c]llo", [b"hbllo"], [b"hdllo"]),
        ("h[^e]llo", [b"hallo", b"h\xffllo"], [b"hello", b"hllo"]),
        ("h[!e]llo", [b"hallo"], [b"hello"]),
        (r"[\]-]", [b"]", b"-"], [b"\\"]),
        (r"a\*", [b"a*"], [b"ab"]),
        (r"a\[b", [b"a[b"], [b"ab"]),
        (r"\\", [b"\\"], []),
        (r"\xff\x00*", [b"\xff\x00", b"\xff\x00a"], [b"xff"]),
        (r"[\x80-\xff]", [b"\x80", b"\xff"], [b"\x7f"]),
        ("é*", ["été"[:1].encode() + b"!"], [b"e"]),
        ("a.c$", [b"a.c$"], [b"abc"]),
    ],
)
def test_a_pattern_matches_whole_values_byte_by_byte(pattern: str, values: list[bytes], others: list[bytes]) -> None:
    assert [value for value in values if not matching(pattern, value)] == []
    assert [value for value in others if matching(pattern, value)] == []


def test_a_pattern_may_be_folded_to_the_case_of_its_column() -> None:
    glob = Glob.of(r"cl[^i-i]\x65nt*", bytes.upper)
    assert Matches("x", glob).matches({"x": b"CLXENT ID"})
    assert not Matches("x", glob).matches({"x": b"CLIENT ID"})


@pytest.mark.parametrize(
    ("pattern", "says"),
    [("a[b", 'without its "]"'), ("[]", "without"), ("[z-a]", "ends before"), ("a\\", "single backslash")],
)
def test_what_is_no_pattern_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("[", r"\[")):
        Glob.of(pattern)


ALPHABET = b"aAb0*?[\\\n\x00\xff'"
values = st.lists(st.sampled_from(ALPHABET), max_size=4).map(bytes)
patterns = st.lists(
    st.sampled_from(
        ["a", "A", "b", "*", "?", "[ab]", "[^a]", r"\*", r"\xff", r"\\", "0", "[A-b]", r"\[", "'", r"\x00"]
    ),
    max_size=4,
).map("".join)
rows = st.fixed_dictionaries(
    {
        "name": values,
        "keys": st.lists(values, max_size=3),
        "nkeys": st.integers(0, 4),
        "ts": st.integers(0, 4 * 1440).map(lambda minutes: minutes * MINUTE_NS),
        "run": st.text("ab0é", max_size=3),
    }
)
SCHEMA = pa.schema(
    [
        ("name", pa.binary()),
        ("keys", pa.list_(pa.binary())),
        ("nkeys", pa.int32()),
        ("ts", pa.int64()),
        ("run", pa.string()),
    ]
)
simple = st.one_of(
    patterns.map(lambda text: Matches("name", Glob.of(text))),
    patterns.map(lambda text: Matches("run", Glob.of(text))),
    patterns.map(lambda text: AnyMatches("keys", Glob.of(text))),
    st.just(Fewer("keys", "nkeys")),
    st.just(Filled("keys")),
    st.tuples(st.integers(0, 1440), st.integers(0, 1440)).map(
        lambda span: TimeOfDay("ts", min(span) * MINUTE_NS, max(span) * MINUTE_NS)
    ),
)
predicates: st.SearchStrategy[Predicate] = st.recursive(
    simple, lambda inner: st.one_of(inner.map(lambda p: ~p), st.tuples(inner, inner).map(lambda p: p[0] & p[1] | p[0]))
)


def three_readings(predicate: Predicate, table: pa.RecordBatch) -> tuple[list[bool], list[bool], list[bool]]:
    with duckdb.connect() as db:
        db.register("t", table)
        by_sql = [answer for (answer,) in db.execute(f"SELECT {predicate.sql()} FROM t").fetchall()]
    return by_sql, predicate.mask(table).to_pylist(), [predicate.matches(row) for row in table.to_pylist()]


@settings(max_examples=150, deadline=None)
@given(st.lists(rows, min_size=1, max_size=20), predicates, st.integers(0, 3))
def test_sql_mask_and_row_say_the_same(given_rows: list[dict[str, Any]], predicate: Predicate, start: int) -> None:
    table = pa.RecordBatch.from_pylist(given_rows, schema=SCHEMA).slice(start)
    by_sql, by_mask, by_row = three_readings(predicate, table)
    assert by_mask == by_row
    assert by_sql == by_row
