"""A planned outage of the backend, step by step: traffic is held, the backend goes and comes, traffic goes on.

Knows: the steps, what is compared before and after, and that whatever ends it, traffic goes on afterwards. Refuses to
know: how clients are held and get their new connections (``Hands``), and how traffic is moved elsewhere (``move``).

    look at the backend -> stop fetches -> hold -> wait until it is back -> [move] -> release

It is back when it answers as a master and is another process than before, or had been away; or when the operator says
that it is done. Keys that don't expire must be as many as when traffic was held, and so must Sidekiq's queues and sets:
where they are not, traffic stays held until they are, the operator says that it is done, or the limit is over. If the
backend was gone before it could be counted, what it lacks is only said: it was last counted while traffic ran.
"""
# Over 300 lines: the steps of an outage, a method each, in the order in which they are done.

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from redis.exceptions import RedisError

from proxy.cutover.replication import Server

_log = logging.getLogger(__name__)

#: Fetches that wait in Redis get so long for their own timeouts, seconds: all of Sidekiq's are 2 s.
FETCHES_S = 2.5
#: In this time all must be quiet, and clients must have new connections, seconds.
QUIET_S = 2.0
REJOIN_S = 5.0
#: Counting a held backend's keys may take so long, seconds: clients wait.
COUNT_S = 0.5
#: Between two looks at a backend that is awaited, seconds.
LOOK_S = 0.05
#: Sidekiq's keys that are counted, with the command that counts.
SIDEKIQ = {"queues": "SCARD", "schedule": "ZCARD", "retry": "ZCARD", "dead": "ZCARD"}

Progress = Callable[[str], None]


class MaintenanceFailed(Exception):
    """It has come to no good end; traffic goes on. One line with why."""


class Step(StrEnum):
    LOOK = "look at the backend"
    FETCHES = "stop fetches"
    HOLD = "hold traffic"
    BACK = "wait until the backend is back"
    MOVE = "move traffic"
    RELEASE = "release"


#: Steps that can't be stopped in their middle, and take a moment only.
TO_THE_END = frozenset({Step.MOVE, Step.RELEASE})


@dataclass(frozen=True, slots=True)
class Standing:
    """How clients stand at one moment. ``blocked``: those whose fetch waits in Redis; ``held``: whether all traffic is
    held; ``waiting``: clients that have no backend connection."""

    blocked: int
    held: bool
    waiting: int


class Hands(Protocol):
    """What it does to clients: of one worker, or of all."""

    async def standing(self) -> Standing: ...
    async def stop_fetches(self) -> None:
        """Answer new ones nil, after their own timeouts."""

    async def hold(self, quiet_s: float, limit_s: float, progress: Progress) -> int:
        """Hold all traffic, for at most ``limit_s``; clients keep their connections while their backend is away.
        Returns how many. Raises an Exception: it goes on as before."""

    async def go_on(self) -> None:
        """Undo all of it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A backend at one moment. ``lasting``: keys without expiry, by database; ``sidekiq``: sizes of its keys."""

    run_id: str
    version: str
    role: str
    keys: int
    lasting: dict[str, int]
    sidekiq: dict[str, int]

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {count}" for name, count in self.sidekiq.items() if count)
        return f"Redis {self.version}, {self.role}, {self.keys} keys" + (f", Sidekiq's {sizes}" if sizes else "")


def differences(before: Facts, after: Facts) -> list[str]:
    """What is less, or else, than it was."""
    found = []
    for db, count in before.lasting.items():
        if after.lasting.get(db, 0) < count:
            found.append(f"{db} has {after.lasting.get(db, 0)} keys without expiry, and had {count}")
    for name, count in before.sidekiq.items():
        if after.sidekiq.get(name, 0) < count:
            found.append(f"{name} has {after.sidekiq.get(name, 0)} members, and had {count}")
    return found


