"""What is sent in one piece: one command, or one transaction.

Knows: the noun, and the marks that ``order`` keeps on it. Refuses to know: how it came to be (``planner``) and sockets
(``driver``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

#: A captured answer that never came, or whose time is not known: later than everything.
NEVER_NS = 1 << 62

Key = tuple[int, bytes]  # database, name (at most 512 bytes, as captures cut it)


class Sent(NamedTuple):
    """One command as it is sent, and what the capture says of its answer. ``reply``: a ReplyKind. ``latency_ns``: the
    captured one without what shunt held; -1: not known. ``timed``: its latency is compared."""

    args: Sequence[bytes]
    name: str
    reply: int
    error: bytes
    latency_ns: int
    timed: bool = True


@dataclass(slots=True, eq=False)
class Unit:
    """``due_ns`` counts from the replay's start; None: as soon as the order allows. ``at_ns`` and ``answered_ns`` are
    captured times (ns since the epoch). ``blocking``: it may wait in Redis, at most ``patience_s``.
    ``barrier``: nobody can tell its keys, so it is alone. ``ends``: the connection is closed behind it. ``own``: sent
    by the replay itself, so it is not counted. ``moves_db``: behind it the connection's database is not known."""

    conn: int
    at_ns: int
    answered_ns: int
    commands: Sequence[Sent]
    due_ns: int | None = None
    db: int = 0
    protocol: int = 2
    reads: frozenset[Key] = frozenset()
    writes: frozenset[Key] = frozenset()
    blocking: bool = False
    barrier: bool = False
    ends: bool = False
    own: bool = False
    moves_db: bool = False
    patience_s: float = 0.0
    size: int = 0
    # What ``order`` keeps: how many units it waits for, where it is, who waits for it, who is next on its connection.
    waits: int = 0
    started: bool = False
    answered: bool = False
    on_start: list[Unit] = field(default_factory=list)
    on_answer: list[Unit] = field(default_factory=list)
    next_here: Unit | None = None
