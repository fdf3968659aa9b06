"""Rows as people and scripts read them: one JSON object each.

Knows: the object's fields, and how bytes become strings. Refuses to know: files, and where a row comes from.

Strings are UTF-8 as it is, a backslash is ``\\\\``, and a byte that is no UTF-8 is ``\\xNN``; JSON's own escapes come on top.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa

from proxy.capture.format import (
    SLOT_CROSS,
    SLOT_NONE,
    SLOT_UNKNOWN,
    UNKNOWN_TEXT,
    Flag,
    ReplyKind,
    UnknownWhy,
)

_CASTS = {
    pa.int64(): "q",
    pa.uint64(): "Q",
    pa.int32(): "i",
    pa.uint32(): "I",
    pa.int16(): "h",
    pa.uint8(): "B",
}
_REPLIES = {int(kind): kind.name.lower() for kind in ReplyKind}
_SLOTS: dict[int, str | None] = {SLOT_NONE: None, SLOT_CROSS: "cross", SLOT_UNKNOWN: "unknown"}
#: Bits that say that a column is present; the printed object has the field, or not.
_SILENT = Flag.ARGS | Flag.SERVED | Flag.KEYS_CUT
#: Rows are turned into Python lists this many at a time.
_SLICE_ROWS = 4096

_encode: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def text(data: bytes) -> str:
    """Bytes as a string: UTF-8 as it is, ``\\`` doubled, any other byte as ``\\xNN``."""
    return data.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


_known_text = lru_cache(maxsize=4096)(text)


@lru_cache(maxsize=1024)
def flag_names(flags: int) -> tuple[str, ...]:
    """The flags' names in lower case, in the order of their bits."""
    return tuple((flag.name or "").lower() for flag in Flag if flags & flag & ~_SILENT)


def lines(batch: pa.RecordBatch) -> Iterator[str]:
    """A batch of READ_SCHEMA as JSON, one object per row, without line ends."""
    for each in objects(batch):
        yield _encode(each)


def objects(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """A batch of READ_SCHEMA as dicts, one per row."""
    args = (batch.schema.metadata or {}).get(b"args", b"")
    for start in range(0, batch.num_rows, _SLICE_ROWS):
        yield from _objects(batch.slice(start, _SLICE_ROWS), args != b"none")


def _objects(batch: pa.RecordBatch, keys_kept: bool) -> Iterator[dict[str, Any]]:
    columns = {name: values(batch.column(name)) for name in batch.schema.names}
    names = list(columns)
    for cells in zip(*columns.values(), strict=True):
        row = dict(zip(names, cells, strict=True))
        yield _gap(row) if row["gap"] else _exchange(row, keys_kept)


def _exchange(row: dict[str, Any], keys_kept: bool) -> dict[str, Any]:
    flags, slot, latency = row["flags"], row["slot"], row["latency_ns"]
    keys = [text(key) for key in row["keys"]]
    shown: dict[str, Any] = {
        "ts": row["ts"],
        "run": row["run"],
        "worker": row["worker"],
        "conn": row["conn"],
        "seq": row["seq"],
        "client": {"addr": _known_text(row["client_addr"]), "name": _known_text(row["client_name"])},
        "db": row["db"],
        "command": _known_text(row["command"]),
    }
    if keys_kept:
        shown["key"] = keys[0] if keys else None
        shown["keys"] = keys
        if row["keys_cut"]:
            shown["keys_cut"] = row["keys_cut"]
    shown |= {
        "nkeys": row["nkeys"],
        "slot": slot if slot >= 0 else _SLOTS.get(slot, "unknown"),
        "txn": row["txn"] or None,
        "latency_ns": latency if latency >= 0 else None,
        "held_ns": row["held_ns"],
        "request_bytes": row["request_bytes"],
        "reply_bytes": row["reply_bytes"],
        "reply": _REPLIES.get(row["reply"], str(row["reply"])),
        "error": _known_text(row["error"]) if row["error"] else None,
        "served_key": text(row["served_key"]) if flags & Flag.SERVED else None,
        "backend": row["backend_name"],
        "epoch": row["epoch"],
        "flags": flag_names(flags),
    }
    if row["unknown"]:
        shown["unknown"] = _unknown(row["unknown"])
    if row["script"]:
        shown["script"] = _known_text(row["script"])
    if flags & Flag.ARGS:
        shown["args"] = [text(arg) for arg in row["args"]]
    return shown


def _gap(row: dict[str, Any]) -> dict[str, Any]:
    """A gap's object: ``rows`` null if it isn't known how many, ``conn`` null if it is no single connection's."""
    return {
        "gap": text(row["gap"]),
        "rows": row["gap_rows"] or None,
        "ts": row["ts"],
        "run": row["run"],
        "worker": row["worker"],
        "conn": row["conn"] or None,
    }


def _unknown(why: int) -> str:
    return UNKNOWN_TEXT[UnknownWhy(why)] if why in UnknownWhy._value2member_map_ else f"reason {why}"


def values(column: pa.Array) -> list[Any]:
    """A column without nulls as a list: numbers, bytes, strings, lists of these. Faster than to_pylist, which makes an Arrow
    scalar of each cell."""
    kind = column.type
    if kind in _CASTS:
        return _plain(column.buffers()[1], column.offset, len(column), _CASTS[kind])
    if pa.types.is_binary(kind):
        return _binary(column)
    if pa.types.is_list(kind):
        offsets = _plain(column.buffers()[1], column.offset, len(column) + 1, "i")
        if offsets[0] == offsets[-1]:
            return [[]] * len(column)
        inner = values(column.values.slice(offsets[0], offsets[-1] - offsets[0]))
        base = offsets[0]
        return [inner[a - base : b - base] for a, b in zip(offsets, offsets[1:], strict=False)]
    if pa.types.is_string(kind) and len(column) and column[0] == column[-1] and len(column.unique()) == 1:
        return [column[0].as_py()] * len(column)
    return list(column.to_pylist())


def _plain(buffer: pa.Buffer | None, offset: int, count: int, cast: str) -> list[int]:
    if count == 0 or buffer is None:
        return [0] * count
    width = {"q": 8, "Q": 8, "i": 4, "I": 4, "h": 2, "B": 1}[cast]
    view: list[int] = memoryview(buffer)[offset * width : (offset + count) * width].cast("B").cast(cast).tolist()  # type: ignore[call-overload]
    return view


def _binary(column: pa.Array) -> list[bytes]:
    _, offset_buffer, data_buffer = column.buffers()
    offsets = _plain(offset_buffer, column.offset, len(column) + 1, "i")
    first, last = offsets[0], offsets[-1]
    if first == last or data_buffer is None:
        return [b""] * len(column)
    data = bytes(memoryview(data_buffer)[first:last])
    return [data[a - first : b - first] for a, b in zip(offsets, offsets[1:], strict=False)]
