"""Captured rows for replay's tests, as short as the case allows.

Knows: what the recorder would say of a command's keys and flags. Refuses to know: what a replay makes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from protocol.commands import Trait, table
from protocol.keyspecs import Keys, find, lookup_name
from proxy.capture.format import Flag, ReplyKind
from proxy.replay.captured import Row
from proxy.replay.planner import Planner
from proxy.replay.schedule import Pace
from proxy.replay.unit import Unit

START_NS = 1_700_000_000_000_000_000
MS = 10**6


def row(text: str, at_ms: float = 0, *, conn: int = 1, seq: int = 0, took_ms: float = 0.1, **given: Any) -> Row:
    """``row("GET a", 5)``: asked 5 ms after the start, answered 0.1 ms later; ``given`` replaces columns."""
    args = [word.encode() for word in text.split(" ")]
    spec = lookup_name(args)
    found = find(args)
    keys = [args[index] for index in found.indexes] if isinstance(found, Keys) else []
    flags = Flag.ARGS
    if spec is not None and Trait.BLOCKING in spec.traits:
        flags |= Flag.BLOCKING
    full: dict[str, Any] = {
        "ts": START_NS + int(at_ms * MS), "conn": conn, "seq": seq, "db": 0,
        "command": spec.name.encode() if spec else args[0].upper(), "keys": keys, "nkeys": len(keys),
        "unknown": 0 if isinstance(found, Keys) else found.why, "latency_ns": int(took_ms * MS), "held_ns": 0,
        "request_bytes": len(text), "reply": ReplyKind.SIMPLE, "error": b"", "flags": int(flags), "args": args,
        "gap": b"", "gap_rows": 0,
    }  # fmt: skip
    return Row(**{**full, **given})


def dialogue(*texts: str, conn: int = 1, every_ms: float = 1, start_ms: float = 0, **given: Any) -> list[Row]:
    """One connection's commands, each asked after the one before was answered."""
    return [row(text, start_ms + n * every_ms, conn=conn, seq=n, **given) for n, text in enumerate(texts)]


def planner(*, speed: float | None = 1.0, max_gap_s: float = 5, writes: bool = True, most: int = 1000) -> Planner:
    return Planner(Pace(speed, int(max_gap_s * 1e9)), allow_writes=writes, most_connections=most)


def said(units: Iterable[Unit]) -> list[str]:
    """Each unit's commands as text: ``MULTI | SET a 1 | EXEC``; ``close`` for one that ends its connection."""
    return [
        " | ".join(b" ".join(sent.args).decode() for sent in unit.commands) if not unit.ends else "close"
        for unit in units
    ]


assert table().commands["BRPOP"].traits & Trait.BLOCKING
