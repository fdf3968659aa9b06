"""Holds under load: traffic stands still by the console, and goes on.

Knows: the console's HOLD and RELEASE, and when a hold has lasted long enough. Refuses to know: what came of the jobs.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.servers import until

from .direct import NO_RETRY
from .entries import Push
from .load import JobLoad

QUIET, LIMIT = "300ms", "300ms"


@dataclass
class Holder:
    """Holds the traffic of a ``load`` by the console at a unix socket.

    ``held``: from the answer of HOLD to just before RELEASE; both the same for a hold that ended by itself.
    ``quiet_after_ms``: how long each HOLD took. ``too_slow``: how many did not become quiet within QUIET.
    """

    socket: Path
    load: JobLoad
    held: list[tuple[float, float]] = field(default_factory=list)
    quiet_after_ms: list[int] = field(default_factory=list)
    too_slow: int = 0

    def hold(self, *, release: bool) -> None:
        """One hold, ended as soon as a push waits, or by itself after LIMIT; then until fifty more jobs have run."""
        said = re.search(r"quiet after (\d+) ms", self._ask("HOLD", QUIET, LIMIT))
        began = ended = time.monotonic()
        if said is None:
            self.too_slow += 1
            return
        self.quiet_after_ms.append(int(said[1]))
        if release:
            until(self._a_push_waits, what="a push waits")
            ended = time.monotonic()
            if "nothing was held" in self._ask("RELEASE"):
                ended = began  # it had ended by itself, nobody knows when
        self.held.append((began, ended))
        self.load.wait_for(acknowledged=50, got=50)

    def _a_push_waits(self) -> bool:
        return self.load.under_way() > 0

    def _ask(self, *words: str) -> str:
        """The console's answer or error, in words."""
        with redis.Redis(unix_socket_path=str(self.socket), retry=NO_RETRY) as console:
            try:
                return str(console.execute_command(*words))
            except redis.ResponseError as error:
                return str(error)


def hold_often(socket: Path, load: JobLoad, count: int) -> Holder:
    """So many holds, every other one ended by itself. Stops early when as many did not become quiet."""
    holder = Holder(socket, load)
    while len(holder.held) < count and holder.too_slow < count:
        holder.hold(release=len(holder.held) % 2 == 0)
    return holder


def done_while_held(holder: Holder) -> list[Push]:
    """Pushes that began and were answered within one hold: there must be none."""
    pushes = [push for pushes in holder.load.ledger.book().pushes.values() for push in pushes]
    return [push for began, ended in holder.held for push in pushes if began < push.began and push.ended < ended]
