"""Reads a capture once into DuckDB and answers a report's questions.

Knows: chunks, connection numbers across runs, and how rows become the nouns of ``document``. Refuses to know: what
the rules say (``rules``), how a report looks (``render_*``). Memory is bounded by DuckDB's limit; what does not fit
spills into a temporary directory that only its owner can read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from proxy.report import chunks, sql
from proxy.report.document import (
    ClientLine,
    CommandLine,
    ErrorLine,
    Example,
    ExchangeLine,
    FindingGroup,
    KeyLine,
    Overview,
    TargetReport,
    Times,
)
from proxy.report.rules import TARGETS, Rule, Severity, Target, script_facts
from proxy.report.source import Source
from proxy.report.verdict import explain, in_order

MEMORY_LIMIT = "1GB"
#: DuckDB compresses its tables each time that so much was added. The default (16 MB) means: after every chunk.
CHECKPOINT_THRESHOLD = "512MB"

_CONN_BITS = 40


class Analysis:
    """One capture in DuckDB. Use it as a context manager: it holds a temporary directory.

    ``on_rows`` is called with the number of rows read so far, after each chunk.
    """

    def __init__(self, source: Source, on_rows: Callable[[int], None] | None = None) -> None:
        self._streams: list[tuple[str, int]] = []  # (run, worker); the index is the upper part of a cid
        self._backends: dict[str, None] = {}
        self._spill = tempfile.TemporaryDirectory(prefix="shunt-report-")
        self._db = duckdb.connect(
            config={
                "memory_limit": MEMORY_LIMIT,
                "temp_directory": self._spill.name,
                "preserve_insertion_order": False,
                "checkpoint_threshold": CHECKPOINT_THRESHOLD,
            }
        )
        try:
            self._db.execute(sql.SCHEMA)
            self._ingest(source, on_rows)
            self._prepare(source)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Analysis:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop everything, the spilled rows too."""
        self._db.close()
        self._spill.cleanup()

    # -- reading -------------------------------------------------------------------------------------------------

    def _ingest(self, source: Source, on_rows: Callable[[int], None] | None) -> None:
        """Read ahead by one chunk: reading takes one core, DuckDB both."""
        rows = 0
        ahead_of = chunks.chunks(self._narrowed(batch) for batch in source.batches())
        with ThreadPoolExecutor(1, "shunt-report-read") as reader:
            ahead = reader.submit(next, ahead_of, None)
            while (chunk := ahead.result()) is not None:
                ahead = reader.submit(next, ahead_of, None)
                exchanges, gaps = chunks.split(chunk)
                self._db.register("chunk", exchanges)
                self._db.register("chunk_gaps", gaps)
                for statement in sql.CHUNK:
                    self._db.execute(statement)
                rows += chunk.num_rows
                if on_rows is not None:
                    on_rows(rows)

    def _narrowed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The columns that a report needs, and ``cid``. A batch is of one run and worker."""
        if not batch.num_rows:
            return batch.select(list(sql.COLUMNS)).append_column("cid", batch.column("conn"))
        stream = self._stream(batch.column("run")[0].as_py(), batch.column("worker")[0].as_py())
        for backend in pc.unique(batch.column("backend")):
            place = pc.index(batch.column("backend"), backend).as_py()
            self._backends.setdefault(batch.column("backend_name")[place].as_py())
        cid = pc.add(batch.column("conn"), pa.scalar(stream << _CONN_BITS, pa.int64()))
        return batch.select(list(sql.COLUMNS)).append_column("cid", cid)

    def _stream(self, run: str, worker: int) -> int:
        if (run, worker) not in self._streams:
            self._streams.append((run, worker))
        return self._streams.index((run, worker))

    def _prepare(self, source: Source) -> None:
        facts = [(sha, int(script_facts(body))) for sha, body in source.scripts().items()]
        table = pa.table(
            {
                "sha": pa.array([sha for sha, _ in facts], pa.binary()),
                "facts": pa.array([bits for _, bits in facts], pa.uint8()),
            }
        )
        self._db.register("facts", table)
        self._db.execute("CREATE TABLE script_facts AS FROM facts")
        self._db.execute(sql.WATCH_APART)
        self._db.execute(sql.JUDGED)

    # -- findings ------------------------------------------------------------------------------------------------

    def _judge(self, target: Target) -> None:
        """Make the view ``findings``: one row per occurrence, ``rule`` an index into the target's rules."""
        selections = (
            f"SELECT {i} AS rule, {sql.FINDING_COLUMNS} FROM judged WHERE {_selection(rule)}"
            for i, rule in enumerate(target.rules)
        )
        self._db.execute("DROP VIEW IF EXISTS findings")
        self._db.execute("CREATE VIEW findings AS " + " UNION ALL ".join(selections))

    def target(self, target_id: str, losses: Sequence[str]) -> TargetReport:
        """The findings of one target, grouped, and its verdict."""
        target = TARGETS[target_id]
        self._judge(target)
        groups = in_order(list(self._groups(target)))
        counts = dict.fromkeys(map(str, Severity), 0)
        for group in groups:
            counts[group.severity] += group.count
        verdict, reason = explain(groups, counts, commands=self.overview().commands, losses=losses)
        return TargetReport(target_id, verdict, reason, counts, tuple(groups))

    def _groups(self, target: Target) -> Iterator[FindingGroup]:
        cursor = self._db.cursor()
        grouped: pa.RecordBatchReader = self._db.sql(sql.GROUPED).to_arrow_reader(65_536)
        folded = pa.RecordBatchReader.from_batches(grouped.schema, (chunks.fold_keys(batch) for batch in grouped))
        cursor.register("folded", folded)
        for row in _dicts(cursor.execute(sql.REGROUPED)):
            rule = target.rules[row["rule"]]
            row["txn"] = int(row["queued"])
            yield FindingGroup(
                rule=rule.id,
                title=rule.title,
                severity=rule.severity,
                command=row["command"],
                members=tuple(row["members"]),
                keys=tuple(row["keys"]),
                error=rule.error(row),
                when=rule.when(row),
                count=row["n"],
                first_ts=row["first_ts"],
                last_ts=row["last_ts"],
                examples=tuple(self._example(each["cid"], each["seq"]) for each in row["examples"]),
            )
        cursor.close()

    def occurrences(self, target_id: str) -> Iterator[dict[str, Any]]:
        """Every occurrence in the order of time: run, worker, conn, seq, ts, rule, target, severity, command, keys,
        error, when. Byte strings are bytes."""
        target = TARGETS[target_id]
        self._judge(target)
        for row in _dicts(self._db.execute(sql.OCCURRENCES)):
            rule = target.rules[row["rule"]]
            where = self._example(row["cid"], row["seq"])
            yield {
                "conn": where.conn,
                "seq": where.seq,
                "rule": rule.id,
                "target": target_id,
                "severity": str(rule.severity),
                "command": row["command"],
                "keys": row["keys"],
                "error": rule.error(row),
                "when": str(rule.when(row)),
                "ts": row["ts"],
                "run": where.run,
                "worker": where.worker,
            }

    def _example(self, cid: int, seq: int) -> Example:
        run, worker = self._streams[cid >> _CONN_BITS]
        return Example(run, worker, cid & ((1 << _CONN_BITS) - 1), seq)

    # -- tables --------------------------------------------------------------------------------------------------

    def _rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self._db.execute(statement).fetchall()

    def overview(self) -> Overview:
        """Span and totals of the capture."""
        first, last, commands, request_bytes, reply_bytes = self._rows(sql.OVERVIEW)[0]
        connections = self._rows("SELECT count(DISTINCT cid) FROM conns")[0][0]
        gaps, gap_rows = self._rows(sql.GAPS)[0]
        return Overview(
            first,
            last,
            commands,
            connections,
            len(self.clients()),
            len({run for run, _ in self._streams}),
            gaps,
            gap_rows,
            request_bytes,
            reply_bytes,
            tuple(sorted(filter(None, self._backends))),
        )

    def commands(self) -> tuple[CommandLine, ...]:
        """Every command, the one that took most of the server's time first."""
        by_kind: dict[bytes, dict[int, tuple[Any, ...]]] = {}
        for command, kind, *rest in self._rows(sql.COMMAND_TIMES):
            by_kind.setdefault(command, {})[kind] = tuple(rest)
        failed: dict[bytes, int] = {}
        for line in self.errors():
            failed[line.command] = failed.get(line.command, 0) + line.count
        lines = [
            CommandLine(
                command,
                sum(kind[0] for kind in kinds.values()),
                failed.get(command, 0),
                kinds[sql.QUEUED][0] if sql.QUEUED in kinds else 0,
                sum(kind[6] for kind in kinds.values()),
                sum(kind[7] for kind in kinds.values()),
                _times(kinds.get(sql.SERVICE)),
                _times(kinds.get(sql.WAIT)),
            )
            for command, kinds in by_kind.items()
        ]
        return tuple(sorted(lines, key=lambda line: (-_service_ns(line), -line.count, line.command)))

    def exchanges(self, table: str, by: str, limit: int) -> tuple[ExchangeLine, ...]:
        """The top of one of the tables slowest, requests, replies by the column that it was made for."""
        rows = self._rows(f"FROM {table} ORDER BY {by} DESC, ts, cid, seq LIMIT {limit}")
        return tuple(
            ExchangeLine(ts, self._example(cid, seq), command, key or b"", *numbers)
            for ts, cid, seq, command, key, *numbers in rows
        )

    def errors(self) -> tuple[ErrorLine, ...]:
        """Error replies by first word and command."""
        return tuple(ErrorLine(*row) for row in self._rows(sql.ERRORS))

    def keys(self, by: str, limit: int) -> tuple[KeyLine, ...]:
        """The keys with the highest ``n`` or ``bytes``."""
        statement = f"""SELECT key, sum(n)::BIGINT AS n, sum(bytes)::BIGINT AS bytes FROM keys GROUP BY key
            ORDER BY {by} DESC, key LIMIT {limit}"""
        return tuple(KeyLine(*row) for row in self._rows(statement))

    def clients(self) -> tuple[ClientLine, ...]:
        """Clients by address and name, the busiest first."""
        return tuple(ClientLine(*row) for row in self._rows(sql.CLIENTS))


def _selection(rule: Rule) -> str:
    gap = "<>" if rule.reads_gaps else "="
    return f"gap {gap} ''::BLOB AND {rule.predicate.sql()} AND db_unseen = {int(rule.id == 'database-in-use')}"


def _dicts(result: duckdb.DuckDBPyConnection) -> Iterator[dict[str, Any]]:
    names = [column[0] for column in result.description or []]
    while rows := result.fetchmany(4096):
        for row in rows:
            yield dict(zip(names, row, strict=True))


def _times(kind: tuple[Any, ...] | None) -> Times | None:
    if kind is None:
        return None
    count, total, *buckets, longest = kind[:6]
    quantiles = [0 if b is None or b < 0 else int(2 ** ((b + 0.5) / sql.BUCKETS)) for b in buckets]
    p50, p99, p999 = (min(value, longest) for value in quantiles)
    return Times(count, total, p50, p99, p999, longest)


def _service_ns(line: CommandLine) -> int:
    return line.service.total_ns if line.service else 0
