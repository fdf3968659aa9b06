"""Charts over time: throughput and errors, latency, depth of queues."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.report.cells import duration, instant, moment, size
from proxy.report.charts.specs import (
    BYTES_AXIS,
    COUNT_AXIS,
    RATE_AXIS,
    Figure,
    Spec,
    hover,
    interval,
    latency_axis,
    moment_ms,
    spec,
    time_axis,
    upright,
)
from proxy.report.load import Timeline
from proxy.report.sections.load import busiest, slowest

#: Jobs in one queue from a moment on (ns since the epoch); None where that is not known.
Depths = Sequence[tuple[int, int | None]]

QUEUES = 8
_STROKES: Spec = {"symbolType": "stroke", "symbolStrokeWidth": 3, "columnPadding": 24}
_HEIGHT = 240


def throughput(timeline: Timeline) -> Figure | None:
    """Commands, bytes and error replies."""
    if not timeline.intervals:
        return None
    rows = []
    for each in timeline.intervals:
        rate, flow = timeline.rate(each), each.bytes * 1e9 / timeline.width_ns
        at = instant(each.ts, timeline.width_ns)
        says = f"{at} UTC: {rate:,.0f} commands/s, {size(round(flow))}/s, {each.errors:,} errors"
        values = {"rate": rate, "bytes": flow, "errors": each.errors, "says": says}
        rows.append({**interval(each.ts, timeline.width_ns), **values})
    specs = [
        _bars(rows, "rate", {"title": "commands per second", "axis": RATE_AXIS}, "var(--c1)", 200),
        _bars(rows, "bytes", {"title": "bytes per second", "axis": BYTES_AXIS}, "var(--c3)", 110),
    ]
    if any(each.errors for each in timeline.intervals):
        specs.append(_bars(rows, "errors", {"title": "error replies", "axis": COUNT_AXIS}, "var(--bad)", 90))
    says = f"{busiest(timeline)} Where nothing was recorded, there is no bar."
    return Figure("throughput", "Throughput over time", says.strip(), tuple(specs))


def _bars(rows: Sequence[Spec], field: str, looks: Spec, colour: str, height: int) -> Spec:
    y = {"field": field, "type": "quantitative", **looks, "axis": {**looks["axis"], "tickCount": max(3, height // 40)}}
    encoding = {"x": time_axis(rows), "x2": {"field": "end"}, "y": y, "y2": {"datum": 0}}
    bars = {"mark": {"type": "rect", "color": colour, "aria": False}, "encoding": encoding}
    return spec(rows, height=height, layer=[bars, hover(rows, height)])


def latency(timeline: Timeline) -> Figure | None:
    """From the median to the 99th percentile."""
    timed = [each for each in timeline.intervals if each.timed]
    if not timed:
        return None
    rows = []
    for each in timed:
        p50, p99 = each.p50_ns, each.p99_ns
        at = instant(each.ts, timeline.width_ns)
        says = f"{at} UTC: p50 {duration(p50)}, p99 {duration(p99)} of {each.timed:,} commands"
        rows.append({**interval(each.ts, timeline.width_ns), "p50": p50, "p99": p99, "says": says})
    y = upright(latency_axis("p50", [bound for row in rows for bound in (row["p50"] * 0.8, row["p99"] * 1.25)]))
    band = {"x": time_axis(rows), "x2": {"field": "end"}, "y": y, "y2": {"field": "p99"}}
    lines = [
        {
            "data": {"values": _line(timeline, field)},
            "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.5, "color": colour, "aria": False},
            "encoding": {"x": band["x"], "y": {**y, "field": "value"}},
        }
        for field, colour in (("p50_ns", "var(--c1)"), ("p99_ns", "var(--c2)"))
    ]
    filled = {"mark": {"type": "rect", "color": "var(--c1)", "opacity": 0.2, "aria": False}, "encoding": band}
    says = f"From the median (blue) to the 99th percentile (orange) of service times. {slowest(timeline)}"
    layers = [filled, *lines, hover(rows, _HEIGHT)]
    return Figure("latency", "Latency over time", says.strip(), (spec(rows, height=_HEIGHT, layer=layers),))


def _line(timeline: Timeline, field: str) -> list[Spec]:
    """The points of a stepped line through the intervals; it breaks where nothing was timed."""
    points: list[Spec] = []
    end = 0
    for each in (each for each in timeline.intervals if each.timed):
        if points and each.ts > end:
            points += [{"start": moment_ms(end), "value": value} for value in (points[-1]["value"], None)]
        points.append({"start": moment_ms(each.ts), "value": getattr(each, field)})
        end = each.ts + timeline.width_ns
    return [*points, {"start": moment_ms(end), "value": points[-1]["value"]}]


def queue_depth(queues: Sequence[tuple[str, Depths]]) -> Figure | None:
    """Jobs waiting in each queue, of the first QUEUES queues."""
    known = {name: depths for name, depths in queues if any(depth is not None for _, depth in depths)}
    shown = list(known)[:QUEUES]
    rows = [
        {
            "start": moment_ms(ts), "queue": queue, "depth": depth,
            "says": "" if depth is None else f"{moment(ts)} UTC: {queue} {depth:,}",
        }
        for queue in shown
        for ts, depth in known[queue]
    ]  # fmt: skip
    if not rows:
        return None
    colours = [f"var(--c{i + 1})" for i in range(len(shown))]
    x, y = time_axis(rows), {"field": "depth", "type": "quantitative", "title": "jobs waiting", "axis": COUNT_AXIS}
    scale = {"domain": shown, "range": colours}
    color = {"field": "queue", "type": "nominal", "legend": {"title": None, **_STROKES}, "scale": scale}
    line = {"type": "line", "interpolate": "step-after", "strokeWidth": 2, "aria": False}
    layers = [
        {"mark": line, "encoding": {"x": x, "y": y, "color": color}},
        {
            "mark": {"type": "point", "filled": True, "color": "transparent", "size": 80},
            "encoding": {"x": x, "y": y, "description": {"field": "says"}},
        },
    ]
    deepest, ts, name = max((depth, ts, queue) for queue in shown for ts, depth in known[queue] if depth is not None)
    left = f" {len(queues) - len(shown):,} more are not shown." if len(queues) > len(shown) else ""
    says = f"Deepest: {name} with {deepest:,} jobs at {moment(ts)} UTC.{left}"
    return Figure("queues", "Queue depth over time", says, (spec(rows, height=_HEIGHT, layer=layers),))
