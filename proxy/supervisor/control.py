"""What the console can learn of all workers and do with them: a ``console.world.World`` over the crew.

Knows: how the workers' answers become one, and that one who does not answer is named and not waited for. Refuses to
know: verbs and consoles, and how a worker does what it is asked (``control.QUESTIONS``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from proxy import config_in_use
from proxy.config import ConfigError, RunConfig
from proxy.console.consoles import Consoles
from proxy.console.verb import Value, VerbError
from proxy.console.world import (
    Aim,
    ClientRow,
    Held,
    Killed,
    MirrorAsk,
    MirrorShown,
    Progress,
    Released,
    Reread,
    SplitAsk,
)
from proxy.cutover.maintenance import Maintenance, MaintenanceFailed
from proxy.mirror_shown import mirror_shown
from proxy.routing.table import chosen
from proxy.supervisor.crew import Crew
from proxy.supervisor.hands import CrewOutage
from proxy.supervisor.splits import CrewSplit
from proxy.supervisor.worker import Worker, WorkerSilent
from proxy.switchboard import Switchboard, unmaintainable

#: A worker that does not answer a question within this time is left out, seconds.
ANSWER_S = 2.0
#: The same for what asks the mirror's server something, or waits for what was copied to arrive.
MIRROR_S = 15.0
PROGRESS_S = 0.2


class CrewControl:
    """``stop(at_once)`` ends all; ``stopped`` is set when all is closed but the consoles. ``adopt`` gets the
    configuration that workers which start later are to have."""

    def __init__(
        self,
        crew: Crew,
        config: RunConfig,
        stop: Callable[[bool], None],
        stopped: asyncio.Event,
        adopt: Callable[[RunConfig], None],
        board: Switchboard,
        hands: CrewOutage,
    ) -> None:
        self.source = crew
        self.workforce = crew
        self._crew = crew
        self._config = config
        self._stop = stop
        self._stopped = stopped
        self._adopt = adopt
        self.board: Switchboard | None = board
        self._maintenance = Maintenance(hands, board.here, board.server, board.move)
        self._started = datetime.now(UTC)
        self.consoles = Consoles(config_in_use.places(config), self)
        self._split = CrewSplit(self._ask_all)

    def state(self) -> dict[str, Value]:
        """What SHOW STATE shows beside what ``source`` tells."""
        resp = self.consoles.resp
        state = config_in_use.state(self._config, self._started, None if resp is None else resp.address)
        return state | {"epoch": 0 if self.board is None else self.board.route.epoch}

    def moved(self, config: RunConfig) -> None:
        """Traffic goes to another backend."""
        self._config = self._config.model_copy(update={"backend": config.backend})

    def options(self) -> list[dict[str, Value]]:
        """Every option; limits are those of all workers together."""
        return config_in_use.listing(self._config)

    async def refresh(self) -> None:
        """Ask every worker for its numbers."""
        await self._crew.refresh()

    async def clients(self) -> tuple[list[ClientRow], list[str]]:
        """The clients of all workers that answer."""
        answers, notes = await self._ask_all("clients", within_s=ANSWER_S)
        return [row for rows, _ in answers for row in rows], [f"{note}: its clients are missing" for note in notes]

    async def sockets(self) -> tuple[list[str], list[str]]:
        """Where the connections of all workers that answer are."""
        answers, notes = await self._ask_all("sockets", within_s=ANSWER_S)
        return [each for found, _ in answers for each in found], [f"{note}: its sockets are missing" for note in notes]

    async def kill(self, aim: Aim, at_once: bool, progress: Progress) -> tuple[Killed, list[str]]:
        """End clients, in whichever worker they are."""
        within_s = self._config.drain_timeout + ANSWER_S
        answers, notes = await self._ask_all("kill", aim, at_once, within_s=within_s, progress=progress)
        parts = [killed for killed, _ in answers]
        whole = Killed(
            sum(part.ended for part in parts), tuple(each for part in parts for each in part.left),
            sum(part.pops for part in parts),
        )  # fmt: skip
        return whole, notes

    async def hold(self, quiet_s: float, limit_s: float, classes: tuple[str, ...], progress: Progress) -> Held:
        """Hold the traffic of every worker, or of none; all of it or these classes. Raises VerbError: it goes on as
        before."""
        names, within_s = self._names(classes), quiet_s + ANSWER_S
        answers, notes = await self._ask_all("hold", quiet_s, limit_s, names, within_s=within_s, progress=progress)
        if notes:
            question = ("release", names) if names else ("let go",)  # a class that somebody holds stays held
            await self._ask_all(*question, within_s=ANSWER_S)
            raise VerbError(f"not held: {'; '.join(notes)}; all workers were released, try again")
        return Held(sum(each.clients for each in answers), max((each.seconds for each in answers), default=0.0))

    def _names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Raises VerbError."""
        try:
            return chosen(self._config.classes, classes)
        except ValueError as error:
            raise VerbError(str(error)) from None

    async def release(self, classes: tuple[str, ...] = ()) -> Released:
        """Let all workers go on, with these classes or with whatever is held. Who does not answer releases itself at
        the hold's limit. Raises VerbError: a switch holds them, or there is no such class."""
        names = self._names(classes)
        if self.board is not None and self.board.switching:
            raise VerbError("a switch holds traffic, and lets it go on at its end, or when its time is over")
        answers, _ = await self._ask_all("release", names, within_s=ANSWER_S)
        held = any(each.held for each in answers)
        return Released(sum(each.clients for each in answers), sum(each.gone for each in answers), held)

    async def mirror_start(self, ask: MirrorAsk, progress: Progress) -> str:
        """Mirror the traffic of every worker, or of none. Raises VerbError."""
        answers, notes = await self._ask_all("mirror_start", ask, within_s=MIRROR_S, progress=progress)
        if notes or not answers:
            await self.mirror_stop(progress)
            raise VerbError(f"not mirrored: {'; '.join(notes) or 'no worker answers'}; all workers were stopped")
        return f"{answers[0]}; {len(answers)} workers"

    async def mirror_stop(self, progress: Progress) -> str:
        """No longer. Who does not answer is named."""
        answers, notes = await self._ask_all("mirror_stop", within_s=MIRROR_S, progress=progress)
        return "; ".join([f"worker by worker: {', '.join(answers)}" if answers else "no worker answers", *notes])

    async def mirror_shown(self) -> MirrorShown:
        """Of all workers that answer. One that started later does not mirror: it is named."""
        answers, notes = await self._ask_all("mirror_part", within_s=ANSWER_S)
        return mirror_shown(answers, notes)

    async def split_start(self, ask: SplitAsk, progress: Progress) -> tuple[str, list[str]]:
        """Split the new connections of every worker, or of none. Raises VerbError."""
        return await self._split.start(ask, progress)

    async def split_end(self, progress: Progress) -> str:
        """No longer. Who does not answer is named."""
        return await self._split.end(progress)

    async def split_shown(self) -> tuple[dict[str, Value], list[str]]:
        """Of all workers that answer."""
        return await self._split.shown()

    async def reload(self, progress: Progress) -> list[Reread]:
        """Read again what can be, in the supervisor and in every worker. Raises VerbError: nothing was changed here."""
        try:
            new = config_in_use.again(self._config)
        except ConfigError as error:
            raise VerbError(str(error)) from None
        if self.board is not None and self.board.route.epoch:
            new = new.model_copy(update={"backend": self._config.backend})  # the route record's word
        done = config_in_use.differences(self._config, new)
        answers, notes = await self._ask_all("reread", new.log_level, within_s=ANSWER_S, progress=progress)
        if notes and not answers:
            raise VerbError("; ".join(notes))
        logging.getLogger().setLevel(new.log_level.upper())
        self._config = config_in_use.taking_up(self._config, new)
        self._adopt(self._config)
        if self.board is not None:
            self.board.adopt(self._config)
        done += answers[0] if answers else []
        done += [Reread("worker", note) for note in notes]
        done += await self.consoles.reload()
        return [*done, Reread("workers", f"{len(answers)} have read it; SIGHUP to process {self._pid()} renews them")]

    async def maintain(self, limit_s: float, to: str | None, by: str, progress: Progress) -> list[dict[str, Value]]:
        """Walk through a planned outage, all workers together. Raises VerbError: traffic goes on."""
        why = unmaintainable(self._config)
        if why is not None:
            raise VerbError(why)
        try:
            return await self._maintenance.run(limit_s, to, by, progress)
        except MaintenanceFailed as error:
            raise VerbError(str(error)) from None

    def end_maintenance(self, is_done: bool) -> None:
        """The work is done, or is to be aborted. Raises VerbError: none is under way."""
        if not (self._maintenance.done() if is_done else self._maintenance.abort()):
            raise VerbError("no maintenance is under way")

    async def shutdown(self, at_once: bool, progress: Progress) -> str:
        """End all workers."""
        self._stop(at_once)
        while not self._stopped.is_set():
            progress(f"clients left: {self._crew.clients()}, workers: {self._crew.running()}")
            try:
                await asyncio.wait_for(self._stopped.wait(), PROGRESS_S)
            except TimeoutError:
                continue
        cut_off = self._crew.counters().get("drained_cut_off", 0)
        return f"shunt has ended; {cut_off} clients were cut off with commands under way"

    def _pid(self) -> int:
        return self._crew.processes()["supervisor"]

    async def _ask_all(
        self, question: str, *arguments: Any, within_s: float, progress: Progress = lambda line: None
    ) -> tuple[list[Any], list[str]]:
        """The answers of those workers that give one, and a line for each that does not."""

        async def ask(worker: Worker) -> Any:
            def tell(line: str) -> None:
                progress(f"worker {worker.number}: {line}")

            return await worker.ask(question, *arguments, within_s=within_s, progress=tell)

        workers = [worker for worker in self._crew.workers if worker.snapshot is not None]
        answers, notes = [], []
        for each in await asyncio.gather(*map(ask, workers), return_exceptions=True):
            if isinstance(each, WorkerSilent):
                notes.append(str(each))
            elif isinstance(each, BaseException):
                raise each
            else:
                answers.append(each)
        return answers, notes
