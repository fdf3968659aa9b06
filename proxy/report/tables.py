"""A report's tables as text cells, for the renderers that people read: text and Markdown show the same ones.

Knows: columns, units, wording. Refuses to know: colours, frames, line widths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from proxy.report.document import CommandLine, Example, ExchangeLine, FindingGroup, KeyLine, Overview, Report, Times
from proxy.report.printable import printable, shorten
from proxy.report.rules import Severity

TOP_COMMANDS = 20
TOP_ERRORS = 15
_NAME_WIDTH = 44
_KEY_TEMPLATES = 6

#: Fine print under every report.
FINE_PRINT = (
    "Scripts that declare keys can touch others too: those are not checked. Pipelines are legal in a cluster, but a "
    "cluster client has to split them by node. The application needs a client library that speaks cluster. What "
    "was not captured was not judged."
)


@dataclass(frozen=True)
class Column:
    """A heading; numbers are set to the right."""

    heading: str
    number: bool = False


@dataclass(frozen=True)
class TextTable:
    """A table of text cells. ``note`` stands under it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(report: Report) -> list[TextTable]:
    """Every table that has rows, in reading order."""
    made = [
        _commands(report.commands),
        _waits(report.commands),
        _exchanges("Slowest exchanges (blocking ones left out)", report.slowest, "latency"),
        _errors(report),
        _exchanges("Biggest requests", report.biggest_requests, "request"),
        _exchanges("Biggest replies", report.biggest_replies, "reply"),
        _keys("Hot keys, by commands", report.hot_keys),
        _keys("Hot keys, by bytes", report.heavy_keys),
        _clients(report),
    ]
    return [table for table in made if table.rows]


def _commands(lines: Sequence[CommandLine]) -> TextTable:
    busy = sum(line.service.total_ns for line in lines if line.service) or 1
    columns = _columns("command", "count*", "errors*", "time*", "p50*", "p99*", "p99.9*", "max*", "in*", "out*")
    rows = []
    for line in lines[:TOP_COMMANDS]:
        share = line.service.total_ns / busy if line.service else 0
        rows.append(
            (
                printable(line.command), f"{line.count:,}", _count(line.errors), _percent(share),
                *_quantiles(line.service), size(line.request_bytes), size(line.reply_bytes),
            )
        )  # fmt: skip
    note = "time: share of all service time. Blocking commands wait elsewhere; commands queued in MULTI are not timed."
    return TextTable("Commands", columns, tuple(rows), note + _more(len(lines) - TOP_COMMANDS, "command"))


def _waits(lines: Sequence[CommandLine]) -> TextTable:
    rows = tuple(
        (printable(line.command), f"{line.wait.count:,}", *_quantiles(line.wait)) for line in lines if line.wait
    )
    columns = _columns("command", "count*", "p50*", "p99*", "p99.9*", "max*")
    return TextTable("Waiting (blocking commands)", columns, rows)


def _exchanges(title: str, lines: Sequence[ExchangeLine], by: str) -> TextTable:
    shown: Callable[[ExchangeLine], str] = {
        "latency": lambda line: duration(line.latency_ns),
        "request": lambda line: size(line.request_bytes),
        "reply": lambda line: size(line.reply_bytes),
    }[by]
    rows = tuple(
        (shown(line), printable(line.command), name(line.key), moment(line.ts), place(line.example)) for line in lines
    )
    return TextTable(title, _columns(f"{by}*", "command", "first key", "at (UTC)", "conn/seq*"), rows)


def _errors(report: Report) -> TextTable:
    lines = report.errors
    rows = tuple(
        (printable(line.error), printable(line.command), f"{line.count:,}", moment(line.first_ts), moment(line.last_ts))
        for line in lines[:TOP_ERRORS]
    )
    note = _more(len(lines) - TOP_ERRORS, "kind").strip()
    return TextTable("Error replies", _columns("error", "command", "count*", "first (UTC)", "last (UTC)"), rows, note)


def _keys(title: str, lines: Sequence[KeyLine]) -> TextTable:
    rows = tuple((name(line.key, 60), f"{line.count:,}", size(line.bytes)) for line in lines)
    return TextTable(title, _columns("key", "commands*", "bytes*"), rows)


