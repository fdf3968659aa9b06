"""A condition of which a row may leave some doubt.

Knows: AND, OR, NOT with "can't tell" (Kleene's logic), as two predicates. Refuses to know: columns. A key filter
is in doubt where a capture doesn't have all keys of a command.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.capture.predicate import Predicate


@dataclass(frozen=True)
class Answer:
    """``certain`` holds where the condition does, ``possible`` where it may. Without doubt they are the same object."""

    certain: Predicate
    possible: Predicate

    @classmethod
    def sure(cls, predicate: Predicate) -> Answer:
        """A condition that every row decides."""
        return cls(predicate, predicate)

    @property
    def doubt(self) -> Predicate | None:
        """Rows that may satisfy the condition or not; None: every row decides it."""
        return None if self._decided else self.possible & ~self.certain

    @property
    def _decided(self) -> bool:
        return self.certain is self.possible

    def __and__(self, other: Answer) -> Answer:
        certain = self.certain & other.certain
        return Answer(certain, certain if self._decided and other._decided else self.possible & other.possible)

    def __or__(self, other: Answer) -> Answer:
        certain = self.certain | other.certain
        return Answer(certain, certain if self._decided and other._decided else self.possible | other.possible)

    def __invert__(self) -> Answer:
        certain = ~self.possible
        return Answer(certain, certain if self._decided else ~self.certain)
