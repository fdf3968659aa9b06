"""What a preflight finds, and its verdict. Pure data.

Knows: the four levels, the verdict's words, the JSON document. Refuses to know: how anything is found (``checks``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: Of the JSON document; counted up when something in it changes its meaning.
DOCUMENT_VERSION = 1


class Level(StrEnum):
    """What a finding means. ``UNKNOWN``: it could not be looked at; the text says why."""

    PASS = "pass"
    UNKNOWN = "unknown"
    WARN = "warn"
    FAIL = "fail"


class Side(StrEnum):
    """Which server a finding is about."""

    SOURCE = "source"
    TARGET = "target"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Finding:
    """``text``: one or two sentences. ``do``: what to do now; empty: nothing. ``details``: lines, all of them.

    ``data``: the numbers and names behind it, for programs. ``why``: of an unknown one, the reason alone: several may
    have the same.
    """

    check: str
    side: Side
    level: Level
    text: str
    do: str = ""
    details: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.check, "side": str(self.side), "level": str(self.level), "text": self.text, "do": self.do,
            "why": self.why, "details": list(self.details), "data": dict(self.data),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preflight:
    """All findings. ``source`` and ``target``: their addresses without passwords. ``at``: ISO 8601, UTC."""

    source: str
    target: str
    at: str
    findings: tuple[Finding, ...]
    capture: str = ""

    def count(self, level: Level) -> int:
        return sum(finding.level is level for finding in self.findings)

    @property
    def ready(self) -> bool:
        """Nothing failed. What could not be looked at does not count against it, but is in the verdict."""
        return not self.count(Level.FAIL)

    @property
    def exit_code(self) -> int:
        return 0 if self.ready else 1

    @property
    def verdict(self) -> str:
        """``ready``, ``ready, 2 warnings``, ``not ready: 1``, each with what is unknown."""
        fails, warnings, unknown = (self.count(each) for each in (Level.FAIL, Level.WARN, Level.UNKNOWN))
        words = [f"not ready: {fails}" if fails else "ready"]
        if warnings:
            words.append(f"{warnings} warning" + "s" * (warnings > 1))
        if unknown:
            words.append(f"{unknown} unknown")
        return ", ".join(words)

    def as_json(self) -> dict[str, Any]:
        return {
            "document": DOCUMENT_VERSION, "at": self.at, "source": self.source, "target": self.target,
            "capture": self.capture or None, "ready": self.ready, "verdict": self.verdict,
            "counts": {str(level): self.count(level) for level in Level},
            "findings": [finding.as_json() for finding in self.findings],
        }  # fmt: skip
