"""What stands behind a field's operator, as conditions on columns: numbers, durations, sizes, times, patterns.

Knows: how each kind of value is written. Refuses to know: fields (``fields``) and the grammar (``expression``). Every
reader raises ValueError with the second half of a sentence: "is no duration; write …".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from proxy.capture.filters.answer import Answer
from proxy.capture.glob import AnyMatches, Glob, Matches
from proxy.capture.predicate import Above, Below, Equal, Fewer, Filled, OneOf, Predicate, TimeOfDay, any_of
from proxy.units import parse_duration_s, parse_size_bytes

INT64 = 2**63 - 2
INT32 = 2**31 - 2

#: The keys can't be told, and the command was carried out: one that the server refused has touched none.
KEYS_UNKNOWN = Above("unknown", 0) & ~OneOf("error", [b"ERR", b"NOAUTH", b"NOPERM"])
#: Not all of an exchange's keys are known: what a condition on keys or slot doubts is among these.
KEYS_IN_DOUBT = Fewer("keys", "nkeys") | Filled("keys_cut") | KEYS_UNKNOWN

#: Takes an operator (``:`` or an order) and a value; the answer for a row.
Reader = Callable[[str, str], Answer]

_PIECES: Sequence[tuple[str, timedelta]] = (
    ("%Y-%m-%d", timedelta(days=1)),
    ("%Y-%m-%dT%H", timedelta(hours=1)),
    ("%Y-%m-%dT%H:%M", timedelta(minutes=1)),
    ("%Y-%m-%dT%H:%M:%S", timedelta(seconds=1)),
    ("%Y-%m-%dT%H:%M:%S.%f", timedelta(microseconds=1)),
)
_OF_DAY: Sequence[tuple[str, timedelta]] = (
    ("%H:%M", timedelta(minutes=1)),
    ("%H:%M:%S", timedelta(seconds=1)),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# ---- numbers


@dataclass(frozen=True)
class Number:
    """An integer column. ``least``: lower values in the column mean something else and are never in an order."""

    column: str
    parse: Callable[[str], int]
    least: int = 0
    most: int = INT64

    def __call__(self, operator: str, text: str) -> Answer:
        number = self.parse(text)
        if number > self.most:
            raise ValueError(f"is too large; the most is {self.most:,}")
        return Answer.sure(self._compared(operator, number))

    def _compared(self, operator: str, number: int) -> Predicate:
        present = Above(self.column, self.least - 1)
        match operator:
            case "<":
                return present & Below(self.column, number)
            case "<=":
                return present & Below(self.column, number + 1)
            case ">":
                return Above(self.column, number)
            case ">=":
                return Above(self.column, number - 1) & present
        return Equal(self.column, number)


def whole(text: str) -> int:
    """A whole number."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise ValueError("is no whole number")
    return int(text)


def duration_ns(text: str) -> int:
    """Nanoseconds. A unit is asked for: "10" means seconds to one reader, milliseconds to the next."""
    if text.isdigit() and int(text):
        raise ValueError(f"has no unit; write {text}ms, or us, s, m, h")
    return round(Decimal(str(parse_duration_s(text))) * 10**9)


def size_bytes(text: str) -> int:
    """Bytes."""
    return parse_size_bytes(text)


_SLOT = Number("slot", whole, most=16_383)


# ---- times


def time(operator: str, text: str) -> Answer:
    """A moment, or a time of each day. Written to the hour it is that whole hour, to the minute that minute."""
    stripped = text.removesuffix("Z")
    for shape, span in _PIECES:
        if (start := _parsed(stripped, shape)) is not None:
            first = _ns(start.replace(tzinfo=UTC) - _EPOCH)
            if first < 0:
                raise ValueError("is before 1970")
            return Answer.sure(_moment(operator, first, first + _ns(span)))
    for shape, span in _OF_DAY:
        if (start := _parsed(stripped, shape)) is not None:
            first = _ns(start - datetime(1900, 1, 1))
            return Answer.sure(_of_day(operator, first, first + _ns(span)))
    raise ValueError("is no time; write UTC like 2026-11-23, 2026-11-23T04:15 or, for each day, 04:15")


def _parsed(text: str, shape: str) -> datetime | None:
    try:
        return datetime.strptime(text, shape)
    except ValueError:
        return None


def _ns(span: timedelta) -> int:
    return span // timedelta(microseconds=1) * 1000


def _moment(operator: str, first: int, end: int) -> Predicate:
    match operator:
        case "<":
            return Below("ts", first)
        case "<=":
            return Below("ts", end)
        case ">":
            return Above("ts", end - 1)
        case ">=":
            return Above("ts", first - 1)
    return Above("ts", first - 1) & Below("ts", end)


def _of_day(operator: str, first: int, end: int) -> Predicate:
    day = _ns(timedelta(days=1))
    spans = {"<": (0, first), "<=": (0, end), ">": (end, day), ">=": (first, day)}
    return TimeOfDay("ts", *spans.get(operator, (first, end)))


# ---- texts


@dataclass(frozen=True)
class Pattern:
    """A column of bytes or text, matched by a pattern whose letters ``case`` brings into the column's case."""

    column: str
    case: Callable[[bytes], bytes] = bytes

    def __call__(self, _: str, text: str) -> Answer:
        return Answer.sure(Matches(self.column, Glob.of(text, self.case)))


def address(_: str, text: str) -> Answer:
    """A client's address, with its port or without."""
    shapes = (text, f"{text}:*", rf"\[{text}\]:*") if text.count(":") > 1 else (text, f"{text}:*")
    return Answer.sure(any_of(*(Matches("client_addr", Glob.of(shape)) for shape in shapes)))


def script(_: str, text: str) -> Answer:
    """The beginning of a SHA-1."""
    if not text or len(text) > 40 or set(text.lower()) - set("0123456789abcdef"):
        raise ValueError("is no SHA-1; write its first digits, like a3f5")
    return Answer.sure(Matches("script", Glob.of(text.lower() + "*")))


def any_key(_: str, text: str) -> Answer:
    """Any of a command's keys. In doubt where some are cut, not recorded or not known, and none of the rest matches."""
    found = AnyMatches("keys", Glob.of(text))
    return Answer(found, found | KEYS_IN_DOUBT)


def slot(operator: str, text: str) -> Answer:
    """The hash slot; in doubt where it can't be told."""
    return unless_unknown(_SLOT(operator, text).certain)


def unless_unknown(predicate: Predicate) -> Answer:
    """A condition on a command's keys or slot that is in doubt where they can't be told."""
    return Answer(predicate, predicate | KEYS_UNKNOWN)
