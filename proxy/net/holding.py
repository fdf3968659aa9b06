"""Holding one worker's traffic: what the gate orders, done to clients.

Knows: how a client is kept from being read, what stands in the way of quiet, and who has gone meanwhile. Refuses to
know: when what must happen (``routing.gate``), and why it is held.

A held client is not read: what it sends waits in the kernel, and TCP pushes back. A client that has gone while it was
held is closed at the release before anything of it is read: it has given up, will try again elsewhere, and what it
sent before must not run too. ``pause_reading`` hides its FIN and its RST, so the socket itself is asked. It narrows the
window in which a command runs twice; the budget of the hold does the rest.
"""

from __future__ import annotations

import asyncio
import logging
import select
import time
from collections.abc import Callable
from dataclasses import dataclass

from proxy.net.client import Client
from proxy.net.endpoint import HOLD_GATE
from proxy.net.reception import Reception
from proxy.net.unblock import unblock
from proxy.net.upstream import Upstream
from proxy.routing.gate import Budget, Census, Gate, Order, State

_log = logging.getLogger(__name__)

#: How often clients are looked at while it is not yet quiet, seconds; at most this share of the time is spent on it.
LOOK_S = 0.002
LOOK_SHARE = 0.2
#: How often a held gate is looked at, seconds.
HELD_LOOK_S = 0.02

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a hold, or of waiting for its end. ``held``: traffic stands still now; else ``why`` it does not.

    ``seconds``: from asking to the answer. ``clients``: held ones.
    """

    held: bool
    why: str
    seconds: float
    clients: int


@dataclass(slots=True)
class HoldCounts:
    """Totals since start. ``unblocked``: holds for which waiting fetches were ended; ``transactions_closed``: clients
    closed in an open transaction; ``gone``: clients that had left when they were released."""

    holds: int = 0
    aborted: int = 0
    expired: int = 0
    held_s: float = 0.0
    unblocked: int = 0
    transactions_closed: int = 0
    gone: int = 0


class Holding:
    """The gate of one worker, and its hand on the clients."""

    def __init__(self, reception: Reception, upstream: Upstream) -> None:
        self.gate = Gate()
        self.counts = HoldCounts()
        self._reception = reception
        self._upstream = upstream
        self._looking: asyncio.Task[None] | None = None
        self._unblocking: asyncio.Task[None] | None = None
        self._answers: list[asyncio.Future[Order]] = []

    @property
    def clients(self) -> int:
        """Clients that are held now."""
        return 0 if self.gate.state is State.OPEN else len(self._reception.clients)

    async def hold(self, budget: Budget, progress: Progress = lambda text: None) -> Outcome:
        """Hold everything. Returns when nothing is in flight any more, or when the budget is over and all is released.

        Asked twice, both get the one answer. ``progress`` is told what it still waits for.
        """
        began = time.monotonic()
        answer: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._obey(self.gate.hold(budget, began))
        while not answer.done():
            progress(describe(self._census()))
            await asyncio.wait([answer], timeout=HELD_LOOK_S)
        order = answer.result()
        return Outcome(order is Order.SAY_HELD, _WHY[order], time.monotonic() - began, self.clients)

    def pin(self) -> bool:
        """Keep it held until the release, whatever that takes. False: it is not held (any more)."""
        return self.gate.pin()

    def release(self) -> None:
        """Let everything go on."""
        self._obey(self.gate.release())

    async def close(self) -> None:
        """End what is going on; the worker stops."""
        for task in (self._looking, self._unblocking):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in (self._looking, self._unblocking) if task), return_exceptions=True)

    # ---- orders -----------------------------------------------------------------------------------------------------

    def _obey(self, orders: tuple[Order, ...]) -> None:
        for order in orders:
            _ORDERS[order](self, order)

    def _stop(self, order: Order) -> None:
        self.counts.holds += 1
        self._reception.hold()
        for client in list(self._reception.clients):
            _hold(client)
        self._looking = asyncio.create_task(self._look_often())

    def _end_blocked(self, order: Order) -> None:
        self.counts.unblocked += 1
        self._unblocking = asyncio.create_task(
            unblock(self._reception.clients, self._upstream, "they are waited for until the hold's budget is over")
        )

    def _end_transactions(self, order: Order) -> None:
        for client in list(self._reception.clients):
            if client.session.in_transaction:
                self.counts.transactions_closed += 1
                client.abort()

    def _resume(self, order: Order) -> None:
        self.counts.held_s += time.monotonic() - self.gate.since_s
        self._stop_unblocking()
        for client in list(self._reception.clients):
            if client.reading_held and has_left(client):
                self.counts.gone += 1
                client.abort()
            else:
                client.release_reading(HOLD_GATE)
        self._reception.go_on()

    def _say(self, order: Order) -> None:
        if order is Order.SAY_TOO_SLOW:
            self.counts.aborted += 1
        elif order is Order.SAY_TOO_LONG:
            self.counts.expired += 1
            _log.warning("traffic was held for %.3g s, the longest it may be: released", self.gate.budget.hold_s)
        answers, self._answers = self._answers, []
        for answer in answers:
            if not answer.done():
                answer.set_result(order)

    # ---- looking ----------------------------------------------------------------------------------------------------

    async def _look_often(self) -> None:
        while self.gate.state is not State.OPEN:
            began = time.monotonic()
            if self.gate.state is State.CLOSING:
                for client in list(self._reception.clients):
                    _hold(client)
            self._obey(self.gate.look(self._census(), time.monotonic()))
            if self.gate.state in (State.HELD, State.PINNED):
                self._stop_unblocking()
                await asyncio.sleep(HELD_LOOK_S)
            else:
                await asyncio.sleep(max(LOOK_S, (time.monotonic() - began) / LOOK_SHARE))

    def _census(self) -> Census:
        in_flight = self._reception.orphans.in_flight
        half_sent = transactions = blocked = 0
        for client in self._reception.clients:
            session = client.session
            in_flight += session.in_flight
            half_sent += session.half_forwarded
            transactions += session.in_transaction
            blocked += session.blocked
        return Census(in_flight, half_sent, transactions, blocked)

    def _stop_unblocking(self) -> None:
        if self._unblocking is not None:
            self._unblocking.cancel()
            self._unblocking = None


_ORDERS: dict[Order, Callable[[Holding, Order], None]] = {
    Order.STOP: Holding._stop,
    Order.END_BLOCKED: Holding._end_blocked,
    Order.END_TRANSACTIONS: Holding._end_transactions,
    Order.RESUME: Holding._resume,
    Order.SAY_HELD: Holding._say,
    Order.SAY_RELEASED: Holding._say,
    Order.SAY_TOO_SLOW: Holding._say,
    Order.SAY_TOO_LONG: Holding._say,
}
_WHY = {
    Order.SAY_HELD: "nothing is in flight",
    Order.SAY_RELEASED: "it was released",
    Order.SAY_TOO_SLOW: "it did not become quiet within the budget; everything goes on as before",
    Order.SAY_TOO_LONG: "it was held for as long as it may be",
}


def _hold(client: Client) -> None:
    """Stop reading a client that stands between two commands and outside of a transaction."""
    session = client.session
    if not (session.half_forwarded or session.in_transaction):
        client.hold_reading(HOLD_GATE)


def has_left(client: Client) -> bool:
    """Whether the client has closed its side, or broken off, while it was not being read."""
    poll = select.poll()
    try:
        poll.register(client.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return True


def describe(census: Census) -> str:
    """What a hold still waits for, in words."""
    if census.quiet:
        return "quiet"
    parts = []
    if census.in_flight:
        waiting = f", {census.blocked} connections wait in Redis" if census.blocked else ""
        parts.append(f"{census.in_flight} commands in flight{waiting}")
    if census.half_sent:
        parts.append(f"{census.half_sent} commands half sent")
    if census.transactions:
        parts.append(f"{census.transactions} transactions open")
    return "; ".join(parts)
