"""The section on slow and costly commands: advice, the slow list, and the command patterns."""

from __future__ import annotations

from collections import Counter
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
    plural,
    size,
    with_rows,
)
from proxy.report.costs import Costs, PatternLine, SlowLine
from proxy.report.document import Report
from proxy.report.printable import printable

TOP_SLOW = 20
TOP_PATTERNS = 15
_WIDTH = 30
_OTHER = "(other patterns)"


def costs(report: Report) -> Section:
    """What is slow and costly."""
    found = report.costs
    return Section(
        "costs", "Slow and costly commands", _paragraphs(found, report.overview.commands), found.advice,
        with_rows([_slow(found), _by_the_clock(found), _by_time(found.patterns), _by_bytes(found.patterns)]),
    )  # fmt: skip


def _paragraphs(found: Costs, commands: int) -> tuple[str, ...]:
    if not commands:
        return ()
    number = f"{plural(found.slow_count, 'command')} of {commands:,}" if found.slow_count else "No command"
    said = [f"{number} took {duration(found.slow_ns)} or longer (waits of blocking commands apart)."]
    if found.uncounted:
        said.append(
            f"Of {plural(found.uncounted, 'command')} the number of arguments and of elements in the reply is not "
            "known (recorded before format 2): advice that rests on these is missing."
        )
    if found.looked_at < commands:
        said.append(f"Reads one by one were searched for in {found.looked_at:,} of {commands:,} commands.")
    return tuple(said)


def _slow(found: Costs) -> TextTable:
    rows = tuple(
        (
            printable(line.command), _pattern(line), name(line.name or line.addr, 20), f"{line.count:,}",
            duration(line.max_ns), duration(line.total_ns), size(max(line.request_bytes, line.reply_bytes)),
            moment(line.first_ts)[5:], place(line.example),
        )
        for line in found.slow[:TOP_SLOW]
    )  # fmt: skip
    heads = columns(
        "command", "key pattern", "client", "count*", "max*", "in all*", "biggest*", "first (UTC)", "worst*"
    )
    note = (
        "A command that waited behind another one counts too. biggest: request or reply. worst: conn/seq of the "
        "slowest."
    )
    title = f"Slow commands, {duration(found.slow_ns)} and longer"
    return TextTable(title, heads, rows, note + more(len(found.slow) - TOP_SLOW, "line"))


def _by_the_clock(found: Costs) -> TextTable:
    """Slow patterns that have a schedule, whoever sends them."""
    schedules = {(line.command, line.template): line.schedule.words for line in found.slow if line.schedule}
    counts = Counter[tuple[bytes, bytes]]()
    for line in found.slow:
        counts[line.command, line.template] += line.count
    rows = tuple(
        (printable(command), name(template, _WIDTH) or "–", f"{counts[command, template]:,}", words)
        for (command, template), words in schedules.items()
    )
    return TextTable("Slow commands that come by the clock", columns("command", "key pattern", "count*", "when"), rows)


def _by_time(lines: Sequence[PatternLine]) -> TextTable:
    shown, whole, left = _most(lines, lambda line: line.service.total_ns if line.service else 0)
    rows = tuple(
        (
            printable(line.command) or "–", _pattern(line), f"{line.count:,}", count(line.errors),
            percent(line.service.total_ns / whole), duration(line.service.p50_ns), duration(line.service.p99_ns),
            duration(line.service.max_ns),
        )
        for line in shown if line.service
    )  # fmt: skip
    heads = columns("command", "key pattern", "count*", "errors*", "time*", "p50*", "p99*", "max*")
    return TextTable("Command patterns, by time", heads, rows, more(left, "pattern").strip())


def _by_bytes(lines: Sequence[PatternLine]) -> TextTable:
    shown, whole, left = _most(lines, lambda line: line.request_bytes + line.reply_bytes)
    rows = tuple(
        (
            printable(line.command) or "–", _pattern(line), f"{line.count:,}",
            percent((line.request_bytes + line.reply_bytes) / whole), size(line.request_bytes), size(line.reply_bytes),
            count(line.most_args), count(max(0, line.most_items)),
        )
        for line in shown
    )  # fmt: skip
    heads = columns("command", "key pattern", "count*", "bytes*", "in*", "out*", "args*", "items*")
    note = "args, items: the most arguments of one command, the most elements in one reply."
    return TextTable("Command patterns, by bytes", heads, rows, note + more(left, "pattern"))


def _most(lines: Sequence[PatternLine], by: Callable[[PatternLine], int]) -> tuple[Sequence[PatternLine], int, int]:
    """The patterns with the most of ``by`` and the nameless rest; all of it; how many are left out."""
    ordered = sorted((line for line in lines if by(line)), key=lambda line: (line.other, -by(line)))
    shown = [*ordered[:TOP_PATTERNS], *(line for line in ordered[TOP_PATTERNS:] if line.other)]
    return shown, sum(map(by, lines)) or 1, len(ordered) - len(shown)


def _pattern(line: PatternLine | SlowLine) -> str:
    return _OTHER if line.other else name(line.template, _WIDTH) or "–"
