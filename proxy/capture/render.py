"""Rows as people and scripts read them: one JSON object each.

Knows: the object's fields, and how bytes become strings. Refuses to know: files, and where a row comes from.

Strings are UTF-8 as it is, a backslash is ``\\\\``, and a byte that is no UTF-8 is ``\\xNN``; JSON's own escapes come
on top.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from json.encoder import encode_basestring
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
_REPLIES = {int(kind): f'"{kind.name.lower()}"' for kind in ReplyKind}
_SLOTS = {SLOT_NONE: "null", SLOT_CROSS: '"cross"', SLOT_UNKNOWN: '"unknown"'}
#: Bits that say that a column is present; the printed object has the field, or not.
_SERVED, _ARGS = int(Flag.SERVED), int(Flag.ARGS)  # as plain numbers: an IntFlag's "&" costs a microsecond
_SILENT = Flag.ARGS | Flag.SERVED | Flag.KEYS_CUT
#: Rows are turned into Python lists this many at a time.
_SLICE_ROWS = 4096


def text(data: bytes) -> str:
    """Bytes as a string: UTF-8 as it is, ``\\`` doubled, any other byte as ``\\xNN``."""
    return data.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def quoted(data: bytes) -> str:
    """Bytes as a JSON string."""
    return encode_basestring(text(data))


_seen = lru_cache(maxsize=8192)(quoted)  # for what comes again and again: names, addresses


@lru_cache(maxsize=1024)
def flag_names(flags: int) -> tuple[str, ...]:
    """The flags' names in lower case, in the order of their bits."""
    return tuple((flag.name or "").lower() for flag in Flag if flags & flag & ~_SILENT)


@lru_cache(maxsize=1024)
def _flags(flags: int) -> str:
    return json.dumps(flag_names(flags), separators=(",", ":"))


def _strings(items: list[bytes]) -> str:
    return "[" + ",".join([quoted(item) for item in items]) + "]"


def _first(strings: str, keys: list[bytes]) -> str:
    """The first of ``keys``, whose ``_strings`` are at hand."""
    if len(keys) == 1:
        return strings[1:-1]
    return quoted(keys[0]) if keys else "null"


def _unknown(why: int) -> str:
    known = why in UnknownWhy._value2member_map_
    return encode_basestring(UNKNOWN_TEXT[UnknownWhy(why)] if known else f"reason {why}")


class _Columns(dict[str, list[Any]]):
    """A batch's columns as lists, made when first asked for."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        super().__init__()
        self._batch = batch

    def __missing__(self, name: str) -> list[Any]:
        if name == "*keys":  # as JSON
            self[name] = list(map(_strings, self["keys"]))
        else:
            self[name] = values(self._batch.column(name))
        return self[name]


def _same(name: str) -> Callable[[_Columns], list[Any]]:
    return lambda columns: columns[name]


def _each(name: str, shown: Callable[[Any], Any]) -> Callable[[_Columns], list[Any]]:
    return lambda columns: list(map(shown, columns[name]))


def _served(columns: _Columns) -> list[str]:
    pairs = zip(columns["flags"], columns["served_key"], strict=True)
    return [quoted(key) if flags & _SERVED else "null" for flags, key in pairs]


def _client(columns: _Columns) -> list[str]:
    pairs = zip(columns["client_addr"], columns["client_name"], strict=True)
    return [f'{{"addr":{_seen(addr)},"name":{_seen(name) if name else "null"}}}' for addr, name in pairs]


def _rest(columns: _Columns) -> list[str]:
    """Fields that most rows don't have: unknown, script, keys_cut, args."""
    rest = [""] * len(columns["ts"])
    for i, why in enumerate(columns["unknown"]):
        if why:
            rest[i] += f',"unknown":{_unknown(why)}'
    for i, sha in enumerate(columns["script"]):
        if sha:
            rest[i] += f',"script":{_seen(sha)}'
    for i, cut in enumerate(columns["keys_cut"]):
        if cut:
            rest[i] += f',"keys_cut":{json.dumps(cut, separators=(",", ":"))}'
    if any(columns["args"]):
        for i, flags in enumerate(columns["flags"]):
            if flags & _ARGS:
                rest[i] += f',"args":{_strings(columns["args"][i])}'
    return rest


