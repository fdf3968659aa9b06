"""A switch while traffic runs: each step of ``switch`` done, and undone where it fails.

Knows: what a step asks of the workers (``Hands``), of the two servers and of the route record. Refuses to know: how
clients are held and moved (``net``), and who asked (``console``).

Before the commit every failure ends with the source serving as before. After it each step is tried until it is done:
whoever restarts meanwhile reads the record, and ``finish`` does what was left.
"""

# Over 300 lines: the steps of a switch, a method each, in the order in which they are done.
from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from proxy.cutover.failpoints import Failpoints
from proxy.cutover.record import Recorded, RecordError, RouteFile
from proxy.cutover.replication import Server, fence, follow, follow_again, follows, match, promote
from proxy.cutover.scripts import load
from proxy.cutover.switch import Event, State, Step, Switch, Undo
from proxy.routing.route import Backend, Fence, Moved, Route

_log = logging.getLogger(__name__)

#: A switch's hold is over after this long at the latest: clients begin to give up after 1 s, and then double jobs.
CAP_S = 0.8
#: Between two tries of a step behind the commit: the first time, and the longest, seconds.
AGAIN_FIRST_S = 0.02
AGAIN_LONGEST_S = 2.0
#: A source that can't be made to follow for so long is tried on beside, and the switch is told to be over, seconds.
FENCE_PATIENCE_S = 5.0
#: An undoing that takes longer is left behind, with a line in the log, seconds.
UNDO_S = 5.0

Progress = Callable[[str], None]
#: What stands against moving traffic from one to the other, a line each; the last: whether by following.
Look = Callable[["Target", "Target", bool], Awaitable[list[str]]]
#: Has a function run where it may wait for the disk.
InThread = Callable[..., Awaitable[None]]


class SwitchFailed(Exception):
    """Traffic goes on to the source, as before: one line with why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where traffic is to go. ``server`` has its credentials, ``backend`` has not."""

    backend: Backend
    server: Server


@dataclass(frozen=True, slots=True)
class Switched:
    """What came of a switch. ``held_s``: from the first client that waited until all went on. ``strayed_bytes``: writes
    that the source got past shunt after the barrier, and that are lost. ``unfenced``: why the source does not follow
    the target yet, which is being tried on."""

    route: Route
    clients: int
    closed: tuple[str, ...]
    held_s: float
    strayed_bytes: int
    unfenced: str | None


class _Unfenced(Exception):
    """All is done but the fence."""


class Hands(Protocol):
    """What a switch does to clients, in one worker or in all. Every one raises an Exception where it is not done."""

    async def warm(self, target: Target) -> int:
        """Open connections to the target for all clients, and say how many."""

    async def scripts(self) -> list[bytes]:
        """The bodies of the scripts that clients have sent."""

    async def hold(self, quiet_s: float, limit_s: float, progress: Progress) -> None:
        """Hold all traffic until nothing is in flight; it is released by itself after ``limit_s``."""

    async def introduce(self) -> None:
        """Bring those connections into the clients' state."""

    async def spoil(self) -> None:
        """Have EXEC after WATCH answer nil on the target."""

    async def pin(self) -> None:
        """Keep traffic held until ``release``; fails if it is not held any more."""

    async def move(self, target: Target, epoch: int) -> Moved:
        """Have the clients' commands go to the target. Done twice, it is done once."""

    async def release(self) -> None:
        """Let traffic go on."""

    async def abandon(self) -> None:
        """Close the connections to the target."""


@dataclass
class _Run:
    """What one switch has come to."""

    source: Target
    target: Target
    route: Route
    budget_s: float
    follow: bool
    progress: Progress
    followed_before: bool = False
    followed: bool = False
    promoted: bool = False
    offset: int = 0
    held_at: float = 0.0
    held_s: float = 0.0
    moved: Moved = field(default_factory=lambda: Moved(0, ()))
    strayed: int = 0


