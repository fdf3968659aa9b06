"""A worker's split, joined to the worker: what is refused, who is chosen, and what ends it.

Knows: that reads may go to another server only while all writes go there too and nothing of them is missing, and how
that is watched. Refuses to know: what a mirror must be like (``split_checks``), which command is a read
(``engine.canary_commands``), how a client goes over (``net.canary``), and consoles.

Nothing of it is there while no split runs: nobody is chosen, and who was chosen stands at the backend.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable

from protocol.commands import table
from proxy import split_checks, wiring
from proxy.address import Address
from proxy.capture.glob import Glob
from proxy.capture.writer import CaptureWriter
from proxy.config import RunConfig
from proxy.console.verb import VerbError
from proxy.console.world import SplitAsk
from proxy.engine.canary import Canary
from proxy.engine.canary_commands import ways as ways_of_commands
from proxy.engine.recorder import Recorder
from proxy.mirror.compare import NEVER_EQUAL
from proxy.mirror.feed import Feed
from proxy.mirroring import Mirroring
from proxy.net.canary import CanaryClient, Split
from proxy.net.reception import Reception
from proxy.net.routing import Way, Ways
from proxy.net.tls import BackendTls
from proxy.net.upstream import Upstream
from proxy.routing.split import Addresses, drawn, network
from proxy.routing.table import KeyClass, Table
from proxy.split_checks import LATE_S
from proxy.split_shown import ENDED, Part

_log = logging.getLogger(__name__)

#: The mirror is looked at so often, seconds.
LOOK_S = 0.05
#: So many looks at the mirror later, clients are looked at too: there are many of them.
CLIENTS_EVERY = 10
#: A client whose connection to the target takes longer stays at the backend, seconds.
DIAL_S = 1.0


class Splitting:
    """One worker's. ``seed``: of the draw, at most 64 bytes; None: by chance."""

    def __init__(
        self,
        config: RunConfig,
        reception: Reception,
        upstream: Upstream,
        recorder: Recorder,
        capture: CaptureWriter | None,
        mirroring: Mirroring,
        seed: bytes | None = None,
    ) -> None:
        self._config = config
        self._reception = reception
        self._upstream = upstream
        self._recorder = recorder
        self._capture = capture
        self._mirroring = mirroring
        self._seed = seed
        self._part = Part()
        self._canary: Canary | None = None
        self._target: Upstream | None = None
        self._feed: Feed | None = None
        self._watching: asyncio.Task[None] | None = None
        self._homing: asyncio.Task[None] | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()
        self._past = Counter[str]()
        self._seed_now = b""
        self._number = 0

    # ---- begin and end ----------------------------------------------------------------------------------------------

    async def start(self, ask: SplitAsk) -> tuple[str, list[str]]:
        """Choose among the clients that come from now on; the same again changes nothing. Returns what is so now, and
        notes. Raises VerbError."""
        async with self._changing:
            address, name, addresses = split_checks.address(ask), _glob(ask.name, "NAME"), _addresses(ask)
            if self._part.on:
                return self._change(ask, address, name, addresses), []
            split_checks.possible(self._config, self._reception)
            feed, to = await split_checks.mirror(self._mirroring, address)
            notes = await split_checks.compared(
                self._upstream, Upstream(to, self._tls(to), DIAL_S, lambda up: None), to
            )
            split_checks.possible(self._config, self._reception)  # still
            canary = Canary(_ways(self._recorder), name, self._refused)
            self._begin(ask, feed, to, canary, addresses)
        return f"{ask.said} of new connections read from {to.label}", notes

    def _begin(self, ask: SplitAsk, feed: Feed, to: Address, canary: Canary, addresses: Addresses | None) -> None:
        self._feed, self._canary = feed, canary
        self._target = Upstream(to, self._tls(to), DIAL_S, lambda up: None)
        self._target.meanwhile = "clients of the split read from the backend"
        self._part = Part(ask, True, to.label, time.time())
        self._seed_now = self._seed or secrets.token_bytes(16)
        self._number = 0
        self._reception.split = Split(canary, self._where(to, self._target), self._chooser(ask.percent, addresses))
        self._reception.on_hold = lambda: self.stop("held")
        self._watching = asyncio.create_task(self._watch())
        _log.info("split: %s of new connections read from %s", ask.said, to.label)

    def _change(self, ask: SplitAsk, to: Address, name: re.Pattern[bytes] | None, among: Addresses | None) -> str:
        """Another share, or other clients, from now on; those that are in it stay. Raises VerbError."""
        if to.label != self._part.target:
            raise VerbError(f"reads are split to {self._part.target} already; SPLIT END first")
        if ask == self._part.ask:
            return f"it is so already: {ask.said} of new connections read from {to.label}"
        split, canary = self._reception.split, self._canary
        assert split is not None
        assert canary is not None
        canary.name = name
        self._reception.split = Split(canary, split.ways, self._chooser(ask.percent, among))
        self._part = Part(ask, True, self._part.target, self._part.since_s)
        return f"{ask.said} of new connections read from {to.label} from now on; who reads there already goes on"

    async def end(self) -> str:
        """No client reads elsewhere any more."""
        async with self._changing:
            if not self._part.on:
                return "nothing was split"
            clients, target = self._inside(), self._part.target
            self.stop("asked")
            return f"ended: {clients} connections that read from {target} are back at the backend"

    def stop(self, reason: str, why: str = "") -> None:
        """It is over: what clients send next goes to the backend. ``reason``: one of ENDED."""
        canary, target, watching = self._canary, self._target, self._watching
        if canary is None or target is None:
            return
        canary.on = False
        words = ENDED[reason] + (f": {why}" if why else "")
        self._past.update(_counted(canary))
        self._past[f"split_ended_{reason.replace('-', '_')}"] += 1
        was = self._part
        self._part = Part(
            was.ask, False, was.target, was.since_s, 0, canary.chosen, canary.reads, Counter(canary.left), words
        )
        self._reception.split = self._reception.on_hold = self._canary = self._target = self._feed = None
        if reason != "asked":
            _log.warning("the split to %s ends: %s; all clients read from the backend", was.target, words)
        for client in self._clients():
            client.come_home()
        if self._homing is None or self._homing.done():
            self._homing = asyncio.create_task(self._bring_home())
        if watching is not None and watching is not asyncio.current_task():
            watching.cancel()
        chore = asyncio.create_task(target.close())
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def close(self) -> None:
        """The worker stops."""
        self.stop("shutdown")
        if self._homing is not None:
            self._homing.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)

    # ---- what ends it -----------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        looks = 0
        try:
            while (found := self._wrong(looks % CLIENTS_EVERY == 0)) is None:
                looks += 1
                await asyncio.sleep(LOOK_S)
        except Exception:
            _log.exception("split: the mirror can't be looked at")
            found = "mirror-ended", "as far as can be told; the log says why"
        self.stop(*found)

    def _wrong(self, clients_too: bool) -> tuple[str, str] | None:
        """Why the split must end: one of ENDED, and words."""
        running = self._mirroring.running
        if running is None or running[0] is not self._feed:
            return "mirror-ended", ""
        late = sum(client.stalls(LATE_S) for client in self._clients()) if clients_too else 0
        return ("target-late", f"{late} clients wait") if late else split_checks.trouble(running[0])

    async def _bring_home(self) -> None:
        """Who waits for the target when a split is over waits for it a little longer, and asks the backend then."""
        while there := [client for client in self._clients() if client.session.here and client.session.over]:
            for client in there:
                if client.stalls(LATE_S):
                    client.cut_off()
            await asyncio.sleep(LOOK_S * CLIENTS_EVERY)

    def _clients(self) -> list[CanaryClient]:
        return [client for client in self._reception.clients if isinstance(client, CanaryClient)]

    def _refused(self, command: str, line: bytes) -> None:
        """The target has answered a read with an error, in the middle of that client's replies."""
        words = f"{command}: {line.decode('utf-8', 'backslashreplace')}"
        asyncio.get_running_loop().call_soon(self.stop, "target-error", words)

    # ---- what is shown ----------------------------------------------------------------------------------------------

    def shown(self) -> Part:
        """What it does, or did last."""
        canary, part = self._canary, self._part
        if canary is None:
            return part
        left = Counter(canary.left)
        return Part(part.ask, True, part.target, part.since_s, self._inside(), canary.chosen, canary.reads, left)

    def _inside(self) -> int:
        return sum(not client.session.over for client in self._clients())

    def counters(self) -> dict[str, int]:
        """Totals since the worker's start, for metrics."""
        now = Counter(self._past)
        if self._canary is not None:
            now.update(_counted(self._canary))
        return {"split_connections": 0, "split_reads": 0} | dict(now)

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _where(self, to: Address, upstream: Upstream) -> Ways:
        """To the backend, and to the target."""
        back = self._upstream.address
        names = Table(0, (KeyClass("split", "target", ()),))
        marks = (self._recorder.backend, 0 if self._capture is None else self._capture.backend(to.label))
        return Ways(
            names, (Way(self._upstream, _prelude(back), marks[0]), Way(upstream, _prelude(to), marks[1])), back.db or 0
        )

    def _chooser(self, percent: float, addresses: Addresses | None) -> Callable[[str], bool]:
        def chooses(label: str) -> bool:
            if addresses is not None and not addresses.fits(label):
                return False
            self._number += 1
            return drawn(self._seed_now, self._number, percent)

        return chooses

    def _tls(self, address: Address) -> BackendTls | None:
        return wiring.backend_tls(self._config.model_copy(update={"backend": address}))


def _ways(recorder: Recorder) -> bytes:
    return ways_of_commands(recorder.table.names, dict(table().commands), NEVER_EQUAL)


def _counted(canary: Canary) -> Counter[str]:
    found = Counter({"split_connections": canary.chosen, "split_reads": canary.reads})
    found.update({f"split_left_{why.replace('-', '_')}": count for why, count in canary.left.items()})
    return found


def _prelude(address: Address) -> tuple[tuple[bytes, ...], ...]:
    own = wiring.access(Address("unix", path="/"), address)
    return () if own is None else own.prelude


def _glob(pattern: str | None, what: str) -> re.Pattern[bytes] | None:
    if pattern is None:
        return None
    try:
        return re.compile(Glob.of(pattern).regex, re.DOTALL)
    except ValueError as error:
        raise VerbError(f"the pattern of {what} {error}") from None


def _addresses(ask: SplitAsk) -> Addresses | None:
    if ask.addr is None:
        return None
    net = network(ask.addr)
    return Addresses(net, None if net is not None else _glob(ask.addr, "ADDR"))
