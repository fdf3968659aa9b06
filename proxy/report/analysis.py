"""Reads a capture once, in chunks, and lets each study take what it needs.

Knows: DuckDB's limits, chunks, connection numbers across runs. Refuses to know: what the studies ask (``studies``), how
a report looks (``render_*``). Memory is bounded by DuckDB's limit; what does not fit spills into a temporary
directory that only its owner can read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from proxy.report import chunks
from proxy.report.document import Overview
from proxy.report.rules.costs import SLOW_NS
from proxy.report.source import Source
from proxy.report.studies.judging import Judging
from proxy.report.studies.patterns import Patterns
from proxy.report.studies.placement import Placement
from proxy.report.studies.rehearsed import Rehearsed
from proxy.report.studies.sidekiq import SidekiqStudy
from proxy.report.studies.spending import Spending
from proxy.report.studies.timeline import OverTime
from proxy.report.studies.together import Together
from proxy.report.studies.traffic import Traffic
from proxy.report.studies.transactions import Transactions
from proxy.report.study import Database, Study
from proxy.report.targets import DEFAULT
from proxy.report.templates import fold_first, other_slots

MEMORY_LIMIT = "1GB"
#: DuckDB compresses its tables each time that so much was added. The default (16 MB) means: after every chunk.
CHECKPOINT_THRESHOLD = "512MB"

#: The capture's columns that studies see.
COLUMNS = (
    "ts", "seq", "client_addr", "client_name", "db", "command", "keys", "nkeys", "slot", "unknown", "txn",
    "latency_ns", "held_ns", "request_bytes", "reply_bytes", "reply", "error", "served_key", "flags", "script", "args",
    "gap", "gap_rows", "nargs", "reply_items",
)  # fmt: skip


class Analysis:
    """One capture, read by all studies. Use it as a context manager: it holds a temporary directory.

    ``on_rows`` is called with the number of rows read so far, after each chunk. ``targets`` are judged occurrence by
    occurrence, any other by what ``Judging`` keeps of it. ``slow_ns``: what counts as slow. ``occurrences``: whether
    ``judging.occurrences`` will be asked for; then every candidate is kept, and spills. ``more``: studies besides those
    of a report; they are in ``added``.
    """

    def __init__(
        self,
        source: Source,
        on_rows: Callable[[int], None] | None = None,
        *,
        targets: Sequence[str] = (DEFAULT,),
        slow_ns: int = SLOW_NS,
        occurrences: bool = False,
        more: Sequence[type[Study]] = (),
    ) -> None:
        self._backends: dict[str, None] = {}
        self._spill = tempfile.TemporaryDirectory(prefix="shunt-report-")
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": self._spill.name,
            "preserve_insertion_order": False,
            "checkpoint_threshold": CHECKPOINT_THRESHOLD,
        }
        self._db = Database(duckdb.connect(config=config))
        self._beside = self._db.beside()
        try:
            self.patterns = Patterns(self._db)
            self.traffic = Traffic(self._db)
            self._transactions = Transactions(self._beside)
            self.judging = Judging(self._beside, targets, occurrences=occurrences)
            self.together = Together(self._db, self._transactions)
            self.over_time = OverTime(self._db)
            self.placement = Placement(self._db)
            self.sidekiq = SidekiqStudy(self._beside)
            self.rehearsed = Rehearsed(self._beside)
            self.spending = Spending(self._db, self.patterns, slow_ns)
            self.added = tuple(study(self._db) for study in more)
            here = (self.patterns, self.traffic, self.together, self.over_time, self.placement, self.spending)
            self._here: tuple[Study, ...] = (*here, *self.added)
            self._there: tuple[Study, ...] = (self._transactions, self.judging, self.sidekiq, self.rehearsed)
            self._read(source, on_rows)
            for study in (*self._there, *self._here):
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
        """Read ahead by one chunk, and take each in two threads: small queries of DuckDB leave a core idle."""
        rows = 0
        ahead_of = chunks.chunks(self._narrowed(batch) for batch in source.batches())
        with ThreadPoolExecutor(2, "shunt-report") as threads:
            ahead = threads.submit(next, ahead_of, None)
            while (chunk := ahead.result()) is not None:
                ahead = threads.submit(next, ahead_of, None)
                exchanges, gaps = chunks.split(chunk)
                there = threads.submit(self._take, self._beside, self._there, exchanges, gaps)
                self._take(self._db, self._here, exchanges, gaps)
                there.result()
                rows += chunk.num_rows
                if on_rows is not None:
                    on_rows(rows)

    @staticmethod
    def _take(db: Database, studies: Sequence[Study], exchanges: pa.Table, gaps: pa.Table) -> None:
        db.connection.register("chunk", exchanges)
        db.connection.register("chunk_gaps", gaps)
        for study in studies:
            study.take(exchanges)

    def _narrowed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The columns that studies see, and those made here. A batch is of one run and worker."""
        cid = batch.column("conn")
        if batch.num_rows:
            stream = self._db.stream(batch.column("run")[0].as_py(), batch.column("worker")[0].as_py())
            for backend in pc.unique(batch.column("backend")):
                place = pc.index(batch.column("backend"), backend).as_py()
                self._backends.setdefault(batch.column("backend_name")[place].as_py())
            cid = pc.add(cid, pa.scalar(self._db.first_cid(stream), pa.int64()))
        template = fold_first(batch.column("keys"))
        other = other_slots(batch)
        narrowed = batch.select(list(COLUMNS)).append_column("cid", cid).append_column("template", template)
        return narrowed.append_column("slot_enterprise", other)
