"""The charts of a report, as Vega-Lite specifications: data and what each column of it is, no drawing.

Knows: which charts there are, what each says in a sentence, colours as names of the page's CSS variables (so that one
drawing serves a light and a dark page). Refuses to know: how a specification becomes a picture (``drawing``).
"""
# Over 300 lines: a specification is a page of data, and the charts share axes and colours that are best read beside them.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.report.cells import duration, moment, name, percent, size
from proxy.report.document import KeyLine, Report
from proxy.report.load import LatencyHeat, SlotLoad, SlotRange, Timeline, shard_ranges
from proxy.report.printable import printable
from proxy.report.sections.load import busiest, sharing, slowest

Spec = dict[str, Any]
#: Depths of one queue: (ns since the epoch, jobs).
Depths = Sequence[tuple[int, int]]

WIDTH = 1000  # of a drawing with its axes, in units that the page scales
_MS = 1e6
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_QUEUES = 8

#: Shares of an interval's or a command's exchanges, and latencies: the upper end of each step of colour but the last.
_SHARES = ((0.001, "under 0.1%"), (0.01, "to 1%"), (0.05, "to 5%"), (0.2, "to 20%"), (0.5, "to 50%"), (2.0, "more"))
_LATENCIES = (
    (100_000, "under 0.1 ms"), (300_000, "to 0.3 ms"), (1_000_000, "to 1 ms"), (3_000_000, "to 3 ms"),
    (10_000_000, "to 10 ms"), (30_000_000, "to 30 ms"), (100_000_000, "to 0.1 s"), (2**63, "more"),
)  # fmt: skip
_LATENCY_LABEL = (
    "datum.value >= 1e9 ? format(datum.value / 1e9, '~g') + ' s' : "
    "datum.value >= 1e6 ? format(datum.value / 1e6, '~g') + ' ms' : format(datum.value / 1e3, '~g') + ' µs'"
)

CONFIG: Spec = {
    "background": None,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)", "titleColor": "var(--muted)", "gridColor": "var(--line)",
        "domainColor": "var(--line)", "tickColor": "var(--line)", "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "labelLimit": 300,
    },
    "axisX": {"grid": False},
    "legend": {
        "labelColor": "var(--ink)", "titleColor": "var(--muted)", "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "orient": "top", "symbolType": "square", "symbolStrokeWidth": 0, "labelLimit": 300,
        "symbolOpacity": 1, "columns": 8,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """One or several drawings under one heading. ``says``: what to see in it, in a sentence or two."""

    id: str
    title: str
    says: str
    specs: tuple[Spec, ...]


def figures(report: Report, queues: Sequence[tuple[str, Depths]]) -> list[Figure]:
    """Every figure that there is data for, in reading order. ``queues``: names and depths, deepest first."""
    made = (
        _throughput(report.timeline), _latency(report.timeline), _latency_by_command(report.latency_heat),
        queue_depth(queues), _slots(report.slot_load), _shards(report.slot_load), _keys(report),
    )  # fmt: skip
    return [figure for figure in made if figure is not None]


# -- over time ---------------------------------------------------------------------


def _throughput(timeline: Timeline) -> Figure | None:
    if not timeline.intervals:
        return None
    rows = [
        {
            **_time(each.ts, timeline.width_ns), "rate": timeline.rate(each), "errors": each.errors,
            "bytes": each.bytes * 1e9 / timeline.width_ns,
            "says": f"{moment(each.ts)} UTC: {timeline.rate(each):,.0f} commands/s, "
            f"{size(round(each.bytes * 1e9 / timeline.width_ns))}/s, {each.errors:,} errors",
        }
        for each in timeline.intervals
    ]  # fmt: skip
    specs = [
        _over_time(rows, "rate", "commands per second", "var(--c1)"),
        _over_time(rows, "bytes", "bytes per second", "var(--c3)", height=110, format_="~s"),
    ]
    if any(each.errors for each in timeline.intervals):
        specs.append(_over_time(rows, "errors", "error replies", "var(--bad)", height=90))
    says = f"{busiest(timeline)} Where nothing was recorded, there is no bar."
    return Figure("throughput", "Throughput over time", says.strip(), tuple(specs))


def _latency(timeline: Timeline) -> Figure | None:
    rows = [
        {
            **_time(each.ts, timeline.width_ns), "p50": each.p50_ns, "p99": each.p99_ns,
            "says": f"{moment(each.ts)} UTC: p50 {duration(each.p50_ns)}, p99 {duration(each.p99_ns)} of "
            f"{each.timed:,} commands",
        }
        for each in timeline.intervals
        if each.timed
    ]  # fmt: skip
    if not rows:
        return None
    y = {**_latency_axis("p50", [row["p50"] for row in rows] + [row["p99"] for row in rows]), "title": "latency"}
    band = {"x": _TIME, "x2": {"field": "end"}, "y": y, "y2": {"field": "p99"}}
    ends = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "aria": False},
            "encoding": {"x": _TIME, "x2": {"field": "end"}, "y": {**y, "field": field}, "color": {"value": colour}},
        }
        for field, colour in (("p50", "var(--c1)"), ("p99", "var(--c2)"))
    ]
    spec = _spec(rows, height=240, layer=[
        {"mark": {"type": "rect", "color": "var(--c1)", "opacity": 0.22, "aria": False}, "encoding": band},
        *ends,
        _hover(240),
    ])  # fmt: skip
    says = f"From the median (blue) to the 99th percentile (orange) of service times. {slowest(timeline)}"
    return Figure("latency", "Latency over time", says.strip(), (spec,))


