"""Predicates over the columns of exchanges: declared once, evaluated three ways.

Knows: comparisons of one column with constants, and AND, OR, NOT of those. Each predicate gives its SQL text (DuckDB
selects the rows of a report), a mask over Arrow columns (live findings, filters) and an answer for one row (tests, and
the meaning of the other two). Refuses to know: rules, filter expressions, and which columns exist. Patterns are in
``glob``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cache
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

_DAY_NS = 86_400 * 10**9


class Columns(Protocol):
    """Columns of equal length: a record batch, or a mapping of names to arrays."""

    def __getitem__(self, column: str) -> pa.Array: ...


class Predicate(ABC):
    """A condition on one row. ``a & b``, ``a | b`` and ``~a`` combine."""

    @abstractmethod
    def sql(self) -> str:
        """An SQL expression, in parentheses where it needs them, over columns of the same names."""

    @abstractmethod
    def matches(self, row: Mapping[str, Any]) -> bool: ...

    @abstractmethod
    def mask(self, columns: Columns) -> pa.BooleanArray:
        """One boolean per row."""

    def __and__(self, other: Predicate) -> Predicate:
        return _And(self, other)

    def __or__(self, other: Predicate) -> Predicate:
        return _Or(self, other)

    def __invert__(self) -> Predicate:
        return _Not(self)


@dataclass(frozen=True)
class _And(Predicate):
    left: Predicate
    right: Predicate

    def sql(self) -> str:
        return f"({self.left.sql()} AND {self.right.sql()})"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return self.left.matches(row) and self.right.matches(row)

    def mask(self, columns: Columns) -> pa.BooleanArray:
        left = self.left.mask(columns)
        return pc.and_(left, self.right.mask(columns)) if left.true_count else left


@dataclass(frozen=True)
class _Or(Predicate):
    left: Predicate
    right: Predicate

    def sql(self) -> str:
        return f"({self.left.sql()} OR {self.right.sql()})"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return self.left.matches(row) or self.right.matches(row)

    def mask(self, columns: Columns) -> pa.BooleanArray:
        return pc.or_(self.left.mask(columns), self.right.mask(columns))


@dataclass(frozen=True)
class _Not(Predicate):
    inner: Predicate

    def sql(self) -> str:
        return f"(NOT {self.inner.sql()})"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return not self.inner.matches(row)

    def mask(self, columns: Columns) -> pa.BooleanArray:
        return pc.invert(self.inner.mask(columns))


@dataclass(frozen=True)
class Equal(Predicate):
    """The integer column has this value."""

    column: str
    value: int | IntEnum

    def sql(self) -> str:
        return f"{self.column} = {int(self.value)}"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return bool(row[self.column] == int(self.value))

    def mask(self, columns: Columns) -> pa.BooleanArray:
        column = columns[self.column]
        return pc.equal(column, _scalar(int(self.value), column.type))


@dataclass(frozen=True)
class Above(Predicate):
    """The integer column is greater than this value."""

    column: str
    value: int

    def sql(self) -> str:
        return f"{self.column} > {self.value}"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return bool(row[self.column] > self.value)

    def mask(self, columns: Columns) -> pa.BooleanArray:
        column = columns[self.column]
        return pc.greater(column, _scalar(self.value, column.type))


@dataclass(frozen=True)
class Below(Predicate):
    """The integer column is less than this value."""

    column: str
    value: int

    def sql(self) -> str:
        return f"{self.column} < {self.value}"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return bool(row[self.column] < self.value)

    def mask(self, columns: Columns) -> pa.BooleanArray:
        column = columns[self.column]
        return pc.less(column, _scalar(self.value, column.type))


@dataclass(frozen=True)
class Has(Predicate):
    """At least one of these bits is set in the integer column."""

    column: str
    bits: int | IntFlag

    def sql(self) -> str:
        return f"({self.column} & {int(self.bits)}) <> 0"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return (int(row[self.column]) & int(self.bits)) != 0

    def mask(self, columns: Columns) -> pa.BooleanArray:
        column = columns[self.column]
        bits = pc.bit_wise_and(column, _scalar(int(self.bits), column.type))
        return pc.not_equal(bits, _scalar(0, column.type))


@dataclass(frozen=True)
class OneOf(Predicate):
    """The binary column has one of these values. ``OneOf("command", b"KEYS SCAN".split())`` reads well."""

    column: str
    values: frozenset[bytes]

    def __init__(self, column: str, values: Iterable[bytes]) -> None:
        object.__setattr__(self, "column", column)
        object.__setattr__(self, "values", frozenset(values))

    def sql(self) -> str:
        return f"{self.column} IN ({', '.join(blob_literal(value) for value in sorted(self.values))})"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return row[self.column] in self.values

    def mask(self, columns: Columns) -> pa.BooleanArray:
        return pc.is_in(columns[self.column], value_set=_value_set(self.values))


@dataclass(frozen=True)
class Fewer(Predicate):
    """The list column has fewer elements than the integer column ``than`` says."""

    column: str
    than: str

    def sql(self) -> str:
        return f"len({self.column}) < {self.than}"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return bool(len(row[self.column]) < row[self.than])

    def mask(self, columns: Columns) -> pa.BooleanArray:
        return pc.less(pc.list_value_length(columns[self.column]), columns[self.than])


@dataclass(frozen=True)
class Filled(Predicate):
    """The list column has at least one element."""

    column: str

    def sql(self) -> str:
        return f"len({self.column}) > 0"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return len(row[self.column]) > 0

    def mask(self, columns: Columns) -> pa.BooleanArray:
        return pc.greater(pc.list_value_length(columns[self.column]), _scalar(0, pa.int32()))


@dataclass(frozen=True)
class TimeOfDay(Predicate):
    """The time (ns since the epoch) lies in this part of its UTC day: ``start_ns`` or later, before ``end_ns``."""

    column: str
    start_ns: int
    end_ns: int

    def sql(self) -> str:
        return f"({self.column} % {_DAY_NS} BETWEEN {self.start_ns} AND {self.end_ns - 1})"

    def matches(self, row: Mapping[str, Any]) -> bool:
        return bool(self.start_ns <= row[self.column] % _DAY_NS < self.end_ns)

    def mask(self, columns: Columns) -> pa.BooleanArray:
        times = columns[self.column]
        day = _scalar(_DAY_NS, pa.int64())
        of_day = pc.subtract(times, pc.multiply(pc.divide(times, day), day))
        early = pc.less(of_day, _scalar(self.start_ns, pa.int64()))
        return pc.and_not(pc.less(of_day, _scalar(self.end_ns, pa.int64())), early)


@cache
def _scalar(value: int, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(value, kind)


@cache
def _value_set(values: frozenset[bytes]) -> pa.Array:
    return pa.array(sorted(values), pa.binary())


def blob_literal(value: bytes) -> str:
    """``value`` as a DuckDB BLOB literal."""
    return "'" + "".join(f"\\x{byte:02X}" for byte in value) + "'::BLOB"


def any_of(*predicates: Predicate) -> Predicate:
    """At least one of ``predicates`` holds."""
    joined = predicates[0]
    for predicate in predicates[1:]:
        joined = joined | predicate
    return joined
