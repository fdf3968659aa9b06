"""What a mirror has done and missed, as numbers: of one worker, or of several together.

Knows: the counts, and how those of several workers add up. Refuses to know: how they come about.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

#: Why an effect is not on the mirror, or not known to be. The first are the tap's (``engine.tap.DROPS``).
DROPPED = {
    "queue-full": "there was no room: the mirror is down, or slower than the source",
    "too-large": "its arguments were larger than what is mirrored, or too many",
    "unknown-command": "shunt does not know the command",
    "plain-pipe": "its connection became a plain pipe",
    "transaction-cut": "a part of its transaction was missed",
    "reply-lost": "its connection ended before the reply",
    "no-reply": "its client asked for no reply, which would tell what it did",
    "reply-not-known": "its reply was too large, and would tell what it did",
    "not-understood": "it was sent before the mirror began, or in a form that shunt does not know",
    "too-long-to-compare": "a reply to a read had more than 5,000 elements",
    "lost": "the mirror's connection broke before it answered",
    "left-at-stop": "it still waited when the mirror was stopped",
}


@dataclass(slots=True)
class Counts:
    """``dropped``: by DROPPED. ``errors``: by command and the first word of what the mirror answered. ``missed``:
    removals that found nothing on the mirror although the source had it, by command; ``late``: those that found it a
    little later, because replies come in another order than commands run. ``outside``: not of the chosen keys."""

    exchanges: int = 0
    effects: int = 0
    answered: int = 0
    transactions: int = 0
    unverifiable: int = 0
    outside: int = 0
    late: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        for name in ("exchanges", "effects", "answered", "transactions", "unverifiable", "outside", "late"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("missed", "dropped", "errors"):
            getattr(self, name).update(getattr(other, name))
