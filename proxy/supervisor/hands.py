"""What a switch or a planned outage does to the clients of all workers: ``cutover``'s ``Hands`` over the crew.

Knows: that a step is done when every worker has done it, and that no worker may start unasked meanwhile. Refuses to
know: how a worker does it (``hands``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from proxy.cutover.maintenance import MaintenanceFailed, Standing
from proxy.cutover.switching import Target
from proxy.routing.route import Moved
from proxy.supervisor.crew import Crew
from proxy.supervisor.worker import Worker, WorkerSilent

_log = logging.getLogger(__name__)

#: A worker that does not answer within this time, beyond what it was given, has not done it, seconds.
ANSWER_S = 2.0
WARM_S = 60.0

Progress = Callable[[str], None]


class NotAll(Exception):
    """A worker has not done its part: one line."""


class Steady:
    """Whether a worker may be started: not while somebody relies on those that there are."""

    def __init__(self) -> None:
        self._relying: set[object] = set()
        self._free = asyncio.Event()
        self._free.set()

    def rely(self, who: object) -> None:
        """Have none start until ``who`` lets go."""
        self._relying.add(who)
        self._free.clear()

    def let_go(self, who: object) -> None:
        """``who`` relies on them no more."""
        self._relying.discard(who)
        if not self._relying:
            self._free.set()

    async def wait(self) -> None:
        """Until one may start."""
        while self._relying:
            await self._free.wait()


class Asking:
    """What several workers are asked, all at once."""

    def __init__(self, crew: Crew, steady: Steady) -> None:
        self._crew = crew
        self._steady = steady

    def _stay(self) -> None:
        """Have no worker start from now on. Raises NotAll: one is just doing so."""
        self._steady.rely(self)
        starting = [worker for worker in self._crew.workers if worker.snapshot is None]
        if starting:
            raise NotAll(f"worker {starting[0].number} is just starting; try again")

    async def _all(
        self, question: str, *arguments: Any, within_s: float = ANSWER_S, progress: Progress = lambda line: None
    ) -> list[Any]:
        """The answers of all workers that live. Raises NotAll."""

        async def ask(worker: Worker) -> Any:
            return await worker.ask(
                question,
                *arguments,
                within_s=within_s,
                progress=lambda line: progress(f"worker {worker.number}: {line}"),
            )

        workers = [worker for worker in self._crew.workers if worker.snapshot is not None]
        answers = await asyncio.gather(*map(ask, workers), return_exceptions=True)
        failed = [
            each for worker, each in zip(workers, answers, strict=True)
            if isinstance(each, BaseException) and not worker.ended.is_set()
        ]  # fmt: skip
        if failed and isinstance(failed[0], WorkerSilent):
            raise NotAll(str(failed[0]))
        if failed:
            raise failed[0]
        return [each for each in answers if not isinstance(each, BaseException)]


class CrewHands(Asking):
    """A switch's. ``adopt(target, epoch)``: who starts later goes there."""

    def __init__(self, crew: Crew, steady: Steady, adopt: Callable[[Target, int], None]) -> None:
        super().__init__(crew, steady)
        self._adopt = adopt

    async def warm(self, target: Target) -> int:
        """Open connections for all clients."""
        return sum(await self._all("warm", target.server.address, within_s=WARM_S))

    async def scripts(self) -> list[bytes]:
        """The bodies of the scripts that clients have sent."""
        return list({body: None for bodies in await self._all("scripts") for body in bodies})

    async def hold(self, quiet_s: float, limit_s: float, progress: Progress) -> None:
        """Hold the traffic of all workers."""
        self._stay()
        await self._all("hold for a switch", quiet_s, limit_s, within_s=quiet_s + ANSWER_S, progress=progress)

    async def introduce(self) -> None:
        """Bring the connections into the clients' state."""
        await self._all("introduce")

    async def spoil(self) -> None:
        """Have EXEC after WATCH answer nil."""
        await self._all("spoil")

    async def pin(self) -> None:
        """Keep all traffic held until the release."""
        await self._all("pin")

    async def move(self, target: Target, epoch: int) -> Moved:
        """Have all commands go to the target. A worker that dies meanwhile has no clients any more."""
        try:
            parts = await self._all("move", target.server.address, epoch)
        except NotAll:
            await self._end_the_deaf(target, epoch)
            raise
        self._adopt(target, epoch)
        return Moved(sum(part.clients for part in parts), tuple(each for part in parts for each in part.closed))

    async def _end_the_deaf(self, target: Target, epoch: int) -> None:
        """A worker that does not go along is killed: its clients wait, pinned, and the others' wait for it."""
        for worker in list(self._crew.workers):
            try:
                await worker.ask("move", target.server.address, epoch, within_s=ANSWER_S)
            except WorkerSilent as error:
                if not worker.ended.is_set():
                    _log.error("%s, while traffic goes to %s: it is killed", error, target.server.label)
                    worker.kill()
                    await worker.ended.wait()

    async def release(self) -> None:
        """Let all go on."""
        try:
            await self._all("let go")
        finally:
            self._steady.let_go(self)

    async def abandon(self) -> None:
        """Close the connections to the target."""
        await self._all("abandon")


class CrewOutage(Asking):
    """A planned outage's. A worker that dies meanwhile has no clients any more; nobody takes its place before the end.

    One that is silent is taken to stand as it did: nothing of its clients moves then.
    """

    def __init__(self, crew: Crew, steady: Steady) -> None:
        super().__init__(crew, steady)
        self._last: dict[int, Standing] = {}  # by worker

    async def standing(self) -> Standing:
        """How the clients of all workers stand; held, only if they all are."""
        workers = list(self._crew.workers)
        found = await asyncio.gather(*map(self._ask, workers))
        parts = [part for worker, part in zip(workers, found, strict=True) if not worker.ended.is_set()]
        return Standing(
            sum(part.blocked for part in parts),
            bool(parts) and all(part.held for part in parts),
            sum(part.waiting for part in parts),
        )

    async def _ask(self, worker: Worker) -> Standing:
        try:
            self._last[worker.number] = await worker.ask("standing", within_s=ANSWER_S)
        except WorkerSilent as error:
            _log.debug("a planned outage: %s", error)
        return self._last.get(worker.number, Standing(0, False, 0))

    async def stop_fetches(self) -> None:
        """Answer new ones nil, after their own timeouts. Raises MaintenanceFailed."""
        self._last.clear()
        try:
            self._stay()
        except NotAll as error:
            raise MaintenanceFailed(f"{error}; nothing was changed") from None
        await self._each("stop fetches")

    async def hold(self, quiet_s: float, limit_s: float, progress: Progress) -> int:
        """Hold the traffic of all workers. Raises MaintenanceFailed."""
        within_s = quiet_s + ANSWER_S
        return sum(await self._each("hold for an outage", quiet_s, limit_s, within_s=within_s, progress=progress))

    async def go_on(self) -> None:
        """Undo all of it. Who does not answer does it as soon as it can, or is released at its own limit."""
        try:
            await self._each("outage over")
        except MaintenanceFailed as error:
            _log.error("the end of the planned outage: %s", error)
        finally:
            self._steady.let_go(self)

    async def _each(
        self, question: str, *arguments: Any, within_s: float = ANSWER_S, progress: Progress = lambda line: None
    ) -> list[Any]:
        try:
            return await self._all(question, *arguments, within_s=within_s, progress=progress)
        except NotAll as error:
            raise MaintenanceFailed(f"{error}; traffic goes on") from None