#: The object's fields in their order, each with how its column is made; _KEYS are left out in mode none.
_BEFORE_KEYS: dict[str, Callable[[_Columns], list[Any]]] = {
    "ts": _same("ts"),
    "run": _each("run", encode_basestring),
    "worker": _same("worker"),
    "conn": _same("conn"),
    "seq": _same("seq"),
    "client": _client,
    "db": _same("db"),
    "command": _each("command", _seen),
}
_KEYS: dict[str, Callable[[_Columns], list[Any]]] = {
    "key": lambda columns: list(map(_first, columns["*keys"], columns["keys"])),
    "keys": _same("*keys"),
}
_AFTER_KEYS: dict[str, Callable[[_Columns], list[Any]]] = {
    "nkeys": _same("nkeys"),
    "nargs": _each("nargs", lambda count: count or "null"),
    "slot": _each("slot", lambda slot: slot if slot >= 0 else _SLOTS.get(slot, '"unknown"')),
    "txn": _each("txn", lambda txn: txn or "null"),
    "latency_ns": _each("latency_ns", lambda latency: latency if latency >= 0 else "null"),
    "held_ns": _same("held_ns"),
    "request_bytes": _same("request_bytes"),
    "reply_bytes": _same("reply_bytes"),
    "reply": _each("reply", lambda reply: _REPLIES.get(reply, f'"{reply}"')),
    "reply_items": _each("reply_items", lambda items: items if items >= 0 else "null"),
    "error": _each("error", lambda error: _seen(error) if error else "null"),
    "served_key": _served,
    "backend": _each("backend_name", encode_basestring),
    "epoch": _same("epoch"),
    "flags": _each("flags", _flags),
}


def lines(batch: pa.RecordBatch) -> Iterator[str]:
    """A batch of READ_SCHEMA as JSON, one object per row, without line ends."""
    args = (batch.schema.metadata or {}).get(b"args", b"")
    fields = _BEFORE_KEYS | ({} if args == b"none" else _KEYS) | _AFTER_KEYS
    # "%" with a tuple is the quickest way that Python has to put a row together.
    form = "{" + ",".join(f'"{name}":%s' for name in fields) + "%s}"
    for start in range(0, batch.num_rows, _SLICE_ROWS):
        columns = _Columns(batch.slice(start, _SLICE_ROWS))
        cells = [shown(columns) for shown in fields.values()]
        rows = map(form.__mod__, zip(*cells, _rest(columns), strict=True))
        if any(columns["gap"]):
            gaps = zip(columns["gap"], rows, strict=True)
            yield from [_gap(columns, i) if gap else row for i, (gap, row) in enumerate(gaps)]
        else:
            yield from rows


def _gap(columns: _Columns, i: int) -> str:
    """A gap's object: ``rows`` null if it isn't known how many, ``conn`` null if it is no single connection's."""
    shown = {
        "gap": text(columns["gap"][i]),
        "rows": columns["gap_rows"][i] or None,
        "ts": columns["ts"][i],
        "run": columns["run"][i],
        "worker": columns["worker"][i],
        "conn": columns["conn"][i] or None,
    }
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def values(column: pa.Array) -> list[Any]:
    """A column without nulls as a list: numbers, bytes, strings, lists of these. Faster than to_pylist, which makes an
    Arrow scalar of each cell."""
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
        return [inner[a - base : b - base] for a, b in pairwise(offsets)]
    if pa.types.is_string(kind):
        coded = column.dictionary_encode()  # few different ones
        names = coded.dictionary.to_pylist()
        return [names[index] for index in values(coded.indices)]
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
    return [data[a - first : b - first] for a, b in pairwise(offsets)]