def queue_depth(queues: Sequence[tuple[str, Depths]]) -> Figure | None:
    """Jobs waiting in each queue."""
    shown = [(queue, depths) for queue, depths in queues if depths][:_QUEUES]
    if not shown:
        return None
    rows = [
        {"start": ts / _MS, "queue": queue, "depth": depth, "says": f"{moment(ts)} UTC: {queue} {depth:,}"}
        for queue, depths in shown
        for ts, depth in depths
    ]
    colours = [f"var(--c{i + 1})" for i in range(len(shown))]
    color = {
        "field": "queue", "type": "nominal", "legend": {"title": None},
        "scale": {"domain": [queue for queue, _ in shown], "range": colours},
    }  # fmt: skip
    y = {"field": "depth", "type": "quantitative", "title": "jobs waiting", "axis": _AXIS}
    spec = _spec(rows, height=240, layer=[
        {"mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2, "aria": False},
         "encoding": {"x": _TIME, "y": y, "color": color}},
        {"mark": {"type": "point", "opacity": 0, "size": 80},
         "encoding": {"x": _TIME, "y": y, "description": {"field": "says"}}},
    ])  # fmt: skip
    queue, depths = max(shown, key=lambda each: max(depth for _, depth in each[1]))
    ts, depth = max(depths, key=lambda each: each[1])
    left = f" {len(queues) - len(shown)} more queues are left out." if len(queues) > len(shown) else ""
    says = f"Deepest: {queue} with {depth:,} jobs at {moment(ts)} UTC.{left}"
    return Figure("queues", "Queue depth over time", says, (spec,))


# -- latencies by command ----------------------------------------------------------


def _latency_by_command(heat: LatencyHeat) -> Figure | None:
    if not heat.by_time:
        return None
    says = (
        "Each column of the first picture is an interval, each cell a span of latencies: the darker, the larger the "
        "share of that interval's commands. The second shows the same by command, over the whole capture; the third the "
        "99th percentile of each command over time. Commands stand in the order of their total service time."
    )
    return Figure("heat", "Where latencies lie", says, (_time_heat(heat), _command_heat(heat), _command_times(heat)))


def _time_heat(heat: LatencyHeat) -> Spec:
    totals: dict[int, int] = {}
    for cell in heat.by_time:
        totals[cell.ts] = totals.get(cell.ts, 0) + cell.count
    rows = [
        {
            **_time(cell.ts, heat.width_ns), "low": cell.low_ns, "high": cell.low_ns * 2,
            "step": _step(cell.count / totals[cell.ts], _SHARES),
            "says": f"{moment(cell.ts)} UTC: {percent(cell.count / totals[cell.ts])} ({cell.count:,}) took "
            f"{duration(cell.low_ns)} to {duration(cell.low_ns * 2)}",
        }
        for cell in heat.by_time
    ]  # fmt: skip
    y = {**_latency_axis("low", [row["low"] for row in rows] + [row["high"] for row in rows]), "title": "latency"}
    encoding = {
        "x": _TIME, "x2": {"field": "end"}, "y": y, "y2": {"field": "high"},
        "color": _steps(_SHARES, "share of the interval's commands"), "description": {"field": "says"},
    }  # fmt: skip
    return _spec(rows, height=240, mark={"type": "rect"}, encoding=encoding)


