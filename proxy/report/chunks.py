"""Arrow's side of an analysis: batches joined to chunks, gap rows set apart, keys folded.

Refuses to know: SQL, rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from proxy.report.templates import fold

CHUNK_ROWS = 1_000_000
CHUNK_BYTES = 256 << 20


def chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches joined to tables of about CHUNK_ROWS rows, or fewer where rows are big."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= CHUNK_ROWS or size >= CHUNK_BYTES:
            yield pa.Table.from_batches(held)
            held, rows, size = [], 0, 0
    if rows:
        yield pa.Table.from_batches(held)


def split(chunk: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Exchanges, and gap rows."""
    is_gap = pc.not_equal(chunk["gap"], pa.scalar(b"", pa.binary()))
    if not pc.any(is_gap).as_py():
        return chunk, chunk.slice(0, 0)
    return chunk.filter(pc.invert(is_gap)), chunk.filter(is_gap)


def fold_keys(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with each of its keys replaced by its template."""
    index = batch.schema.get_field_index("keys")
    keys = batch.column(index)
    folded = type(keys).from_arrays(keys.offsets, fold(keys.values))
    return batch.set_column(index, batch.schema.field(index), folded.cast(keys.type))
