"""Key templates (names with their changing parts folded away), and slots of whole columns of keys.

Knows: Arrow's buffers. Refuses to know: what is folded (``folding``), how a key becomes a slot (``protocol.slots``),
and any application's names.
"""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

from protocol.slots import enterprise_slots
from proxy.capture.format import KEY_CUT_BYTES
from proxy.report import folding

_NO_BYTES = memoryview(b"")


def fold(keys: pa.Array) -> pa.Array:
    """The templates of binary ``keys`` without nulls, one for one: UUIDs, dates, ids and numbers folded."""
    return _binary(len(keys), *folding.fold(_offsets(keys), _data(keys)))


def fold_first(keys: pa.ListArray) -> pa.Array:
    """The template of the first key of each list; empty where a list is."""
    return _binary(len(keys), *folding.fold_first(_offsets(keys), _offsets(keys.values), _data(keys.values)))


def fold_one(key: bytes) -> bytes:
    """The template of one key."""
    template: bytes = fold(pa.array([key], pa.binary()))[0].as_py()
    return template


def other_slots(batch: pa.RecordBatch) -> pa.Array:
    """The column ``slot`` as Redis Enterprise's standard hashing policy has it; the same but where braces are odd."""
    keys = batch.column("keys")
    made = enterprise_slots(
        _offsets(keys), _offsets(keys.values), _data(keys.values), _numbers(batch.column("slot"), "h"),
        _numbers(batch.column("nkeys"), "i"), KEY_CUT_BYTES,
    )  # fmt: skip
    return pa.Array.from_buffers(pa.int16(), batch.num_rows, [None, pa.py_buffer(made)])


def _numbers(array: pa.Array, code: Literal["h", "i"]) -> memoryview:
    """A column of integers without nulls."""
    if not len(array):
        return memoryview(b"").cast(code)
    whole = memoryview(array.buffers()[1]).cast("B").cast(code)
    return whole[array.offset : array.offset + len(array)]


def _offsets(array: pa.Array) -> memoryview:
    if not len(array):
        return memoryview(bytes(4)).cast("i")
    whole = memoryview(array.buffers()[1]).cast("B").cast("i")
    return whole[array.offset : array.offset + len(array) + 1]


def _data(array: pa.Array) -> memoryview:
    buffer = array.buffers()[2] if len(array) else None
    return _NO_BYTES if buffer is None else memoryview(buffer).cast("B")


def _binary(count: int, offsets: bytearray, data: bytearray) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
