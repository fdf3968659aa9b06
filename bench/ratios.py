"""Ratios between samples of the same round. Pure: samples in, numbers out.

A ratio is taken between two runs that lie seconds apart, never between two medians: what the machine did to one
round it did to both sides of it. The spread (min to max over all rounds and tests) says how far a ratio can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from load import Sample

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


@dataclass(frozen=True)
class Aim:
    """What shunt wants to keep: its CPU per command at most `most` × the baseline's at this pipeline."""

    baseline: str
    pipeline: int
    most: float


AIMS = (Aim("pipe", 1, 1.10), Aim("twemproxy", 16, 0.6), Aim("Envoy", 16, 0.6))


def ordered(things: Sequence[T], number: int) -> list[T]:
    """This round's order: rotated by one each round and turned round every other, so that nobody always comes
    first, nor always after the same neighbour."""
    start = number % len(things)
    order = [*things[start:], *things[:start]]
    return order[::-1] if number % 2 else order


def spread(values: Iterable[float]) -> Spread | None:
    """Median, least and most; None of nothing."""
    known = list(values)
    return Spread(median(known), min(known), max(known), len(known)) if known else None


def absolute(samples: Iterable[Sample], peer: str, pipeline: int, metric: str) -> Spread | None:
    """One peer's own numbers at one pipeline."""
    chosen = (s for s in samples if s.peer == peer and s.pipeline == pipeline)
    return spread(value for s in chosen if (value := getattr(s, metric)) is not None)


def ratio(samples: Iterable[Sample], peer: str, baseline: str, pipeline: int, metric: str) -> Spread | None:
    """`peer` over `baseline`, each round and test by itself; None where one of them wasn't measured."""
    found: dict[tuple[int, str], dict[str, float]] = {}
    for sample in samples:
        value = getattr(sample, metric)
        if sample.pipeline == pipeline and sample.peer in (peer, baseline) and value:
            found.setdefault((sample.round, sample.test), {})[sample.peer] = value
    return spread(pair[peer] / pair[baseline] for pair in found.values() if len(pair) == 2)


def verdict(samples: Iterable[Sample], subject: str, aim: Aim) -> str:
    """One sentence: the aim, what was measured, whether it is met by the median."""
    measured = ratio(samples, subject, aim.baseline, aim.pipeline, "cpu_us")
    wanted = f"CPU per command at pipeline {aim.pipeline}: at most {aim.most:.2f} × {aim.baseline}'s"
    if measured is None:
        return f"{wanted}: not measured"
    return f"{wanted}: {measured}, {'met' if measured.middle <= aim.most else 'NOT met'}"
