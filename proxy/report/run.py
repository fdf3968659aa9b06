"""A whole report out of an open capture.

Knows: which tables a report has, and how long each is. Refuses to know: how they are found (``analysis``) and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proxy.report.analysis import Analysis
from proxy.report.document import Report, Selection
from proxy.report.rules.costs import SLOW_NS
from proxy.report.scripts import script_lines
from proxy.report.selection import doubts, qualified
from proxy.report.source import Source
from proxy.report.targets import DEFAULT, TARGETS, find
from proxy.report.ways import ways

DEFAULT_TARGETS = (DEFAULT,)

#: Rows of each table: exchanges, keys, clients.
TOP = 10
TOP_CLIENTS = 20


def run(
    source: Source,
    targets: Sequence[str] = DEFAULT_TARGETS,
    *,
    on_rows: Callable[[int], None] | None = None,
    slow_ns: int = SLOW_NS,
) -> Report:
    """The report of an open capture. ``targets`` are ids, or other names; TargetError: there is no such target."""
    chosen = tuple(find(target).id for target in targets)
    with Analysis(source, on_rows, targets=chosen, slow_ns=slow_ns) as analysis:
        return build(analysis, source, chosen)


def build(analysis: Analysis, source: Source, targets: Sequence[str], selection: Selection | None = None) -> Report:
    """The report of a capture that has been read. ``targets``: ids, as the analysis had them; ``selection``: if only a
    part of it was read."""
    mirrors, unread = source.mirrors()
    losses = (*(str(loss) for loss in source.losses), *unread)
    traffic, judging, overview = analysis.traffic, analysis.judging, analysis.overview()
    clients = traffic.clients()
    judged = {name: judging.target(name, overview.commands, losses) for name in TARGETS}
    if selection is not None:
        judged = {name: qualified(each, selection, commands=overview.commands) for name, each in judged.items()}
    return Report(
        overview=overview,
        targets=tuple(judged[target] for target in targets),
        losses=losses,
        commands=traffic.commands(),
        slowest=traffic.exchanges("slowest", "latency_ns", TOP),
        errors=traffic.errors(),
        biggest_requests=traffic.exchanges("requests", "request_bytes", TOP),
        biggest_replies=traffic.exchanges("replies", "reply_bytes", TOP),
        hot_keys=traffic.keys("n", TOP),
        heavy_keys=traffic.keys("bytes", TOP),
        clients=clients[:TOP_CLIENTS],
        timeline=analysis.over_time.timeline(),
        latency_heat=analysis.over_time.latency_heat(),
        slot_load=analysis.placement.load(),
        sidekiq=analysis.sidekiq.result(partial=selection is not None),
        more={"clients": max(0, len(clients) - TOP_CLIENTS)},
        ways=ways(list(judged.values()), commands=overview.commands, losses=(*losses, *doubts(selection))),
        remedies=analysis.together.remedies(),
        scripts=script_lines(source.scripts(), judging.script_calls()),
        costs=analysis.spending.costs(overview),
        selection=selection,
        rehearsed=analysis.rehearsed.lines(),
        mirrored=tuple(mirrors),
    )
