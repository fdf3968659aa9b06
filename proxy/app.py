"""One worker: the only place where the rooms are joined.

Knows: which parts there are, in what order they start and stop, and who gets each batch of exchanges (hop 8).
Refuses to know: what any of them does inside.
"""

# Over 300 lines: the parts, their order, and the numbers that the console asks of them, in one page.

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy import wiring
from proxy.address import Address
from proxy.capture.format import ArgsMode
from proxy.capture.mirrored import SUFFIX as MIRROR_SUFFIX
from proxy.capture.writer import CaptureStats
from proxy.config import ConfigError, RunConfig
from proxy.console.metrics import Source
from proxy.control import Control
from proxy.engine.columns import keep_memory
from proxy.engine.recorder import Recorder
from proxy.engine.stats import EngineStats
from proxy.hands import LocalHands, WorkerHands
from proxy.mirroring import Mirroring
from proxy.net.class_holding import ClassHoldings
from proxy.net.endpoint import now_ns
from proxy.net.fetching import Fetches
from proxy.net.holding import Everything, Holding
from proxy.net.listener import Listener, ListenError
from proxy.net.pool import PoolStats
from proxy.net.reception import Reception
from proxy.net.riding import Riding
from proxy.net.upstream import Upstream
from proxy.outage import OutageHands
from proxy.report.live import LiveFindings
from proxy.splitting import Splitting
from proxy.switchboard import Switchboard

_log = logging.getLogger(__name__)

#: Without a capture, whose flush decides, a batch is handed over at least this often, seconds.
HAND_OVER_S = 1.0
#: Idle, stuck and closing connections are looked at this often, and the two clocks compared, seconds.
SWEEP_S = 1.0
CAPTURE_CLOSE_S = 30.0
#: A worker that makes room for another serves those who have just come for so long before it drains, seconds: who is
#: closed before the first command would take it for a refusal.
NEWCOMERS_S = 1.0


class Consumer(Protocol):
    """Takes batches of exchanges. Must be quick, and must not fail."""

    def consume(self, batch: pa.RecordBatch) -> None: ...


