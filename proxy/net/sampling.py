"""When the backend is asked for what only it knows, and by whom.

Knows: start, interval, end; that of several workers only one asks. Refuses to know: the questions (``backend_facts``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection

from proxy.capture.facts import BackendFacts
from proxy.net import backend_facts
from proxy.net.reception import Reception
from proxy.net.upstream import Upstream

#: Whether the backend is up is looked at so often before the first sample, seconds.
LOOK_S = 0.1
#: What the last sample may take, seconds: it must not hold up the end.
LAST_S = 0.5

_log = logging.getLogger(__name__)


class Sampler:
    """Samples of one worker. ``keep`` takes each one; ``every_s``: how often, for a worker that is alone."""

    def __init__(
        self, upstream: Upstream, reception: Reception, keep: Callable[[BackendFacts], None], every_s: float
    ) -> None:
        self._every_s = every_s
        self._upstream = upstream
        self._reception = reception
        self._keep = keep

    async def sample(self, moment: str, own: Collection[str], why_incomplete: str = "") -> None:
        """One sample. ``own``: where shunt's connections are, of all workers; ``why_incomplete``: why some may be
        missing. A backend that is down is not asked."""
        if self._upstream.up:
            own = frozenset(own)
            label = self._upstream.address.label
            try:
                found = await backend_facts.sample(self._upstream.control(), label, own, moment, why_incomplete)
            except Exception:  # whatever the backend answered: it must not end the worker
                _log.exception("backend %s: the sample of its facts failed; clients are not affected", label)
                return
            self._keep(found)

    async def addresses(self) -> list[str]:
        """Where this worker's backend connections are."""
        return await self._reception.addresses()

    async def often(self) -> None:
        """For a worker that is alone: a sample once the backend is up, then one after another."""
        moment = "start"
        while True:
            if not self._upstream.up and moment == "start":
                await asyncio.sleep(LOOK_S)
                continue
            await self.sample(moment, await self.addresses())
            moment = "sample"
            await asyncio.sleep(self._every_s)

    async def last(self) -> None:
        """The same at the end, while clients are still connected."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self.sample("end", await self.addresses())
