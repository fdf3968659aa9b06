"""A diff for a terminal and as JSON. Knows: order, wording, columns. Refuses to know: what changed, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence

from proxy.report.cells import Section, TextTable, columns, duration, moment, name, size, span
from proxy.report.diff import Diff, Item, PatternDiff, Side, seconds
from proxy.report.document import Overview
from proxy.report.noise import CONFIDENCE, LEAST_CHANGE, Change
from proxy.report.printable import printable, shorten
from proxy.report.render_json import plain
from proxy.report.render_text import WIDTH, render_sections

TOP_ITEMS = 40
TOP_PATTERNS = 40
_SUBJECT = 56
_TEMPLATE = 18


def diff_json(diff: Diff) -> str:
    """Everything, one document."""
    document = {"exit_code": diff.exit_code, **plain(diff)}
    for shown, pattern in zip(document["patterns"], diff.patterns, strict=True):
        for of in ("latency", "volume"):
            found: Change | None = getattr(pattern, of)
            if found is not None:
                shown[of]["beyond_noise"] = found.beyond_noise
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def diff_text(diff: Diff, *, color: bool = False, width: int = WIDTH) -> str:
    """What changed, to read."""
    return render_sections([_overview(diff), _found(diff), _patterns(diff)], color=color, width=width)


def _overview(diff: Diff) -> Section:
    said = f"{len(diff.new)} new, {len(diff.gone)} gone, {len(diff.still)} still there."
    verdicts = tuple(
        f"{target}: {before}." if before == after else f"{target}: {before} before, {after} now."
        for target, before, after in diff.verdicts
    )
    rows = (_capture("A: before", diff.before), _capture("B: after", diff.after))
    heads = columns("capture", "from (UTC)", "lasts", "commands*", "a second*", "in*", "out*")
    return Section("diff", "Before and after", (f"Findings and advice: {said}", *verdicts),
                   tables=(TextTable("Captures", heads, rows),))  # fmt: skip


def _capture(title: str, overview: Overview) -> tuple[str, ...]:
    lasts = seconds(overview)
    return (
        title, moment(overview.first_ts), span(lasts), f"{overview.commands:,}", f"{overview.commands / lasts:,.1f}",
        size(overview.request_bytes), size(overview.reply_bytes),
    )  # fmt: skip


def _found(diff: Diff) -> Section:
    hours = seconds(diff.before) / 3600, seconds(diff.after) / 3600
    groups = (("New", diff.new), ("Gone", diff.gone), ("Still there", diff.still))
    made = tuple(_items(title, items, hours) for title, items in groups if items)
    nothing = () if made else ("Neither capture has a finding or an advice.",)
    return Section("found", "Findings and advice", nothing, tables=made)


def _items(title: str, items: Sequence[Item], hours: tuple[float, float]) -> TextTable:
    rows = tuple(
        (
            item.level, item.rule if item.of == "advice" else f"{item.of}: {item.rule}",
            shorten(item.subject, _SUBJECT), _per_hour(item.before, hours[0]), _per_hour(item.after, hours[1]),
        )
        for item in items[:TOP_ITEMS]
    )  # fmt: skip
    left = len(items) - TOP_ITEMS
    note = f"{left:,} more left out; the json format has all." if left > 0 else ""
    return TextTable(f"{title} ({len(items):,})", columns("", "rule", "what", "A, an hour*", "B, an hour*"), rows, note)


def _per_hour(count: int, hours: float) -> str:
    return f"{count / hours:,.0f}" if count else "–"


def _patterns(diff: Diff) -> Section:
    rows = tuple(_row(pattern) for pattern in diff.patterns[:TOP_PATTERNS])
    heads = columns(
        "command", "key pattern", "/s A*", "/s B*", "volume*", "p50 A*", "p50 B*", "latency*", "p99 A*", "p99 B*"
    )
    longest = duration(int(max(diff.slices_s) * 1e9))
    note = (
        "A: before, B: after. volume, latency: B by A, where the change is larger than the noise "
        f"({CONFIDENCE:.0%} interval) and than {LEAST_CHANGE:.0%}; = where it is not; ? where there is too little to "
        f"tell. Compared are slices of up to {longest}."
    )
    return Section("patterns", "Command patterns", tables=(TextTable("By time in either capture", heads, rows, note),))


def _row(pattern: PatternDiff) -> tuple[str, ...]:
    before, after = pattern.before, pattern.after
    only = "new" if before is None else "gone" if after is None else ""
    return (
        printable(pattern.command) or "–", name(pattern.template, _TEMPLATE) or "–", _rate(before), _rate(after),
        only or _changed(pattern.volume), _p50(before), _p50(after), only or _changed(pattern.latency), _p99(before),
        _p99(after),
    )  # fmt: skip


def _rate(side: Side | None) -> str:
    return "–" if side is None else f"{side.per_s:,.1f}"


def _p50(side: Side | None) -> str:
    return "–" if side is None or side.p50_ns is None else duration(side.p50_ns)


def _p99(side: Side | None) -> str:
    return "–" if side is None or side.p99_ns is None else duration(side.p99_ns)


def _changed(found: Change | None) -> str:
    if found is None:
        return "?"
    return f"×{found.ratio:.2f}" if found.beyond_noise else "="
