"""What the charts share: size, colours, axes, steps of colour.

Knows: Vega-Lite's words; the names of the page's CSS variables, which stand for colours here, so that one drawing
serves a light and a dark page. Refuses to know: what any chart shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]

WIDTH = 1000  # of a drawing with its axes, in units that the page scales
#: Neighbours overlap a little, or a browser that rounds to pixels shows the page between them.
OVERLAP = 1.04
_MS = 1e6

_NUMBER = "format(datum.value, datum.value >= 10 ? ',.0f' : '.3~f')"
_BYTES = "datum.value == 0 ? '0' : replace(format(datum.value, '.3~s'), /([0-9.]+)/, '$1 ') + 'B'"
_SHARE = "format(datum.value * 100, '.3~g') + '%'"
_LATENCY = (
    "datum.value >= 1e9 ? format(datum.value / 1e9, '~g') + ' s' : "
    "datum.value >= 1e6 ? format(datum.value / 1e6, '~g') + ' ms' : format(datum.value / 1e3, '~g') + ' µs'"
)

CONFIG: Spec = {
    "background": None,
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
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

#: An upright axis; charts above one another begin at the same place.
AXIS: Spec = {"minExtent": 92, "domain": False, "ticks": False, "labelPadding": 8}
_TITLE_WIDTH = 15
#: Labels of an axis by the unit of its field.
COUNT_AXIS: Spec = {**AXIS, "labelExpr": _NUMBER, "tickMinStep": 1}
RATE_AXIS: Spec = {**AXIS, "labelExpr": _NUMBER}
BYTES_AXIS: Spec = {**AXIS, "labelExpr": _BYTES, "tickMinStep": 1}
SHARE_AXIS: Spec = {**AXIS, "labelExpr": _SHARE}
NAMES_AXIS: Spec = {**AXIS, "title": None, "grid": False, "minExtent": AXIS["minExtent"] + _TITLE_WIDTH}

#: A value beside its bar.
BESIDE: Spec = {
    "type": "text", "align": "left", "dx": 5, "fontSize": 12, "color": "var(--ink)", "stroke": "var(--page)",
    "strokeWidth": 4, "aria": False,
}  # fmt: skip
UNSEEN: Spec = {"type": "rect", "color": "transparent"}
DASHED: Spec = {"type": "rule", "color": "var(--muted)", "strokeDash": [4, 4], "aria": False}

#: Labels of a time axis by its span in ms at most.
_TIME_LABELS = ((600_000, "%H:%M:%S"), (2 * 86_400_000, "%H:%M"), (20 * 86_400_000, "%b %d, %H:%M"))

#: Steps of colour: the upper end of each, and its name.
Steps = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Figure:
    """One or several drawings under one heading. ``says``: what to see in it, in a sentence or two."""

    id: str
    title: str
    says: str
    specs: tuple[Spec, ...]


def spec(rows: Sequence[Spec], **more: Any) -> Spec:
    """A drawing of ``rows``; ``more``: its height, and its mark and encoding, or layers."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json", "width": WIDTH,
        "autosize": {"type": "fit-x", "contains": "padding"}, "padding": 4, "config": CONFIG,
        "data": {"values": list(rows)}, **more,
    }  # fmt: skip


def interval(ts_ns: int, width_ns: int) -> Spec:
    """The fields ``start`` and ``end`` of a row, in ms."""
    return {"start": moment_ms(ts_ns), "end": moment_ms(ts_ns + width_ns * OVERLAP)}


def moment_ms(ts_ns: float) -> float:
    return ts_ns / _MS


def time_axis(rows: Sequence[Spec]) -> Spec:
    """The field ``start`` as an axis, labelled as finely as the span of ``rows`` asks for."""
    first: float = min(row["start"] for row in rows)
    last: float = max(row["start"] for row in rows)
    labels = next((form for most, form in _TIME_LABELS if last - first <= most), "%Y-%m-%d")
    return {
        "field": "start", "type": "temporal", "title": "time (UTC)", "scale": {"type": "utc", "nice": False},
        "axis": {"format": labels, "tickCount": 8, "labelOverlap": True},
    }  # fmt: skip


def latency_axis(field: str, values_ns: Sequence[float]) -> Spec:
    """A logarithmic axis with labels at powers of ten, or at more places if few of these are in it."""
    low, high = max(1, min(values_ns)), max(2, *values_ns)
    powers = [value for value in (10**power for power in range(3, 13)) if low <= value <= high]
    ticks: Spec = {"values": powers} if len(powers) > 1 else {"tickCount": 4}
    return {
        "field": field, "type": "quantitative", "title": "latency",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {"domain": False, "ticks": False, "labelPadding": 8, "labelExpr": _LATENCY, **ticks},
    }  # fmt: skip


def upright(axis: Spec) -> Spec:
    """An axis, as wide as the other upright ones."""
    return {**axis, "axis": {**axis["axis"], "minExtent": AXIS["minExtent"]}}


def hover(rows: Sequence[Spec], height: int) -> Spec:
    """A layer of unseen columns, one for each interval: what a row ``says`` shows under the pointer."""
    encoding = {
        "x": time_axis(rows), "x2": {"field": "end"}, "y": {"value": 0}, "y2": {"value": height},
        "description": {"field": "says"},
    }  # fmt: skip
    return {"mark": UNSEEN, "encoding": encoding}


def step(value: float, steps: Steps) -> str:
    """The name of the step that a value belongs to."""
    return next(label for end, label in steps if value < end)


def stepped(steps: Steps, title: str) -> Spec:
    """The field ``step`` as colours from weak to strong, named in a legend."""
    colours = [f"var(--h{1 + round(i * 7 / (len(steps) - 1))})" for i in range(len(steps))]
    scale = {"domain": [label for _, label in steps], "range": colours}
    return {"field": "step", "type": "ordinal", "scale": scale, "legend": {"title": title}}
