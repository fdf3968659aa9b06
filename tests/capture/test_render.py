"""What ``capture cat`` prints of a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.capture.format import UNKNOWN_TEXT, Flag, ReplyKind, UnknownWhy
from proxy.capture.reader import Capture
from proxy.capture.render import flag_names, lines, text, values
from tests.capture import rows


def shown(tmp_path: Path, *given: dict[str, Any], args: str = "keys") -> list[dict[str, Any]]:
    rows.write_capture(tmp_path, [rows.batch(given)], args=args)
    return [json.loads(line) for batch in Capture([tmp_path]).batches() for line in lines(batch)]


def test_a_plain_row(tmp_path: Path) -> None:
    row: dict[str, Any] = dict(
        ts=12, conn=3, seq=4, client_name="web", db=2, command="MGET", keys=["a", "b"], nargs=3, slot=-2
    )
    row["flags"] = Flag.WRITE
    assert shown(tmp_path, row) == [
        {
            "ts": 12, "run": "20261123T030141Z-4242", "worker": 0, "conn": 3, "seq": 4,
            "client": {"addr": "127.0.0.1:50000", "name": "web"}, "db": 2, "command": "MGET", "key": "a",
            "keys": ["a", "b"], "nkeys": 2, "nargs": 3, "slot": "cross", "txn": None,
            "latency_ns": 100_000, "held_ns": 0, "request_bytes": 14, "reply_bytes": 7, "reply": "simple",
            "reply_items": None, "error": None, "served_key": None,
            "backend": "127.0.0.1:6379", "epoch": 0, "flags": ["write"],
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        (dict(slot=-1), "slot", None),
        (dict(slot=-3, unknown=UnknownWhy.NO_KEY_SPEC), "slot", "unknown"),
        (dict(slot=-3, unknown=UnknownWhy.NO_KEY_SPEC), "unknown", UNKNOWN_TEXT[UnknownWhy.NO_KEY_SPEC]),
        (dict(slot=16383), "slot", 16383),
        (dict(txn=7), "txn", 7),
        (dict(latency_ns=-1, reply=ReplyKind.LOST), "latency_ns", None),
        (dict(latency_ns=-1, reply=ReplyKind.LOST), "reply", "lost"),
        (dict(error="WRONGTYPE", reply=ReplyKind.ERROR), "error", "WRONGTYPE"),
        (dict(served_key=""), "served_key", ""),
        (dict(nargs=0), "nargs", None),
        (dict(reply=ReplyKind.MAP, reply_items=0), "reply_items", 0),
        (dict(client_name=""), "client", {"addr": "127.0.0.1:50000", "name": None}),
        (dict(flags=Flag.REPLIED_BY_PROXY | Flag.BLOCKING), "flags", ["blocking", "replied_by_proxy"]),
        (dict(command="CLIENT SETNAME"), "command", "CLIENT SETNAME"),
        (dict(keys=["a\\b\xe9".encode("latin-1")]), "key", "a\\\\b\\xe9"),
        (dict(keys=["é\n☃".encode()]), "key", "é\n☃"),
        (dict(keys=[]), "key", None),
        (dict(script="a" * 40), "script", "a" * 40),
        (dict(args=["SET", "k", b"\x00\xff"]), "args", ["SET", "k", "\x00\\xff"]),
    ],
)
def test_a_field(tmp_path: Path, given: dict[str, Any], name: str, value: Any) -> None:
    assert shown(tmp_path, {}, given, {})[1][name] == value


def test_fields_that_most_rows_lack_are_left_out(tmp_path: Path) -> None:
    plain, cut = shown(tmp_path, {}, dict(keys=["x"], keys_cut=[dict(index=0, length=900, hash=2**64 - 1)]))
    assert not {"args", "script", "unknown", "keys_cut"} & set(plain)
    assert cut["keys_cut"] == [{"index": 0, "length": 900, "hash": 2**64 - 1}]


def test_mode_none_shows_no_key_fields(tmp_path: Path) -> None:
    (row,) = shown(tmp_path, dict(nkeys=1), args="none")
    assert not {"key", "keys"} & set(row)
    assert row["nkeys"] == 1


def test_a_gap_row(tmp_path: Path) -> None:
    some, unknown, after = shown(tmp_path, dict(gap="queue", gap_rows=3, ts=1, conn=0), dict(gap="x", ts=2, conn=9), {})
    assert some == {"gap": "queue", "rows": 3, "ts": 1, "run": "20261123T030141Z-4242", "worker": 0, "conn": None}
    assert (unknown["rows"], unknown["conn"]) == (None, 9)
    assert after["command"] == "PING"


def test_every_flag_reply_and_reason_has_a_word() -> None:
    assert set(UNKNOWN_TEXT) == set(UnknownWhy)
    for flag in Flag:
        silent = flag in (Flag.ARGS, Flag.SERVED, Flag.KEYS_CUT)
        assert flag_names(int(flag)) == (() if silent else (str(flag.name).lower(),))


def unescaped(shown: str) -> bytes:
    """The inverse of ``text``."""
    out, at = b"", 0
    while at < len(shown):
        if shown.startswith("\\\\", at):
            out, at = out + b"\\", at + 2
        elif shown.startswith("\\x", at):
            out, at = out + bytes.fromhex(shown[at + 2 : at + 4]), at + 4
        else:
            out, at = out + shown[at].encode(), at + 1
    return out


@given(st.one_of(st.binary(), st.text().map(str.encode), st.text(alphabet="\\x0f").map(str.encode)))
def test_every_string_can_be_turned_back_into_its_bytes(data: bytes) -> None:
    assert unescaped(json.loads(json.dumps(text(data)))) == data


@given(st.lists(st.lists(st.binary(max_size=5), max_size=3), min_size=1), st.integers(0, 3), st.integers(0, 3))
def test_columns_become_the_same_lists_as_arrow_makes(keys: list[list[bytes]], start: int, end: int) -> None:
    numbered = enumerate(keys)
    batch = rows.batch([dict(keys=each, ts=n, slot=-n, flags=2**31, client_name=b"n%d" % n) for n, each in numbered])
    part = batch.slice(start, max(len(keys) - start - end, 0))
    for column in part.columns:
        assert values(column) == column.to_pylist()
