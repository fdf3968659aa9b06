"""What a planned outage does to the clients of one worker: ``cutover.maintenance.Hands`` over the worker's parts.

Knows: which parts hold, which carry, which answer fetches. Refuses to know: in what order, and why (``cutover``).
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.cutover.maintenance import MaintenanceFailed, Standing
from proxy.net.fetching import Fetches
from proxy.net.holding import Holding
from proxy.net.riding import Riding
from proxy.routing.gate import Budget, State

#: Of the time in which a hold must become quiet, what open transactions get to finish.
TRANSACTIONS_SHARE = 2 / 3
#: Clients that wait for a new connection at the end of the plan get so much longer for it, seconds.
GRACE_S = 10.0


class OutageHands:
    """One worker's."""

    def __init__(self, holding: Holding, riding: Riding, fetches: Fetches) -> None:
        self._holding = holding
        self._riding = riding
        self._fetches = fetches
        self._holds = False  # else whoever holds traffic lets it go on

    async def standing(self) -> Standing:
        """How its clients stand."""
        held = self._holding.gate.state in (State.HELD, State.PINNED)
        return Standing(self._fetches.blocked, held, self._riding.waiting)

    async def stop_fetches(self) -> None:
        """Answer new ones nil, after their own timeouts."""
        self._fetches.stop()

    async def hold(self, quiet_s: float, limit_s: float, progress: Callable[[str], None]) -> int:
        """Hold all traffic. Raises MaintenanceFailed."""
        if self._holding.gate.state is not State.OPEN:
            raise MaintenanceFailed("traffic is held already; release it first")
        self._holds = True
        self._riding.plan(limit_s + GRACE_S)
        budget = Budget(quiet_s, limit_s, transactions_s=quiet_s * TRANSACTIONS_SHARE)
        outcome = await self._holding.hold(budget, progress)
        if not outcome.held:
            raise MaintenanceFailed(f"not held: {outcome.why}")
        return outcome.clients

    async def go_on(self) -> None:
        """Undo all of it."""
        await self._fetches.go_on()
        if self._holds:
            self._holds = False
            self._holding.release()
        self._riding.forget_plan_when_calm()
