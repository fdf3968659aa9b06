"""The clients of one worker: how they come in, who is watched, how they leave.

Knows: pairing a client with a backend connection of its own, the limit of clients, idle, stuck and closing
connections. Refuses to know: listening sockets, RESP, and why the worker ends.
"""

# Over 300 lines: one count of clients, and everything that changes it.
from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from proxy.engine import rehearsed
from proxy.engine.access import Access
from proxy.engine.pooling import Tables
from proxy.engine.recorder import Recorder
from proxy.engine.rehearsal import Rehearsing
from proxy.engine.session import Session
from proxy.net.backend import Backend
from proxy.net.backend_facts import address
from proxy.net.canary import CanaryBackend, Split
from proxy.net.client import Client
from proxy.net.departure import has_departed
from proxy.net.drain import drain
from proxy.net.endpoint import HOLD_GATE, ReadBuffer, Traffic, now_ns
from proxy.net.orphans import Orphans
from proxy.net.pool import Limits, Pool
from proxy.net.routing import RoutedBackend, RoutedClient, Ways, end_at_first
from proxy.net.sharing import PooledClient
from proxy.net.upstream import BackendDown, Upstream

_log = logging.getLogger(__name__)

#: A client that does not read its last bytes is cut off this long after its connection was closed, seconds.
LINGER_S = 60.0
#: Connections that are asked for their address in one turn of the event loop.
ADDRESSES_AT_ONCE = 100
MAX_CLIENTS_REPLY = b"-ERR max number of clients reached\r\n"


class Rider(Protocol):
    """Who takes clients through an outage (``riding``)."""

    def made(self, client: Client) -> None: ...
    def lost(self, client: Client) -> bool: ...
    def moved(self) -> None: ...
    async def wait(self, until_s: float | None) -> float | None: ...


@dataclass(slots=True)
class Counts:
    """What has happened to clients since start."""

    accepted: int = 0
    refused: int = 0
    idle_closed: int = 0
    reset_while_paused: int = 0
    departed: int = 0
    cut_off: int = 0


@dataclass(frozen=True, slots=True)
class Sharing:
    """How clients share backend connections. ``login``: what a new connection is told first; ``first_id``: where this
    worker's CLIENT IDs begin."""

    limits: Limits
    tables: Tables
    login: tuple[tuple[bytes, ...], ...]
    first_id: int


@dataclass(slots=True)
class Entrance:
    """How clients of one listener are received. ``tls`` may be renewed: clients that come later meet it."""

    access: Access | None
    tls: ssl.SSLContext | None


