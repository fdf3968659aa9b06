"""What growth.py found, as rows and verdicts. Pure: steps in, text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aims import judged
from ratios import Spread, spread

if TYPE_CHECKING:
    from growth import Step

HEADER = ("", "connections", "idle MB", "KB/client", "busy MB", "CPU µs", "p50 µs", "p99 µs")
KB_PER_CLIENT = {"shunt session keys": 12.0, "shunt shared keys": 6.0}
AT, BASE, MOST_GROWTH = 8000, 100, 1.5


def kb_per_client(step: Step) -> float:
    """What each idle client has added to the memory of a process without clients."""
    return (step.idle_bytes - step.empty_bytes) / step.clients / 1000


def _of(steps: Sequence[Step], peer: str, clients: int, value: Callable[[Step], float]) -> Spread | None:
    return spread(value(step) for step in steps if step.peer == peer and step.clients == clients)


def rows(steps: Sequence[Step]) -> list[list[str]]:
    """One row for each peer and size: medians over the rounds."""
    columns: list[tuple[str, Callable[[Step], float]]] = [
        ("{:.1f}", lambda step: step.idle_bytes / 1e6),
        ("{:.1f}", kb_per_client),
        ("{:.1f}", lambda step: step.busy_bytes / 1e6),
        ("{:.2f}", lambda step: step.cpu_us),
        ("{:.0f}", lambda step: step.p50_us),
        ("{:.0f}", lambda step: step.p99_us),
    ]
    table = []
    for peer in sorted({step.peer for step in steps}):
        for clients in sorted({step.clients for step in steps}):
            found = [(form, _of(steps, peer, clients, value)) for form, value in columns]
            table.append([peer, f"{clients:,}", *(form.format(value.middle) for form, value in found if value)])
    return table


def growth(steps: Sequence[Step], peer: str) -> Spread | None:
    """CPU per command at AT connections over that at BASE, of the same round."""
    found: dict[tuple[int, int], float] = {(s.round, s.clients): s.cpu_us for s in steps if s.peer == peer}
    rounds = {number for number, _ in found}
    both = [number for number in rounds if (number, AT) in found and (number, BASE) in found]
    return spread(found[number, AT] / found[number, BASE] for number in both)


def verdicts(steps: Sequence[Step]) -> list[str]:
    """The aims of memory and of growth, each with what was measured; the pipe's growth beside them."""
    lines = []
    for peer, most in KB_PER_CLIENT.items():
        found = _of(steps, peer, AT, kb_per_client)
        wanted = f"memory per idle client at {AT:,}: {peer} at most {most:g} KB"
        lines.append(judged(wanted, found, found is not None and found.middle <= most))
    for peer in KB_PER_CLIENT:
        found = growth(steps, peer)
        wanted = f"CPU per command at {AT:,} connections: {peer} at most {MOST_GROWTH:.2f} × that at {BASE}"
        lines.append(judged(wanted, found, found is not None and found.middle <= MOST_GROWTH))
    if beside := growth(steps, "pipe"):
        lines.append(f"(the pipe's own growth in the same run: {beside})")
    return lines
