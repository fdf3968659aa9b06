"""What the verbs act on: one worker, or all of them.

Knows: what a verb may ask for, in plain data. Refuses to know: how it is done (``app`` for one worker, ``supervisor``
for several hand it in).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.console.metrics import Source, Workforce
from proxy.console.verb import Value

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ClientRow:
    """One client now. ``id``: worker and connection, as the capture has them. ``idle`` and ``age``: seconds.

    ``state``: plain, multi, watch, blocked, subscribed or pipe. ``phase``, of its backend connection: own, shared,
    private or waiting.
    """

    id: str
    addr: str
    name: str
    db: int
    age: int
    idle: int
    in_flight: int
    state: str
    phase: str


@dataclass(frozen=True, slots=True)
class Aim:
    """Which clients are meant: those whose address, name or id it is. ``kind`` None: the address, else the name."""

    text: str
    kind: str | None = None

    def fits(self, rows: Sequence[ClientRow]) -> list[ClientRow]:
        for kind in (self.kind,) if self.kind else ("addr", "name"):
            found = [row for row in rows if getattr(row, kind) == self.text]
            if found:
                return found
        return []

    def __str__(self) -> str:
        return f"{self.kind}={self.text}" if self.kind else self.text


@dataclass(frozen=True, slots=True)
class Killed:
    """``left``: those that were told to end and have not yet; ``pops``: fetches that were cut off."""

    ended: int = 0
    left: tuple[str, ...] = ()
    pops: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """Traffic, or a class, stands still. ``clients``: who is held, of a class: who waits already. ``seconds``: from
    asking until nothing was in flight."""

    clients: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Released:
    """``clients``: those that had been held; ``gone``: of these, closed because they had left meanwhile; ``held``:
    whether a hold was on."""

    clients: int
    gone: int
    held: bool


@dataclass(frozen=True, slots=True)
class Reread:
    """One thing that RELOAD looked at, and what came of it."""

    what: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Switched:
    """What came of a switch. ``held_ms``: from the first client that waited until all went on; ``closed``: clients that
    could not go along, each with why."""

    epoch: int
    url: str
    clients: int
    closed: tuple[str, ...]
    held_ms: float
    notes: tuple[str, ...]


class Routes(Protocol):
    """Where traffic goes."""

    def routes(self) -> list[dict[str, Value]]:
        """The route in force and those before it, newest first."""

    async def switch(self, target: str, budget_s: float, follow: bool, by: str, progress: Progress) -> Switched:
        """Have all traffic go to ``target``, a name or a URL. Raises VerbError: it goes on as before."""

    async def rollback(self, budget_s: float, by: str, progress: Progress) -> Switched:
        """Have it go where it went before. Raises VerbError: it goes on as before."""


@dataclass(frozen=True, slots=True)
class MirrorAsk:
    """What is to be mirrored. ``target``: a URL, None: the configured one; ``what``: writes, reads or all; ``percent``:
    of the keys; ``patterns``: keys like one of these, none: all."""

    target: str | None = None
    what: str = "writes"
    percent: int = 100
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MirrorShown:
    """The mirror now: facts, what only the target refused, and reads side by side."""

    facts: dict[str, Value]
    errors: list[dict[str, Value]]
    compared: list[dict[str, Value]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SplitAsk:
    """Whose reads are to go elsewhere. ``target``: a URL; ``percent``: of the connections that are opened from now on;
    ``name``, ``addr``: only clients like this, None: any."""

    target: str
    percent: float
    name: str | None = None
    addr: str | None = None

    @property
    def said(self) -> str:
        """In words."""
        named = "" if self.name is None else f" with a name like {self.name}"
        placed = "" if self.addr is None else f" from {self.addr}"
        return f"{self.percent:g}%{named}{placed}"


class World(Protocol):
    """``source`` and ``workforce`` are as for metrics. Every wait is bounded; ``notes`` are what could not be told."""

    @property
    def source(self) -> Source: ...
    @property
    def workforce(self) -> Workforce | None: ...
    @property
    def board(self) -> Routes | None: ...

    def state(self) -> dict[str, Value]:
        """What SHOW STATE shows beside what ``source`` tells."""

    def options(self) -> list[dict[str, Value]]:
        """Every option: option, value, origin. No secret is in it."""

    async def refresh(self) -> None:
        """Have ``source`` tell what is true now."""

    async def clients(self) -> tuple[list[ClientRow], list[str]]:
        """All clients, and notes."""

    async def sockets(self) -> tuple[list[str], list[str]]:
        """Where the connections to the backend are, as Redis would name them, and notes."""

    async def kill(self, aim: Aim, at_once: bool, progress: Progress) -> tuple[Killed, list[str]]:
        """End clients at their next command boundary, or ``at_once``, and wait for that."""

    async def hold(self, quiet_s: float, limit_s: float, classes: tuple[str, ...], progress: Progress) -> Held:
        """Hold all traffic, or these classes alone, until nothing of it is in flight, at most ``quiet_s``; it is
        released by itself after ``limit_s``. Raises VerbError: it goes on as before, or there is no such class."""

    async def release(self, classes: tuple[str, ...] = ()) -> Released:
        """Let these classes go on; none: whatever is held. Nothing happens where nothing is. Raises VerbError."""

    async def mirror_start(self, ask: MirrorAsk, progress: Progress) -> str:
        """Mirror from now on; the same again changes nothing. Raises VerbError: nothing is mirrored."""

    async def mirror_stop(self, progress: Progress) -> str:
        """No longer."""

    async def mirror_shown(self) -> MirrorShown:
        """What it has done."""

    async def split_start(self, ask: SplitAsk, progress: Progress) -> tuple[str, list[str]]:
        """Have a share of new connections read elsewhere; the same again changes nothing. Returns what is so now, and
        notes. Raises VerbError: nothing has changed."""

    async def split_end(self, progress: Progress) -> str:
        """No longer."""

    async def split_shown(self) -> tuple[dict[str, Value], list[str]]:
        """What it does, or did last, and notes."""

    async def reload(self, progress: Progress) -> list[Reread]:
        """Read again what can be. Raises VerbError: nothing was changed."""

    async def shutdown(self, at_once: bool, progress: Progress) -> str:
        """End it all, as SIGTERM does, or as a second one; returns one line when nothing is left to do but to exit."""

    async def maintain(self, limit_s: float, to: str | None, by: str, progress: Progress) -> list[dict[str, Value]]:
        """Walk through a planned outage, and go to ``to`` afterwards if it is given. Returns a row for each step.
        Raises VerbError: traffic goes on."""

    def end_maintenance(self, is_done: bool) -> None:
        """Its work is done, or it is to be aborted. Raises VerbError: none is under way."""
