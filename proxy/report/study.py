"""What a study is: one question asked of a capture while it is read, once, chunk by chunk.

Knows: the life of a study (tables made, chunks taken, the end), and the database that studies share. Refuses to know:
any question (``studies``), and how a capture is read (``analysis``).

A chunk is about a million exchanges. DuckDB sees it as the view ``chunk`` with the columns of ``analysis.COLUMNS``,
``cid`` (a connection's number across runs and workers), ``template`` (of the first key; empty without one) and
``slot_enterprise`` (the slot by Redis Enterprise's function); its gap rows are the view ``chunk_gaps``. What a study
keeps must not grow with the capture, but for what it is after.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import duckdb
import pyarrow as pa

from proxy.report.rules.advice import Example
from proxy.report.source import Source

_CONN_BITS = 40


class Database:
    """The DuckDB that the studies of one report share, and the names of its connections."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, streams: list[tuple[str, int]] | None = None) -> None:
        self.connection = connection
        # (run, worker); the index is the upper part of a cid
        self._streams: list[tuple[str, int]] = [] if streams is None else streams

    def beside(self) -> Database:
        """The same data on a connection of its own, for a thread of its own. Registered tables are not shared."""
        return Database(self.connection.cursor(), self._streams)

    def execute(self, statement: str) -> duckdb.DuckDBPyConnection:
        """Run one statement."""
        return self.connection.execute(statement)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.connection.execute(statement).fetchall()

    def dicts(self, statement: str) -> Iterator[dict[str, Any]]:
        """The rows of a query by column name, a few thousand at a time."""
        return dicts(self.connection.execute(statement))

    def compact(self, table: str, most: int, query: str) -> None:
        """Replace a table of more than ``most`` rows with the result of a query over it."""
        if self.rows(f"SELECT count(*) FROM {table}")[0][0] > most:
            self.execute(f"CREATE TABLE compacted AS FROM {table} LIMIT 0")
            self.execute(f"INSERT INTO compacted {query}")
            self.execute(f"DROP TABLE {table}")
            self.execute(f"ALTER TABLE compacted RENAME TO {table}")

    def stream(self, run: str, worker: int) -> int:
        """The number of one run's worker."""
        if (run, worker) not in self._streams:
            self._streams.append((run, worker))
        return self._streams.index((run, worker))

    def first_cid(self, stream: int) -> int:
        """What the connection numbers of a stream are added to."""
        return stream << _CONN_BITS

    def example(self, cid: int, seq: int) -> Example:
        """Where ``capture cat`` shows an exchange."""
        run, worker = self._streams[cid >> _CONN_BITS]
        return Example(run, worker, cid & ((1 << _CONN_BITS) - 1), seq)

    @property
    def runs(self) -> int:
        """How many runs the capture is of."""
        return len({run for run, _ in self._streams})


class Study:
    """Base of the studies: two texts of SQL, and three moments that most leave as they are."""

    SCHEMA: ClassVar[str] = ""  # makes the tables
    CHUNK: ClassVar[tuple[str, ...]] = ()  # run on each chunk, in this order

    def __init__(self, db: Database) -> None:
        self._db = db
        db.execute(self.SCHEMA)

    def take(self, exchanges: pa.Table) -> None:
        """One chunk, also there as the view ``chunk``."""
        for statement in self.CHUNK:
            self._db.execute(statement)

    def finish(self, source: Source) -> None:
        """The capture has been read."""


def dicts(result: duckdb.DuckDBPyConnection) -> Iterator[dict[str, Any]]:
    """Rows by column name."""
    names = [column[0] for column in result.description or []]
    while rows := result.fetchmany(4096):
        for row in rows:
            yield dict(zip(names, row, strict=True))
