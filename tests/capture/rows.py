"""Rows for tests: SCHEMA batches out of small dicts, and whole capture directories out of batches.

Knows: a harmless default for each column. Refuses to know: what the engine would have recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from proxy.capture.format import SCHEMA, SLOT_NONE, Flag, ReplyKind

START_NS = 1_700_000_000_000_000_000

DEFAULTS: dict[str, Any] = {
    "ts": START_NS,
    "conn": 1,
    "seq": 0,
    "client_addr": b"127.0.0.1:50000",
    "client_name": b"",
    "db": 0,
    "command": b"PING",
    "keys": [],
    "keys_cut": [],
    "nkeys": 0,
    "slot": SLOT_NONE,
    "unknown": 0,
    "txn": 0,
    "latency_ns": 100_000,
    "held_ns": 0,
    "request_bytes": 14,
    "reply_bytes": 7,
    "reply": ReplyKind.SIMPLE,
    "error": b"",
    "served_key": b"",
    "backend": 0,
    "epoch": 0,
    "flags": 0,
    "script": b"",
    "args": [],
    "reply_checksum": 0,
    "gap": b"",
    "gap_rows": 0,
    "nargs": 1,
    "reply_items": -1,
}


def _bytes(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list | tuple):
        return [_bytes(item) for item in value]
    return value


def row(given: Mapping[str, Any], index: int = 0) -> dict[str, Any]:
    """One full row. Left out: ts and seq count on from START_NS and 0, nkeys is len(keys), and the flags that say
    "present" (SERVED, ARGS) follow from served_key and args. Strings become bytes."""
    unknown = set(given) - set(DEFAULTS)
    if unknown:
        raise KeyError(f"no such column: {sorted(unknown)}")
    full = {name: _bytes(value) for name, value in {**DEFAULTS, **given}.items()}
    if "ts" not in given:
        full["ts"] = START_NS + index * 1_000_000
    if "seq" not in given:
        full["seq"] = index
    if "nkeys" not in given:
        full["nkeys"] = len(full["keys"])
    if "served_key" in given:
        full["flags"] |= Flag.SERVED
    if "args" in given:
        full["flags"] |= Flag.ARGS
    full["flags"] = int(full["flags"])
    full["reply"] = int(full["reply"])
    full["unknown"] = int(full["unknown"])
    return full


def batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """A batch with SCHEMA: ``batch([dict(command="GET", keys=[b"a"]), dict(gap="disk full", gap_rows=3)])``."""
    return pa.RecordBatch.from_pylist([row(given, i) for i, given in enumerate(rows)], schema=SCHEMA)


def write_capture(
    directory: Path,
    batches: Sequence[pa.RecordBatch],
    *,
    run: str = "20261123T030141Z-4242",
    worker: int = 0,
    args: str = "keys",
    backends: Sequence[str] = ("127.0.0.1:6379",),
    scripts: Mapping[bytes, bytes] | None = None,
) -> Path:
    """A closed capture in ``directory`` (made if missing): one segment, one frame per batch. Returns ``directory``."""
    from proxy.capture.segments import SegmentFile, SegmentHeader

    header = SegmentHeader(run, worker, START_NS, "0.1.0", args, tuple(backends))
    segment = SegmentFile.create(directory, header, number=1, opened_ns=START_NS)
    if scripts:
        segment.write_scripts(scripts)
    for each in batches:
        segment.write_batch(each)
    segment.close()
    return directory
