"""Exchanges as columns in memory; the story is in columns.pyx."""

import pyarrow as pa

def keep_memory(size: int = ...) -> None:
    """Have the C library keep up to ``size`` freed bytes instead of giving them back to the kernel at once."""

class Columns:
    """The columns of one worker."""

    rows: int
    bytes: int
    dropped: int
    def take(self) -> pa.RecordBatch | None: ...
