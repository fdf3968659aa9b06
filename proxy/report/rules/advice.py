"""Advice: what a report says of traffic itself, whatever the target. What was seen, why it matters, what to do.

Knows: the noun, and what a rule of advice is: a small class whose docstring is its documentation (``docs/rules.md``).
Refuses to know: how facts are gathered (``studies``).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

Facts = TypeVar("Facts")


class Level(StrEnum):
    """How much an advice matters."""

    HIGH = "high"  # loses or doubles work, or stops it
    MEDIUM = "medium"  # slow, or close to a limit
    LOW = "low"  # untidy


@dataclass(frozen=True)
class Example:
    """One occurrence, to be looked up with ``capture cat``."""

    run: str
    worker: int
    conn: int
    seq: int


@dataclass(frozen=True)
class Advice:
    """What one rule says of one subject (a queue, a key template, a client). ``ts`` in ns since the epoch, UTC;
    0: it has no moment. ``count``: occurrences."""

    rule: str
    level: Level
    title: str
    subject: str
    seen: str
    why: str
    instead: str
    count: int = 1
    first_ts: int = 0
    last_ts: int = 0
    examples: tuple[Example, ...] = ()


class AdviceRule(Generic[Facts]):
    """Base of the rules of advice. ``judge`` is a pure function of facts.

    The docstring: what the rule looks for, then paragraphs that begin with ``**Why:**`` and ``**Instead:**``. These
    two are also what a report prints.
    """

    id: ClassVar[str]
    level: ClassVar[Level]
    title: ClassVar[str]

    def judge(self, facts: Facts) -> Iterator[Advice]:
        """One advice for each subject that the rule has something to say of."""
        raise NotImplementedError

    def advice(self, subject: str, seen: str, **more: Any) -> Advice:
        """An advice of this rule; ``more``: the fields of Advice behind ``instead``, or another ``level``."""
        level = more.pop("level", self.level)
        return Advice(
            self.id, level, self.title, subject, seen, self.paragraph("Why"), self.paragraph("Instead"), **more
        )

    @classmethod
    def documentation(cls) -> str:
        return inspect.cleandoc(cls.__doc__ or "")

    @classmethod
    def paragraph(cls, heading: str) -> str:
        """The docstring's paragraph behind ``**heading:**``, as one line."""
        found = re.search(rf"\*\*{heading}:\*\*(.*?)(?:\n\s*\n|\Z)", cls.documentation(), re.DOTALL)
        return "" if found is None else " ".join(found[1].split())
