"""Keeping N workers: starting them, replacing those that die, renewing them one by one, ending them all.

Knows: which worker has which place, who owns a place's sockets, and in what order things happen. Refuses to know: what
a worker does (``cli.worker``, ``app``) and how its numbers are added up (``crew``).

A place has one worker that accepts. On SIGHUP a successor starts beside it and finds its backend; then the old one lets
go of the sockets, and only then the successor takes them: clients that come in between wait in the kernel's queue.
"""

# Over 300 lines: the places of all workers, and every event that changes one.
from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from proxy.capture.segments import run_name
from proxy.config import ConfigError, RunConfig
from proxy.console.metrics import Source
from proxy.cutover.switching import Target
from proxy.net.listener import ListenError
from proxy.supervisor.control import CrewControl
from proxy.supervisor.crew import Crew, hangs
from proxy.supervisor.doors import Doors
from proxy.supervisor.hands import CrewHands, CrewOutage, Steady
from proxy.supervisor.messages import Begin, Order
from proxy.supervisor.sampling import sample_last, sample_often
from proxy.supervisor.totals import share
from proxy.supervisor.worker import GRACE_S, Worker, first_of
from proxy.switchboard import Switchboard

_log = logging.getLogger(__name__)

#: A worker that has lived this long did not die of its start, seconds.
STEADY_S = 10.0
#: Between the deaths of a place's workers and the next start, seconds: the second time in a row, and the longest.
AGAIN_FIRST_S = 0.1
AGAIN_LONGEST_S = 5.0
#: From this delay on a place's clients are not left waiting for its next worker, seconds.
CLOSE_DOOR_S = 1.0
#: A worker that is to let go of its sockets, and does not say so, is not waited for any longer, seconds.
LET_GO_S = 2.0
#: Between two looks for workers that hang, seconds; they report as often.
LOOK_S = 1.0


async def serve(config: RunConfig, *, on_ready: Callable[[Source], None] | None = None) -> int:
    """Run all workers until SIGTERM or SIGINT. Returns the exit code. Raises ConfigError, ConsoleError."""
    supervisor = Supervisor(config)
    try:
        await supervisor.start()
        if on_ready is not None:
            on_ready(supervisor.crew)
        await supervisor.run()
    finally:
        await supervisor.stop()
    return 0


@dataclass(slots=True)
class Place:
    """``worker``: who accepts here. ``successor``: who is about to. ``deaths``: how many in a row died at once.
    ``filling``: held while someone starts a process for this place, so that it does not get two."""

    index: int
    worker: Worker | None = None
    successor: Worker | None = None
    deaths: int = 0
    filling: asyncio.Lock = field(default_factory=asyncio.Lock)


