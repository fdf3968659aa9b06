"""Samples of backend facts where there are several workers: one asks, and is told where the connections of all are.

Knows: who is asked, in what time. Refuses to know: what is asked (``net.backend_facts``).

A worker writes a sample with its next rows, so the one with the most rows asks: one that has no clients would keep it.
"""

from __future__ import annotations

import asyncio
import contextlib

from proxy.supervisor.crew import Crew
from proxy.supervisor.worker import Worker

#: A worker that does not say within this time where its connections are is left out, and the sample says so, seconds.
ADDRESSES_S = 1.0
#: What the last sample may take in all, seconds: it must not hold up the end.
LAST_S = 0.7
#: Whether there are rows is looked at so often before the first sample, seconds.
LOOK_S = 0.1


async def sample_often(crew: Crew, every_s: float) -> None:
    """A sample once a worker has rows, then one every ``every_s``."""
    moment = "start"
    while True:
        if moment == "start" and not any(_rows(worker) for worker in crew.workers):
            await asyncio.sleep(LOOK_S)
            continue
        await sample(crew, moment)
        moment = "sample"
        await asyncio.sleep(every_s)


async def sample_last(crew: Crew) -> None:
    """The last one, while clients are still connected."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_S):
            await sample(crew, "end")


async def sample(crew: Crew, moment: str) -> None:
    """Have one worker that has a backend ask."""
    asker = max((worker for worker in crew.workers if crew.serves(worker)), key=_rows, default=None)
    if asker is None:
        return
    own, silent = await _addresses([worker for worker in crew.workers if worker.snapshot is not None])
    why = f"{silent} of shunt's workers did not say in time which connections are theirs" if silent else ""
    await asker.sample(moment, own, why)


def _rows(worker: Worker) -> int:
    """How many rows it has written, as it last told."""
    capture = None if worker.snapshot is None else worker.snapshot.capture
    return 0 if capture is None else capture.rows


async def _addresses(workers: list[Worker]) -> tuple[frozenset[str], int]:
    """Where all connections of these workers are, and how many workers did not say."""
    asked = [asyncio.create_task(worker.addresses()) for worker in workers]
    done, late = await asyncio.wait(asked, timeout=ADDRESSES_S)
    for task in late:
        task.cancel()
    return frozenset(each for task in done for each in task.result()), len(late)
