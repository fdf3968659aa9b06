"""One worker: the only place where the rooms are joined.

Knows: which parts there are, in what order they start and stop, and who gets each batch of exchanges (hop 8).
Refuses to know: what any of them does inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import select
import signal
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.address import Address
from proxy.capture.format import ArgsMode
from proxy.capture.retention import CaptureLimits
from proxy.capture.segments import SegmentHeader
from proxy.capture.writer import CaptureStats, CaptureWriter
from proxy.config import ConfigError, RunConfig
from proxy.console import http
from proxy.console.metrics import Source
from proxy.engine.access import Access
from proxy.engine.recorder import Recorder
from proxy.engine.session import Session
from proxy.engine.stats import EngineStats
from proxy.net.backend import Backend
from proxy.net.client import Client
from proxy.net.drain import drain
from proxy.net.endpoint import ReadBuffer, Traffic, now_ns
from proxy.net.listener import Listener, ListenError
from proxy.net.tls import BackendTls, server_context
from proxy.net.upstream import BackendDown, Upstream
from proxy.report.live import LiveFindings
from proxy.version import VERSION

_log = logging.getLogger(__name__)

#: A batch is handed over at least this often, seconds.
HAND_OVER_S = 0.1
#: Idle, stuck and closing connections are looked at this often, seconds.
SWEEP_S = 1.0
#: A client that does not read its last bytes is cut off this long after its connection was closed, seconds.
LINGER_S = 60.0
#: Descriptors that are not for clients: capture, HTTP, probes, libraries.
SPARE_FILES = 64
MAX_CLIENTS_REPLY = b"-ERR max number of clients reached\r\n"
CAPTURE_CLOSE_S = 30.0


class Consumer(Protocol):
    """Takes batches of exchanges. Must be quick, and must not fail."""

    def consume(self, batch: pa.RecordBatch) -> None: ...


@dataclass(slots=True)
class Counts:
    """What happens around the data path."""

    clients_accepted: int = 0
    clients_refused: int = 0
    idle_closed: int = 0
    reset_while_paused: int = 0
    drained_cut_off: int = 0
    consumer_errors: int = 0
    failing_consumers: set[str] = field(default_factory=set)


async def serve(config: RunConfig, *, on_ready: Callable[[Source], None] | None = None) -> int:
    """Run one worker until SIGTERM or SIGINT. Returns the exit code. Raises ConfigError, ConsoleError."""
    app = App(config)
    try:
        await app.start()
        if on_ready is not None:
            on_ready(app)
        await app.run()
    finally:
        await app.stop()
    return 0


class App:
    """One worker, out of a configuration; a ``console.metrics.Source``."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._counts = Counts()
        self._traffic = Traffic()
        self._buffer = ReadBuffer()
        self._clients: dict[Client, None] = {}
        self._arrivals: set[asyncio.Task[None]] = set()
        self._closing_since: dict[Client, float] = {}
        self._draining = False
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._console: http.HttpConsole | None = None
        self._findings = LiveFindings()
        self._capture = _capture(config)
        self._consumers: list[Consumer] = [self._findings]
        if self._capture is not None:
            self._consumers.append(self._capture)
        self._recorder = Recorder(
            CommandTable(table().commands), ArgsMode[config.capture_args.upper()] if self._capture else ArgsMode.NONE,
            self._hand_over, self._capture.add_script if self._capture else _ignore,
        )  # fmt: skip
        self._recorder.recording = self._capture is not None or config.http is not None or on_terminal()
        self._recorder.max_frame = config.max_frame or 0
        self._recorder.wall_offset_ns = time.time_ns() - now_ns()
        self._max_clients = config.max_clients or _raise_file_limit()
        self._upstream = Upstream(config.backend, _backend_tls(config), config.connect_timeout, self._backend_changed)
        self._listeners = [
            Listener(address, self._accepting(address, _listen_tls(config, address))) for address in config.listen
        ]

    # ---- start, run, stop -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the addresses, open the capture, ask the backend. Raises ConfigError, ConsoleError."""
        if self._config.max_clients is not None:
            _raise_file_limit()
        try:
            for listener in self._listeners:
                await listener.bind()
        except ListenError as error:
            raise ConfigError(str(error)) from None
        if self._capture is not None:
            try:
                self._capture.start()
            except OSError as error:
                raise ConfigError(
                    f"--capture {self._config.capture}: {error.strerror}; name a directory that can be written"
                ) from None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        if self._config.http is not None:
            self._console = await http.start(self._config.http.host, self._config.http.port, self)
        self._upstream.watch()

    async def run(self) -> None:
        """Serve until asked to stop, then drain."""
        chores = [asyncio.create_task(self._hand_over_often()), asyncio.create_task(self._sweep_often())]
        try:
            await self._stop.wait()
            await self._drain()
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    def _asked_to_stop(self) -> None:
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def _drain(self) -> None:
        self._draining = True
        for listener in self._listeners:
            listener.close()
        for task in list(self._arrivals):
            task.cancel()
        if self._clients:
            _log.info("stopping: %d clients finish what is under way", len(self._clients))
        cut = await drain(self._clients, self._upstream, self._config.drain_timeout, self._stop_now)
        self._counts.drained_cut_off = cut
        if cut:
            pops = sum(client.session.open_pops for client in self._clients)
            _log.warning("stopping: %d clients were cut off with commands under way, %d of them pops", cut, pops)
        while self._clients:
            await asyncio.sleep(0)  # connection_lost of each is already scheduled

    async def stop(self) -> None:
        """Close everything; what was recorded is on disk afterwards."""
        for listener in self._listeners:
            listener.close()
        await self._upstream.close()
        self._hand_over()
        if self._capture is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._capture.close, CAPTURE_CLOSE_S)
        if self._console is not None:
            await self._console.close()

    # ---- clients ----------------------------------------------------------------------------------------------------

    def _accepting(self, address: Address, tls: ssl.SSLContext | None) -> Callable[[socket.socket, str], None]:
        access = _access(address, self._config.backend)

        def accepted(sock: socket.socket, label: str) -> None:
            if len(self._clients) + len(self._arrivals) >= self._max_clients:
                self._counts.clients_refused += 1
                with contextlib.suppress(OSError):
                    sock.send(MAX_CLIENTS_REPLY)
                sock.close()
                return
            task = asyncio.create_task(self._arrive(sock, label, access, tls))
            self._arrivals.add(task)
            task.add_done_callback(self._arrivals.discard)

        return accepted

    async def _arrive(self, sock: socket.socket, label: str, access: Access | None, tls: ssl.SSLContext | None) -> None:
        """Connect to the backend, then read the client: until then its bytes wait in the kernel."""
        session = Session(self._recorder, label.encode(), access)
        loop = asyncio.get_running_loop()
        backend: Backend | None = None
        try:
            backend = await self._upstream.connect(lambda: Backend(session, self._buffer, self._traffic))
            await self._prelude(backend)
            client = Client(session, self._buffer, self._traffic, self._lost)
            client.attach(backend)
            await loop.connect_accepted_socket(lambda: client, sock, ssl=tls)
        except (BackendDown, OSError, ssl.SSLError, asyncio.CancelledError) as error:
            _log.debug("client %s: not served: %s", label, error)
            if backend is not None:
                backend.abort()
            sock.close()
            return
        self._counts.clients_accepted += 1
        if client.lost:
            return
        self._clients[client] = None
        backend.flush_early()
        if self._draining:
            client.close()

    async def _prelude(self, backend: Backend) -> None:
        """AUTH and SELECT, if the backend's URL has credentials or a database. Raises BackendDown, TimeoutError."""
        done = asyncio.get_running_loop().create_future()
        backend.start_prelude(lambda: done.done() or done.set_result(None))
        if not done.done():
            async with asyncio.timeout(self._config.connect_timeout):
                await done
        if backend.session.failure is not None:
            _log.error("backend %s refuses what its URL says: %s", self._upstream.address, backend.session.failure)
            raise BackendDown(backend.session.failure)

    def _lost(self, client: Client) -> None:
        """A client's connection has ended."""
        self._clients.pop(client, None)
        self._closing_since.pop(client, None)
        client.session.finish(now_ns())
        client.detach()

    def _backend_changed(self, up: bool) -> None:
        for listener in self._listeners:
            if not self._draining:
                listener.resume() if up else listener.refuse()
        if up and not self._draining:
            _log.info("listening on %s", ", ".join(listener.address.label for listener in self._listeners))

    # ---- chores -----------------------------------------------------------------------------------------------------

    async def _hand_over_often(self) -> None:
        while True:
            await asyncio.sleep(HAND_OVER_S)
            self._recorder.wall_offset_ns = time.time_ns() - now_ns()
            self._hand_over()

    def _hand_over(self) -> None:
        """One batch of exchanges to every consumer. A consumer that fails is named once, and can't fail the others."""
        batch = self._recorder.take()
        if batch is None:
            return
        for consumer in self._consumers:
            try:
                consumer.consume(batch)
            except Exception:
                self._counts.consumer_errors += 1
                name = type(consumer).__name__
                if name not in self._counts.failing_consumers:
                    self._counts.failing_consumers.add(name)
                    _log.exception("%s failed on a batch; clients are not affected", name)

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._sweep(time.monotonic())

    def _sweep(self, now_s: float) -> None:
        idle_ns = None if self._config.idle_timeout is None else int(self._config.idle_timeout * 1e9)
        clock_ns = now_ns()
        for client in list(self._clients):
            if client.closing:
                if now_s - self._closing_since.setdefault(client, now_s) > LINGER_S:
                    client.abort()
            elif client.reading_held and _is_reset(client):
                self._counts.reset_while_paused += 1
                client.abort()
            elif idle_ns is not None and clock_ns - client.last_ns > idle_ns and _is_idle(client.session):
                self._counts.idle_closed += 1
                client.close()

    # ---- console.metrics.Source -------------------------------------------------------------------------------------

    def engine(self) -> EngineStats:
        """Totals per command."""
        return self._recorder.counters.stats()

    def capture(self) -> CaptureStats | None:
        """The writer's totals; None: nothing is captured."""
        return None if self._capture is None else self._capture.stats()

    def findings(self) -> dict[str, int]:
        """Findings so far, by rule."""
        return self._findings.counts()

    def clients(self) -> int:
        """Clients that are connected."""
        return len(self._clients)

    def backends(self) -> int:
        """Backend connections: in session mode one for each client."""
        return len(self._clients)

    def backend_up(self) -> bool:
        """Whether the backend answers."""
        return self._upstream.up

    def draining(self) -> bool:
        """Whether shunt is being stopped."""
        return self._draining

    def counters(self) -> dict[str, int]:
        """What happened around the data path."""
        counts = self._counts
        return {
            "clients_accepted": counts.clients_accepted,
            "clients_refused": counts.clients_refused,
            "backend_connect_errors": self._upstream.connect_errors,
            "idle_closed": counts.idle_closed,
            "reset_while_paused": counts.reset_while_paused,
            "drained_cut_off": counts.drained_cut_off,
            "consumer_errors": counts.consumer_errors,
            "client_rx_bytes": self._traffic.client_rx,
            "client_tx_bytes": self._traffic.client_tx,
        }