@dataclass
class _Run:
    began_s: float
    limit_s: float
    progress: Progress
    rows: list[dict[str, Any]] = field(default_factory=list)
    before: Facts | None = None
    counted: bool = False  # ``before`` is of the time when traffic was held
    is_away: bool = False

    @property
    def over(self) -> bool:
        return time.monotonic() - self.began_s >= self.limit_s


class Maintenance:
    """One at a time. ``here``: the backend now; ``find``: the server that a name or URL means; ``move``: have traffic
    go there, which also lets it go on."""

    def __init__(
        self,
        hands: Hands,
        here: Callable[[], Server],
        find: Callable[[str], Server],
        move: Callable[[str, str, Progress], Awaitable[str]],
    ) -> None:
        self._hands = hands
        self._here = here
        self._find = find
        self._move = move
        self._under_way = False
        self._said_abort = asyncio.Event()
        self._said_done = asyncio.Event()

    def abort(self) -> bool:
        """Have it end, and traffic go on. False: none is under way."""
        self._said_abort.set()
        return self._under_way

    def done(self) -> bool:
        """The operator says that the work is done, whatever the backend looks like. False: none is under way."""
        self._said_done.set()
        return self._under_way

    async def run(self, limit_s: float, to: str | None, by: str, progress: Progress) -> list[dict[str, Any]]:
        """All of it. ``to``: where traffic goes afterwards; None: where it went. Returns the runbook: a row for each
        step, with when it was over and how long it took. Raises MaintenanceFailed."""
        if self._under_way:
            raise MaintenanceFailed("a maintenance is under way; see its end, or abort it")
        self._under_way, self._said_abort, self._said_done = True, asyncio.Event(), asyncio.Event()
        run = _Run(time.monotonic(), limit_s, progress)
        try:
            await self._walk(run, None if to is None else self._find(to), to, by)
            return run.rows
        finally:
            await self._hands.go_on()
            self._under_way = False

    def _where(self, run: _Run) -> str:
        return f"after '{run.rows[-1]['step']}'" if run.rows else "at its beginning"

    async def _walk(self, run: _Run, target: Server | None, to: str | None, by: str) -> None:
        await self._step(run, Step.LOOK, self._look(run))
        await self._step(run, Step.FETCHES, self._stop_fetches(run))
        await self._step(run, Step.HOLD, self._hold(run))
        await self._step(run, Step.BACK, self._wait(run, target))
        if to is not None:
            await self._step(run, Step.MOVE, self._move(to, by, run.progress))
        await self._step(run, Step.RELEASE, self._release(run))

    async def _step(self, run: _Run, step: Step, work: Awaitable[str]) -> None:
        run.progress(f"{step} …")
        began_s = time.monotonic()
        said = await (work if step in TO_THE_END else self._unless_aborted(run, work))
        now_s = time.monotonic()
        row = {
            "step": str(step),
            "at_s": round(now_s - run.began_s, 3),
            "took_s": round(now_s - began_s, 3),
            "said": said,
        }
        run.rows.append(row)
        line = f"{row['at_s']:8.3f} s  {step}: {said}"
        run.progress(line)
        _log.warning("maintenance: %s", line.strip())

    async def _unless_aborted(self, run: _Run, work: Awaitable[str]) -> str:
        doing, aborted = asyncio.ensure_future(work), asyncio.ensure_future(self._said_abort.wait())
        try:
            await asyncio.wait((doing, aborted), return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise MaintenanceFailed(f"aborted {self._where(run)}; traffic goes on")
            return await doing
        finally:
            doing.cancel()  # redis-py may go on for a moment: nobody waits for that
            aborted.cancel()

    async def _look(self, run: _Run) -> str:
        try:
            run.before = await look(self._here())
        except (RedisError, OSError) as error:
            raise MaintenanceFailed(f"{self._here().label} does not answer, so there is nothing to compare with: "
                                    f"{error}; --ride-through is for outages that nobody plans") from None  # fmt: skip
        return f"{self._here().label}: {run.before}"

    async def _stop_fetches(self, run: _Run) -> str:
        await self._hands.stop_fetches()
        until_s = time.monotonic() + FETCHES_S
        while (left := (await self._hands.standing()).blocked) and time.monotonic() < until_s:
            run.progress(f"{left} fetches wait in Redis")
            await asyncio.sleep(LOOK_S)
        return "none waits in Redis" if not left else f"{left} wait in Redis still; they are ended by CLIENT UNBLOCK"

    async def _hold(self, run: _Run) -> str:
        try:
            clients = await self._hands.hold(QUIET_S, run.limit_s, run.progress)
        except MaintenanceFailed:
            raise
        except Exception as error:
            raise MaintenanceFailed(f"not held: {error}") from None
        await self._count(run)
        return f"{clients} clients are held, nothing is in flight: do the work now"

    async def _count(self, run: _Run) -> None:
        """Nothing changes any more: what there is now must be there afterwards."""
        try:
            async with asyncio.timeout(COUNT_S):
                run.before = await look(self._here())
            run.counted = True
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            run.progress(f"{self._here().label} is gone before its keys were counted: {' '.join(str(error).split())}")

    async def _wait(self, run: _Run, target: Server | None) -> str:
        server = target or self._here()
        while True:
            if not (await self._hands.standing()).held:
                raise MaintenanceFailed("traffic was released by somebody else, or at the limit; it goes on")
            if run.over:
                raise MaintenanceFailed(f"the limit of {run.limit_s:g} s is over; traffic goes on")
            why, facts = await self._is_back(run, server, target is not None)
            if why is None and facts is not None:
                return f"{server.label}: {facts}"
            run.progress(f"{why}; shunt maintenance --done says that it is, --abort ends it")
            await asyncio.sleep(LOOK_S)

    async def _is_back(self, run: _Run, server: Server, elsewhere: bool) -> tuple[str | None, Facts | None]:
        assert run.before is not None
        try:
            facts = await look(server)
        except (RedisError, OSError) as error:
            run.is_away = True
            return f"{server.label} does not serve: {' '.join(str(error).split())}", None
        if self._said_done.is_set():
            return None, facts
        if facts.role != "master":
            return f"{server.label} is no master", facts
        if not elsewhere and not run.is_away and facts.run_id == run.before.run_id:
            return f"{server.label} has not gone yet", facts
        lacks = "; ".join(differences(run.before, facts))
        if not lacks:
            return None, facts
        if not run.counted:
            run.progress(f"{server.label}: {lacks}; but that was while traffic ran, so it is not waited for")
        return (f"{server.label}: {lacks}" if run.counted else None), facts

    async def _release(self, run: _Run) -> str:
        until_s = time.monotonic() + REJOIN_S
        while (left := (await self._hands.standing()).waiting) and time.monotonic() < until_s:
            run.progress(f"{left} clients get new connections")
            await asyncio.sleep(LOOK_S / 5)
        await self._hands.go_on()
        return "traffic goes on" if not left else f"traffic goes on; {left} clients have no connection yet"


async def look(server: Server) -> Facts:
    """What the backend is and holds. Raises RedisError, OSError."""
    control: Any = server.control()  # redis-py's commands are not all typed
    try:
        info: dict[str, Any] = await control.info("everything")
        sidekiq = {}
        for name, command in SIDEKIQ.items():
            try:
                sidekiq[name] = int(await control.execute_command(command, name))
            except RedisError:
                continue  # another's key, or not ours to read
    finally:
        await control.aclose()
    spaces = {name: space for name, space in info.items() if name.startswith("db") and isinstance(space, dict)}
    return Facts(
        str(info.get("run_id")), str(info.get("redis_version")), str(info.get("role")),
        sum(int(space["keys"]) for space in spaces.values()),
        {name: int(space["keys"]) - int(space["expires"]) for name, space in spaces.items()}, sidekiq,
    )  # fmt: skip
