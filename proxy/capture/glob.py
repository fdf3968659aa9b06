"""Glob patterns over bytes, as Redis has them, and predicates of columns that match one.

Knows: what ``*``, ``?``, ``[ab]``, ``[a-f]``, ``[^a]`` and ``\\`` mean, byte by byte, and how to write that for Python
and RE2 (``regex``) and for hexadecimal text (``hex_regex``; DuckDB has no regular expressions over bytes). ``\\xNN``
is a byte, as a printed capture has it; a backslash before anything else takes its meaning away. Refuses to know:
characters. ``?`` is one byte. ``fnmatch`` has no escapes, and what it translates to isn't RE2's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.predicate import Columns, Predicate

_TOKEN = re.compile(
    rb"""(?P<star>\*+) | (?P<any>\?) | \[(?P<but>[!^]?)(?P<set>(?:\\.|[^\]\\])+)\]
    | \\x(?P<hex>[0-9a-fA-F]{2}) | \\(?P<escaped>.) | (?P<byte>[^\[\\])""",
    re.DOTALL | re.VERBOSE,
)
_ONE = rb"(?:\\x[0-9a-fA-F]{2}|\\.|.)"
_MEMBER = re.compile(rb"(" + _ONE + rb")(?:-(" + _ONE + rb"))?", re.DOTALL)
_ALL = frozenset(range(256))

_WHY_NOT = {
    b"[": 'has a "[" without its "]"; write \\[ for the character itself',
    b"\\": "ends with a single backslash; write two for the character itself",
}

#: ``None`` stands for ``*``; a set of byte values for one byte.
_Element = frozenset[int] | None


@dataclass(frozen=True)
class Glob:
    """A pattern; it matches a whole value or not at all."""

    elements: tuple[_Element, ...]

    @classmethod
    def of(cls, pattern: str, case: Callable[[bytes], bytes] = bytes) -> Glob:
        """``case`` is applied to each byte that the pattern names: ``bytes.upper`` for a column that is upper case.
        Raises ValueError with the second half of a sentence."""
        data = pattern.encode("utf-8", "surrogateescape")
        elements: list[_Element] = []
        at = 0
        while at < len(data):
            token = _TOKEN.match(data, at)
            if token is None:
                raise ValueError(_WHY_NOT[data[at : at + 1]])
            elements.append(_element(token, case))
            at = token.end()
        return cls(tuple(elements))

    @property
    def literal(self) -> bytes | None:
        """The only value that matches, if there is just one."""
        single = [next(iter(each)) for each in self.elements if each is not None and len(each) == 1]
        return bytes(single) if len(single) == len(self.elements) else None

    @property
    def prefix(self) -> bytes | None:
        """What a value must begin with, if nothing else is asked of it."""
        if not self.elements or self.elements[-1] is not None:
            return None
        return Glob(self.elements[:-1]).literal

    @property
    def regex(self) -> bytes:
        """For Python's ``re`` and RE2 in Latin-1; ASCII. Without anchors; needs DOTALL."""
        return b"".join(map(_as_regex, self.elements))

    @property
    def hex_regex(self) -> str:
        """Matches the value's hexadecimal digits, upper case. Without anchors."""
        return "".join(map(_as_hex, self.elements))


def _element(token: re.Match[bytes], case: Callable[[bytes], bytes]) -> _Element:
    if token["star"]:
        return None
    if token["any"]:
        return _ALL
    if token["set"]:
        members = frozenset(_members(token["set"], case))
        return _ALL - members if token["but"] else members
    byte = bytes.fromhex(token["hex"].decode()) if token["hex"] else token["escaped"] or token["byte"]
    return frozenset(case(byte))


def _members(text: bytes, case: Callable[[bytes], bytes]) -> Iterator[int]:
    for first, last in _MEMBER.findall(text):
        low, high = _byte(first), _byte(last or first)
        if low > high:
            raise ValueError(f'has the range "{(first + b"-" + last).decode("latin-1")}", which ends before it begins')
        yield from case(bytes(range(low, high + 1)))


def _byte(text: bytes) -> int:
    if len(text) == 4:
        return int(text[2:], 16)
    return text[-1]


def _as_regex(element: _Element) -> bytes:
    if element is None:
        return b".*"
    if element == _ALL:
        return b"."
    codes = b"".join(b"\\x%02x" % byte for byte in sorted(element))
    return codes if len(element) == 1 else b"[" + codes + b"]"


def _as_hex(element: _Element) -> str:
    if element is None:
        return "(?:..)*"
    if element == _ALL:
        return ".."
    codes = "|".join(f"{byte:02X}" for byte in sorted(element))
    return codes if len(element) == 1 else f"(?:{codes})"


@dataclass(frozen=True)
class Matches(Predicate):
    """The binary or text column matches this pattern."""

    column: str
    glob: Glob

    def sql(self) -> str:
        return _sql_match(self.column, self.glob)

    def matches(self, row: Mapping[str, Any]) -> bool:
        return _matches(row[self.column], self.glob)

    def mask(self, columns: Columns) -> pa.BooleanArray:
        return _mask(columns[self.column], self.glob)


@dataclass(frozen=True)
class AnyMatches(Predicate):
    """At least one element of the column, lists of binary, matches this pattern."""

    column: str
    glob: Glob

    def sql(self) -> str:
        return f"len(list_filter({self.column}, lambda each: {_sql_match('each', self.glob)})) > 0"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return any(_matches(each, self.glob) for each in row[self.column])

    def mask(self, columns: Columns) -> pa.BooleanArray:
        lists = columns[self.column]
        offsets = lists.offsets
        found = pc.cast(_mask(lists.values, self.glob), pa.int32())
        # Matches before each element, and behind the last: a list holds one where its two ends differ.
        before = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(found)])
        at_ends = before.take(offsets)
        return pc.not_equal(at_ends.slice(0, len(lists)), at_ends.slice(1))


def _matches(value: bytes | str, glob: Glob) -> bool:
    data = value.encode() if isinstance(value, str) else value
    return _compiled(glob).fullmatch(data) is not None


def _mask(column: pa.Array, glob: Glob) -> pa.BooleanArray:
    if pa.types.is_string(column.type):
        column = column.cast(pa.binary())
    if glob.literal is not None:
        return pc.equal(column, _bytes_scalar(glob.literal))
    if glob.prefix is not None:
        return pc.starts_with(column, pattern=glob.prefix)
    return pc.match_substring_regex(column, pattern=rb"(?s)\A(?:" + glob.regex + rb")\z")


def _sql_match(column: str, glob: Glob) -> str:
    return f"regexp_full_match(hex({column}), '{glob.hex_regex}')"


@cache
def _compiled(glob: Glob) -> re.Pattern[bytes]:
    return re.compile(glob.regex, re.DOTALL)


@cache
def _bytes_scalar(value: bytes) -> pa.Scalar:
    return pa.scalar(value, pa.binary())
