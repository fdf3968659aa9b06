"""Values as text cells, and the tables and sections made of them: what text, Markdown and HTML reports all show.

Knows: units, wording, the shape of a table and of a section. Refuses to know: colours, frames, line widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from proxy.report.printable import printable, shorten
from proxy.report.rules.advice import Advice, Example

NAME_WIDTH = 44
#: Subjects of one rule that a report to read shows.
TOP_SUBJECTS = 8


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


@dataclass(frozen=True)
class Section:
    """A part of a report: paragraphs, then advice, then tables. ``id`` is its anchor."""

    id: str
    title: str
    paragraphs: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()
    tables: tuple[TextTable, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.paragraphs or self.advice or self.tables)


def columns(*headings: str) -> tuple[Column, ...]:
    """Columns of these headings; a ``*`` at the end of one makes it a column of numbers."""
    return tuple(Column(each.rstrip("*"), each.endswith("*")) for each in headings)


def with_rows(tables: Sequence[TextTable]) -> tuple[TextTable, ...]:
    """Those of ``tables`` that have rows."""
    return tuple(table for table in tables if table.rows)


def by_rule(advice: Sequence[Advice]) -> list[tuple[Advice, ...]]:
    """Neighbours of the same rule and level together: what they have in common is said once."""
    return [tuple(group) for _, group in groupby(advice, key=lambda each: (each.rule, each.level))]


def place(example: Example) -> str:
    """Where ``capture cat`` shows it."""
    return f"{example.conn}/{example.seq}"


def name(value: bytes, width: int = NAME_WIDTH) -> str:
    """A key or client name, shortened in the middle."""
    return shorten(printable(value), width)


def moment(ts_ns: int, same_day_as: int | None = None) -> str:
    """UTC, to the second; the time alone if the day is that of ``same_day_as``."""
    at = datetime.fromtimestamp(ts_ns / 1e9, UTC)
    if same_day_as is not None and at.date() == datetime.fromtimestamp(same_day_as / 1e9, UTC).date():
        return at.strftime("%H:%M:%S")
    return at.strftime("%Y-%m-%d %H:%M:%S")


def instant(ts_ns: int, width_ns: int) -> str:
    """The start of an interval, UTC: to the second, or to a tenth of it where the interval is shorter."""
    return moment(ts_ns) + (f".{ts_ns // 100_000_000 % 10}" if width_ns % 1_000_000_000 else "")


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


def percent(share: float) -> str:
    """A share of 1 as a percentage."""
    return f"{share * 100:.1f}%"


def count(number: int) -> str:
    """A number, or a dash for none."""
    return f"{number:,}" if number else "–"


def plural(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def more(number: int, noun: str) -> str:
    """What stands under a table that leaves rows out; empty if it doesn't."""
    return f" {plural(number, 'more ' + noun)} left out; the json format has all." if number > 0 else ""
