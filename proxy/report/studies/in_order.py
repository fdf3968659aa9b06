"""Rows in order of time, window by window. Refuses to know: what the rows are.

To sort all of a table at once takes memory that grows with it, and beyond DuckDB's limit more time for each row. Rows
come nearly in order as it is, and DuckDB knows the times of each block of a table: a window reads few blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from proxy.report.study import Database

#: The span is cut into so many parts, and as many of these are a window as hold about so many rows.
_PARTS = 4096
WINDOW_ROWS = 1_000_000


def in_order(
    db: Database, table: str, columns: str, batch_rows: int, window_rows: int = WINDOW_ROWS
) -> Iterator[pa.RecordBatch]:
    """The ``columns`` of a table with a column ``t``, ordered by it and ``kind``, in batches of ``batch_rows``."""
    for first, last in _windows(db, table, window_rows):
        ordered = f"SELECT {columns} FROM {table} WHERE t BETWEEN {first} AND {last} ORDER BY t, kind"
        yield from db.connection.sql(ordered).to_arrow_reader(batch_rows)


def _windows(db: Database, table: str, window_rows: int) -> Iterator[tuple[int, int]]:
    """First and last moment of each window."""
    first, last = db.rows(f"SELECT min(t), max(t) FROM {table}")[0]
    if first is None:
        return
    width = (last - first) // _PARTS + 1
    counted = db.rows(f"SELECT (t - {first}) // {width} AS part, count(*) FROM {table} GROUP BY part ORDER BY part")
    start = rows = 0
    for part, count in counted:
        rows += count
        if rows >= window_rows:
            yield first + start * width, first + (part + 1) * width - 1
            start, rows = part + 1, 0
    if rows:
        yield first + start * width, last
