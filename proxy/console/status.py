"""The live line: what the worker has done since the last look, in one line of text.

Knows: how to take two looks at a ``Source`` and say the difference. Refuses to know: terminals (``cli.run`` draws it)
and clocks (seconds are an argument).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.console.metrics import Source
from proxy.engine.stats import BUCKETS, quantile_ns


@dataclass(slots=True)
class Look:
    """What was last seen of each command: its count and its service-time buckets."""

    seen: dict[str, tuple[int, list[int]]] = field(default_factory=dict)

    def line(self, source: Source, elapsed_s: float) -> str:
        """The live line for the ``elapsed_s`` seconds since the last call."""
        count = 0
        buckets = [0] * BUCKETS
        for command in source.engine().commands:
            old_count, old_buckets = self.seen.get(command.command, (0, None))
            if command.count == old_count:
                continue
            count += command.count - old_count
            new_buckets = list(command.service_buckets)
            buckets = [
                total + now - before
                for total, now, before in zip(buckets, new_buckets, old_buckets or [0] * BUCKETS, strict=True)
            ]
            self.seen[command.command] = (command.count, new_buckets)
        parts = [
            f"{count / elapsed_s:,.0f} commands/s",
            f"p99 {show_ns(quantile_ns(buckets, 0.99))}",
            f"{source.clients():,} clients",
        ]
        return " · ".join([*parts, *_capture(source), _findings(source), *_state(source)])


def show_ns(ns: float) -> str:
    """A latency in three digits or so: "–", "850 µs", "1.2 ms", "3.4 s"."""
    if ns <= 0:
        return "–"
    for factor, unit in ((1e9, "s"), (1e6, "ms")):
        if ns >= factor:
            return f"{ns / factor:.1f} {unit}"
    return f"{ns / 1e3:.0f} µs"


def _capture(source: Source) -> list[str]:
    capture = source.capture()
    if capture is None:
        return []
    parts = [f"recorded {capture.rows:,} rows, {capture.bytes / 1e6:,.1f} MB"]
    if capture.gap_rows:
        parts.append(f"{capture.gap_rows:,} rows lost")
    if capture.failing is not None:
        parts.append(f"capture fails: {capture.failing}")
    return parts


def _findings(source: Source) -> str:
    findings = {rule: count for rule, count in source.findings().items() if count}
    if not findings:
        return "no findings"
    most = sorted(findings.items(), key=lambda item: (-item[1], item[0]))[:3]
    rest = len(findings) - len(most)
    named = ", ".join(f"{rule} {count:,}" for rule, count in most)
    total = sum(findings.values())
    return f"{total:,} finding{'' if total == 1 else 's'} ({named}{f', {rest} more rules' if rest else ''})"


def _state(source: Source) -> list[str]:
    if source.draining():
        return ["draining"]
    held = [f"class {name} is held" for name, workers in source.held_classes().items() if workers]
    return held if source.backend_up() else [*held, "backend is down"]
