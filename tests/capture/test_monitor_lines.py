"""MONITOR's lines: the quoting undone byte for byte, and what is no line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.capture.monitor_lines import MonitorLine, parse_line

_ESCAPED = {b"\\": b"\\\\", b'"': b'\\"', b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t", b"\a": b"\\a", b"\b": b"\\b"}


def quoted(arg: bytes) -> bytes:
    """As Redis' sdscatrepr writes it."""
    parts = (arg[at : at + 1] for at in range(len(arg)))
    return b'"' + b"".join(_ESCAPED.get(c, c if b" " <= c <= b"~" else b"\\x%02x" % c[0]) for c in parts) + b'"'


def line(*args: bytes, source: bytes = b"127.0.0.1:50000", db: int = 0, at: bytes = b"1700000000.123456") -> bytes:
    return at + b" [%d %b] " % (db, source) + b" ".join(map(quoted, args)) + b"\n"


TRICKY = st.one_of(st.binary(max_size=40), st.text('\\" x0a]\n', max_size=12).map(str.encode))


@given(st.lists(TRICKY, min_size=1, max_size=6))
def test_what_redis_quotes_comes_back_byte_for_byte(args: list[bytes]) -> None:
    assert parse_line(line(*args)) == MonitorLine(1_700_000_000_123_456_000, 0, b"127.0.0.1:50000", args)


@pytest.mark.parametrize("source", [b"lua", b"[::1]:50000", b"unix:/run/a b].sock", b"10.0.0.1:1"])
def test_every_kind_of_source_is_read(source: bytes) -> None:
    read = parse_line(line(b"GET", b"] a", source=source, db=15))
    assert read is not None
    assert (read.source, read.db, read.args) == (source, 15, [b"GET", b"] a"])


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"OK", b"garbage", b'1700000000.123456 [0 127.0.0.1:1]', b'1700000000.1 [0 a:1] "GET"',
        b'1700000000.123456 [0 a:1] "GET', b'1700000000.123456 [0 a:1] "GET" "a', b'1700000000.123456 [0 a:1] "GET""a"',
        b'1700000000.123456 [0 a:1] "GET" "\\q"', b'1700000000.123456 [0 a:1] "GET" "\\x4"', b'[0 a:1] "GET" "a"',
        b'1700000000.123456 [0 a:1] "GET"  "a"', b'1700000000.123456 [x a:1] "GET" "a"',
        b'1700000000.123456 [0 a:1] GET a', b'1700000000.123456 [0 a:1] "GET" "a"b"',
    ],
)  # fmt: skip
def test_a_torn_or_foreign_line_is_no_line(raw: bytes) -> None:
    assert parse_line(raw) is None


@given(st.binary(max_size=120))
def test_any_bytes_are_a_line_or_none(raw: bytes) -> None:
    assert parse_line(raw) is None


@given(st.lists(TRICKY, min_size=1, max_size=3), st.data())
def test_a_line_cut_short_is_no_line_or_has_fewer_arguments(args: list[bytes], data: st.DataObject) -> None:
    whole = line(*args).rstrip(b"\n")
    cut = parse_line(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert cut is None or cut.args == args[: len(cut.args)]
