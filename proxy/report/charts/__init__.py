"""The charts of a report, as Vega-Lite specifications: data and what each column of it is, no drawing.

Knows: which charts there are, in which order. Refuses to know: how a specification becomes a picture (``drawing``).
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.report.charts.heat import latency_by_command
from proxy.report.charts.over_time import Depths, latency, queue_depth, throughput
from proxy.report.charts.shares import hot_keys, shards, slots
from proxy.report.charts.specs import Figure
from proxy.report.document import Report
from proxy.report.printable import printable


def depths(report: Report) -> list[tuple[str, Depths]]:
    """Sidekiq's queues for ``figures``, deepest first: those of which any depth is known."""
    known = [queue for queue in report.sidekiq.queues if queue.relative is None and queue.highest is not None]
    known.sort(key=lambda queue: (-(queue.highest or 0), queue.key, queue.db))
    return [
        (printable(queue.key) + (f" (database {queue.db})" if queue.db else ""),
         [(point.ts, point.high) for point in queue.line])
        for queue in known
    ]  # fmt: skip


def figures(report: Report, queues: Sequence[tuple[str, Depths]]) -> list[Figure]:
    """Every figure that there is data for, in reading order. ``queues``: names and depths, deepest first."""
    made = (
        throughput(report.timeline), latency(report.timeline), latency_by_command(report.latency_heat),
        queue_depth(queues), slots(report.slot_load), shards(report.slot_load), hot_keys(report),
    )  # fmt: skip
    return [figure for figure in made if figure is not None]
