"""Heat maps of latencies: over time, by command, and both."""

from __future__ import annotations

from collections import Counter

from proxy.report.cells import duration, instant, percent, span
from proxy.report.charts.specs import (
    NAMES_AXIS,
    OVERLAP,
    Figure,
    Spec,
    interval,
    latency_axis,
    spec,
    step,
    stepped,
    time_axis,
    upright,
)
from proxy.report.load import CommandCell, LatencyHeat, TimeCell
from proxy.report.printable import printable

_SHARES = (
    (0.001, "under 0.1%"), (0.01, "to 1%"), (0.05, "to 5%"), (0.2, "to 20%"), (0.5, "to 50%"), (2.0, "above 50%"),
)  # fmt: skip
_LATENCIES = (
    (100_000, "under 0.1 ms"), (300_000, "to 0.3 ms"), (1_000_000, "to 1 ms"), (3_000_000, "to 3 ms"),
    (10_000_000, "to 10 ms"), (30_000_000, "to 30 ms"), (100_000_000, "to 0.1 s"), (2**63, "above 0.1 s"),
)  # fmt: skip
_ROW = 26  # height of a command


def latency_by_command(heat: LatencyHeat) -> Figure | None:
    """Three maps: time by latency, command by latency, command by time."""
    if not heat.by_time:
        return None
    says = (
        "Stronger colour: a larger share of the commands, or a longer 99th percentile. Commands stand in the order of "
        f"their total service time. An interval is {span(heat.width_ns / 1e9)}."
    )
    return Figure("heat", "Where latencies lie", says, (_over_time(heat), _by_command(heat), _percentiles(heat)))


def _over_time(heat: LatencyHeat) -> Spec:
    totals: Counter[int] = Counter()
    for cell in heat.by_time:
        totals[cell.ts] += cell.count
    rows = [
        {
            **interval(cell.ts, heat.width_ns),
            **_cell(cell, f"{instant(cell.ts, heat.width_ns)} UTC", cell.count / totals[cell.ts]),
        }
        for cell in heat.by_time
    ]
    encoding = {
        "x": time_axis(rows), "x2": {"field": "end"}, "y": upright(_latencies(rows)), "y2": {"field": "high"},
        "color": stepped(_SHARES, "share of the interval's commands"), "description": {"field": "says"},
    }  # fmt: skip
    return spec(rows, height=240, mark={"type": "rect"}, encoding=encoding)


def _by_command(heat: LatencyHeat) -> Spec:
    totals: Counter[bytes] = Counter()
    for cell in heat.by_command:
        totals[cell.command] += cell.count
    rows = [
        {
            "command": printable(cell.command),
            **_cell(cell, printable(cell.command), cell.count / totals[cell.command]),
        }
        for cell in heat.by_command
    ]
    encoding = {
        "x": _latencies(rows), "x2": {"field": "high"}, "y": _commands(heat),
        "color": stepped(_SHARES, "share of the command's calls"), "description": {"field": "says"},
    }  # fmt: skip
    return spec(rows, height=_height(heat), mark={"type": "rect"}, encoding=encoding)


def _percentiles(heat: LatencyHeat) -> Spec:
    rows = []
    for each in heat.by_both:
        name = printable(each.command)
        says = f"{instant(each.ts, heat.width_ns)} UTC: {name} p99 {duration(each.p99_ns)} of {each.count:,}"
        values = {"command": name, "step": step(each.p99_ns, _LATENCIES), "says": says}
        rows.append({**interval(each.ts, heat.width_ns), **values})
    encoding = {
        "x": time_axis(rows), "x2": {"field": "end"}, "y": _commands(heat),
        "color": stepped(_LATENCIES, "99th percentile"), "description": {"field": "says"},
    }  # fmt: skip
    return spec(rows, height=_height(heat), mark={"type": "rect"}, encoding=encoding)


def _cell(cell: TimeCell | CommandCell, of: str, share: float) -> Spec:
    low, high = cell.low_ns, cell.low_ns * 2
    says = f"{of}: {percent(share)} ({cell.count:,}) took {duration(low)} to {duration(high)}"
    return {"low": low, "high": high * OVERLAP, "step": step(share, _SHARES), "says": says}


def _latencies(rows: list[Spec]) -> Spec:
    return latency_axis("low", [bound for row in rows for bound in (row["low"], row["high"])])


def _commands(heat: LatencyHeat) -> Spec:
    scale = {"domain": [printable(command) for command in heat.commands], "paddingInner": 0.12}
    return {"field": "command", "type": "nominal", "scale": scale, "axis": NAMES_AXIS}


def _height(heat: LatencyHeat) -> int:
    return _ROW * len(heat.commands) + 20