class Supervisor:
    """The workers of one ``shunt run``."""

    def __init__(self, config: RunConfig) -> None:
        self.crew = Crew(config.workers)
        self._board = Switchboard(config)
        self._config = config = self._board.routed
        self._epoch = self._board.route.epoch
        self._steady = Steady()
        self._started_ns = time.time_ns()
        self._run = run_name(self._started_ns)
        self._on_terminal = os.isatty(2)
        self._doors = Doors()
        self._places = [Place(index) for index in range(config.workers)]
        self._next_number = 0
        self._stop = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._renew = asyncio.Event()
        self._chores: set[asyncio.Task[None]] = set()
        self._control = CrewControl(self.crew, config, self._end, self._stopped, self._adopt, self._board,
                                    CrewOutage(self.crew, self._steady))  # fmt: skip

    # ---- start, run, stop -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the addresses, start every worker, wait for what each says of its start. Raises ConfigError,
        ConsoleError."""
        try:
            await self._doors.bind(self._config.listen, len(self._places))
        except ListenError as error:
            raise ConfigError(str(error)) from None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        await self._control.consoles.open()
        for place in self._places:
            place.worker = await self._spawn(place, owns=True)
        for worker in list(self.crew.workers):
            await first_of(worker.started, worker.ended, self._stop)
            if worker.failure is not None:
                raise ConfigError(worker.failure)
        self._board.begin(CrewHands(self.crew, self._steady, self._goes_elsewhere))

    async def run(self) -> None:
        """Keep the workers until asked to stop, then have them drain."""
        self._chore(self._renew_when_asked())
        self._chore(self._look_often())
        asks = self._config.capture is not None and self._config.backend_facts
        if asks:
            self._chore(sample_often(self.crew, asks))
        await self._stop.wait()
        if asks:
            await sample_last(self.crew)
        _log.info("stopping: %d workers end their clients' connections", len(self.crew.workers))
        await self._end_all()

    async def stop(self) -> None:
        """End whatever still runs, and close everything."""
        self._stop.set()
        await self._board.close()
        await self._end_all()
        self._stopped.set()
        await self._control.consoles.close()

    def _asked_to_stop(self) -> None:
        self._end(at_once=self._stop.is_set())

    def _end(self, at_once: bool) -> None:
        if at_once:
            self._stop_now.set()
        self._stop.set()

    def _adopt(self, config: RunConfig) -> None:
        """What workers that start from now on are to have."""
        self._config = config

    def _goes_elsewhere(self, target: Target, epoch: int) -> None:
        """Traffic goes to another backend: for workers that start from now on."""
        self._epoch = epoch
        self._config = self._config.model_copy(update={"backend": target.server.address})
        self._control.moved(self._config)

    def _hung_up(self) -> None:
        """SIGHUP: someone asks for new workers; or the terminal is gone, and shunt with it."""
        if self._on_terminal and not os.isatty(2):
            self._asked_to_stop()
        elif not self._stop.is_set():
            _log.info("SIGHUP: workers are renewed one by one")
            self._renew.set()

    async def _end_all(self) -> None:
        self.crew.stopping = True
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self._doors.close()
        workers = list(self.crew.workers)
        for worker in workers:
            worker.order(Order.DRAIN)
        await asyncio.gather(*(self._ending(worker) for worker in workers))

    async def _ending(self, worker: Worker) -> None:
        """Wait for the end of a worker that was told to drain."""
        limit_s = self._config.drain_timeout + GRACE_S
        if not await first_of(worker.ended, self._stop_now, within_s=limit_s):
            _log.error("worker %d did not end within %g s and is killed", worker.number, limit_s)
            worker.kill()
        elif not worker.ended.is_set():
            worker.order(Order.STOP_NOW)
            if not await first_of(worker.ended, within_s=GRACE_S):
                worker.kill()
        await worker.ended.wait()

    # ---- workers ----------------------------------------------------------------------------------------------------

    async def _spawn(self, place: Place, *, owns: bool) -> Worker:
        """A new worker; its number is never used again in this run. Raises OSError."""
        await self._steady.wait()
        worker = Worker(place.index, self._next_number, self._changed)
        self._next_number += 1
        begin = Begin(
            self._share(place.index),
            worker.number,
            self._run,
            self._started_ns,
            owns,
            self._on_terminal,
            self._epoch,
            sockets=[],
        )
        await worker.start(begin, self._doors.sockets[place.index])
        self.crew.join(worker)
        return worker

    def _share(self, index: int) -> RunConfig:
        """The configuration with one worker's part of what is limited for all together."""
        limits = ("max_clients", "max_backend_connections")
        return self._config.model_copy(
            update={name: share(getattr(self._config, name), index, self._config.workers) for name in limits}
        )

    def _changed(self, worker: Worker) -> None:
        """A worker has told something, or is gone."""
        if worker.ended.is_set():
            self.crew.leave(worker)
            if not self._stop.is_set():
                self._gone(worker)
        else:
            self.crew.told(worker)
        if not self._stop.is_set():
            refused = any(each.refusing for each in self.crew.workers)
            self._doors.set_aside(refused and not self.crew.backend_up())

    def _gone(self, worker: Worker) -> None:
        place = self._places[worker.place]
        if worker is place.successor:
            place.successor = None  # whoever started it says what that means
            return
        if worker is not place.worker:
            _log.info("worker %d (process %d) has ended: %s", worker.number, worker.pid, worker.how_it_ended())
            return
        place.worker = None
        self.crew.lost(worker)
        why = f"could not start: {worker.failure}" if worker.failure else f"died: {worker.how_it_ended()}"
        _log.error("worker %d (process %d) %s; its clients are disconnected, and another worker takes its place",
                   worker.number, worker.pid, why)  # fmt: skip
        place.deaths = 0 if worker.age_s >= STEADY_S else place.deaths + 1
        self._chore(self._replace(place))

    async def _look_often(self) -> None:
        """Say who hangs. Nobody is killed for it: whoever looks at why may want the process as it is."""
        while True:
            await asyncio.sleep(LOOK_S)
            begun, again = self.crew.look()
            for worker in begun:
                _log.error("%s", hangs(worker))
            for worker in again:
                _log.warning("worker %d (process %d) does not hang any more", worker.number, worker.pid)

    async def _replace(self, place: Place) -> None:
        """Have another worker where one died: its successor, or a new one; later each time, where they die at once."""
        async with place.filling:
            if place.successor is not None:
                self._promote(place)
            else:
                await self._refill(place)

    async def _refill(self, place: Place) -> None:
        while place.worker is None:
            delay_s = 0.0 if place.deaths <= 1 else min(AGAIN_FIRST_S * 2.0 ** (place.deaths - 2), AGAIN_LONGEST_S)
            if delay_s >= CLOSE_DOOR_S:
                self._doors.shut(place.index)
            await asyncio.sleep(delay_s)
            try:
                place.worker = await self._spawn(place, owns=True)
            except OSError as error:
                place.deaths += 1
                _log.error("can't start a worker: %s; trying again", error.strerror or error)

    # ---- SIGHUP -----------------------------------------------------------------------------------------------------

    async def _renew_when_asked(self) -> None:
        while True:
            await self._renew.wait()
            self._renew.clear()
            for place in self._places:
                if not await self._renew_one(place):
                    break
            else:
                _log.info("all %d workers are renewed", len(self._places))

    async def _renew_one(self, place: Place) -> bool:
        """Put a new worker in the place of an old one. Returns whether that went well."""
        async with place.filling:
            if place.worker is None or place.worker.ended.is_set():
                return True  # it has just died, and gets a new one anyway
            try:
                successor = place.successor = await self._spawn(place, owns=False)
            except OSError as error:
                _log.error("can't start a worker: %s; the old ones stay", error.strerror or error)
                return False
        await first_of(successor.ready, successor.ended)
        if successor.ended.is_set():
            why = successor.failure or successor.how_it_ended()
            _log.error("worker %d did not start: %s; the old ones stay", successor.number, why)
            return False
        old = place.worker
        if old is successor or old is None:
            return True  # the old one has died meanwhile
        self.crew.replaced["reload"] += 1
        _log.info("worker %d takes the place of worker %d", successor.number, old.number)
        self._promote(place)
        await self._ending(old)
        return True

    def _promote(self, place: Place) -> None:
        """The successor owns the place's sockets from now on; an old worker that lives must let go of them first."""
        old, place.worker, place.successor = place.worker, place.successor, None
        self._chore(self._hand_over(old, place.worker))

    async def _hand_over(self, old: Worker | None, new: Worker | None) -> None:
        if old is not None:
            old.order(Order.RETIRE)
            if not await first_of(old.closed, within_s=LET_GO_S):
                _log.warning("worker %d does not say that it has stopped accepting", old.number)
        if new is not None:
            new.order(Order.TAKE_OVER)

    def _chore(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
