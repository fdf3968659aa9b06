"""Records become exchanges that have run; transactions are held together, or counted where a part is missing."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from proxy.mirror.transcript import Exchange, Missing, Record, Transcript


def record(text: str, reply: bytes | None = b"+OK\r\n", **more: Any) -> Record:
    words = text.encode().split()
    packed = b"".join(struct.pack("=I", len(word)) + word for word in words)
    kind = {b"-": 3, b"*": 7, b"+": 2}.get((reply or b"+")[:1], 5)
    fields = {
        "conn": 1, "name": words[0].decode(), "args": packed, "db": 0, "kind": 6 if reply == b"*-1\r\n" else kind,
        "queued": False, "holed": False, "reply": reply, "reply_bytes": len(reply or b""), "wall_ns": 5,
        "latency_ns": 1, "cost": 0,
    }  # fmt: skip
    fields |= more
    return tuple(fields.values())  # type: ignore[return-value]


def queued(text: str, **more: Any) -> Record:
    return record(text, None, queued=True, kind=2, **more)


def told(*records: Record) -> list[object]:
    """What has run, in words; transactions as lists."""
    transcript, found = Transcript(), []
    for each in records:
        step, is_transaction = transcript.take(each)
        if isinstance(step, Missing):
            found.append((step.why, step.commands))
        elif step is not None:
            said = [words(exchange) for exchange in step]
            found.append(said if is_transaction else said[0])
    assert transcript.idle
    return found


def words(exchange: Exchange) -> str:
    return f"{exchange.db}: " + " ".join(arg.decode() for arg in exchange.args or ())


MULTI, EXEC, OK = record("MULTI"), "EXEC", b"+OK\r\n"


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([record("SET a 1"), record("SET b 1", db=3)], ["0: SET a 1", "3: SET b 1"]),
        ([MULTI, queued("SET a 1"), queued("INCR n"), record(EXEC, b"*2\r\n" + OK * 2)], [["0: SET a 1", "0: INCR n"]]),
        ([MULTI, queued("SET a 1"), record(EXEC, b"*-1\r\n")], []),
        ([MULTI, queued("SET a 1"), record(EXEC, b"-EXECABORT\r\n"), record("SET b 1")], ["0: SET b 1"]),
        ([MULTI, queued("SET a 1"), record("DISCARD"), record("SET b 1")], ["0: SET b 1"]),
        ([MULTI, queued("SET a 1"), record("RESET"), record("SET b 1")], ["0: SET b 1"]),
        ([record("MULTI", b"-ERR nested\r\n"), record("SET b 1")], ["0: SET b 1"]),
        (
            [MULTI, queued("SET a 1"), queued("SELECT 2"), queued("SET b 1"), record(EXEC, b"*3\r\n" + OK * 3)],
            [["0: SET a 1", "2: SET b 1"]],
        ),
        ([queued("SET a 1"), record(EXEC, b"*2\r\n+OK\r\n+OK\r\n")], [("transaction-cut", 1)]),
        ([MULTI, queued("SET a 1", holed=True), record(EXEC, b"*1\r\n+OK\r\n")], [("transaction-cut", 1)]),
        ([MULTI, queued("SET a 1"), record(EXEC, b"*2\r\n+OK\r\n+OK\r\n")], [("transaction-cut", 1)]),
        ([MULTI, queued("SET a 1"), record(EXEC, None, kind=7)], [("transaction-cut", 1)]),
        ([MULTI, queued("SET a 1"), record(EXEC, None, kind=1)], [("reply-lost", 1)]),
        ([record("SET a 1", None, kind=1)], [("reply-lost", 1)]),
        ([record(each, None, kind=0) for each in ("MULTI", "SET a 1", "EXEC")] + [record("SET b 1")],
         [("no-reply", 1), ("no-reply", 1), "0: SET b 1"]),
        ([record("SELECT 3"), record("SET a 1", db=3)], ["3: SET a 1"]),
    ],
)  # fmt: skip
def test_what_has_run_is_told(records: list[Record], wanted: list[object]) -> None:
    assert told(*records) == wanted
