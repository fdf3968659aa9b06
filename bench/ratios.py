"""Ratios and differences between samples of the same round. Pure: samples in, numbers out.

A ratio is taken between two runs that lie seconds apart, never between two medians: what the machine did to one
round it did to both sides of it. The spread (min to max over all rounds and tests) says how far a ratio can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from load import Cell, Sample

T = TypeVar("T")

METRICS = ("cpu_us", "rps", "p50_ms", "p99_ms")


@dataclass(frozen=True)
class Spread:
    """Middle and ends of some numbers."""

    middle: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f}–{self.high:.2f})"

    def signed(self) -> str:
        """As a difference: with its sign."""
        return f"{self.middle:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def ordered(things: Sequence[T], number: int) -> list[T]:
    """This round's order: rotated by one each round and turned round every other, so that nobody always comes
    first, nor always after the same neighbour."""
    start = number % max(len(things), 1)
    order = [*things[start:], *things[:start]]
    return order[::-1] if number % 2 else order


def spread(values: Iterable[float]) -> Spread | None:
    """Median, least and most; None of nothing."""
    known = list(values)
    return Spread(median(known), min(known), max(known), len(known)) if known else None


def absolute(samples: Iterable[Sample], peer: str, cell: Cell, metric: str) -> Spread | None:
    """One peer's own numbers in one cell."""
    chosen = (s for s in samples if s.peer == peer and s.cell == cell)
    return spread(value for s in chosen if (value := getattr(s, metric)) is not None)


def pairs(
    samples: Iterable[Sample], peer: str, baseline: str, cell: Cell, metric: str
) -> Iterator[tuple[float, float]]:
    """What both were measured at in the same round and test."""
    found: dict[tuple[int, str], dict[str, float]] = {}
    for sample in samples:
        value = getattr(sample, metric)
        if sample.cell == cell and sample.peer in (peer, baseline) and value:
            found.setdefault((sample.round, sample.test), {})[sample.peer] = value
    return ((pair[peer], pair[baseline]) for pair in found.values() if len(pair) == 2)


def ratio(samples: Iterable[Sample], peer: str, baseline: str, cell: Cell, metric: str) -> Spread | None:
    """`peer` over `baseline`, each round and test by itself; None where one of them wasn't measured."""
    return spread(own / other for own, other in pairs(samples, peer, baseline, cell, metric))


def difference(samples: Iterable[Sample], peer: str, baseline: str, cell: Cell, metric: str) -> Spread | None:
    """`peer` minus `baseline`, each round and test by itself; None where one of them wasn't measured."""
    return spread(own - other for own, other in pairs(samples, peer, baseline, cell, metric))
