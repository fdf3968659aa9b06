"""Holding one worker's traffic: what the gate orders, done to clients.

Knows: how a client is kept from being read, what stands in the way of quiet, and who has gone meanwhile. Refuses to
know: when what must happen (``routing.gate``), why it is held, and how one class alone is (``class_holding``).

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
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from proxy.net.client import Client
from proxy.net.endpoint import HOLD_GATE
from proxy.net.reception import Reception
from proxy.net.unblock import Blocked, unblock
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


class Scope(Protocol):
    """What a gate holds: all traffic, or a class. ``what``: in words; ``units``: what its census counts in flight."""

    what: str
    units: str

    @property
    def clients(self) -> int:
        """Clients that are held while it is."""

    @property
    def in_the_way(self) -> Collection[Blocked]:
        """Whose fetches are to be ended, if they wait in Redis; it changes meanwhile."""

    def stop(self) -> None:
        """Dispatch nothing new."""

    def stop_more(self) -> None:
        """The same for who could not be stopped before."""

    def census(self) -> Census:
        """What is still under way."""

    def in_transaction(self) -> list[Client]:
        """Whose transaction stands open."""

    def go_on(self) -> int:
        """Dispatch again. Returns how many clients had left, and were closed."""


class Everything:
    """All traffic of a worker."""

    what = "traffic"
    units = "commands"

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    @property
    def clients(self) -> int:
        """All."""
        return len(self._reception.clients)

    @property
    def in_the_way(self) -> Collection[Blocked]:
        """All, likewise."""
        return self._reception.clients

    def stop(self) -> None:
        """Read nobody, and take nobody in."""
        self._reception.hold()
        self.stop_more()

    def stop_more(self) -> None:
        """Stop who has come between two commands and out of a transaction."""
        for client in list(self._reception.clients):
            _hold(client)

    def census(self) -> Census:
        """Over all clients, and those that have gone."""
        in_flight = self._reception.orphans.in_flight
        half_sent = transactions = blocked = 0
        for client in self._reception.clients:
            session = client.session
            in_flight += session.in_flight
            half_sent += session.half_forwarded
            transactions += session.in_transaction
            blocked += session.blocked
        return Census(in_flight, half_sent, transactions, blocked)

    def in_transaction(self) -> list[Client]:
        """Any."""
        return [client for client in self._reception.clients if client.session.in_transaction]

    def go_on(self) -> int:
        """Read them again."""
        gone = 0
        for client in list(self._reception.clients):
            if client.reading_held and has_left(client):
                gone += 1
                client.abort()
            else:
                client.release_reading(HOLD_GATE)
        self._reception.go_on()
        return gone


class Holding:
    """The gate of one worker, or of a class in it, and its hand on the clients."""

    def __init__(self, scope: Scope, upstream: Upstream) -> None:
        self.gate = Gate()
        self.counts = HoldCounts()
        self._scope = scope
        self._upstream = upstream
        self._looking: asyncio.Task[None] | None = None
        self._unblocking: asyncio.Task[None] | None = None
        self._answers: list[asyncio.Future[Order]] = []

    @property
    def clients(self) -> int:
        """Clients that are held now."""
        return 0 if self.gate.state is State.OPEN else self._scope.clients

    async def hold(self, budget: Budget, progress: Progress = lambda text: None) -> Outcome:
        """Hold everything. Returns when nothing is in flight any more, or when the budget is over and all is released.

        Asked twice, both get the one answer. ``progress`` is told what it still waits for.
        """
        began = time.monotonic()
        answer: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._obey(self.gate.hold(budget, began))
        while not answer.done():
            progress(self._scope.census().words(self._scope.units))
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
        self._scope.stop()
        self._looking = asyncio.create_task(self._look_often())

    def _end_blocked(self, order: Order) -> None:
        self.counts.unblocked += 1
        otherwise = "they are waited for until the hold's budget is over"
        self._unblocking = asyncio.create_task(unblock(self._scope.in_the_way, self._upstream, otherwise))

    def _end_transactions(self, order: Order) -> None:
        for client in self._scope.in_transaction():
            self.counts.transactions_closed += 1
            client.abort()

    def _resume(self, order: Order) -> None:
        self.counts.held_s += time.monotonic() - self.gate.since_s
        self._stop_unblocking()
        self.counts.gone += self._scope.go_on()

    def _say(self, order: Order) -> None:
        if order is Order.SAY_TOO_SLOW:
            self.counts.aborted += 1
        elif order is Order.SAY_TOO_LONG:
            self.counts.expired += 1
            longest_s = self.gate.budget.hold_s
            _log.warning("%s was held for %.3g s, the longest it may be: released", self._scope.what, longest_s)
        answers, self._answers = self._answers, []
        for answer in answers:
            if not answer.done():
                answer.set_result(order)

    # ---- looking ----------------------------------------------------------------------------------------------------

    async def _look_often(self) -> None:
        while self.gate.state is not State.OPEN:
            began = time.monotonic()
            closing = self.gate.state is State.CLOSING
            if closing:
                self._scope.stop_more()
            self._obey(self.gate.look(self._scope.census() if closing else Census(), time.monotonic()))
            if self.gate.state in (State.HELD, State.PINNED):
                self._stop_unblocking()
                await asyncio.sleep(HELD_LOOK_S)
            else:
                await asyncio.sleep(max(LOOK_S, (time.monotonic() - began) / LOOK_SHARE))

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
