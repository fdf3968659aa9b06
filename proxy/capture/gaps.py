"""The row that stands where rows are missing.

Knows: what such a row looks like. Refuses to know: why rows were lost.
"""

from __future__ import annotations

import pyarrow as pa

from proxy.capture.format import SCHEMA, SLOT_NONE

_ZERO = {pa.binary(): b"", pa.int16(): 0, pa.int32(): 0, pa.int64(): 0, pa.uint8(): 0, pa.uint32(): 0, pa.uint64(): 0}


def gap_batch(ts_ns: int, why: str, rows: int, conn: int = 0) -> pa.RecordBatch:
    """A batch of one gap row: ``rows`` exchanges are missing (0: not known) from ``ts_ns`` on; ``conn`` 0: of any
    connection."""
    row = {field.name: _ZERO.get(field.type, []) for field in SCHEMA}
    row |= {"ts": ts_ns, "conn": conn, "slot": SLOT_NONE, "latency_ns": -1, "reply_items": -1}
    row |= {"gap": why.encode(), "gap_rows": rows}
    return pa.RecordBatch.from_pylist([row], schema=SCHEMA)
