"""Rows out of MONITOR's lines: what the recorder would have written, and where it says that something is missing."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from proxy.capture import monitor_import
from proxy.capture.format import SCHEMA, SLOT_CROSS, ArgsMode, Flag, ReplyKind
from proxy.capture.monitor_import import MIXED, NO_LINE, NOT_SHOWN, START_MISSING, MonitorImport
from tests.capture.test_monitor_lines import line
from tests.engine.playbook import TABLE

ONE, TWO = b"127.0.0.1:1", b"127.0.0.1:2"


def imported(*lines: bytes, mode: ArgsMode = ArgsMode.KEYS) -> tuple[list[dict[str, Any]], MonitorImport]:
    """The rows that come of these lines."""
    batches: list[pa.RecordBatch] = []
    played = MonitorImport(TABLE, mode, batches.append, lambda sha, body: None)
    for raw in lines:
        played.take(raw)
    played.finish()
    for batch in batches:
        assert batch.schema == SCHEMA
        batch.validate(full=True)
    return [row for batch in batches for row in batch.to_pylist()], played


def client(text: str, source: bytes = ONE, db: int = 0) -> bytes:
    return line(*text.encode().split(), source=source, db=db)


def shown(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["gap"] or row["command"]).decode(), row["conn"], row["db"], [k.decode() for k in row["keys"]]


# (what happens, lines, rows)
CASES: list[tuple[str, list[bytes], list[tuple[Any, ...]]]] = [
    ("a command", [client("set a 1")], [("SET", 1, 0, ["a"])]),
    ("two clients", [client("GET a"), client("GET b", TWO), client("GET c")],
     [("GET", 1, 0, ["a"]), ("GET", 2, 0, ["b"]), ("GET", 1, 0, ["c"])]),
    ("a subcommand", [client("OBJECT ENCODING a")], [("OBJECT ENCODING", 1, 0, ["a"])]),
    ("MONITOR's OK", [b"OK\n", client("PING")], [("PING", 1, 0, [])]),
    ("a script's commands are no rows", [client("EVALSHA 00 1 a"), line(b"GET", b"b", source=b"lua")],
     [("EVALSHA", 1, 0, ["a"])]),
    ("SELECT, shown with the new database", [client("GET a"), client("SELECT 5", db=5), client("GET b", db=5)],
     [("GET", 1, 0, ["a"]), ("SELECT", 1, 0, []), ("GET", 1, 5, ["b"])]),
    ("a refused SELECT", [client("SELECT 99", db=0), client("GET b")], [("SELECT", 1, 0, []), ("GET", 1, 0, ["b"])]),
    ("a database that was selected before", [client("GET a", db=3), client("GET b", db=3)],
     [("GET", 1, 3, ["a"]), ("GET", 1, 3, ["b"])]),
    ("a database that changed unseen: another connection", [client("GET a"), client("GET b", db=3)],
     [("GET", 1, 0, ["a"]), ("GET", 2, 3, ["b"])]),
    ("RESET", [client("GET a"), client("SELECT 3", db=3), client("RESET"), client("GET b")],
     [("GET", 1, 0, ["a"]), ("SELECT", 1, 0, []), ("RESET", 1, 3, []), ("GET", 1, 0, ["b"])]),
    ("RESET of one that was in another database before", [client("GET a", db=3), client("RESET"), client("GET b")],
     [("GET", 1, 3, ["a"]), ("RESET", 1, 3, []), ("GET", 2, 0, ["b"])]),
    ("QUIT ends a connection", [client("QUIT"), client("GET a")], [("QUIT", 1, 0, []), ("GET", 2, 0, ["a"])]),
    ("a subscription, and a client that goes on", [client("SUBSCRIBE c d"), client("UNSUBSCRIBE"), client("GET a")],
     [("SUBSCRIBE", 1, 0, []), ("UNSUBSCRIBE", 1, 0, []), ("GET", 1, 0, ["a"])]),
    ("CLIENT REPLY OFF", [client("CLIENT REPLY OFF"), client("GET a"), client("CLIENT REPLY ON"), client("GET b")],
     [("CLIENT REPLY", 1, 0, []), ("GET", 1, 0, ["a"]), ("CLIENT REPLY", 1, 0, []), ("GET", 1, 0, ["b"])]),
    ("garbage", [client("GET a"), b"oops\n", b"oops\n", client("GET b")],
     [("GET", 1, 0, ["a"]), ("GET", 1, 0, ["b"]), (NO_LINE, 0, 0, [])]),
    ("a transaction that began before the log", [client("GET a"), client("EXEC")],
     [("GET", 1, 0, ["a"]), ("EXEC", 1, 0, []), (START_MISSING, 0, 0, [])]),
    ("a transaction that was given up", [client("MULTI"), client("EXEC")],
     [("MULTI", 1, 0, []), ("EXEC", 1, 0, []), (NOT_SHOWN, 0, 0, [])]),
    ("a transaction that was discarded", [client("MULTI"), client("DISCARD")],
     [("MULTI", 1, 0, []), ("DISCARD", 1, 0, [])]),
    ("unix clients look like one", [client(text, b"unix:/s") for text in ("MULTI", "GET a", "EXEC")],
     [("MULTI", 1, 0, []), ("GET", 1, 0, ["a"]), ("EXEC", 1, 0, []), (MIXED, 0, 0, [])]),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "rows"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_lines_become_rows(lines: list[bytes], rows: list[tuple[Any, ...]]) -> None:
    assert [shown(row) for row in imported(*lines)[0]] == rows


def test_a_row_says_that_there_was_no_reply() -> None:
    [row] = imported(client("BRPOP a b 1"))[0]
    sent = b"*4\r\n$5\r\nBRPOP\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\n1\r\n"
    expected = {
        "ts": 1_700_000_000_123_456_000, "latency_ns": -1, "reply": ReplyKind.NONE, "reply_bytes": 0, "error": b"",
        "reply_items": -1, "slot": SLOT_CROSS, "request_bytes": len(sent),
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["flags"] & Flag.BLOCKING


def test_a_transaction_is_judged_on_its_exec_as_the_recorder_does() -> None:
    rows, _ = imported(
        client("WATCH a"), client("MULTI"), client("SET a 1"), client("PING", TWO),
        client("MSET b 1 c 2"), client("EXEC"),
    )  # fmt: skip
    assert [row["txn"] for row in rows] == [1, 1, 1, 0, 1, 1]
    assert [bool(row["flags"] & Flag.QUEUED) for row in rows] == [False, False, True, False, True, False]
    assert rows[-1]["flags"] & (Flag.TXN_CROSS | Flag.TXN_REFUSED) == Flag.TXN_REFUSED


def test_secrets_that_a_line_shows_are_not_kept() -> None:
    text = b"5ecret"
    rows, _ = imported(
        line(b"HELLO", b"3", b"AUTH", b"u", text), line(b"MIGRATE", b"h", b"1", b"k", b"0", b"9", b"AUTH", text),
        line(b"CONFIG", b"SET", b"requirepass", text), mode=ArgsMode.FULL,
    )  # fmt: skip
    assert len(rows) == 3
    assert all(row["flags"] & Flag.REDACTED and not row["args"] for row in rows)
    assert text not in repr(rows).encode()


def test_only_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_import, "MOST_CLIENTS", 2)
    rows, _ = imported(*(client("PING", b"h:%d" % n) for n in (1, 2, 3, 1, 3)))
    assert [row["conn"] for row in rows] == [1, 2, 3, 4, 3]


def test_the_counts_say_what_became_of_each_line() -> None:
    counts = imported(b"OK\n", client("GET a"), line(b"GET", b"a", source=b"lua"), b"torn")[1].counts
    assert (counts.lines, counts.commands, counts.script_lines, counts.unreadable, counts.gaps) == (4, 1, 1, 1, 1)