def _clients(report: Report) -> TextTable:
    rows = tuple(
        (
            printable(line.addr), name(line.name) or "–", f"{line.connections:,}", f"{line.commands:,}",
            size(line.bytes),
        )
        for line in report.clients
    )  # fmt: skip
    columns = _columns("address", "name", "connections*", "commands*", "bytes*")
    return TextTable("Clients", columns, rows, _more(report.more["clients"], "client").strip())


def overview(seen: Overview) -> list[tuple[str, str]]:
    """Label and value of each line of the overview."""
    if not seen.commands:
        return [("captured", "no commands")]
    seconds = (seen.last_ts - seen.first_ts) / 1e9
    rate = f", {seen.commands / seconds:,.0f} commands/s" if seconds >= 1 else ""
    lines = [
        ("captured", f"{moment(seen.first_ts)} to {moment(seen.last_ts, seen.first_ts)} UTC ({span(seconds)}{rate})"),
        ("commands", f"{seen.commands:,} ({size(seen.request_bytes)} in, {size(seen.reply_bytes)} out)"),
        ("connections", f"{seen.connections:,} from {_plural(seen.clients, 'client')}, in {_plural(seen.runs, 'run')}"),
        ("backend", ", ".join(seen.backends) or "not named"),
    ]
    if seen.gaps:
        missing = f", at least {seen.gap_rows:,} commands missing" if seen.gap_rows else ""
        lines.append(("gaps", f"{seen.gaps:,}{missing}"))
    return lines


def subject(group: FindingGroup) -> str:
    """What a finding is about: the command, or a transaction's commands."""
    if group.rule == "gap":
        return "(not recorded)"
    if group.members:
        names = [printable(member) for member in group.members]
        return f"MULTI {' '.join(names[:8])}{' …' if len(names) > 8 else ''} EXEC"
    return printable(group.command)


def key_list(group: FindingGroup) -> str:
    """The key templates of a finding."""
    names = [name(key) for key in group.keys[:_KEY_TEMPLATES]]
    more = len(group.keys) - _KEY_TEMPLATES
    return " ".join([*names, f"(and {more} more)"] if more > 0 else names)


def place(example: Example) -> str:
    """Where ``capture cat`` shows it."""
    return f"{example.conn}/{example.seq}"


def severity_counts(counts: dict[str, int]) -> str:
    """The severities that occurred: "3 error, 1 silent"."""
    return ", ".join(f"{counts[each]:,} {each}" for each in Severity if counts[each]) or "none"


def name(value: bytes, width: int = _NAME_WIDTH) -> str:
    """A key or client name, shortened in the middle."""
    return shorten(printable(value), width)


def moment(ts_ns: int, same_day_as: int | None = None) -> str:
    """UTC, to the second; the time alone if the day is that of ``same_day_as``."""
    at = datetime.fromtimestamp(ts_ns / 1e9, UTC)
    if same_day_as is not None and at.date() == datetime.fromtimestamp(same_day_as / 1e9, UTC).date():
        return at.strftime("%H:%M:%S")
    return at.strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """A time span in its two biggest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 60:
        return f"{int(minutes)} min {int(seconds % 60)} s"
    return f"{int(hours)} h {int(minutes % 60)} min" if hours < 48 else f"{int(days)} days {int(hours % 24)} h"


def duration(ns: int) -> str:
    """Three digits and a unit: 1.23 ms."""
    for unit, scale in (("s", 1e9), ("ms", 1e6)):
        if ns >= scale:
            return f"{_digits(ns / scale)} {unit}"
    return f"{_digits(ns / 1e3)} µs"


def size(count: int) -> str:
    """Bytes in units of 1000: 1.23 MB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{_digits(count / scale)} {unit}"
    return f"{count} B"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _columns(*headings: str) -> tuple[Column, ...]:
    return tuple(Column(each.rstrip("*"), each.endswith("*")) for each in headings)


def _quantiles(times: Times | None) -> tuple[str, str, str, str]:
    if times is None:
        return ("–", "–", "–", "–")
    return (duration(times.p50_ns), duration(times.p99_ns), duration(times.p999_ns), duration(times.max_ns))


def _percent(share: float) -> str:
    return f"{share * 100:.1f}%"


def _count(count: int) -> str:
    return f"{count:,}" if count else "–"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _more(count: int, noun: str) -> str:
    return f" {_plural(count, 'more ' + noun)} left out; the json format has all." if count > 0 else ""
