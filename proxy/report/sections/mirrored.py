"""The section on mirrors: what changed on the target for what clients did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from proxy.capture.mirrored import Mirrored, MirroredRead
from proxy.engine.stats import BUCKETS, quantile_ns
from proxy.report.cells import Section, TextTable, columns, count, duration, plural, with_rows
from proxy.report.document import Report
from proxy.report.printable import printable, shorten

#: Rows of a table.
TOP = 30
PATTERN_WIDTH = 44
_WHAT = {"writes": "Writes", "reads": "Reads", "all": "Writes and reads"}


def mirrored(report: Report) -> Section:
    """Nothing where nothing was mirrored."""
    title = "What changed for us on the target"
    if not report.mirrored:
        return Section("mirrored", title)
    paragraphs = tuple(text for each in report.mirrored for text in _said(each))
    tables = tuple(table for each in report.mirrored for table in _tables(each))
    return Section("mirrored", title, paragraphs, tables=with_rows(tables))


def _said(mirror: Mirrored) -> Iterator[str]:
    chosen = "" if mirror.percent == 100 else f", {mirror.percent}% of the keys"
    chosen += f", keys like {' or '.join(mirror.patterns)}" if mirror.patterns else ""
    yield (
        f"{_WHAT.get(mirror.what, mirror.what)} were mirrored to {mirror.target}{chosen} (shunt mirror): "
        f"{plural(mirror.answered, 'effect')} answered there, {plural(mirror.late, 'removal')} a little late. "
        + (f"{mirror.unverifiable:,} scripts were run there again; what they did can't be told. "
           if mirror.unverifiable else "")
        + (_dropped(mirror) or "Nothing was dropped.")
    )  # fmt: skip
    compared = sum(read.compared for read in mirror.reads)
    if compared:
        differed = sum(read.differed for read in mirror.reads)
        again, noise = sum(read.again for read in mirror.reads), sum(read.again_differed for read in mirror.reads)
        floor = (
            f"The source, asked {again:,} times again, differed from itself {plural(noise, 'time')}."
            if again
            else "The source was not asked again, so how much of this is noise is not known."
        )
        yield f"Of {compared:,} reads that both answered, {differed:,} differed. {floor}"


def _dropped(mirror: Mirrored) -> str:
    if not mirror.dropped:
        return ""
    total = sum(mirror.dropped.values())
    return f"{total:,} were dropped: " + ", ".join(f"{why} {n:,}" for why, n in mirror.dropped.most_common()) + "."


def _tables(mirror: Mirrored) -> tuple[TextTable, ...]:
    refused = [(command, word, n, "writes") for command, word, n in mirror.errors]
    for each in mirror.reads:
        refused += [(each.command, word, n, f"reads of {each.pattern}") for word, n in each.target_errors.items()]
    refused.sort(key=lambda row: -row[2])
    only_there = TextTable(
        f"Errors that only {mirror.target} gives",
        columns("command", "error", "of", "count*"),
        tuple((_plain(c), _plain(word), shorten(_plain(of), 60), f"{n:,}") for c, word, n, of in refused[:TOP]),
    )
    missed = TextTable(
        "Taken on the source, not there on the target",
        columns("command", "count*"),
        tuple((_plain(command), f"{n:,}") for command, n in mirror.missed.most_common(TOP)),
        "Replies over several connections come in another order than Redis ran the commands in (docs/mirror.md).",
    )
    reads = sorted(mirror.reads, key=lambda read: (-sum(read.target_errors.values()), -read.differed, -read.compared))
    beside = TextTable(
        "Reads side by side",
        columns("command", "keys like", "compared*", "differed*", "noise*", "how", "p50", "p99"),
        tuple(_row(read) for read in reads[:TOP]),
        "Noise: how often the source differed from itself when it was asked again. Times are source → target: what "
        "clients saw, and what shunt's own connection saw, which many clients' commands share.",
    )  # fmt: skip
    return only_there, missed, beside


def _row(read: MirroredRead) -> tuple[str, ...]:
    times = [f"{_quantile(read.source_ns, share)} → {_quantile(read.target_ns, share)}" for share in (0.5, 0.99)]
    return (
        _plain(read.command), shorten(_plain(read.pattern), PATTERN_WIDTH), f"{read.compared:,}",
        count(read.differed), f"{read.again_differed:,} of {read.again:,}" if read.again else "not asked",
        ", ".join(f"{_plain(shape)} {n:,}" for shape, n in read.shapes.most_common(2)) or "–", *times,
    )  # fmt: skip


def _quantile(buckets: Counter[int], share: float) -> str:
    if not buckets:
        return "–"
    return duration(round(quantile_ns([buckets[index] for index in range(BUCKETS)], share)))


def _plain(text: str) -> str:
    """What stood in the mirror's file, as text that can be printed anywhere."""
    return printable(text.encode())
