"""Reads a capture once, in chunks, and lets each study take what it needs.

Knows: DuckDB's limits, chunks, connection numbers across runs. Refuses to know: what the studies ask (``studies``), how
a report looks (``render_*``). Memory is bounded by DuckDB's limit; what does not fit spills into a temporary
directory that only its owner can read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from proxy.report import chunks
from proxy.report.document import Overview
from proxy.report.source import Source
from proxy.report.studies.judging import Judging
from proxy.report.studies.rehearsed import Rehearsed
from proxy.report.studies.together import Together
from proxy.report.studies.traffic import Traffic
from proxy.report.study import Database, Study
from proxy.report.templates import fold_first

MEMORY_LIMIT = "1GB"
#: DuckDB compresses its tables each time that so much was added. The default (16 MB) means: after every chunk.
CHECKPOINT_THRESHOLD = "512MB"

#: The capture's columns that studies see.
COLUMNS = (
    "ts", "seq", "client_addr", "client_name", "db", "command", "keys", "nkeys", "slot", "unknown", "txn",
    "latency_ns", "held_ns", "request_bytes", "reply_bytes", "reply", "error", "served_key", "flags", "script", "args",
    "gap", "gap_rows",
)  # fmt: skip


class Analysis:
    """One capture, read by all studies. Use it as a context manager: it holds a temporary directory.

    ``on_rows`` is called with the number of rows read so far, after each chunk.
    """

    def __init__(self, source: Source, on_rows: Callable[[int], None] | None = None) -> None:
        self._backends: dict[str, None] = {}
        self._spill = tempfile.TemporaryDirectory(prefix="shunt-report-")
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": self._spill.name,
            "preserve_insertion_order": False,
            "checkpoint_threshold": CHECKPOINT_THRESHOLD,
        }
        self._db = Database(duckdb.connect(config=config))
        try:
            self.traffic = Traffic(self._db)
            self.judging = Judging(self._db)
            self.together = Together(self._db)
            self.rehearsed = Rehearsed(self._db)
            self._studies: tuple[Study, ...] = (self.traffic, self.judging, self.together, self.rehearsed)
            self._read(source, on_rows)
            for study in self._studies:
                study.finish(source)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Analysis:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop everything, the spilled rows too."""
        self._db.connection.close()
        self._spill.cleanup()

    def overview(self) -> Overview:
        """Span and totals of the capture."""
        return self.traffic.overview(*self.judging.gaps(), tuple(sorted(filter(None, self._backends))))

    def _read(self, source: Source, on_rows: Callable[[int], None] | None) -> None:
        """Read ahead by one chunk: reading takes one core, DuckDB both."""
        rows = 0
        ahead_of = chunks.chunks(self._narrowed(batch) for batch in source.batches())
        with ThreadPoolExecutor(1, "shunt-report-read") as reader:
            ahead = reader.submit(next, ahead_of, None)
            while (chunk := ahead.result()) is not None:
                ahead = reader.submit(next, ahead_of, None)
                exchanges, gaps = chunks.split(chunk)
                self._db.connection.register("chunk", exchanges)
                self._db.connection.register("chunk_gaps", gaps)
                for study in self._studies:
                    study.take(exchanges)
                rows += chunk.num_rows
                if on_rows is not None:
                    on_rows(rows)

    def _narrowed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The columns that studies see, ``cid`` and ``template``. A batch is of one run and worker."""
        cid = batch.column("conn")
        if batch.num_rows:
            stream = self._db.stream(batch.column("run")[0].as_py(), batch.column("worker")[0].as_py())
            for backend in pc.unique(batch.column("backend")):
                place = pc.index(batch.column("backend"), backend).as_py()
                self._backends.setdefault(batch.column("backend_name")[place].as_py())
            cid = pc.add(cid, pa.scalar(self._db.first_cid(stream), pa.int64()))
        template = fold_first(batch.column("keys"))
        return batch.select(list(COLUMNS)).append_column("cid", cid).append_column("template", template)
