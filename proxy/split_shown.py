"""A split as the console shows it, of one worker or of several.

Knows: the words, and how the parts of several workers add up. Refuses to know: workers, and how a split is done
(``splitting``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from proxy.console.verb import Value
from proxy.console.world import SplitAsk

#: Why a split ended, by the names that are counted.
ENDED = {
    "asked": "SPLIT END",
    "held": "traffic is held",
    "mirror-ended": "the mirror has ended",
    "mirror-dropped": "the mirror has dropped something",
    "mirror-missed": "the mirror did not find what it was to remove",
    "mirror-refused": "the mirror's server refused a write",
    "mirror-down": "a connection to the mirror's server is down",
    "mirror-late": "what waits for the mirror is too old",
    "target-late": "the target does not answer a read",
    "target-error": "the target answered a read with an error",
    "another-worker": "it has ended in another worker, or not all workers have it",
    "shutdown": "shunt ends",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One worker's split. ``ask`` None: there was none yet. ``on``: it goes on; else ``why`` not, in words. ``inside``:
    clients that are connected and have not left; ``chosen``, ``reads``, ``left``: since the split began."""

    ask: SplitAsk | None = None
    on: bool = False
    target: str = ""
    since_s: float = 0.0
    inside: int = 0
    chosen: int = 0
    reads: int = 0
    left: Counter[str] = field(default_factory=Counter)
    why: str = ""


def facts(parts: Sequence[Part], now_s: float) -> dict[str, Value]:
    """SHOW SPLIT. ``now_s``: seconds since 1970."""
    asked = [part for part in parts if part.ask is not None]
    if not asked:
        return {"state": "off"}
    running = [part for part in asked if part.on]
    first = (running or asked)[0]
    assert first.ask is not None
    why = next((part.why for part in asked if part.why), "")
    found: dict[str, Value] = {
        "state": "off" if not running else "on" if len(running) == len(parts) else "partly on",
        "target": first.target,
        "percent": f"{first.ask.percent:g}%",
        "name": first.ask.name,
        "addr": first.ask.addr,
        "age_s": round(max(now_s - first.since_s, 0.0), 1) if running else None,
        "ended_because": why or None,
        "clients": sum(part.inside for part in asked),
        "chosen": sum(part.chosen for part in asked),
        "reads": sum(part.reads for part in asked),
    }
    left: Counter[str] = Counter()
    for part in asked:
        left.update(part.left)
    return found | {"left": left.total()} | {f"left_{why}": count for why, count in sorted(left.items()) if count}
