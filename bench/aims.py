"""What shunt wants to keep, as sentences with a verdict. All are about 50 connections and 100-byte values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from load import Cell, Sample
from ratios import Spread, difference, ratio

NAMES = {"cpu_us": "CPU per command", "rps": "throughput"}


@dataclass(frozen=True)
class Aim:
    """`subject`'s metric against `baseline`'s: a ratio, or a difference in `unit`. `sense`: which side of `bound`."""

    subject: str
    baseline: str
    pipeline: int
    bound: float
    metric: str = "cpu_us"
    sense: str = "at most"
    unit: str = ""

    def measured(self, samples: Sequence[Sample]) -> Spread | None:
        compare = difference if self.unit else ratio
        return compare(samples, self.subject, self.baseline, Cell(self.pipeline), self.metric)

    def met(self, value: float) -> bool:
        return value <= self.bound if self.sense == "at most" else value >= self.bound

    def __str__(self) -> str:
        wanted = f"{self.bound:g} {self.unit} above" if self.unit else f"{self.bound:.2f} ×"
        return f"{NAMES[self.metric]} at pipeline {self.pipeline}: {self.subject} {self.sense} {wanted} {self.baseline}"


AIMS = (
    Aim("shunt session keys", "pipe", 1, 1.10),
    Aim("shunt shared keys", "twemproxy", 1, 0.9),
    Aim("shunt shared keys", "Envoy", 1, 0.7),
    Aim("shunt shared keys", "twemproxy", 16, 0.35),
    Aim("shunt shared keys", "Envoy", 16, 0.35),
    Aim("shunt shared keys", "direct", 16, 1.0, metric="rps", sense="at least"),
    *(
        Aim(f"shunt {pool} full", f"shunt {pool} keys", pipeline, 0.8, unit="µs")
        for pool in ("session", "shared")
        for pipeline in (1, 16)
    ),
)


def judged(wanted: str, found: Spread | None, met: bool, signed: bool = False) -> str:
    """One sentence: the aim, what was measured, whether the median meets it."""
    if found is None:
        return f"{wanted}: not measured"
    return f"{wanted}: {found.signed() if signed else found}, {'met' if met else 'NOT met'}"


def verdict(samples: Sequence[Sample], aim: Aim) -> str:
    found = aim.measured(samples)
    return judged(str(aim), found, found is not None and aim.met(found.middle), bool(aim.unit))