async def serve(config: RunConfig, *, on_ready: Callable[[Source], None] | None = None) -> int:
    """Run one worker until SIGTERM or SIGINT. Returns the exit code. Raises ConfigError, ConsoleError."""
    keep_memory()
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
    """One worker, out of a configuration; a ``console.metrics.Source``.

    ``seat``: its place among several workers, whose supervisor heeds signals and serves HTTP; None: it is alone.
    """

    def __init__(self, config: RunConfig, seat: wiring.Seat | None = None) -> None:
        #: Where traffic goes; None: the supervisor has it.
        self.board = Switchboard(config) if seat is None else None
        config = config if self.board is None else self.board.routed
        self._config = config
        self._seat = seat
        self._owns_sockets = seat is None or seat.owns
        self._consumer_errors = 0
        self._failing_consumers: set[str] = set()
        self._draining = False
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._retiring = False
        self._hurry = asyncio.Event()
        self._findings = LiveFindings(config.target)
        self.stopped = asyncio.Event()  # all is closed but the consoles
        self._capture = wiring.capture(config, seat)
        watched = wiring.on_terminal() if seat is None else seat.watched
        looked_at = config.http is not None or watched  # else nobody can ask for findings
        consumers: list[Consumer | None] = [self._findings if looked_at else None, self._capture]
        self._consumers = [each for each in consumers if each is not None]
        commands = CommandTable(table().commands)
        self._recorder = Recorder(
            commands, ArgsMode[config.capture_args.upper()] if self._capture else ArgsMode.NONE,
            self._hand_over, self._capture.add_script if self._capture else _ignore,
        )  # fmt: skip
        self._recorder.epoch = self.board.route.epoch if self.board is not None else 0 if seat is None else seat.epoch
        self._recorder.recording = bool(self._consumers)
        self._recorder.max_frame = config.max_frame or 0
        self._recorder.wall_offset_ns = time.time_ns() - now_ns()
        self._upstream = Upstream(
            config.backend, wiring.backend_tls(config), config.connect_timeout, self._backend_changed
        )
        self._ways = wiring.ways(config, self._upstream, self._capture, self._recorder.epoch)
        self._reception = Reception(
            self._recorder, self._upstream, wiring.raise_file_limit(config.max_clients), config.connect_timeout,
            config.idle_timeout, wiring.sharing(config, commands, 0 if seat is None else seat.number),
            wiring.rehearsal(config), self._ways,
        )  # fmt: skip
        self.holding = Holding(Everything(self._reception), self._upstream)
        #: The same for each class; None: there are none.
        self.class_holdings = None if self._ways is None else ClassHoldings(self._reception, self._upstream, self._ways)
        self.riding = Riding(
            self._reception, self._upstream, config.ride_through, lambda: wiring.login(self._config),
            lambda: self._backend_changed(self._upstream.up),
        )  # fmt: skip
        if config.pool == "session":
            self._reception.rider = self.riding
        if config.ride_through is not None:
            self._upstream.meanwhile = "clients wait for it"
        #: Asks the backend for what only it knows; None: nothing is captured.
        self.sampler = wiring.sampler(config, self._capture, self._upstream, self._reception)
        self._entrances = wiring.entrances(config)
        self._listeners = [self._listener(index, address) for index, address in enumerate(config.listen)]
        self.hands = WorkerHands(
            config, self._reception, self._upstream, self._entrances, self.holding, self._recorder, self._goes_elsewhere
        )
        mirrored = None if self._capture is None else self._capture.beside(MIRROR_SUFFIX)
        self.mirroring = Mirroring(config, self._reception, self._upstream, self._recorder, mirrored)
        self.splitting = Splitting(
            config, self._reception, self._upstream, self._recorder, self._capture, self.mirroring
        )
        self._fetches = Fetches(self._reception)
        self.control = Control(
            self, config, seat, self._reception, self._upstream, self._entrances, self.hands, self.board,
            self.mirroring, self.splitting, self.riding, OutageHands(self.holding, self.riding, self._fetches),
            self.class_holdings,
        )  # fmt: skip

    # ---- start, run, stop -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the addresses, open the capture, ask the backend. Raises ConfigError, ConsoleError."""
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
        self._reception.open()
        if self._seat is None:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._asked_to_stop)
        await self.control.open()
        self._upstream.watch()
        if self._ways is not None:
            self._ways.watch()
        if self.board is not None:
            self.board.begin(LocalHands(self.hands))

    async def run(self) -> None:
        """Serve until asked to stop, then drain."""
        chores = [asyncio.create_task(self._hand_over_often()), asyncio.create_task(self._sweep_often())]
        chores.append(asyncio.create_task(self.mirroring.save_often()))
        sampler = self.sampler if self._seat is None else None  # of several workers, the supervisor says who asks
        if sampler is not None:
            chores.append(asyncio.create_task(sampler.often()))
        try:
            await self._stop.wait()
            if sampler is not None:
                await sampler.last()
            await self._drain()
        finally:
            for chore in chores:
                chore.cancel()
            await asyncio.gather(*chores, return_exceptions=True)

    def _asked_to_stop(self) -> None:
        self.end(at_once=self._stop.is_set())

    def end(self, *, at_once: bool = False) -> None:
        """Have ``run`` end: once what is under way is done, or ``at_once``."""
        if at_once:
            self._stop_now.set()
        self._hurry.set()
        self._stop.set()

    def retire(self) -> None:
        """Have ``run`` accept nobody any more, and end a little later: another worker takes over the sockets."""
        self._retiring = True
        self._stop.set()

    def take_over(self) -> None:
        """The sockets of a seat that did not own them are its own from now on."""
        self._owns_sockets = True
        self._backend_changed(self._upstream.up)

    async def _drain(self) -> None:
        self._draining = True
        for listener in self._listeners:
            listener.close()
        self._tell()
        if self._retiring:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), NEWCOMERS_S)
        await self._reception.drain(self._config.drain_timeout, self._stop_now)

    async def stop(self) -> None:
        """Close everything; what was recorded is on disk afterwards."""
        for listener in self._listeners:
            listener.close()
        if self.board is not None:
            await self.board.close()
        await self.hands.abandon()
        await self._fetches.go_on()
        await self.holding.close()
        if self.class_holdings is not None:
            await self.class_holdings.close()
        await self.splitting.close()
        await self.mirroring.stop()
        await self.riding.close()
        await self._reception.close()
        await self._upstream.close()
        if self._ways is not None:
            await self._ways.close()
        self._hand_over()
        if self._capture is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._capture.close, CAPTURE_CLOSE_S)
        self.stopped.set()
        await self.control.close()

    def _listener(self, index: int, address: Address) -> Listener:
        entrance = self._entrances[index]
        given = None if self._seat is None else self._seat.sockets[index]
        return Listener(address, lambda sock, label: self._reception.receive(sock, label, entrance), given)

    def _backend_changed(self, up: bool) -> None:
        if self._owns_sockets and not self._draining:
            for listener in self._listeners:
                listener.resume() if up or self.riding.lets_in else listener.refuse()
            if up:
                _log.info("listening on %s", ", ".join(listener.address.label for listener in self._listeners))
        self._tell()

    def _goes_elsewhere(self, config: RunConfig, epoch: int) -> None:
        """Traffic goes to another backend from the next command on."""
        self._config = config
        self._recorder.epoch = epoch
        if self._capture is not None:
            self._recorder.backend = self._capture.backend(config.backend.label)
        self.control.adopt(config)
        self.mirroring.source_changed(config)

    def _tell(self) -> None:
        if self._seat is not None:
            self._seat.tell()

    # ---- chores -----------------------------------------------------------------------------------------------------

    async def _hand_over_often(self) -> None:
        """Have what was recorded on disk within a flush interval. Not oftener: a hand-over takes the clients' time."""
        while True:
            await asyncio.sleep(self._config.capture_flush if self._capture else HAND_OVER_S)
            self._hand_over()
            if self._capture:
                self._capture.flush()

    def _hand_over(self) -> None:
        """One batch of exchanges to every consumer. A consumer that fails is named once, and can't fail the others."""
        batch = self._recorder.take()
        if batch is None:
            return
        for consumer in self._consumers:
            try:
                consumer.consume(batch)
            except Exception:
                self._consumer_errors += 1
                name = type(consumer).__name__
                if name not in self._failing_consumers:
                    self._failing_consumers.add(name)
                    _log.exception("%s failed on a batch; clients are not affected", name)
        soon = asyncio.get_running_loop().call_soon
        soon(self._findings.judge_on, soon)  # a piece in each turn of the loop, behind the clients that wait

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._recorder.wall_offset_ns = time.time_ns() - now_ns()
            self._reception.sweep(time.monotonic())

    # ---- console.metrics.Source -------------------------------------------------------------------------------------

    def engine(self) -> EngineStats:
        """Totals per command."""
        return self._recorder.counters.stats()

    def capture(self) -> CaptureStats | None:
        """The writer's totals; None: nothing is captured."""
        return None if self._capture is None else self._capture.stats()

    def findings(self) -> dict[str, int]:
        """Findings by rule, up to the last exchange."""
        self._hand_over()
        return self._findings.counts()

    def clients(self) -> int:
        """Clients that are connected."""
        return len(self._reception.clients)

    def backends(self) -> int:
        """Backend connections: in session mode one for each client."""
        pool = self.pool()
        return len(self._reception.clients) if pool is None else pool.shared + pool.private + pool.idle

    def pool(self) -> PoolStats | None:
        """Connections that clients share; None: each has its own."""
        return None if self._reception.pool is None else self._reception.pool.stats()

    def backend_up(self) -> bool:
        """Whether the backend answers."""
        return self._upstream.up

    def draining(self) -> bool:
        """Whether shunt is being stopped."""
        return self._draining

    def held_classes(self) -> dict[str, int]:
        """Of each class 1 if it is held, or about to be, else 0; nothing: there are no classes."""
        return {} if self.class_holdings is None else self.class_holdings.held()

    def counters(self) -> dict[str, int]:
        """What happened around the data path."""
        counts, rides = self._reception.counts, self.riding.counts
        more = self.mirroring.counters() | self.splitting.counters()
        return {
            "clients_accepted": counts.accepted,
            "clients_refused": counts.refused,
            "backend_connect_errors": self._upstream.connect_errors,
            "idle_closed": counts.idle_closed,
            "reset_while_paused": counts.reset_while_paused,
            "departed": counts.departed,
            "drained_cut_off": counts.cut_off,
            "consumer_errors": self._consumer_errors,
            "outages": rides.outages,
            "ridden": rides.ridden,
            "resent": rides.resent,
            "ambiguous_fetches": rides.ambiguous_fetches,
            "ambiguous_writes": rides.ambiguous_writes,
            "given_up": rides.given_up,
            **self._holds(),
            "client_rx_bytes": self._reception.traffic.client_rx,
            "client_tx_bytes": self._reception.traffic.client_tx,
        } | more

    def _holds(self) -> dict[str, int]:
        """What holds have done, of all traffic and of classes."""
        counts = [self.holding.counts] + ([] if self.class_holdings is None else self.class_holdings.counts)
        return {
            "holds": sum(each.holds for each in counts),
            "holds_not_quiet": sum(each.aborted for each in counts),
            "holds_expired": sum(each.expired for each in counts),
            "gone_while_held": sum(each.gone for each in counts),
            "transactions_closed": sum(each.transactions_closed for each in counts),
        }


def _ignore(sha: bytes, body: bytes) -> None:
    """Scripts of a run that captures nothing."""
