"""The section on traffic: commands, waits, the slowest and the biggest exchanges, errors, keys, clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from proxy.report.cells import (
    Section,
    TextTable,
    columns,
    count,
    duration,
    moment,
    more,
    name,
    percent,
    place,
    size,
    with_rows,
)
from proxy.report.document import CommandLine, ExchangeLine, KeyLine, Report, Times
from proxy.report.printable import printable

TOP_COMMANDS = 20
TOP_ERRORS = 15


def traffic(report: Report) -> Section:
    """What the traffic was like."""
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
    return Section("traffic", "Traffic", tables=with_rows(made))


def _commands(lines: Sequence[CommandLine]) -> TextTable:
    busy = sum(line.service.total_ns for line in lines if line.service) or 1
    heads = columns("command", "count*", "errors*", "time*", "p50*", "p99*", "p99.9*", "max*", "in*", "out*")
    rows = []
    for line in lines[:TOP_COMMANDS]:
        share = line.service.total_ns / busy if line.service else 0
        rows.append(
            (
                printable(line.command), f"{line.count:,}", count(line.errors), percent(share),
                *_quantiles(line.service), size(line.request_bytes), size(line.reply_bytes),
            )
        )  # fmt: skip
    note = "time: share of all service time. Blocking commands wait elsewhere; commands queued in MULTI are not timed."
    return TextTable("Commands", heads, tuple(rows), note + more(len(lines) - TOP_COMMANDS, "command"))


def _waits(lines: Sequence[CommandLine]) -> TextTable:
    rows = tuple(
        (printable(line.command), f"{line.wait.count:,}", *_quantiles(line.wait)) for line in lines if line.wait
    )
    heads = columns("command", "count*", "p50*", "p99*", "p99.9*", "max*")
    return TextTable("Waiting (blocking commands)", heads, rows)


def _exchanges(title: str, lines: Sequence[ExchangeLine], by: str) -> TextTable:
    shown: Callable[[ExchangeLine], str] = {
        "latency": lambda line: duration(line.latency_ns),
        "request": lambda line: size(line.request_bytes),
        "reply": lambda line: size(line.reply_bytes),
    }[by]
    rows = tuple(
        (shown(line), printable(line.command), name(line.key), moment(line.ts), place(line.example)) for line in lines
    )
    return TextTable(title, columns(f"{by}*", "command", "first key", "at (UTC)", "conn/seq*"), rows)


def _errors(report: Report) -> TextTable:
    lines = report.errors
    rows = tuple(
        (printable(line.error), printable(line.command), f"{line.count:,}", moment(line.first_ts), moment(line.last_ts))
        for line in lines[:TOP_ERRORS]
    )
    note = more(len(lines) - TOP_ERRORS, "kind").strip()
    return TextTable("Error replies", columns("error", "command", "count*", "first (UTC)", "last (UTC)"), rows, note)


def _keys(title: str, lines: Sequence[KeyLine]) -> TextTable:
    rows = tuple((name(line.key, 60), f"{line.count:,}", size(line.bytes)) for line in lines)
    return TextTable(title, columns("key", "commands*", "bytes*"), rows)


def _clients(report: Report) -> TextTable:
    rows = tuple(
        (
            printable(line.addr), name(line.name) or "–", f"{line.connections:,}", f"{line.commands:,}",
            size(line.bytes),
        )
        for line in report.clients
    )  # fmt: skip
    heads = columns("address", "name", "connections*", "commands*", "bytes*")
    return TextTable("Clients", heads, rows, more(report.more["clients"], "client").strip())


def _quantiles(times: Times | None) -> tuple[str, str, str, str]:
    if times is None:
        return ("–", "–", "–", "–")
    return (duration(times.p50_ns), duration(times.p99_ns), duration(times.p999_ns), duration(times.max_ns))