def _command_heat(heat: LatencyHeat) -> Spec:
    totals: dict[bytes, int] = {}
    for cell in heat.by_command:
        totals[cell.command] = totals.get(cell.command, 0) + cell.count
    rows = [
        {
            "command": printable(cell.command), "low": cell.low_ns, "high": cell.low_ns * 2,
            "step": _step(cell.count / totals[cell.command], _SHARES),
            "says": f"{printable(cell.command)}: {percent(cell.count / totals[cell.command])} ({cell.count:,}) took "
            f"{duration(cell.low_ns)} to {duration(cell.low_ns * 2)}",
        }
        for cell in heat.by_command
    ]  # fmt: skip
    x = {**_latency_axis("low", [row["low"] for row in rows] + [row["high"] for row in rows]), "title": "latency"}
    encoding = {
        "x": x, "x2": {"field": "high"}, "y": _commands(heat),
        "color": _steps(_SHARES, "share of the command's calls"), "description": {"field": "says"},
    }  # fmt: skip
    return _spec(rows, height=26 * len(heat.commands) + 20, mark={"type": "rect"}, encoding=encoding)


def _command_times(heat: LatencyHeat) -> Spec:
    rows = [
        {
            **_time(each.ts, heat.width_ns), "command": printable(each.command),
            "step": _step(each.p99_ns, _LATENCIES),
            "says": f"{moment(each.ts)} UTC: {printable(each.command)} p99 {duration(each.p99_ns)} of {each.count:,}",
        }
        for each in heat.by_both
    ]  # fmt: skip
    encoding = {
        "x": _TIME, "x2": {"field": "end"}, "y": _commands(heat), "color": _steps(_LATENCIES, "99th percentile"),
        "description": {"field": "says"},
    }  # fmt: skip
    return _spec(rows, height=26 * len(heat.commands) + 20, mark={"type": "rect"}, encoding=encoding)


def _commands(heat: LatencyHeat) -> Spec:
    order = [printable(command) for command in heat.commands]
    scale = {"domain": order, "paddingInner": 0.12}
    return {"field": "command", "type": "nominal", "scale": scale, "axis": {**_AXIS, "title": None, "grid": False}}


# -- slots, shards, keys -----------------------------------------------------------


def _slots(slots: SlotLoad) -> Figure | None:
    if not slots.commands:
        return None
    edges = [{"slot": first} for shards in slots.shards if shards == 3 for first, _ in shard_ranges(shards)[1:]]
    specs = tuple(_slot_bars(slots, field, title, edges) for field, title in _LOADS)
    says = f"Each bar is {slots.ranges[0].last + 1} of the 16,384 hash slots; dashed: where three shards would meet. "
    return Figure("slots", "Load by hash slot", says + sharing(slots), specs)


_LOADS = (("commands", "share of commands"), ("bytes", "share of bytes"))


def _slot_bars(slots: SlotLoad, field: str, title: str, edges: list[Spec]) -> Spec:
    whole = max(1, getattr(slots, field))
    rows = [
        {
            "first": each.first, "end": each.last + 1, "load": getattr(each, field) / whole,
            "says": f"slots {each.first} to {each.last}: {percent(each.commands / max(1, slots.commands))} of commands, "
            f"{percent(each.bytes / max(1, slots.bytes))} of bytes",
        }
        for each in slots.ranges
    ]  # fmt: skip
    x = {
        "field": "first", "type": "quantitative", "title": "hash slot", "scale": {"domain": [0, 16384], "nice": False},
        "axis": {"format": "d", "values": list(range(0, 16385, 2048))},
    }  # fmt: skip
    y = {"field": "load", "type": "quantitative", "title": title, "axis": {**_AXIS, "format": ".0%", "tickCount": 5}}
    height = 150
    return _spec(rows, height=height, layer=[
        {"mark": {"type": "rect", "color": "var(--c1)" if field == "commands" else "var(--c3)", "aria": False},
         "encoding": {"x": x, "x2": {"field": "end"}, "y": y, "y2": {"datum": 0}}},
        {"data": {"values": edges}, "mark": {"type": "rule", "color": "var(--muted)", "strokeDash": [4, 4],
         "aria": False}, "encoding": {"x": {"field": "slot", "type": "quantitative"}}},
        {"mark": {"type": "rect", "opacity": 0},
         "encoding": {"x": x, "x2": {"field": "end"}, "y": {"value": 0}, "y2": {"value": height},
                      "description": {"field": "says"}}},
    ])  # fmt: skip


