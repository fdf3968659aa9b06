"""A whole report out of an open capture.

Knows: which tables a report has, and how long each is. Refuses to know: how they are found (``analysis``) and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proxy.report.analysis import Analysis
from proxy.report.document import Report, Selection
from proxy.report.rules import TARGETS
from proxy.report.selection import qualified
from proxy.report.source import Source

DEFAULT_TARGETS = ("redis-cluster",)

#: Rows of each table: exchanges, keys, clients.
TOP = 10
TOP_CLIENTS = 20


def run(
    source: Source,
    targets: Sequence[str] = DEFAULT_TARGETS,
    *,
    on_rows: Callable[[int], None] | None = None,
) -> Report:
    """The report of an open capture. KeyError: an unknown target (the known ones are ``TARGETS``)."""
    for target in targets:
        TARGETS[target]
    with Analysis(source, on_rows) as analysis:
        return build(analysis, source, targets)


def build(analysis: Analysis, source: Source, targets: Sequence[str], selection: Selection | None = None) -> Report:
    """The report of a capture that has been read; ``selection``: if only a part of it was."""
    losses = tuple(str(loss) for loss in source.losses)
    traffic, judging, overview = analysis.traffic, analysis.judging, analysis.overview()
    clients = traffic.clients()
    judged = [judging.target(target, overview.commands, losses) for target in targets]
    if selection is not None:
        judged = [qualified(target, selection, commands=overview.commands) for target in judged]
    return Report(
        overview=overview,
        targets=tuple(judged),
        losses=losses,
        commands=traffic.commands(),
        slowest=traffic.exchanges("slowest", "latency_ns", TOP),
        errors=traffic.errors(),
        biggest_requests=traffic.exchanges("requests", "request_bytes", TOP),
        biggest_replies=traffic.exchanges("replies", "reply_bytes", TOP),
        hot_keys=traffic.keys("n", TOP),
        heavy_keys=traffic.keys("bytes", TOP),
        clients=clients[:TOP_CLIENTS],
        more={"clients": max(0, len(clients) - TOP_CLIENTS)},
        remedies=analysis.together.remedies(),
        selection=selection,
        rehearsed=analysis.rehearsed.lines(),
    )
