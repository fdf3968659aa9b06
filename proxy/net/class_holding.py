"""Holding the commands of one class of keys, while those of all others go on.

Knows: which clients have something of the class under way, who of them must not be read meanwhile, and that a client
whose next command is held waits with all that comes behind it. Refuses to know: which key is of which class
(``routing.table``), how a session stops before a command (``engine.routed``), and when what must happen
(``routing.gate``: there is a gate for each class, and one for all traffic).

Nobody need be told of a hold: ``Gates``, which all sessions share, says which classes are held, and a session looks
there before a command goes on. Who comes later finds it too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from proxy.engine.routed import RoutedSession
from proxy.engine.session import Session
from proxy.net.client import Client
from proxy.net.holding import HoldCounts, Holding, Outcome, Progress, has_left
from proxy.net.reception import Reception
from proxy.net.routing import RoutedClient, Ways
from proxy.net.unblock import Blocked
from proxy.net.upstream import Upstream
from proxy.routing.gate import Budget, Census, State


@dataclass(frozen=True, slots=True)
class _Busy(Collection[Blocked]):
    """The clients with something of these classes in flight, as they are whenever it is looked at."""

    reception: Reception
    classes: int

    def __iter__(self) -> Iterator[Blocked]:
        return (client for client in _routed(self.reception) if client.session.busy(self.classes))

    def __contains__(self, client: object) -> bool:
        return (
            client in self.reception.clients and isinstance(client, RoutedClient) and client.session.busy(self.classes)
        )

    def __len__(self) -> int:
        return len(self.reception.clients)


class OfClass:
    """What has keys of one class. ``number``: the class's, in the table of ``ways``."""

    units = "clients with commands"

    def __init__(self, reception: Reception, ways: Ways, number: int) -> None:
        self.what = f"class {ways.table.names[number]}"
        self._reception = reception
        self._gates = ways.gates
        self._class = 1 << number

    @property
    def clients(self) -> int:
        """Those whose next command waits for this, or for another class too."""
        return sum(client.session.waits for client in _routed(self._reception))

    @property
    def in_the_way(self) -> Collection[Blocked]:
        """Who waits in Redis with keys of the class, or before a command with some."""
        return _Busy(self._reception, self._class)

    def stop(self) -> None:
        """From now on no session lets a command of it go on."""
        self._gates.held |= self._class
        self.stop_more()

    def stop_more(self) -> None:
        """Don't read who waits in a fetch that is to be ended: CLIENT UNBLOCK must not meet what comes behind it."""
        for client in _routed(self._reception):
            client.heed()

    def census(self) -> Census:
        """Over all clients, and those that have gone."""
        in_flight = self._reception.orphans.of_interest(self._concerns)
        half_sent = transactions = blocked = 0
        for client in self._reception.clients:
            session = client.session
            if isinstance(session, RoutedSession):
                busy = session.busy(self._class)
                in_flight += busy
                half_sent += session.half_of(self._class)
                transactions += session.queues(self._class)
                blocked += busy and session.blocked
        return Census(in_flight, half_sent, transactions, blocked)

    def _concerns(self, session: Session) -> bool:
        return isinstance(session, RoutedSession) and session.has_used(self._class)

    def in_transaction(self) -> list[Client]:
        """Who has queued a command of it and not sent EXEC."""
        return [client for client in _routed(self._reception) if client.session.queues(self._class)]

    def go_on(self) -> int:
        """Have who waits look again."""
        self._gates.held &= ~self._class
        gone = 0
        for client in list(_routed(self._reception)):
            if client.session.waits and has_left(client):
                gone += 1
                client.abort()
            else:
                client.look_again()
        return gone


@dataclass(frozen=True, slots=True)
class Freed:
    """What a release has done: ``held``, whether anything was; ``clients`` that waited; of these ``gone``."""

    held: bool
    clients: int
    gone: int


class ClassHoldings:
    """The gates of one worker's classes, by their names."""

    def __init__(self, reception: Reception, upstream: Upstream, ways: Ways) -> None:
        names = ways.table.names
        self._all = {name: Holding(OfClass(reception, ways, number), upstream) for number, name in enumerate(names)}
        self._reception = reception

    @property
    def counts(self) -> list[HoldCounts]:
        """Totals since start, of each class."""
        return [each.counts for each in self._all.values()]

    def held(self) -> dict[str, int]:
        """Of each class 1 if it is held, or about to be, else 0."""
        return {name: int(each.gate.state is not State.OPEN) for name, each in self._all.items()}

    async def hold(self, names: Sequence[str], budget: Budget, progress: Progress) -> Outcome:
        """Hold these classes, or none of them. Returns when nothing of theirs is in flight, or the budget is over."""
        began = time.monotonic()
        outcomes = await asyncio.gather(*(self._hold(name, budget, progress) for name in names))
        why = [f"class {name}: {each.why}" for name, each in zip(names, outcomes, strict=True) if not each.held]
        if why:
            self.release(names)
        return Outcome(not why, "; ".join(why), time.monotonic() - began, self._waiting())

    async def _hold(self, name: str, budget: Budget, progress: Progress) -> Outcome:
        return await self._all[name].hold(budget, lambda text: progress(f"class {name}: {text}"))

    def release(self, names: Iterable[str]) -> Freed:
        """Let these classes go on; none: all."""
        them = [self._all[name] for name in names] or list(self._all.values())
        held = any(each.gate.state is not State.OPEN for each in them)
        clients, gone = self._waiting() if held else 0, sum(each.counts.gone for each in them)
        for each in them:
            each.release()
        return Freed(held, clients, sum(each.counts.gone for each in them) - gone)

    async def close(self) -> None:
        """End what is going on; the worker stops."""
        for each in self._all.values():
            await each.close()

    def _waiting(self) -> int:
        return sum(client.session.waits for client in _routed(self._reception))


def _routed(reception: Reception) -> list[RoutedClient]:
    return [client for client in reception.clients if isinstance(client, RoutedClient)]
