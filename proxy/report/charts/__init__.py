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


def figures(report: Report, queues: Sequence[tuple[str, Depths]]) -> list[Figure]:
    """Every figure that there is data for, in reading order. ``queues``: names and depths, deepest first."""
    made = (
        throughput(report.timeline), latency(report.timeline), latency_by_command(report.latency_heat),
        queue_depth(queues), slots(report.slot_load), shards(report.slot_load), hot_keys(report),
    )  # fmt: skip
    return [figure for figure in made if figure is not None]