def _shards(slots: SlotLoad) -> Figure | None:
    if not slots.commands:
        return None
    specs = tuple(_shard_bars(slots, ranges) for ranges in slots.shards.values())
    says = "What each shard would carry of today's traffic, with equal slot ranges. Dashed: an equal share."
    return Figure("shards", "Predicted load of shards", says, specs)


def _shard_bars(slots: SlotLoad, ranges: Sequence[SlotRange]) -> Spec:
    rows = []
    for number, each in enumerate(ranges, 1):
        for of, load, whole in (("commands", each.commands, slots.commands), ("bytes", each.bytes, slots.bytes)):
            share = load / max(1, whole)
            shard = f"{number} of {len(ranges)} ({each.first}–{each.last})"
            says = f"shard {shard}: {percent(share)} of {of}"
            rows.append({"shard": shard, "of": of, "share": share, "text": percent(share), "says": says})
    most = max(1.15 * max(row["share"] for row in rows), 1 / len(ranges))
    y: Spec = {
        "field": "shard", "type": "nominal", "sort": None, "title": None,
        "axis": {**_AXIS, "grid": False, "title": None, "minExtent": 150}, "scale": {"paddingInner": 0.25},
    }  # fmt: skip
    x: Spec = {
        "field": "share", "type": "quantitative", "title": None, "scale": {"domain": [0, most], "nice": False},
        "axis": {"format": ".0%", "tickCount": 6},
    }  # fmt: skip
    color = {
        "field": "of", "type": "nominal", "scale": {"domain": ["commands", "bytes"], "range": ["var(--c1)", "var(--c3)"]},
        "legend": {"title": f"{len(ranges)} shards, share of"},
    }  # fmt: skip
    places = {"x": x, "y": y, "yOffset": {"field": "of", "sort": ["commands", "bytes"]}}
    return _spec(rows, height=44 * len(ranges) + 20, layer=[
        {"mark": {"type": "bar"}, "encoding": {**places, "color": color, "description": {"field": "says"}}},
        {"mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 12, "color": "var(--ink)", "aria": False},
         "encoding": {**places, "text": {"field": "text"}}},
        {"data": {"values": [{"share": 1 / len(ranges)}]},
         "mark": {"type": "rule", "color": "var(--muted)", "strokeDash": [4, 4], "aria": False},
         "encoding": {"x": {**x}}},
    ])  # fmt: skip


def _keys(report: Report) -> Figure | None:
    if not report.hot_keys:
        return None
    specs = (
        _key_bars(report.hot_keys, "count", "commands", "var(--c1)"),
        _key_bars(report.heavy_keys, "bytes", "bytes of requests and replies", "var(--c3)"),
    )
    return Figure("keys", "Hot and heavy keys", "The busiest keys by commands, and by bytes.", specs)


