"""What a capture says of Sidekiq: queues, jobs, processes, and what is wrong with them.

Knows: the parts of the study and how they become one noun. Refuses to know: SQL (``sidekiq_queues``,
``sidekiq_jobs``, ``sidekiq_processes``) and what is judged (``rules.sidekiq``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.facts import BackendFacts
from proxy.report.rules.advice import Level
from proxy.report.rules.sidekiq import SIDEKIQ_RULES
from proxy.report.sidekiq import NamespaceLine, ProcessLine, QueueLine, RoundTrip, Sidekiq
from proxy.report.source import Source
from proxy.report.studies.patterns import BUCKETS, SERVICE
from proxy.report.studies.sidekiq_jobs import Jobs
from proxy.report.studies.sidekiq_names import Names
from proxy.report.studies.sidekiq_processes import Processes
from proxy.report.studies.sidekiq_queues import Queues
from proxy.report.study import Database, Study

#: Rows of a report's tables, and samples of backend facts.
QUEUES, CALLERS, PROCESSES, FACTS = 100, 50, 100, 500


class SidekiqStudy(Study):
    """All of it. Chunks without keys of Sidekiq's cost next to nothing."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._names = Names(db)
        self._queues = Queues(db, self._names)
        self._jobs = Jobs(db)
        self._processes = Processes(db)
        self._facts: tuple[BackendFacts, ...] = ()

    def take(self, exchanges: pa.Table) -> None:
        self._processes.take_connections()
        if self._names.take(exchanges):
            columns = exchanges.column_names
            self._queues.take(columns)
            arguments = pc.max(pc.list_value_length(exchanges["args"])).as_py() > 0
            self._jobs.take(columns, arguments=arguments)
            self._processes.take(arguments=arguments)

    def finish(self, source: Source) -> None:
        self._facts = tuple(source.backend_facts())

    def result(self, *, partial: bool = False) -> Sidekiq:
        """Everything, with the advice that follows. ``partial``: a filter has left out a part of the capture. Call it
        before the study's tables are gone."""
        first, last = self._processes.span()
        found = self._names.namespaces()
        queues, processes = self._queues.lines(found), self._processes.lines(found)
        callers, jobs = self._processes.callers(), self._jobs.lines(found, (last - first) / 1e9)
        whole = Sidekiq(
            first_ts=first,
            last_ts=last,
            namespaces=_namespaces(found, queues, processes),
            queues=tuple(queues),
            jobs=None if jobs is None else tuple(jobs),
            sets=tuple(self._jobs.sets(found)),
            processes=tuple(processes),
            callers=tuple(callers),
            at_once=self._processes.at_once(),
            blocking=sum(caller.blocking for caller in callers),
            opened=sum(caller.opened for caller in callers),
            fetches=sum(caller.fetches for caller in callers),
            round_trip=self._round_trip(),
            facts=self._facts,
            partial=partial,
        )
        order = list(Level)
        advice = sorted(
            (each for rule in SIDEKIQ_RULES if not (partial and rule.of_absence) for each in rule.judge(whole)),
            key=lambda each: order.index(each.level),
        )
        return replace(
            whole,
            advice=tuple(advice),
            queues=tuple(queues[:QUEUES]),
            callers=tuple(callers[:CALLERS]),
            processes=tuple(processes[:PROCESSES]),
            facts=_thinned(self._facts),
            more={
                "queues": max(len(queues) - QUEUES, 0) + self._names.queues_left_out,
                "callers": max(len(callers) - CALLERS, 0),
                "processes": max(len(processes) - PROCESSES, 0),
            },
        )

    def _round_trip(self) -> RoundTrip | None:
        """Out of the table of times that the study of traffic makes."""
        rows = self._db.rows(f"""SELECT bucket, sum(n)::BIGINT, max(max_ns) FROM times WHERE kind = {SERVICE}
            AND bucket >= 0 AND command IN ('PING'::BLOB, 'SADD'::BLOB, 'LPUSH'::BLOB)
            GROUP BY bucket ORDER BY bucket""")
        total = sum(count for _, count, _ in rows)
        if not total:
            return None
        quantiles = []
        for share in (0.5, 0.99):
            before = 0
            for bucket, count, longest in rows:
                before += count
                if before >= share * total:
                    quantiles.append(min(int(2 ** ((bucket + 0.5) / BUCKETS)), longest))
                    break
        return RoundTrip(quantiles[0], quantiles[1], total)


def _namespaces(
    found: frozenset[bytes], queues: Sequence[QueueLine], processes: Sequence[ProcessLine]
) -> tuple[NamespaceLine, ...]:
    return tuple(
        NamespaceLine(
            namespace,
            sum(queue.pushes for queue in queues if queue.namespace == namespace),
            sum(queue.fetched for queue in queues if queue.namespace == namespace),
            sum(process.namespace == namespace for process in processes),
        )
        for namespace in sorted(found)
    )


def _thinned(facts: tuple[BackendFacts, ...]) -> tuple[BackendFacts, ...]:
    """At most FACTS samples: every n-th, and the last."""
    if len(facts) <= FACTS:
        return facts
    return (*facts[:: -(-len(facts) // (FACTS - 1))], facts[-1])
