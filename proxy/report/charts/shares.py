"""Charts of what the load falls on: hash slots, shards, keys."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.report.cells import name, percent, size
from proxy.report.charts.specs import (
    BESIDE,
    BYTES_AXIS,
    COUNT_AXIS,
    DASHED,
    NAMES_AXIS,
    OVERLAP,
    SHARE_AXIS,
    UNSEEN,
    Figure,
    Spec,
    spec,
)
from proxy.report.document import KeyLine, Report
from proxy.report.load import SLOTS, SlotLoad, SlotRange, shard_ranges
from proxy.report.sections.load import sharing

#: What is counted, by field: the colour that stands for it.
_COLOURS = {"commands": "var(--c1)", "bytes": "var(--c3)"}
_SLOTS_HEIGHT = 150
_MEETING = 3  # shards whose borders are drawn
_PER_SHARD, _PER_KEY = 44, 26


def slots(load: SlotLoad) -> Figure | None:
    """The share of ranges of slots."""
    if not load.commands:
        return None
    says = f"Each bar is {load.ranges[0].last + 1} of the {SLOTS:,} hash slots; dashed: where three shards would meet. "
    specs = tuple(_slot_bars(load, field) for field in _COLOURS)
    return Figure("slots", "Load by hash slot", says + sharing(load), specs)


def _slot_bars(load: SlotLoad, field: str) -> Spec:
    rows = [
        {
            "first": each.first, "end": each.first + (each.last + 1 - each.first) * OVERLAP,
            "share": _share(load, each, field),
            "says": f"slots {each.first} to {each.last}: {percent(_share(load, each, 'commands'))} of commands, "
            f"{percent(_share(load, each, 'bytes'))} of bytes",
        }
        for each in load.ranges
    ]  # fmt: skip
    x = {
        "field": "first", "type": "quantitative", "title": "hash slot", "scale": {"domain": [0, SLOTS], "nice": False},
        "axis": {"format": "d", "values": list(range(0, SLOTS + 1, SLOTS // 8))},
    }  # fmt: skip
    y = {
        "field": "share", "type": "quantitative", "title": f"share of {field}", "axis": {**SHARE_AXIS, "tickCount": 5},
    }  # fmt: skip
    wide = {"x": x, "x2": {"field": "end"}}
    bars = {"mark": {"type": "rect", "color": _COLOURS[field], "aria": False},
            "encoding": {**wide, "y": y, "y2": {"datum": 0}}}  # fmt: skip
    borders = {
        "data": {"values": [{"slot": first} for first, _ in shard_ranges(_MEETING)[1:]]}, "mark": DASHED,
        "encoding": {"x": {"field": "slot", "type": "quantitative"}},
    }  # fmt: skip
    unseen = {
        "mark": UNSEEN,
        "encoding": {
            **wide, "y": {"value": 0}, "y2": {"value": _SLOTS_HEIGHT}, "description": {"field": "says"},
        },
    }  # fmt: skip
    return spec(rows, height=_SLOTS_HEIGHT, layer=[bars, borders, unseen])


def _share(load: SlotLoad, part: SlotRange, field: str) -> float:
    value: float = getattr(part, field) / max(1, getattr(load, field))
    return value


def shards(load: SlotLoad) -> Figure | None:
    """What each shard would carry."""
    if not load.commands:
        return None
    specs = tuple(_shard_bars(load, ranges) for ranges in load.shards.values())
    says = "What each shard would carry of today's traffic, with equal slot ranges. Dashed: an equal share."
    return Figure("shards", "Predicted load of shards", says, specs)


def _shard_bars(load: SlotLoad, ranges: Sequence[SlotRange]) -> Spec:
    rows = []
    for number, each in enumerate(ranges, 1):
        shard = f"{number} of {len(ranges)} ({each.first}–{each.last})"
        for of in _COLOURS:
            share = _share(load, each, of)
            says = f"shard {shard}: {percent(share)} of {of}"
            rows.append({"shard": shard, "of": of, "share": share, "text": percent(share), "says": says})
    most = 1.15 * max(_share(load, each, of) for each in ranges for of in _COLOURS)
    x = {
        "field": "share", "type": "quantitative", "title": None, "scale": {"domain": [0, most], "nice": False},
        "axis": {"labelExpr": SHARE_AXIS["labelExpr"], "tickCount": 6},
    }  # fmt: skip
    places = {
        "x": x, "y": _names("shard", 150), "yOffset": {"field": "of", "sort": list(_COLOURS)},
    }  # fmt: skip
    color = {
        "field": "of", "type": "nominal", "scale": {"domain": list(_COLOURS), "range": list(_COLOURS.values())},
        "legend": {"title": f"{len(ranges)} shards, share of"},
    }  # fmt: skip
    return spec(rows, height=_PER_SHARD * len(ranges) + 20, layer=[
        {"mark": {"type": "bar"}, "encoding": {**places, "color": color, "description": {"field": "says"}}},
        {"data": {"values": [{"share": 1 / len(ranges)}]}, "mark": DASHED, "encoding": {"x": x}},
        {"mark": BESIDE, "encoding": {**places, "text": {"field": "text"}}},
    ])  # fmt: skip


def hot_keys(report: Report) -> Figure | None:
    """The busiest keys by commands, and by bytes."""
    if not report.hot_keys:
        return None
    by_bytes = [(line, line.bytes, size(line.bytes)) for line in report.heavy_keys]
    specs = (
        _key_bars([(line, line.count, f"{line.count:,}") for line in report.hot_keys], "commands", COUNT_AXIS),
        _key_bars(by_bytes, "bytes", BYTES_AXIS),
    )
    return Figure("keys", "Hot and heavy keys", "The busiest keys by commands, and by bytes.", specs)


def _key_bars(keys: Sequence[tuple[KeyLine, int, str]], of: str, axis: Spec) -> Spec:
    labels = _distinct([name(line.key, 40) for line, _, _ in keys])
    rows = []
    for label, (line, load, text) in zip(labels, keys, strict=True):
        says = f"{name(line.key, 120)}: {line.count:,} commands, {size(line.bytes)}"
        rows.append({"key": label, "load": load, "text": text, "says": says})
    x = {
        "field": "load", "type": "quantitative", "title": of, "axis": {"labelExpr": axis["labelExpr"], "tickCount": 6},
        "scale": {"domain": [0, 1.15 * max(1, *(load for _, load, _ in keys))], "nice": False},
    }  # fmt: skip
    places = {"x": x, "y": _names("key", 290)}
    return spec(rows, height=_PER_KEY * len(rows) + 20, layer=[
        {"mark": {"type": "bar", "color": _COLOURS[of]}, "encoding": {**places, "description": {"field": "says"}}},
        {"mark": BESIDE, "encoding": {**places, "text": {"field": "text"}}},
    ])  # fmt: skip


def _names(field: str, width: int) -> Spec:
    """Rows of bars, in the order of the data."""
    axis = {**NAMES_AXIS, "minExtent": width}
    return {
        "field": field,
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": axis,
        "scale": {"paddingInner": 0.25},
    }


def _distinct(labels: Sequence[str]) -> list[str]:
    """Labels of which no two are equal: keys that differ only where a label is shortened stay two bars."""
    return [
        f"{label} ({labels[: i + 1].count(label)})" if label in labels[:i] else label for i, label in enumerate(labels)
    ]
