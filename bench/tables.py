"""The rows of the tables that samples are shown in: ratios between peers, medians of each, what recording costs."""

from __future__ import annotations

from collections.abc import Sequence

from load import Cell, Sample
from peers.shunt import POOLS
from ratios import METRICS, absolute, difference, ratio

CONTROL = ("pipe again", "pipe")
SUBJECTS = ("shunt session keys", "shunt shared keys")
OTHERS = ("direct", "pipe", "HAProxy", "twemproxy", "Envoy")
FORMS = {"cpu_us": "{:.2f}", "rps": "{:,.0f}", "p50_ms": "{:.3f}", "p99_ms": "{:.3f}"}
ABSOLUTE_HEADER = ("", "pipeline", "CPU µs/command", "commands/s", "p50 ms", "p99 ms")
RATIO_HEADER = ("", "pipeline", "CPU per command", "throughput", "p50", "p99")
SPENT_HEADER = ("", "pipeline", "client µs", "proxy µs", "Redis µs", "busiest / direct's busiest")
SPENT = ("client_us", "cpu_us", "redis_us")
RECORDING_HEADER = ("", "pipeline", "keys − off, CPU µs", "full − keys, CPU µs", "full / off, throughput")

Rows = list[list[str]]


def absolute_rows(samples: Sequence[Sample], names: Sequence[str], cells: Sequence[Cell]) -> Rows:
    """Medians: one row for each peer and cell."""
    rows = []
    for cell in cells:
        for name in names:
            values = {metric: absolute(samples, name, cell, metric) for metric in METRICS}
            cpu_or_rate = [FORMS[metric].format(value.middle) if value else "–" for metric, value in values.items()]
            rows.append([name, str(cell.pipeline), *cpu_or_rate])
    return rows


def spent_rows(samples: Sequence[Sample], names: Sequence[str], cells: Sequence[Cell]) -> Rows:
    """CPU per command of all three, and the busiest of them over the busiest without a proxy: what throughput would be
    bound to if each had a core."""
    rows = []
    for cell in cells:
        for name in names:
            values = [absolute(samples, name, cell, metric) for metric in SPENT]
            shown = [f"{value.middle:.2f}" if value else "–" for value in values]
            bound = ratio(samples, name, "direct", cell, "busiest_us")
            rows.append([name, str(cell.pipeline), *shown, str(bound) if bound and name != "direct" else "–"])
    return rows


def compared(names: Sequence[str]) -> list[tuple[str, str]]:
    """Which is set over which: the pipe over itself first, then each mode of shunt over each other peer."""
    wanted = [CONTROL, *((subject, other) for subject in SUBJECTS for other in OTHERS)]
    return [pair for pair in wanted if set(pair) <= set(names)]


def ratio_rows(samples: Sequence[Sample], pairs: Sequence[tuple[str, str]], cells: Sequence[Cell]) -> Rows:
    """One row for each cell and pair: median (least–most) of the rounds' ratios."""
    rows = []
    for cell in cells:
        for subject, other in pairs:
            values = [ratio(samples, subject, other, cell, metric) for metric in METRICS]
            rows.append([f"{subject} / {other}", str(cell.pipeline), *(str(value or "–") for value in values)])
    return rows


def recording_rows(samples: Sequence[Sample], cells: Sequence[Cell]) -> Rows:
    """What each step of recording adds, in both modes."""
    rows = []
    for cell in cells:
        for pool in POOLS:
            off, keys, full = (f"shunt {pool} {recording}" for recording in ("off", "keys", "full"))
            steps = [difference(samples, upper, lower, cell, "cpu_us") for upper, lower in ((keys, off), (full, keys))]
            slower = ratio(samples, full, off, cell, "rps")
            shown = [step.signed() if step else "–" for step in steps]
            rows.append([f"shunt {pool}", str(cell.pipeline), *shown, str(slower or "–")])
    return rows