class Reception:
    """All clients. ``idle_timeout_s`` None: an idle client stays; ``sharing`` None: each has a backend of its own;
    ``rehearsing`` None: nothing is refused as a target would; ``ways`` None: all keys are on ``upstream``."""

    def __init__(
        self,
        recorder: Recorder,
        upstream: Upstream,
        max_clients: int,
        prelude_timeout_s: float,
        idle_timeout_s: float | None,
        sharing: Sharing | None = None,
        rehearsing: Rehearsing | None = None,
        ways: Ways | None = None,
    ) -> None:
        self.counts = Counts()
        self.traffic = Traffic()
        self.clients: dict[Client, int] = {}  # since when, by ``now_ns``
        self.on_client: Callable[[Session], None] | None = None  # is shown each client before it is read
        self.on_hold: Callable[[], None] | None = None
        self.split: Split | None = None  # chooses among those who come; None: nobody is chosen
        self._recorder = recorder
        self._upstream = upstream
        self._max_clients = max_clients
        self._prelude_timeout_s = prelude_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._buffer = ReadBuffer()
        self._sharing = sharing
        self._rehearsing = rehearsing
        self._ways = ways
        self.pool: Pool | None = None
        self.orphans = Orphans.of(recorder.counters, upstream)
        self.rider: Rider | None = None
        self._arrivals: set[asyncio.Task[None]] = set()
        self._closing_since: dict[Client, float] = {}
        self._leaving: list[set[Client]] = []
        self._closed = False
        self._empty = asyncio.Event()
        self._held: asyncio.Event | None = None  # set at the release; None: traffic isn't held
        self._moves = 0  # to other backends
        self._dialled: dict[Client, int] = {}  # on their way in: after how many moves their backend was connected to

    def open(self) -> None:
        """Begin, on the running loop."""
        sharing = self._sharing
        if sharing is not None:
            self.pool = Pool(self._upstream, self._recorder, self._buffer, self.traffic, sharing.limits, sharing.login)

    # ---- held -------------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Take nobody in until ``go_on``, and lend no connection: who comes waits."""
        self._held = self._held or asyncio.Event()
        if self.on_hold is not None:
            self.on_hold()
        if self.pool is not None:
            self.pool.hold()

    @property
    def holds(self) -> bool:
        """Whether traffic is held."""
        return self._held is not None

    def go_on(self) -> None:
        """Take in who has waited."""
        held, self._held = self._held, None
        if held is not None:
            held.set()
        if self.pool is not None:
            self.pool.go_on()

    # ---- coming in --------------------------------------------------------------------------------------------------

    def receive(self, sock: socket.socket, label: str, entrance: Entrance) -> None:
        """A new client's socket. Beyond the limit it gets the error that Redis would give."""
        if len(self.clients) + len(self._arrivals) >= self._max_clients:
            self.counts.refused += 1
            with contextlib.suppress(OSError):
                sock.send(MAX_CLIENTS_REPLY)
            sock.close()
            return
        task = asyncio.create_task(self._arrive(sock, label, entrance, time.monotonic()))
        self._arrivals.add(task)
        task.add_done_callback(self._arrivals.discard)

    async def _arrive(self, sock: socket.socket, label: str, entrance: Entrance, since_s: float) -> None:
        """Connect to the backend, then read the client: until then its bytes wait in the kernel."""
        await self._released()
        if self.pool is not None and self._sharing is not None:
            await self._arrive_shared(self.pool, self._sharing, sock, label, entrance, since_s)
            return
        backend: Backend | None = None
        client: Client | None = None
        try:
            session, backend, moves = await self._dial_patiently(label, entrance)
            self._expect(sock, since_s)
            client = self._client(session, backend)
            self._dialled[client] = moves
            await asyncio.get_running_loop().connect_accepted_socket(lambda: client, sock, ssl=entrance.tls)
        except (BackendDown, OSError, ssl.SSLError, asyncio.CancelledError) as error:
            _log.debug("client %s: not served: %s", label, error)
            if backend is not None:
                backend.abort()
            sock.close()
            if client is not None:
                self._dialled.pop(client, None)
                self._given_up(client)
            return
        if moves != self._moves and client.peer is backend:  # during its TLS handshake; nothing of it was sent on
            client.abort()
        else:
            backend.flush_early()

    def _expect(self, sock: socket.socket, since_s: float) -> None:
        """ConnectionAbortedError if the client has given up while it waited to be read."""
        if has_departed(sock, since_s):
            self.counts.departed += 1
            raise ConnectionAbortedError("it has given up; what it sent is not run")

    def _client(self, session: Session, backend: Backend) -> Client:
        if isinstance(backend, CanaryBackend):
            return backend.split.client(session, backend, self._buffer, self.traffic, self._made, self._lost)
        if self._ways is None or not isinstance(backend, RoutedBackend):
            client = Client(session, self._buffer, self.traffic, self._made, self._lost)
            client.attach(backend)
            return client
        routed = RoutedClient(session, self._buffer, self.traffic, self._made, self._lost)
        routed.open(self._ways, backend, lambda: RoutedBackend(None, self._buffer, self.traffic))
        return routed

    async def _released(self) -> None:
        while self._held is not None:
            await self._held.wait()

    async def _dial_patiently(self, label: str, entrance: Entrance) -> tuple[Session, Backend, int]:
        """As ``_dial``, and again through an outage. Raises BackendDown, TimeoutError: it takes too long."""
        until_s: float | None = None
        while True:
            try:
                return await self._dial(label, entrance)
            except (BackendDown, TimeoutError):
                until_s = None if self.rider is None else await self.rider.wait(until_s)
                if until_s is None:
                    raise

    async def _dial(self, label: str, entrance: Entrance) -> tuple[Session, Backend, int]:
        """A session, and a connection to what is the backend when nothing is held. Raises BackendDown, TimeoutError."""
        while True:
            moves = self._moves
            session, end = self._session(label, entrance)
            backend = await self._upstream.connect(partial(end, session, self._buffer, self.traffic))
            try:
                await self._prelude(backend)
                await self._released()
            except BaseException:
                backend.abort()
                raise
            if moves == self._moves:
                return session, backend, moves
            backend.abort()

    def _session(self, label: str, entrance: Entrance) -> tuple[Session, Callable[..., Backend]]:
        """A session, and what its backend connection is made of."""
        if self.split is not None:
            chosen = self.split.session(self._recorder, label, entrance.access)
            if chosen is not None:
                return chosen, self.split.backend
        if self._ways is not None:
            return self._ways.session(self._recorder, label.encode(), entrance.access), RoutedBackend
        session = rehearsed.session(self._recorder, label.encode(), entrance.access, self._rehearsing)
        return session, Backend

    async def _arrive_shared(
        self, pool: Pool, sharing: Sharing, sock: socket.socket, label: str, entrance: Entrance, since_s: float
    ) -> None:
        """Read the client at once: a connection is found for it when it says what it needs."""
        session = rehearsed.pooled_session(
            self._recorder, label.encode(), entrance.access, sharing.tables, sharing.first_id, self._rehearsing
        )
        client = PooledClient(session, self._buffer, self.traffic, self._made, self._lost, pool)
        try:
            self._expect(sock, since_s)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: client, sock, ssl=entrance.tls)
        except (OSError, ssl.SSLError, asyncio.CancelledError) as error:
            _log.debug("client %s: not served: %s", label, error)
            sock.close()
            self._given_up(client)

    def _given_up(self, client: Client) -> None:
        """Its way in was cut off. If it was connected already, the loop lets it go without telling it."""
        if client in self.clients:
            client.connection_lost(None)

    def _made(self, client: Client) -> None:
        """It is connected, and will be read."""
        self.counts.accepted += 1
        self.clients[client] = now_ns()
        if self.rider is not None:
            self.rider.made(client)
        stale = self._dialled.pop(client, self._moves) != self._moves
        if self._held is not None or stale:  # a hold, or a whole switch, overtook it on its way in
            client.hold_reading(HOLD_GATE)
        if self.on_client is not None:
            self.on_client(client.session)
        if self._closed:
            client.close()

    # ---- another backend --------------------------------------------------------------------------------------------

    def new_backend(self) -> Backend:
        """A backend connection's end that has no client yet."""
        return Backend(None, self._buffer, self.traffic) if self.pool is None else self.pool.new_private()

    def moved(self) -> None:
        """The upstream is another backend now; who is on the way in to the old one starts again."""
        self._moves += 1
        if self.rider is not None:
            self.rider.moved()

    async def _prelude(self, backend: Backend) -> None:
        """AUTH and SELECT, if the backend's URL has credentials or a database. Raises BackendDown, TimeoutError."""
        done = asyncio.Event()
        backend.start_prelude(done.set)
        async with asyncio.timeout(self._prelude_timeout_s):
            await done.wait()
        if backend.session.failure is not None:
            _log.error("backend %s refuses what its URL says: %s", self._upstream.address, backend.session.failure)
            raise BackendDown(backend.session.failure)

    # ---- leaving ----------------------------------------------------------------------------------------------------

    def _lost(self, client: Client) -> bool:
        """A client's connection has ended. Whether what it was sent for is still waited for."""
        self.clients.pop(client, None)
        was_waiting = self.rider is not None and self.rider.lost(client)
        for each in self._leaving:
            each.discard(client)
        self._closing_since.pop(client, None)
        waited_for = not was_waiting and self.orphans.adopt(client, self.pool)
        if not waited_for:
            client.session.finish(now_ns())
        client.detach()
        if not self.clients:
            self._empty.set()
        return waited_for

    def sweep(self, now_s: float) -> None:
        """Look at connections that no event will end: idle, broken while not being read, closing for ever."""
        if self.pool is not None:
            self.pool.sweep(now_s)
        idle_ns = None if self._idle_timeout_s is None else int(self._idle_timeout_s * 1e9)
        clock_ns = now_ns()
        for client in list(self.clients):
            if client.closing:
                if now_s - self._closing_since.setdefault(client, now_s) > LINGER_S:
                    client.abort()
            elif client.reading_held and _is_reset(client):
                self.counts.reset_while_paused += 1
                client.abort()
            elif idle_ns is not None and clock_ns - client.last_ns > idle_ns and _is_idle(client.session):
                self.counts.idle_closed += 1
                client.close()

    async def addresses(self) -> list[str]:
        """Where the ends of all backend connections are, as Redis would name them: of unix sockets one name for all."""
        ends = [end_at_first(client) for client in self.clients] if self.pool is None else self.pool.connections()
        found: list[str] = []
        for number, end in enumerate(ends, 1):
            if end is not None and end.transport is not None and not end.lost:
                found.append(address(end.transport.get_extra_info("sockname")))
            if number % ADDRESSES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return found

    async def close(self) -> None:
        """Close what is kept open for clients; they have gone."""
        await self.orphans.close()
        if self.pool is not None:
            await self.pool.close()

    async def end(self, clients: Iterable[Client], timeout_s: float, at_once: bool) -> tuple[list[Client], int]:
        """Close these clients at their command boundaries, or ``at_once``. Returns those that are still there at the
        end of the time, each of which is closed at its next boundary, and how many pops were cut off."""
        leaving, pops = set(clients), 0
        self._leaving.append(leaving)
        try:
            if at_once:
                pops = sum(client.session.open_pops for client in leaving)
                for client in list(leaving):
                    client.abort()
            await drain(leaving, self._upstream, timeout_s, asyncio.Event())
        finally:
            self._leaving.remove(leaving)
        return [client for client in self.clients if client in leaving], pops

    async def drain(self, timeout_s: float, stop_now: asyncio.Event) -> None:
        """Take nobody in any more, and close every client at a command boundary, or at the end of the time."""
        self._closed = True
        for task in list(self._arrivals):
            task.cancel()
        if not self.clients:
            return
        _log.info("stopping: %d clients finish what is under way", len(self.clients))
        pops = await drain(self.clients, self._upstream, timeout_s, stop_now)
        self.counts.cut_off = len(self.clients)
        if self.clients:
            _log.warning(
                "stopping: %d clients were cut off with commands under way, %d of them pops", len(self.clients), pops
            )
        self._empty.clear()
        for client in list(self.clients):
            client.abort()
        if self.clients:
            await self._empty.wait()


def _is_idle(session: Session) -> bool:
    return session.in_flight == 0 and not session.listening


def _is_reset(client: Client) -> bool:
    """Whether the connection of a client that is not being read has broken: its reader would not be told."""
    poll = select.poll()
    try:
        poll.register(client.transport.get_extra_info("socket").fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False
