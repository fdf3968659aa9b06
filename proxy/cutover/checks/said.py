"""What a check says, and the words that checks share. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.cutover.finding import Finding, Level, Side
from proxy.cutover.server_facts import T, Unknown, World

#: Names that a sentence lists; the details have all of them.
NAMED = 5


@dataclass(frozen=True, slots=True)
class Said:
    """A finding without its check's name and side."""

    level: Level
    text: str
    do: str = ""
    details: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """``look`` says one thing of the world. ``quick``: it is looked at again right before a switch holds traffic."""

    id: str
    side: Side
    look: Callable[[World], Said]
    quick: bool = False

    def finding(self, world: World) -> Finding:
        """What it says, as a finding."""
        try:
            said = self.look(world)
        except NotKnown as error:
            said = unknown(error.what, error.why)
        return Finding(self.id, self.side, said.level, said.text, said.do, said.details, dict(said.data), said.why)


class NotKnown(Exception):
    """A check needs something that is not known: ``what`` can't be said, because of ``why``."""

    def __init__(self, what: str, why: Unknown) -> None:
        super().__init__(f"{what}: {why.why}")
        self.what, self.why = what, why


def known(value: T | Unknown, what: str) -> T:
    """The value. Raises NotKnown, which makes the finding unknown."""
    if isinstance(value, Unknown):
        raise NotKnown(what, value)
    return value


def good(text: str, details: Sequence[str] = (), **data: Any) -> Said:
    return Said(Level.PASS, text, "", tuple(details), data)


def warn(text: str, do: str, details: Sequence[str] = (), **data: Any) -> Said:
    return Said(Level.WARN, text, do, tuple(details), data)


def fail(text: str, do: str, details: Sequence[str] = (), **data: Any) -> Said:
    return Said(Level.FAIL, text, do, tuple(details), data)


def unknown(what: str, why: Unknown | str, do: str = "", details: Sequence[str] = (), **data: Any) -> Said:
    """``what`` is not known, because of ``why``."""
    reason = why.why if isinstance(why, Unknown) else why
    return Said(Level.UNKNOWN, f"{what}: {reason}.", do, tuple(details), data, reason)


def named(names: Collection[str]) -> str:
    """The first few of ``names``, and how many more there are."""
    first = ", ".join(list(names)[:NAMED])
    return first if len(names) <= NAMED else f"{first} and {len(names) - NAMED:,} more"


def many(count: int, noun: str, plural: str = "") -> str:
    """``1 key``, ``2,000 keys``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def size(count: float) -> str:
    """Bytes, to read: ``1.5 GB``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"


def time(seconds: float) -> str:
    """Seconds, to read: ``250 µs``, ``1.2 ms``."""
    for unit, factor in (("d", 86400.0), ("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= factor:
            return (
                f"{seconds / factor:.3g} {unit}" if abs(seconds) < 1000 * factor else f"{seconds / factor:,.0f} {unit}"
            )
    return f"{seconds * 1e6:.0f} µs"
