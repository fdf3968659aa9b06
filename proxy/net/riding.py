"""Clients whose backend has gone, and how they come to it again without noticing more than a wait.

Knows: who waits, how a client gets a new connection, and what it is told of the commands that were under way. Refuses
to know: what may be sent again and how long it goes on (``routing.ride``), and how a client's state is made
(``moving.Newcomer``, ``Session.settings``).

A client that waits is not read: what it sends waits in the kernel, and TCP pushes back. One that has left meanwhile is
closed and nothing of it is sent: it will try again elsewhere, and a write would run twice.
"""

# Over 300 lines: one outage from its first sign to its last client; every part reads or changes who waits.
from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from redis.exceptions import RedisError

from proxy.net.backend import Backend
from proxy.net.client import Client
from proxy.net.endpoint import HOLD_RIDE, now_ns
from proxy.net.holding import has_left
from proxy.net.moving import ALL_INVALID, AT_ONCE, CantMove, Newcomer
from proxy.net.reception import Reception
from proxy.net.upstream import BackendDown, Upstream
from proxy.routing.ride import Event, Fate, Order, Ride, Sent, State, refused, resolve

_log = logging.getLogger(__name__)

#: Bytes of commands in flight that are kept for each client, to be sent again.
KEPT_BYTES = 1_000_000
#: A command that was under way when so many connections broke, one after the other, may be what breaks them.
MOST_BREAKS = 2

#: What connects to the backend: AUTH as its URL has it, and the database that the URL names.
Login = Callable[[], tuple[tuple[tuple[bytes, ...], ...], int]]


@dataclass(slots=True)
class RideCounts:
    """Totals since start. ``ridden``: times that a client got a new connection; ``resent``: commands sent again;
    ``ambiguous_fetches``: fetches answered nil that may have popped; ``ambiguous_writes``: writes without a reply,
    whose clients were closed; ``given_up``: clients that could not be taken along, or had waited for too long;
    ``left``: those that had gone when it was over."""

    outages: int = 0
    ridden: int = 0
    resent: int = 0
    ambiguous_fetches: int = 0
    ambiguous_writes: int = 0
    given_up: int = 0
    left: int = 0


@dataclass(slots=True)
class _Waiting:
    """``backend``: the connection that it is to leave; ``broken``: it has ended; ``due``: commands to be sent again."""

    backend: Backend
    broken: bool
    due: int


