"""What the console can learn of one worker and do with it: a ``console.world.World`` over the worker's parts.

Knows: how a client is shown, how clients are ended, what is read again without a restart. Refuses to know: verbs and
consoles, and other workers: with several, the supervisor asks each of them the QUESTIONS below.
"""

# Over 300 lines: what a World can be asked, a method each.
from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from proxy import config_in_use, wiring
from proxy.config import ConfigError, RunConfig
from proxy.console.consoles import Consoles
from proxy.console.metrics import Source
from proxy.console.verb import Value, VerbError
from proxy.console.world import (
    Aim,
    ClientRow,
    Held,
    Killed,
    MirrorAsk,
    MirrorShown,
    Progress,
    Released,
    Reread,
    SplitAsk,
)
from proxy.cutover.maintenance import Maintenance, MaintenanceFailed
from proxy.cutover.replication import Server
from proxy.engine.pooled import PooledSession
from proxy.engine.routed import RoutedSession
from proxy.engine.session import Session
from proxy.hands import TRANSACTIONS_SHARE, WorkerHands
from proxy.mirror.feed import Shown
from proxy.mirror_shown import mirror_shown
from proxy.mirroring import Mirroring
from proxy.net.class_holding import ClassHoldings, Freed
from proxy.net.client import Client
from proxy.net.endpoint import now_ns
from proxy.net.moving import CantMove
from proxy.net.reception import Entrance, Reception
from proxy.net.riding import Riding
from proxy.net.sharing import PooledClient
from proxy.net.upstream import Upstream
from proxy.outage import OutageHands
from proxy.routing.gate import Budget, State
from proxy.routing.table import chosen
from proxy.split_shown import Part, facts
from proxy.splitting import Splitting
from proxy.switchboard import Switchboard, unmaintainable

#: A client that is ended at once is gone within this time, seconds.
ABORT_S = 2.0
#: Between two lines of progress, seconds.
PROGRESS_S = 0.2


class Ending(Source, Protocol):
    """What can be ended: the worker."""

    stopped: asyncio.Event

    def end(self, *, at_once: bool = False) -> None: ...


