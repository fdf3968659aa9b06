"""The split of all workers: in all of them, or in none.

Knows: that each worker has a mirror of its own, and the target is whole only while all of them are: where one ends its
split, or is missing, it ends in the others. Refuses to know: how a worker does it (``splitting``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.console.verb import Value, VerbError
from proxy.console.world import Progress, SplitAsk
from proxy.split_shown import facts

_log = logging.getLogger(__name__)

#: Workers are asked how their split is so often, seconds.
LOOK_S = 0.2
#: A worker that does not answer within this time is taken to be missing, seconds; starting asks two servers something.
ANSWER_S = 2.0
START_S = 15.0

AskAll = Callable[..., Awaitable[tuple[list[Any], list[str]]]]


class CrewSplit:
    """``ask_all`` asks every worker: answers, and a line for each that gives none."""

    def __init__(self, ask_all: AskAll) -> None:
        self._ask_all = ask_all
        self._watching: asyncio.Task[None] | None = None

    async def start(self, ask: SplitAsk, progress: Progress) -> tuple[str, list[str]]:
        """Raises VerbError: no worker splits."""
        answers, notes = await self._ask_all("split_start", ask, within_s=START_S, progress=progress)
        if notes or not answers:
            if answers or self._watching is None or self._watching.done():  # else all refuse, and it goes on as it was
                await self._stop("; ".join(notes) or "no worker answers")
            raise VerbError(f"nothing is split by this: {'; '.join(notes) or 'no worker answers'}")
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(len(answers)))
        return f"{answers[0][0]}; {len(answers)} workers", list(
            dict.fromkeys(note for _, more in answers for note in more)
        )

    async def end(self, progress: Progress) -> str:
        """Who does not answer is named."""
        self._unwatch()
        answers, notes = await self._ask_all("split_end", within_s=ANSWER_S, progress=progress)
        return "; ".join([f"worker by worker: {', '.join(answers)}" if answers else "no worker answers", *notes])

    async def shown(self) -> tuple[dict[str, Value], list[str]]:
        """What they do together."""
        parts, notes = await self._ask_all("split_part", within_s=ANSWER_S)
        return facts(parts, time.time()), notes

    def _unwatch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _stop(self, why: str) -> None:
        await self._ask_all("split_stop", why, within_s=ANSWER_S)

    async def _watch(self, workers: int) -> None:
        why: str | None = None
        try:
            while why is None:
                await asyncio.sleep(LOOK_S)
                why = await self._wrong(workers)
        except Exception:
            _log.exception("split: the workers can't be asked")
            why = "the workers could not be asked; the log says why"
        _log.warning("the split ends in all workers: %s", why)
        await self._stop(why)

    async def _wrong(self, workers: int) -> str | None:
        """Why it must end in all of them; None: it goes on in all."""
        parts, notes = await self._ask_all("split_part", within_s=ANSWER_S)
        found = [part.why or "a worker began after it" for part in parts if not part.on] + notes
        if len(parts) != workers:
            found.append("a worker has ended")
        return found[0] if found else None