def _key_bars(keys: Sequence[KeyLine], field: str, title: str, colour: str) -> Spec:
    rows = [
        {
            "key": label, "load": getattr(line, field),
            "text": f"{line.count:,}" if field == "count" else size(line.bytes),
            "says": f"{name(line.key, 120)}: {line.count:,} commands, {size(line.bytes)}",
        }
        for label, line in zip(_distinct([name(line.key, 40) for line in keys]), keys, strict=True)
    ]  # fmt: skip
    y: Spec = {
        "field": "key", "type": "nominal", "sort": None, "scale": {"paddingInner": 0.25},
        "axis": {**_AXIS, "grid": False, "title": None, "minExtent": 290},
    }  # fmt: skip
    x: Spec = {
        "field": "load", "type": "quantitative", "title": title, "axis": {"format": "~s", "tickCount": 6},
        "scale": {"domain": [0, 1.15 * max(row["load"] for row in rows) or 1], "nice": False},
    }  # fmt: skip
    return _spec(rows, height=26 * len(rows) + 20, layer=[
        {"mark": {"type": "bar", "color": colour}, "encoding": {"x": x, "y": y, "description": {"field": "says"}}},
        {"mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 12, "color": "var(--ink)", "aria": False},
         "encoding": {"x": x, "y": y, "text": {"field": "text"}}},
    ])  # fmt: skip


def _distinct(labels: Sequence[str]) -> list[str]:
    """Labels of which no two are equal: keys that differ only where a label is shortened stay two bars."""
    return [f"{label} ({labels[: i + 1].count(label)})" if label in labels[:i] else label for i, label in enumerate(labels)]


# -- what they share ---------------------------------------------------------------

_AXIS: Spec = {"minExtent": 62, "domain": False, "ticks": False, "labelPadding": 8}
_TIME: Spec = {
    "field": "start", "type": "temporal", "scale": {"type": "utc", "nice": False}, "title": "time (UTC)",
    "axis": {"labelOverlap": True, "tickCount": 10},
}  # fmt: skip


def _spec(rows: Sequence[Spec], **more: Any) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json", "width": WIDTH,
        "autosize": {"type": "fit-x", "contains": "padding"}, "padding": 4, "config": CONFIG,
        "data": {"values": list(rows)}, **more,
    }  # fmt: skip


def _time(ts_ns: int, width_ns: int) -> Spec:
    return {"start": ts_ns / _MS, "end": (ts_ns + width_ns) / _MS}


def _over_time(rows: Sequence[Spec], field: str, title: str, colour: str, height: int = 200, format_: str = ",") -> Spec:
    axis = {**_AXIS, "format": format_, "tickCount": max(3, height // 40)}
    y = {"field": field, "type": "quantitative", "title": title, "axis": axis}
    encoding = {"x": _TIME, "x2": {"field": "end"}, "y": y, "y2": {"datum": 0}}
    bars = {"mark": {"type": "rect", "color": colour, "aria": False}, "encoding": encoding}
    return _spec(rows, height=height, layer=[bars, _hover(height)])


def _hover(height: int) -> Spec:
    """Unseen columns that say an interval's values under the pointer."""
    encoding = {
        "x": _TIME, "x2": {"field": "end"}, "y": {"value": 0}, "y2": {"value": height},
        "description": {"field": "says"},
    }  # fmt: skip
    return {"mark": {"type": "rect", "opacity": 0}, "encoding": encoding}


def _latency_axis(field: str, values_ns: Sequence[int]) -> Spec:
    """A logarithmic axis over whole powers of ten where these are few, labelled with units."""
    low, high = max(1, min(values_ns)), max(2, *values_ns)
    ticks = [value for value in (10**power for power in range(3, 13)) if low <= value <= high]
    return {
        "field": field, "type": "quantitative",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {**_AXIS, "labelExpr": _LATENCY_LABEL, **({"values": ticks} if len(ticks) > 1 else {"tickCount": 4})},
    }  # fmt: skip


def _step(value: float, steps: Sequence[tuple[float, str]]) -> str:
    return next(label for end, label in steps if value < end)


def _steps(steps: Sequence[tuple[float, str]], title: str) -> Spec:
    """Colours from pale to deep, named in the legend."""
    colours = [f"var(--h{1 + round(i * 7 / (len(steps) - 1))})" for i in range(len(steps))]
    labels = [label for _, label in steps]
    return {
        "field": "step", "type": "ordinal", "scale": {"domain": labels, "range": colours},
        "legend": {"title": title},
    }  # fmt: skip


def drawings(figure: Figure) -> Iterator[tuple[str, Spec]]:
    """Each drawing with its alternative text."""
    for number, spec in enumerate(figure.specs, 1):
        part = f", picture {number} of {len(figure.specs)}" if len(figure.specs) > 1 else ""
        yield f"{figure.title}{part}. {figure.says}", spec