class Switching:
    """One switch at a time. ``here``: the route in force; ``find`` makes a name or URL in the record a Target."""

    def __init__(
        self,
        hands: Hands,
        file: RouteFile,
        recorded: Recorded,
        find: Callable[[Backend], Target],
        look: Look,
        failpoints: Failpoints,
        in_thread: InThread = asyncio.to_thread,
    ) -> None:
        self.recorded = recorded
        self._hands = hands
        self._file = file
        self._find = find
        self._look = look
        self._failpoints = failpoints
        self._in_thread = in_thread
        self._run: _Run | None = None
        self._finishing: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop what goes on beside; it is gone on with at the next start."""
        await self._stop_finishing()

    async def _stop_finishing(self) -> None:
        task, self._finishing = self._finishing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def finish_later(self) -> None:
        """Do what a process that died behind its commit had left to do, beside all else."""
        self._finishing = asyncio.create_task(self.finish())

    @property
    def under_way(self) -> bool:
        return self._run is not None

    async def switch(
        self, target: Target, *, budget_s: float, follow: bool, by: str, progress: Progress = lambda line: None
    ) -> Switched:
        """Have all traffic go to the target. Raises SwitchFailed: it goes to the source, as before."""
        if self._run is not None:
            raise SwitchFailed("another switch is under way; wait for it, or for its end at the budget")
        here = self.recorded.route
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        route = here.to(target.backend, fence=Fence.PENDING if follow else Fence.NONE, at=at, by=by)
        self._run = run = _Run(self._find(here.backend), target, route, budget_s, follow, progress)
        await self._stop_finishing()
        unfenced = None
        try:
            await self._walk(run, Switch(follow), FENCE_PATIENCE_S)
        except _Unfenced as error:
            unfenced = str(error)
            self._finishing = asyncio.create_task(self.finish())
        finally:
            self._run = None
        return Switched(run.route, run.moved.clients, run.moved.closed, run.held_s, run.strayed, unfenced)

    async def finish(self) -> None:
        """Do what a process that died behind its commit had left to do."""
        route = self.recorded.route
        if route.fence is not Fence.PENDING or route.previous is None:
            return
        _log.warning(
            "the last switch had not come to its end: %s is made to follow %s", route.previous.url, route.backend.url
        )
        source, target = self._find(route.previous), self._find(route.backend)
        run = _Run(source, target, route, CAP_S, True, lambda line: None)
        machine = Switch(follow=True)
        while machine.step is not Step.FENCE:
            machine.happens(Event.DONE)
        if not await self._is_promoted(target):
            await self._again(promote, target.server)
        await self._walk(run, machine)

    async def _is_promoted(self, target: Target) -> bool:
        try:
            return not await follows(target.server, self._find(self.recorded.route.previous or target.backend).server)
        except Exception:
            return False  # asked again by promoting it

    async def _again(self, act: Callable[[Server], Awaitable[None]], server: Server) -> None:
        delay_s = AGAIN_FIRST_S
        while True:
            try:
                return await act(server)
            except Exception as error:
                _log.error("%s; trying again", error)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, AGAIN_LONGEST_S)

    # ---- walking ----------------------------------------------------------------------------------------------------

    async def _walk(self, run: _Run, machine: Switch, patience_s: float | None = None) -> None:
        """Do what is left of it. ``patience_s``: a fence that is not up after so long is left for later (Unfenced)."""
        delay_s, since_s, before = AGAIN_FIRST_S, time.monotonic(), ""
        while machine.state in (State.GOING, State.ROLLING):
            step = machine.step
            run.progress(str(step))
            try:
                for place in (f"after {before}", f"before {step.name.lower()}"):
                    await self._failpoints.reach(place)
                async with asyncio.timeout(self._time_left(run, step)):
                    await _DO[step](self, run)
            except (Exception, asyncio.CancelledError) as error:
                await self._failed(run, machine, error)
                if step is Step.FENCE and patience_s is not None and time.monotonic() - since_s > patience_s:
                    raise _Unfenced(_line(error, step)) from None
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, AGAIN_LONGEST_S)
            else:
                machine.happens(Event.DONE)
                delay_s, since_s, before = AGAIN_FIRST_S, time.monotonic(), step.name.lower()

    async def _failed(self, run: _Run, machine: Switch, error: BaseException) -> None:
        """Undo all, and raise; or, behind the commit, say that the step is tried again."""
        step, why = machine.step, _line(error, machine.step)
        if machine.state is State.GOING:
            await self._undo(run, machine.happens(Event.FAILED))
        if isinstance(error, asyncio.CancelledError):
            raise error
        if machine.state is State.ABORTED:
            raise SwitchFailed(f"{why}; everything goes on at {run.source.server.label}, as before") from None
        _log.error("the switch to %s is committed, and has still to %s: %s; trying again",
                   run.target.server.label, step, why)  # fmt: skip
        run.progress(f"{why}; trying again")

    def _time_left(self, run: _Run, step: Step) -> float | None:
        """While clients wait, a step may take what is left of the time in which they do so without harm."""
        if step not in _WHILE_HELD:
            return None
        return max(run.held_at + CAP_S - time.monotonic(), 0.0)

    async def _undo(self, run: _Run, undo: tuple[Undo, ...]) -> None:
        for each in undo:
            try:
                async with asyncio.timeout(UNDO_S):
                    await _UNDO[each](self, run)
            except Exception as error:
                _log.error("a switch that failed could not %s: %s", each, _line(error, None))

    # ---- steps ------------------------------------------------------------------------------------------------------

    async def _check(self, run: _Run) -> None:
        if run.source.backend.url == run.target.backend.url:
            raise SwitchFailed(f"{run.target.server.label} is where traffic goes already")
        against = await self._look(run.source, run.target, run.follow)
        if against:
            raise SwitchFailed("; ".join(against))
        if run.follow:
            run.followed_before = await follows(run.target.server, run.source.server)

    async def _follow(self, run: _Run) -> None:
        await follow(run.target.server, run.source.server, run.progress)
        run.followed = True

    async def _warm(self, run: _Run) -> None:
        count = await self._hands.warm(run.target)
        run.progress(f"{count} connections to {run.target.server.label} are open")

    async def _load(self, run: _Run) -> None:
        bodies = await self._hands.scripts()
        run.progress(await load(run.source.server, run.target.server, bodies, with_functions=not run.follow))

    async def _prepare(self, run: _Run) -> None:
        recorded = self.recorded.then(run.route)
        await self._in_thread(self._file.prepare, recorded)

    async def _hold(self, run: _Run) -> None:
        run.held_at = time.monotonic()
        await self._hands.hold(min(run.budget_s, CAP_S), CAP_S, run.progress)

    async def _introduce(self, run: _Run) -> None:
        await self._hands.introduce()

    async def _match(self, run: _Run) -> None:
        run.offset = await match(run.target.server, run.source.server)

    async def _promote(self, run: _Run) -> None:
        run.promoted = True  # it may be, even where no answer comes
        await promote(run.target.server)

    async def _spoil(self, run: _Run) -> None:
        await self._hands.spoil()

    async def _pin(self, run: _Run) -> None:
        await self._hands.pin()

    async def _commit(self, run: _Run) -> None:
        work = asyncio.ensure_future(self._in_thread(self._file.commit))
        while not work.done():  # whether it is done must be known, also by who is being stopped
            with contextlib.suppress(asyncio.CancelledError, RecordError):
                await asyncio.shield(work)
        work.result()
        self.recorded = self.recorded.then(run.route)

    async def _move(self, run: _Run) -> None:
        run.moved = await self._hands.move(run.target, run.route.epoch)

    async def _release(self, run: _Run) -> None:
        await self._hands.release()
        if not run.held_s:
            run.held_s = time.monotonic() - run.held_at

    async def _fence(self, run: _Run) -> None:
        run.strayed = await fence(run.source.server, run.target.server, run.offset)
        if run.strayed:
            _log.error(
                "%s has %d bytes of writes that did not come through shunt after all clients were held: they are lost, "
                "since it follows %s now (keys that expired there count too, and expire at the target as well)",
                run.source.server.label, run.strayed, run.target.server.label,
            )  # fmt: skip
        run.route = run.route.fenced()
        await self._in_thread(self._file.prepare, self.recorded.then(run.route))
        await self._in_thread(self._file.commit)
        self.recorded = self.recorded.then(run.route)

    # ---- undoing ----------------------------------------------------------------------------------------------------

    async def _follow_on(self, run: _Run) -> None:
        if run.promoted:
            await follow_again(run.target.server, run.source.server)
        elif not run.followed and not run.followed_before:
            await promote(run.target.server)

    async def _abandon(self, run: _Run) -> None:
        await self._hands.abandon()

    async def _discard(self, run: _Run) -> None:
        await self._in_thread(self._file.discard)

    async def _let_go(self, run: _Run) -> None:
        await self._hands.release()


_DO: dict[Step, Callable[[Switching, _Run], Awaitable[None]]] = {
    Step.CHECK: Switching._check,
    Step.FOLLOW: Switching._follow,
    Step.WARM: Switching._warm,
    Step.LOAD: Switching._load,
    Step.PREPARE: Switching._prepare,
    Step.HOLD: Switching._hold,
    Step.INTRODUCE: Switching._introduce,
    Step.MATCH: Switching._match,
    Step.PROMOTE: Switching._promote,
    Step.SPOIL: Switching._spoil,
    Step.PIN: Switching._pin,
    Step.COMMIT: Switching._commit,
    Step.MOVE: Switching._move,
    Step.RELEASE: Switching._release,
    Step.FENCE: Switching._fence,
}
_UNDO: dict[Undo, Callable[[Switching, _Run], Awaitable[None]]] = {
    Undo.FOLLOW_ON: Switching._follow_on,
    Undo.ABANDON: Switching._abandon,
    Undo.DISCARD: Switching._discard,
    Undo.RELEASE: Switching._let_go,
}


#: Steps that end by themselves when clients have waited for as long as they may.
_WHILE_HELD = frozenset({Step.INTRODUCE, Step.MATCH, Step.PROMOTE, Step.SPOIL, Step.PIN})


def _line(error: BaseException, step: Step | None) -> str:
    if isinstance(error, TimeoutError):
        return f"there was no time left to {step}" if step else "it took too long"
    if isinstance(error, asyncio.CancelledError):
        return "shunt is being stopped"
    return " ".join(str(error).split()) or type(error).__name__