class Control:
    """``consoles``: those of this worker, if it is alone."""

    workforce = None

    def __init__(
        self,
        app: Ending,
        config: RunConfig,
        seat: wiring.Seat | None,
        reception: Reception,
        upstream: Upstream,
        entrances: list[Entrance],
        hands: WorkerHands,
        board: Switchboard | None,
        mirroring: Mirroring,
        splitting: Splitting,
        riding: Riding,
        outage: OutageHands,
        by_class: ClassHoldings | None,
    ) -> None:
        self.source: Source = app
        self._app = app
        self._config = config
        self._number = 0 if seat is None else seat.number
        self._reception = reception
        self._upstream = upstream
        self._entrances = entrances
        self.hands = hands
        self.board = board
        self._mirroring = mirroring
        self._splitting = splitting
        self._riding = riding
        self.outage = outage
        self._by_class = by_class
        self._maintenance = Maintenance(outage, self._here, self._find, self._move)
        self._started = datetime.now(UTC)
        self.consoles = Consoles(config_in_use.places(config), self) if seat is None else None

    def adopt(self, config: RunConfig) -> None:
        """Traffic goes to another backend."""
        self._config = self._config.model_copy(update={"backend": config.backend})

    async def open(self) -> None:
        """Open the consoles. Raises ConsoleError."""
        if self.consoles is not None:
            await self.consoles.open()

    async def close(self) -> None:
        """Close them, last of all."""
        if self.consoles is not None:
            await self.consoles.close()

    # ---- console.world.World ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Value]:
        """What SHOW STATE shows beside what ``source`` tells."""
        resp = None if self.consoles is None else self.consoles.resp
        state = config_in_use.state(self._config, self._started, None if resp is None else resp.address)
        state |= {"gate": str(self.hands.gate), "epoch": 0 if self.board is None else self.board.route.epoch}
        return state | {"ride": str(self._riding.machine.state), "clients_waiting": self._riding.waiting}

    def options(self) -> list[dict[str, Value]]:
        """Every option."""
        return config_in_use.listing(self._config)

    async def refresh(self) -> None:
        """Nothing is to be done: the source is here."""

    async def clients(self, progress: Progress = lambda line: None) -> tuple[list[ClientRow], list[str]]:
        """All clients."""
        return [row for row, _ in self._rows()], []

    async def sockets(self, progress: Progress = lambda line: None) -> tuple[list[str], list[str]]:
        """Where the connections to the backend are."""
        return await self._reception.addresses(), []

    async def kill(self, aim: Aim, at_once: bool, progress: Progress) -> tuple[Killed, list[str]]:
        """End clients at their next command boundary, or ``at_once``."""
        by_id = {row.id: (row, client) for row, client in self._rows()}
        found = aim.fits([row for row, _ in by_id.values()])
        if not found:
            return Killed(), []
        timeout_s = ABORT_S if at_once else self._config.drain_timeout
        progress(f"clients that finish what is under way, within {timeout_s:g} s: {len(found)}")
        left, pops = await self._reception.end([by_id[row.id][1] for row in found], timeout_s, at_once)
        labels = tuple(client.session.addr.decode(errors="replace") for client in left)
        return Killed(len(found) - len(left), labels, pops), []

    async def reload(self, progress: Progress) -> list[Reread]:
        """Read again what can be. Raises VerbError: nothing was changed."""
        try:
            new = config_in_use.again(self._config)
        except ConfigError as error:
            raise VerbError(str(error)) from None
        if self.board is not None and self.board.route.epoch:
            new = new.model_copy(update={"backend": self._config.backend})  # the route record's word
        done = config_in_use.differences(self._config, new)
        done += await self.reread(new.log_level, progress)
        self._config = config_in_use.taking_up(self._config, new)
        if self.board is not None:
            self.board.adopt(self._config)
        if self.consoles is not None:
            done += await self.consoles.reload()
        return done or [Reread("options", "nothing has changed, and no certificates or tokens are in use")]

    async def shutdown(self, at_once: bool, progress: Progress) -> str:
        """End the worker."""
        self._app.end(at_once=at_once)
        while not self._app.stopped.is_set():
            progress(f"clients left: {self._app.clients()}")
            try:
                await asyncio.wait_for(self._app.stopped.wait(), PROGRESS_S)
            except TimeoutError:
                continue
        cut_off = self._app.counters()["drained_cut_off"]
        return f"shunt has ended; {cut_off} clients were cut off with commands under way"

    async def hold(self, quiet_s: float, limit_s: float, classes: tuple[str, ...], progress: Progress) -> Held:
        """Hold all traffic, or these classes. Raises VerbError: it did not become quiet in time, and goes on as before;
        or there is no such class."""
        if classes:
            return await self._hold_classes(
                Budget(quiet_s, limit_s, 0.0, quiet_s * TRANSACTIONS_SHARE), classes, progress
            )
        try:
            clients, seconds = await self.hands.hold(quiet_s, limit_s, progress)
        except CantMove as error:
            raise VerbError(f"not held: {error}; try again, or give it longer") from None
        return Held(clients, seconds)

    async def _hold_classes(self, budget: Budget, classes: tuple[str, ...], progress: Progress) -> Held:
        names = self._names(classes)
        assert self._by_class is not None
        outcome = await self._by_class.hold(names, budget, progress)
        if not outcome.held:
            raise VerbError(f"not held: {outcome.why}; try again, or give it longer")
        return Held(outcome.clients, outcome.seconds)

    def _names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Raises VerbError."""
        try:
            return chosen(self._config.classes, classes)
        except ValueError as error:
            raise VerbError(str(error)) from None

    async def release(self, classes: tuple[str, ...] = (), progress: Progress = lambda line: None) -> Released:
        """Let these classes go on; none: whatever is held. Raises VerbError: a switch holds it, or there is no such
        class."""
        names = self._names(classes)
        if self.board is not None and self.board.switching:
            raise VerbError("a switch holds traffic, and lets it go on at its end, or when its time is over")
        freed = Freed(False, 0, 0) if self._by_class is None else self._by_class.release(names)
        if names or (freed.held and self.hands.gate is State.OPEN):
            return Released(freed.clients, freed.gone, freed.held)
        held, clients = self.hands.gate is not State.OPEN, self.hands.held_clients
        return Released(clients, freed.gone + await self.hands.release(), held)

    async def mirror_start(self, ask: MirrorAsk, progress: Progress) -> str:
        """Mirror from now on. Raises VerbError."""
        return await self._mirroring.start(ask)

    async def mirror_stop(self, progress: Progress) -> str:
        """No longer."""
        return await self._mirroring.stop()

    async def mirror_shown(self) -> MirrorShown:
        """What this worker's mirror has done."""
        return mirror_shown([await self.mirror_part()])

    async def mirror_part(self, progress: Progress = lambda line: None) -> Shown | None:
        """The same, to be put together with other workers'."""
        return self._mirroring.shown()

    async def split_start(self, ask: SplitAsk, progress: Progress) -> tuple[str, list[str]]:
        """Have a share of new connections read elsewhere. Raises VerbError."""
        return await self._splitting.start(ask)

    async def split_end(self, progress: Progress) -> str:
        """No longer."""
        return await self._splitting.end()

    async def split_shown(self) -> tuple[dict[str, Value], list[str]]:
        """What this worker's split does."""
        return facts([await self.split_part()], time.time()), []

    async def split_part(self, progress: Progress = lambda line: None) -> Part:
        """The same, to be put together with other workers'."""
        return self._splitting.shown()

    async def split_stop(self, why: str, progress: Progress) -> None:
        """It has ended in another worker."""
        self._splitting.stop("another-worker", why)

    async def maintain(self, limit_s: float, to: str | None, by: str, progress: Progress) -> list[dict[str, Value]]:
        """Walk through a planned outage. Raises VerbError: traffic goes on."""
        why = unmaintainable(self._config)
        if why is not None:
            raise VerbError(why)
        try:
            return await self._maintenance.run(limit_s, to, by, progress)
        except MaintenanceFailed as error:
            raise VerbError(str(error)) from None

    def end_maintenance(self, is_done: bool) -> None:
        """The work is done, or is to be aborted. Raises VerbError: none is under way."""
        if not (self._maintenance.done() if is_done else self._maintenance.abort()):
            raise VerbError("no maintenance is under way")

    def _here(self) -> Server:
        return Server(self._upstream.address, self._upstream.control)

    def _find(self, name: str) -> Server:
        if self.board is None:
            raise VerbError("this process has no routes; ask the supervisor's console")
        return self.board.server(name)

    async def _move(self, to: str, by: str, progress: Progress) -> str:
        assert self.board is not None
        return await self.board.move(to, by, progress)

    # ---- what several workers are asked -----------------------------------------------------------------------------

    async def reread(self, log_level: str, progress: Progress) -> list[Reread]:
        """Take up the log level, and read certificates again. Raises VerbError: nothing was changed."""
        try:
            contexts = [wiring.listen_tls(self._config, address) for address in self._config.listen]
            self._upstream.renew_tls(wiring.backend_tls(self._config))
        except (ConfigError, OSError, ssl.SSLError) as error:
            raise VerbError(f"{error}; the old certificates are kept, nothing was changed") from None
        done = []
        for entrance, context, address in zip(self._entrances, contexts, self._config.listen, strict=True):
            entrance.tls = context
            if context is not None:
                done.append(Reread(f"certificates of --listen {address}", "read again: for new connections"))
        if self._config.backend.tls:
            done.append(Reread(f"certificates for --backend {self._config.backend}", "read again: for new connections"))
        logging.getLogger().setLevel(log_level.upper())
        self._config = self._config.model_copy(update={"log_level": log_level})
        return done

    def _rows(self) -> list[tuple[ClientRow, Client]]:
        now = now_ns()
        return [(self._row(client, since, now), client) for client, since in self._reception.clients.items()]

    def _row(self, client: Client, since_ns: int, now: int) -> ClientRow:
        session = client.session
        return ClientRow(
            id=f"{self._number}:{session.conn}",
            addr=session.addr.decode(errors="replace"),
            name=session.name.decode(errors="replace"),
            db=session.db,
            age=(now - since_ns) // 10**9,
            idle=max(now - client.last_ns, 0) // 10**9,
            in_flight=session.in_flight,
            state=_state(session),
            phase=_phase(client),
        )


