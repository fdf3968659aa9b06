"""Where traffic goes: a route, numbered by its epoch. Frozen; each change is a new one.

Knows: what a route says. Refuses to know: how it is kept (``cutover.record``), and how traffic gets there (``net``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

#: The name of --backend's Redis.
MAIN = "main"


class Fence(StrEnum):
    """Whether the Redis that was left follows the new one: nobody can write there then, and the way back is open."""

    NONE = "none"  # not asked for
    PENDING = "pending"  # to be done: the commit came before it
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Backend:
    """A Redis by name. ``url``: without credentials, as the record has it; the configuration has the rest."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Route:
    """Traffic goes to ``backend``, but for that of ``classes``: (name of the class, its backend). ``epoch`` grows by
    one with each change. ``previous``: where it went before; None: nowhere. ``at``: when it was made, RFC 3339 in UTC;
    ``by``: who asked for it."""

    epoch: int
    backend: Backend
    previous: Backend | None = None
    fence: Fence = Fence.NONE
    at: str = ""
    by: str = ""
    classes: tuple[tuple[str, Backend], ...] = ()

    def to(self, backend: Backend, *, fence: Fence, at: str, by: str) -> Route:
        """The next route."""
        return Route(self.epoch + 1, backend, self.backend, fence, at, by, self.classes)

    def having(self, classes: tuple[tuple[str, Backend], ...], *, at: str, by: str) -> Route:
        """The next route, with classes elsewhere."""
        return Route(self.epoch + 1, self.backend, self.previous, self.fence, at, by, classes)

    def fenced(self) -> Route:
        """The same, with the fence up."""
        return replace(self, fence=Fence.DONE)


@dataclass(frozen=True, slots=True)
class Moved:
    """``clients`` that go on at the target; ``closed``: those that could not, each with why."""

    clients: int
    closed: tuple[str, ...]
