"""All workers as one: a ``console.metrics.Source`` and ``Workforce`` for the consoles.

Knows: who lives, what those who are gone left behind, and which are missing. Refuses to know: how workers are started
and ended (``supervise``).
"""

from __future__ import annotations

import asyncio
import os

from proxy.capture.writer import CaptureStats
from proxy.engine.stats import EngineStats
from proxy.net.pool import PoolStats
from proxy.supervisor.totals import Snapshot, left_behind, together
from proxy.supervisor.worker import Worker

#: A worker that does not answer within this time is shown as it was, seconds.
REFRESH_S = 1.0


class Crew:
    """``places``: how many workers there ought to be."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.workers: list[Worker] = []
        self.stopping = False
        self.replaced = {"died": 0, "reload": 0}
        self._past = Snapshot()
        self._hanging: set[Worker] = set()
        self._lost: dict[int, str] = {}  # by place: who died there and how, until someone serves there again

    def join(self, worker: Worker) -> None:
        self.workers.append(worker)

    def leave(self, worker: Worker) -> None:
        """The worker's process is gone; what it has counted stays."""
        self.workers.remove(worker)
        if worker.snapshot is not None:
            self._past = together([self._past, left_behind(worker.snapshot)])

    def lost(self, worker: Worker) -> None:
        """It died, and nobody serves in its place yet."""
        self._lost[worker.place] = f"worker {worker.number} is missing ({worker.how_it_ended()}) and is being replaced"
        self.replaced["died"] += 1

    def told(self, worker: Worker) -> None:
        """It has told something."""
        if self.serves(worker):
            self._lost.pop(worker.place, None)

    def look(self) -> tuple[list[Worker], list[Worker]]:
        """To be called every second. Returns who has begun to hang since, and who tells again."""
        for worker in self.workers:
            worker.looks += 1
        hang = {worker for worker in self.workers if worker.hangs}
        begun, again = hang - self._hanging, {worker for worker in self._hanging - hang if worker in self.workers}
        self._hanging = hang
        return sorted(begun, key=_number), sorted(again, key=_number)

    def _whole(self) -> Snapshot:
        return together([self._past, *(each.snapshot for each in self.workers if each.snapshot is not None)])

    def serves(self, worker: Worker) -> bool:
        """Whether it has a backend and takes clients."""
        known = worker.snapshot
        return known is not None and known.backend_up and not known.draining and not worker.hangs

    # ---- console.metrics.Workforce ----------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Asks every worker for its numbers."""
        asked = [asyncio.create_task(worker.report()) for worker in self.workers if worker.snapshot is not None]
        if asked:
            _, late = await asyncio.wait(asked, timeout=REFRESH_S)
            for task in late:
                task.cancel()

    def running(self) -> int:
        """Workers that have started and not ended."""
        return sum(worker.snapshot is not None for worker in self.workers)

    def serving(self) -> int:
        """Workers that have a backend, are not being drained and don't hang."""
        return sum(self.serves(worker) for worker in self.workers)

    def missing(self) -> list[str]:
        """One line for each place where nobody serves."""
        serving = {worker.place for worker in self.workers if self.serves(worker)}
        lines = []
        for place in sorted(set(range(self.places)) - serving):
            here = [worker for worker in self.workers if worker.place == place and not worker.retiring]
            if here and here[-1].hangs:
                lines.append(hangs(here[-1]))
            elif here and here[-1].refusing:
                lines.append(f"worker {here[-1].number} refuses clients: the backend does not answer it")
            elif place in self._lost:
                lines.append(self._lost[place])
            else:
                lines.append(f"worker {here[-1].number} is starting" if here else "a worker is being replaced")
        return lines

    def restarts(self) -> dict[str, int]:
        """Workers that were replaced, by reason."""
        return dict(self.replaced)

    def processes(self) -> dict[str, int]:
        """The id of each process, by the name that it has in metrics."""
        return {"supervisor": os.getpid()} | {str(worker.number): worker.pid for worker in self.workers}

    # ---- console.metrics.Source -------------------------------------------------------------------------------------

    def engine(self) -> EngineStats:
        """Totals per command."""
        return self._whole().engine

    def capture(self) -> CaptureStats | None:
        """The writers' totals; None: nothing is captured."""
        return self._whole().capture

    def findings(self) -> dict[str, int]:
        """Findings so far, by rule."""
        return self._whole().findings

    def clients(self) -> int:
        """Clients that are connected."""
        return self._whole().clients

    def backends(self) -> int:
        """Backend connections."""
        return self._whole().backends

    def pool(self) -> PoolStats | None:
        """Connections that clients share; None: each has its own."""
        return self._whole().pool

    def backend_up(self) -> bool:
        """Whether a worker serves: the backend answers it, and it takes clients."""
        return any(self.serves(worker) for worker in self.workers)

    def draining(self) -> bool:
        """Whether shunt is being stopped; a worker that is being replaced does not count."""
        return self.stopping

    def held_classes(self) -> dict[str, int]:
        """Of each class in how many workers it is held, or about to be."""
        return self._whole().held_classes

    def counters(self) -> dict[str, int]:
        """What happened around the data path."""
        return self._whole().counters


def hangs(worker: Worker) -> str:
    """What there is to say of a worker that hangs: one line."""
    return (
        f"worker {worker.number} (process {worker.pid}) hangs: it has told nothing for {worker.looks} s, and its "
        f"clients wait; kill -9 {worker.pid} closes their connections and has it replaced"
    )


def _number(worker: Worker) -> int:
    return worker.number