#: What the supervisor asks a worker, by the name in ``supervisor.messages.Ask``.
QUESTIONS: dict[str, Callable[..., Awaitable[Any]]] = {
    "mirror_start": Control.mirror_start,
    "mirror_stop": Control.mirror_stop,
    "mirror_part": Control.mirror_part,
    "split_start": Control.split_start,
    "split_end": Control.split_end,
    "split_part": Control.split_part,
    "split_stop": Control.split_stop,
    "clients": Control.clients,
    "sockets": Control.sockets,
    "kill": Control.kill,
    "reread": Control.reread,
    "hold": Control.hold,
    "release": Control.release,
    "warm": lambda control, address, progress: control.hands.warm(address),
    "hold for a switch": lambda control, quiet_s, limit_s, progress: control.hands.hold(quiet_s, limit_s, progress),
    "introduce": lambda control, progress: control.hands.introduce(),
    "scripts": lambda control, progress: control.hands.scripts(),
    "spoil": lambda control, progress: control.hands.spoil(),
    "pin": lambda control, progress: control.hands.pin(),
    "move": lambda control, address, epoch, progress: control.hands.move(address, epoch),
    "let go": lambda control, progress: control.hands.release(),
    "abandon": lambda control, progress: control.hands.abandon(),
    "standing": lambda control, progress: control.outage.standing(),
    "stop fetches": lambda control, progress: control.outage.stop_fetches(),
    "hold for an outage": lambda control, quiet_s, limit_s, progress: control.outage.hold(quiet_s, limit_s, progress),
    "outage over": lambda control, progress: control.outage.go_on(),
}


def _state(session: Session) -> str:
    """In one word, what a command boundary has to do with it: the first that is true."""
    states = (
        ("pipe", session.piped), ("held", isinstance(session, RoutedSession) and session.waits),
        ("blocked", session.blocked), ("multi", session.in_transaction),
        ("watch", session.watching), ("subscribed", session.listening),
    )  # fmt: skip
    return next((name for name, is_so in states if is_so), "plain")


def _phase(client: Client) -> str:
    """Whose backend connection carries what it sends."""
    if not isinstance(client, PooledClient):
        return "own"
    if client.waiting:
        return "waiting"
    return "private" if isinstance(client.session, PooledSession) and client.session.private else "shared"