# ---- small parts ----------------------------------------------------------------------------------------------------


def on_terminal() -> bool:
    """Whether someone looks at the live line, which shows findings."""
    return os.isatty(2)


def _ignore(sha: bytes, body: bytes) -> None:
    """Scripts of a run that captures nothing."""


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


def _raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one. Returns how many clients that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return max((soft - SPARE_FILES) // 2, 1)


def _access(listen: Address, backend: Address) -> Access | None:
    """None: nothing of credentials or databases stands in the URLs, and nothing is ever edited."""
    prelude: list[tuple[bytes, ...]] = []
    if backend.password is not None:
        password = backend.password.get_secret_value().encode()
        prelude.append((b"AUTH", backend.user.encode(), password) if backend.user else (b"AUTH", password))
    if backend.db:
        prelude.append((b"SELECT", b"%d" % backend.db))
    if listen.password is None and not prelude:
        return None
    return Access(
        user=listen.user.encode() if listen.user else None,
        password=None if listen.password is None else listen.password.get_secret_value().encode(),
        prelude=tuple(prelude),
        answers=listen.password is not None or backend.password is not None,
        db=backend.db or 0,
    )


def _listen_tls(config: RunConfig, address: Address) -> ssl.SSLContext | None:
    if not address.tls:
        return None
    if config.listen_tls_cert is None or config.listen_tls_key is None:
        raise ConfigError(f"--listen {address}: needs --listen-tls-cert and --listen-tls-key")
    try:
        return server_context(config.listen_tls_cert, config.listen_tls_key, config.listen_tls_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--listen-tls-cert, -key or -ca can't be used: {error}; give PEM files") from None


def _backend_tls(config: RunConfig) -> BackendTls | None:
    if not config.backend.tls:
        return None
    tls = BackendTls(
        config.backend_tls_verify, config.backend_tls_ca, config.backend_tls_cert, config.backend_tls_key
    )
    try:
        tls.context()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--backend-tls-ca, -cert or -key can't be used: {error}; give PEM files") from None
    return tls


def _capture(config: RunConfig) -> CaptureWriter | None:
    if config.capture is None:
        return None
    started_ns = time.time_ns()
    run = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(started_ns // 1_000_000_000)) + f"-{os.getpid()}"
    header = SegmentHeader(run, 0, started_ns, VERSION, config.capture_args, (config.backend.label,))
    limits = CaptureLimits(
        segment_bytes=config.capture_segment_bytes,
        max_bytes=config.capture_max_bytes,
        max_age_s=config.capture_max_age,
        flush_s=config.capture_flush,
    )
    return CaptureWriter(config.capture, header, limits)