class Riding:
    """The outages of one worker. ``limit_s`` None: no client waits, but in a planned outage. ``changed()`` is called
    when it changes whether newcomers are let in."""

    def __init__(
        self, reception: Reception, upstream: Upstream, limit_s: float | None, login: Login, changed: Callable[[], None]
    ) -> None:
        self.machine = Ride(limit_s)
        self.counts = RideCounts()
        self.keeps = limit_s is not None
        self._reception = reception
        self._upstream = upstream
        self._login = login
        self._changed = changed
        self._waiting: dict[Client, _Waiting] = {}
        self._breaks: dict[Client, tuple[int, int]] = {}  # oldest command, connections that broke under it
        self._refused_by: set[bytes] = set()
        self._at_begin = RideCounts()
        self._news = asyncio.Event()
        self._scouting: asyncio.Task[None] | None = None
        self._plan_ends = False

    @property
    def waiting(self) -> int:
        """Clients that wait for the backend."""
        return len(self._waiting)

    @property
    def lets_in(self) -> bool:
        """Whether newcomers are accepted although the backend does not answer: they wait too."""
        return self.machine.takes

    def plan(self, longest_s: float | None) -> None:
        """An outage is planned; None: it is over, or not to be."""
        self._plan_ends = False
        self.machine.plan(longest_s)
        self._changed()

    def forget_plan_when_calm(self) -> None:
        """Plan no outage from now on, or from when nobody waits for the backend any more."""
        if self.machine.state in (State.AWAY, State.RETURNING):
            self._plan_ends = True
        else:
            self.plan(None)

    async def close(self) -> None:
        """The worker stops."""
        task, self._scouting = self._scouting, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # ---- what the ends tell ------------------------------------------------------------------------------------------

    def made(self, client: Client) -> None:
        """A client has come, and is not read yet."""
        client.rider = self
        if self.keeps:
            client.session.keep_sent(KEPT_BYTES)

    def lost(self, client: Client) -> bool:
        """A client's connection has ended. Whether it waited: then no reply to what it sent will come."""
        self._breaks.pop(client, None)
        return self._waiting.pop(client, None) is not None

    def broke(self, client: Client) -> bool:
        """Its backend connection has ended. False: the client must end too, as it would have without us."""
        waiting = self._waiting.get(client)
        if waiting is not None and client.peer is waiting.backend:
            return True
        session = client.session
        if client.closing or client.lost or not self.machine.longest_s or session.ending:
            return False
        why = session.bound
        sent = None if why else session.sent
        if why or sent is None:
            return self._let_end(client, why or "replies can't be told from what else comes")
        verdict = resolve(_sent(sent), session.parked_heads, True, session.in_transaction)
        client.write(session.let_go(verdict.passed, now_ns()))
        self.counts.ambiguous_fetches += verdict.ambiguous_fetches
        self.counts.ambiguous_writes += verdict.ambiguous_writes
        if verdict.ambiguous_writes:
            _log.warning("client %s is closed: %s", _label(client), verdict.close)
            self._trouble()
            return False
        if verdict.close:
            return self._let_end(client, verdict.close)
        if not self.machine.takes:
            return self._let_end(client, "the backend has been away for too long")
        return self._keep(client, verdict.fates)

    def _let_end(self, client: Client, why: str) -> bool:
        self.counts.given_up += 1
        _log.info("client %s is closed with its backend connection: %s", _label(client), why)
        self._trouble()
        return False

    def _keep(self, client: Client, fates: tuple[Fate, ...]) -> bool:
        session = client.session
        if not self._can_resend(client, fates):
            return self._let_end(client, "what it had sent was too large to be kept")
        if session.oldest >= 0 and not self._first_breaks(client):
            return self._let_end(client, f"{MOST_BREAKS} connections broke under the same command")
        client.hold_reading(HOLD_RIDE)
        nils = session.answer_nil([at for at, fate in enumerate(fates) if fate is Fate.NIL], now_ns())
        client.write(nils)
        self._waiting[client] = _Waiting(_backend(client), True, fates.count(Fate.AGAIN))
        self._trouble()
        return True

    def _can_resend(self, client: Client, fates: tuple[Fate, ...]) -> bool:
        tape = client.session.tape
        if tape is None:
            return not fates and not client.session.half_forwarded
        kept = tape.whole
        if tape.lost or tape.half is None or len(kept) != len(fates):
            return False
        return all(piece is not None for piece, fate in zip(kept, fates, strict=True) if fate is Fate.AGAIN)

    def _first_breaks(self, client: Client) -> bool:
        oldest = client.session.oldest
        before, times = self._breaks.get(client, (-1, 0))
        times = times + 1 if before == oldest else 1
        self._breaks[client] = (oldest, times)
        return times <= MOST_BREAKS

    def parked(self, client: Client) -> None:
        """Replies are kept from it, because a command may have been refused. More may have come now."""
        session = client.session
        if client in self._waiting:
            return
        sent = session.sent
        if sent is None or not self.machine.takes:
            self._let_go(client, None)
            return
        commands, heads = _sent(sent), session.parked_heads
        if any(refused(each, head) for each, head in zip(commands, heads, strict=False)):
            client.hold_reading(HOLD_RIDE)
        if len(heads) < len(commands):
            return  # what comes later decides
        verdict = resolve(commands, heads, False)
        if not verdict.fates or session.bound or session.tape is None:
            self._let_go(client, None)
            return
        tape = session.tape.whole[verdict.passed :]
        if session.tape.lost or session.tape.half is None or None in tape:
            self._let_go(client, None)
            return
        self._refused_by |= {head[1:].split(b" ", 1)[0] for head in heads if head.startswith(b"-")}
        if verdict.passed:
            client.write(session.let_go(verdict.passed, now_ns()))
        self._waiting[client] = _Waiting(_backend(client), False, len(verdict.fates))
        self._trouble()

    def _let_go(self, client: Client, count: int | None) -> None:
        heads = client.session.parked_heads
        client.write(client.session.let_go(len(heads) if count is None else count, now_ns()))
        client.release_reading(HOLD_RIDE)

    def _trouble(self) -> None:
        if self.machine.longest_s:
            self._obey(self.machine.happens(Event.TROUBLE, time.monotonic()))

    def moved(self) -> None:
        """Clients were moved to another backend: those who are there wait no longer."""
        for client, waiting in list(self._waiting.items()):
            self._still(client, waiting)

    # ---- newcomers ---------------------------------------------------------------------------------------------------

    async def wait(self, until_s: float | None) -> float | None:
        """Somebody could not be connected. Wait until it is worth trying again: returns until when they may go on
        trying; None: no longer. ``until_s``: what was returned before."""
        if not self.machine.takes:
            return None
        now_s = time.monotonic()
        until_s = now_s + self.machine.longest_s if until_s is None else until_s
        self._trouble()
        while self.machine.state is State.AWAY and now_s < until_s:
            news = self._news
            try:
                await asyncio.wait_for(news.wait(), until_s - now_s)
            except TimeoutError:
                break
            now_s = time.monotonic()
        return until_s if self.machine.takes and now_s < until_s else None

    # ---- orders ------------------------------------------------------------------------------------------------------

    def _obey(self, orders: tuple[Order, ...]) -> None:
        for order in orders:
            _ORDERS[order](self)
        news, self._news = self._news, asyncio.Event()
        news.set()
        if self._plan_ends and self.machine.state in (State.CALM, State.GONE):
            self.plan(None)

    def _begin(self) -> None:
        if not self.machine.relapse:
            self.counts.outages += 1
            self._at_begin = RideCounts(**asdict(self.counts))
            _log.warning(
                "backend %s does not serve; clients wait for it, at most %.3g s",
                self._upstream.address.label, self.machine.longest_s,
            )  # fmt: skip
        self._upstream.doubt()
        if self._scouting is None or self._scouting.done():
            self._scouting = asyncio.create_task(self._scout())

    def _say_over(self) -> None:
        self._refused_by.clear()
        _log.warning(
            "backend %s serves again after %.3g s; %s",
            self._upstream.address.label, time.monotonic() - self.machine.since_s, self._story(),
        )  # fmt: skip

    def _give_up(self) -> None:
        _log.error(
            "backend %s has not served for %.3g s; the %d clients that wait meet what there is",
            self._upstream.address.label, self.machine.longest_s, len(self._waiting),
        )  # fmt: skip
        waiting, self._waiting = self._waiting, {}
        for client, each in waiting.items():
            self.counts.given_up += 1
            if each.broken or each.backend.lost:
                client.close()
            else:
                self._let_go(client, None)
        self._changed()

    def _nothing(self) -> None:
        """The caller does it, or the scout."""

    def _say_back(self) -> None:
        self._refused_by.clear()
        _log.warning("backend %s serves again", self._upstream.address.label)
        self._changed()

    def _story(self) -> str:
        was, now = asdict(self._at_begin), asdict(self.counts)
        new = {name: now[name] - was[name] for name in now}
        return (
            f"{new['ridden']} connections renewed, {new['resent']} commands sent again, "
            f"{new['ambiguous_fetches']} fetches answered nil, {new['ambiguous_writes']} writes without a reply, "
            f"{new['given_up']} clients closed otherwise, {new['left']} had left"
        )

    # ---- asking for it -----------------------------------------------------------------------------------------------

    async def _scout(self) -> None:
        """Ask until it is over; clients are given new connections in between."""
        while self.machine.state is not State.CALM:
            event = Event.SILENT if await self._silent() else Event.ANSWERS
            self._obey(self.machine.happens(event, time.monotonic()))
            await self._bring_back()
            await self._pause()

    async def _bring_back(self) -> None:
        if self.machine.state is State.RETURNING:
            await self._rejoin()
            event = Event.STUCK if self._waiting else Event.CARRIED
            self._obey(self.machine.happens(event, time.monotonic()))

    async def _pause(self) -> None:
        if self.machine.state is State.CALM:
            return
        pause_s = self.machine.pause(random.random())
        if self.machine.state is not State.GONE:
            pause_s = min(pause_s, self.machine.left_s(time.monotonic()))
        await asyncio.sleep(pause_s)
        self._obey(self.machine.look(time.monotonic()))

    async def _silent(self) -> str | None:
        """Why it can't serve, as far as that can be told; None: it is worth trying."""
        why = await self._upstream.probe()
        if why is not None or not self._refused_by & {b"READONLY", b"MASTERDOWN"}:
            return why
        control = self._upstream.control()
        try:
            role = await control.role()
        except (RedisError, OSError):
            return None  # not allowed to ask: the clients try
        finally:
            await control.aclose()
        is_replica = bool(role) and role[0] in (b"slave", "slave")
        if is_replica and (b"READONLY" in self._refused_by or role[3] not in (b"connected", "connected")):
            return "it is a replica"
        return None

    # ---- new connections ---------------------------------------------------------------------------------------------

    async def _rejoin(self) -> None:
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(client: Client, waiting: _Waiting) -> None:
            async with limit:
                try:
                    await self._carry(client, waiting)
                except (CantMove, BackendDown, RedisError, OSError, TimeoutError) as error:
                    _log.debug("client %s: no new connection: %s", _label(client), error)

        left_s = self.machine.left_s(time.monotonic())
        work = [asyncio.ensure_future(one(*each)) for each in list(self._waiting.items())]
        if work:
            _, late = await asyncio.wait(work, timeout=left_s)
            for each in late:
                each.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _carry(self, client: Client, waiting: _Waiting) -> None:
        if not self._still(client, waiting):
            return
        newcomer = Newcomer(await self._upstream.connect(self._reception.new_backend))
        try:
            home = await self._settle(newcomer, client)
            if not self._still(client, waiting):
                raise CantMove("it needs none any more")
            if newcomer.backend.lost:
                raise CantMove("it ended at once")
        except BaseException:
            newcomer.backend.abort()
            raise
        del self._waiting[client]
        self._go(client, newcomer, waiting, home)

    def _still(self, client: Client, waiting: _Waiting) -> bool:
        """Whether the client waits. One that has left is closed; one that was moved elsewhere goes on."""
        if self._waiting.get(client) is not waiting:
            return False
        if client.peer is not waiting.backend:  # a switch has moved it
            del self._waiting[client]
            client.release_reading(HOLD_RIDE)
            return False
        if has_left(client):
            self.counts.left += 1
            del self._waiting[client]
            client.abort()
            return False
        return True

    async def _settle(self, newcomer: Newcomer, client: Client) -> int:
        """Bring a connection into the client's state. Returns the database that it began in. Raises CantMove."""
        login, home = self._login()
        await newcomer.tell(login)
        session = client.session
        fence = b"shunt:fence:" + secrets.token_hex(8).encode()
        watch = [(b"WATCH", fence)] if session.watching else []
        for said in await newcomer.tell([*watch, *session.settings(home)]):
            if isinstance(said, dict) and isinstance(said.get(b"id"), int):
                newcomer.backend_id = said[b"id"]
        if watch:  # whatever happened to the keys that it watched: its EXEC answers nil
            control = self._upstream.control()
            try:
                await control.set(fence, b"", px=1)
            finally:
                await control.aclose()
        return home

    def _go(self, client: Client, newcomer: Newcomer, waiting: _Waiting, home: int) -> None:
        session = client.session
        client.move(newcomer.backend)
        session.forget_parked()
        session.moved(newcomer.backend_id, home)
        if session.tracks_keys and session.resp3_on:
            client.write(ALL_INVALID)
        tape = session.tape
        if tape is not None:
            pieces, half = tape.whole, tape.half
            if len(pieces) != waiting.due or None in pieces or half is None:
                client.close()  # it was read while it waited: never seen, and not to be guessed about
                return
            newcomer.backend.write(b"".join(each for each in (*pieces, half) if each))
        self.counts.ridden += 1
        self.counts.resent += waiting.due
        client.release_reading(HOLD_RIDE)


_ORDERS: dict[Order, Callable[[Riding], None]] = {
    Order.BEGIN: Riding._begin,
    Order.REJOIN: Riding._nothing,
    Order.SAY_OVER: Riding._say_over,
    Order.GIVE_UP: Riding._give_up,
    Order.CLOSE: Riding._nothing,
    Order.SAY_BACK: Riding._say_back,
}


def _sent(sent: list[tuple[str, int, bool]]) -> list[Sent]:
    return [Sent(*each) for each in sent]


def _backend(client: Client) -> Backend:
    assert isinstance(client.peer, Backend)
    return client.peer


def _label(client: Client) -> str:
    return client.session.addr.decode(errors="replace")
