"""Clients that have gone while a pop was in flight: its reply is waited for, and what it took is given back.

Knows: how long a backend connection is kept for that, and when it is time to give back. Refuses to know: which pops can
be given back and by what commands (``engine.giving_back``), how a fetch that waits in Redis is ended (``unblock``), and
what carries the commands (``lines``).

The connection that popped gives back if it can, because it has the right database and credentials. Where it can't (it
has ended, a command on it is half sent, a subscription), another one with the backend URL's credentials does. A command
that gives back is sent once: an answer that does not come is a failure, because a second try could double a job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from enum import Enum
from functools import partial
from typing import Any

from proxy.engine import giving_back
from proxy.engine.counters import Counters
from proxy.engine.giving_back import GiveBack, Kept
from proxy.engine.session import Session
from proxy.net.backend import Backend
from proxy.net.client import Client
from proxy.net.endpoint import now_ns
from proxy.net.lines import Line, line_of, push_over
from proxy.net.pool import Pool
from proxy.net.routing import RoutedBackend
from proxy.net.sharing import PooledClient
from proxy.net.unblock import Blocked, unblock
from proxy.net.upstream import Upstream

_log = logging.getLogger(__name__)

#: The longest that a connection is kept for what may still be popped or given back, seconds.
WAIT_S = 2.0
#: A reply that did not come.
NO_REPLY = b""

EndBlocked = Callable[[Collection[Blocked]], Coroutine[Any, Any, None]]
Push = Callable[[GiveBack], Awaitable[list[bytes]]]


class Phase(Enum):
    """WAITING for replies of pops; GIVING back over the line, or ELSEWHERE; DONE."""

    WAITING = 1
    GIVING = 2
    ELSEWHERE = 3
    DONE = 4


class Orphans:
    """Those of one worker. ``end_blocked(them)`` ends their fetches until cancelled; ``push(back)`` gives back over
    another connection, and returns the replies' first lines."""

    def __init__(self, counters: Counters, end_blocked: EndBlocked, push: Push, wait_s: float = WAIT_S) -> None:
        self.push = push
        self.wait_s = wait_s
        self.counters = counters
        self._end_blocked = end_blocked
        self._all: set[Orphan] = set()
        self._unblocking: asyncio.Task[None] | None = None
        self._again = False  # somebody came since ``end_blocked`` was begun
        self._tasks: set[asyncio.Task[None]] = set()
        self._none = asyncio.Event()

    @classmethod
    def of(cls, counters: Counters, upstream: Upstream) -> Orphans:
        """Those whose backend is this one."""
        meanwhile = f"what is popped for clients that have gone is given back for {WAIT_S:g} s"
        return cls(counters, lambda left: unblock(left, upstream, meanwhile), partial(push_over, upstream))

    @property
    def in_flight(self) -> int:
        """Commands that are waited for, and what is still to be given back."""
        return sum(max(1, orphan.session.in_flight) for orphan in self._all)

    def of_interest(self, concerns: Callable[[Session], bool]) -> int:
        """How many there are whose conversation ``concerns`` whoever asks."""
        return sum(concerns(orphan.session) for orphan in self._all)

    def adopt(self, client: Client, pool: Pool | None) -> bool:
        """Take over the connection of a client that has gone, if one of its pops may be given back."""
        session = client.session
        line = line_of(client, pool)
        if not ((session.pops_left and line.reads) or session.salvage):
            return False
        orphan = Orphan(self, client, line)
        self._all.add(orphan)
        self._none.clear()
        if isinstance(client.peer, Backend):
            client.peer.keep_for(orphan)
        elif isinstance(client, PooledClient):
            client.orphan = orphan
        orphan.begin()
        return True

    def unblock(self) -> None:
        """One more fetch waits in Redis."""
        self._again = True
        self._unblock_again()

    def _unblock_again(self) -> None:
        if self._unblocking is None and self._again and self._all:
            self._again = False
            self._unblocking = self.start(self._end_blocked(self._all))
            self._unblocking.add_done_callback(self._unblocked)

    def _unblocked(self, task: asyncio.Task[None]) -> None:
        self._unblocking = None
        self._unblock_again()  # for one that came while it was ending

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` beside everything else."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def done(self, orphan: Orphan) -> None:
        """One needs nothing any more."""
        self._all.discard(orphan)
        if not self._all:
            self._none.set()

    async def close(self) -> None:
        """Wait for all of them, each of which has its bound."""
        if self._all:
            await self._none.wait()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Orphan:
    """The rest of one client's conversation. ``peer``: its backend connection, None: it shared one."""

    def __init__(self, room: Orphans, client: Client, line: Line) -> None:
        self.session: Session = client.session
        self.peer = client.peer
        self.phase = Phase.WAITING
        self._room = room
        self._line = line
        self._backs: list[GiveBack] = []
        self._due = 0
        self._unblocked = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Wait for what is in flight, within the bound."""
        self._set_timer()
        if self._line.reads:
            self.look(now_ns())
        else:
            self.ended()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._room.wait_s, self.ended)

    def received(self, data: bytes, now: int) -> None:
        """The backend has said more."""
        self.session.backend_bytes(data, now)
        self.look(now)

    def look(self, now: int) -> None:
        """See whether it is time for the next step."""
        if self.phase is Phase.WAITING and not self.session.pops_left:
            self._give_back(now)
        elif self.phase is Phase.WAITING and self.session.blocked and not self._unblocked:
            self._unblocked = True
            self._room.unblock()
        elif self.phase is Phase.GIVING and len(self.session.given) >= self._due:
            self._finish(self.session.given)

    def ended(self) -> None:
        """Nothing more comes over the line, or not in time."""
        if self.phase in (Phase.WAITING, Phase.GIVING):
            was = self.phase
            self._end_line()
            if was is Phase.WAITING:
                self._give_back(now_ns())
            else:
                self._finish(self.session.given)

    def _end_line(self) -> None:
        """What is in flight is lost from now on."""
        self.session.finish(now_ns())
        self._line.end()

    def _give_back(self, now: int) -> None:
        """All that was waited for is there: the last taken goes back first."""
        for answer in map(giving_back.answer, reversed(self.session.salvage or [])):
            if isinstance(answer, GiveBack):
                self._backs.append(answer)
            elif answer is not None:
                self._lost(answer, giving_back.WHY[answer.why])
        session = self.session
        if not self._backs:
            self._finish([])
        elif self._line.usable and session.takes_more and all(back.db == session.db for back in self._backs):
            self.phase = Phase.GIVING
            data = [session.give_back(command, now) for back in self._backs for command in back.commands]
            self._due = len(data)
            self._set_timer()
            self._line.send(b"".join(data), len(data))
        else:
            self.phase = Phase.ELSEWHERE
            self._end_line()
            self._room.start(self._push_elsewhere())

    async def _push_elsewhere(self) -> None:
        replies: list[bytes] = []
        elsewhere = self.peer.upstream if isinstance(self.peer, RoutedBackend) else None
        push = self._room.push if elsewhere is None else partial(push_over, elsewhere)
        for back in self._backs:
            sent_ns = now_ns()
            said = await push(back)
            said += [NO_REPLY] * (len(back.commands) - len(said))
            for command, reply in zip(back.commands, said, strict=True):
                self.session.gave_back(command, back.db, reply and reply + b"\r\n", sent_ns, now_ns())
            replies += said
        self._finish(replies)

    def _finish(self, replies: list[bytes]) -> None:
        """``replies``: first lines, one for each command that gave back; the rest did not come."""
        if self.phase is Phase.DONE:
            return
        elsewhere, self.phase = self.phase is Phase.ELSEWHERE, Phase.DONE
        if self._timer is not None:
            self._timer.cancel()
        said = iter(replies)
        for back in self._backs:
            self._account(back, [next(said, NO_REPLY) for _ in back.commands])
        if not elsewhere:
            self._end_line()
        self._room.done(self)

    def _account(self, back: GiveBack, replies: list[bytes]) -> None:
        bad = [reply for reply in replies if not reply.startswith(b":")]
        if not bad:
            self._room.counters.given_back += 1
            self._room.counters.given_back_elements += back.elements
            return
        why = bad[0].removeprefix(b"-").decode("utf-8", "replace") if bad[0] else "no answer"
        self._lost(Kept(back.pop, "failed"), why, back)

    def _lost(self, kept: Kept, why: str, back: GiveBack | None = None) -> None:
        self._room.counters.not_given(kept.why)
        key = "" if back is None else f" from {back.key.decode('utf-8', 'backslashreplace')}"
        elements = "what" if back is None else f"{back.elements} elements that"
        _log.warning("lost: %s %s took%s for client %s, which had gone: %s",
                     elements, kept.pop, key, self.session.addr.decode("utf-8", "replace"), why)  # fmt: skip
