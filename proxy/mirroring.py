"""A worker's mirror, joined to the worker: who is tapped, how the target is connected to, what is refused.

Knows: the checks before a mirror starts, and that clients that come later are tapped too. Refuses to know: what is sent
(``mirror``), and consoles.

Nothing of it is there while no mirror runs: no session has a tap.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy import wiring
from proxy.address import Address, AddressError
from proxy.capture import mirrored
from proxy.capture.glob import Glob
from proxy.capture.mirrored import Mirrored
from proxy.config import RunConfig
from proxy.console.verb import VerbError
from proxy.console.world import MirrorAsk
from proxy.engine.recorder import Recorder
from proxy.engine.session import Session
from proxy.mirror import shown
from proxy.mirror.counts import Counts
from proxy.mirror.feed import Feed, Place, Shown
from proxy.mirror.selection import Selection, Wish
from proxy.net.reception import Reception
from proxy.net.tls import BackendTls
from proxy.net.upstream import Upstream
from proxy.report.templates import fold_one

_log = logging.getLogger(__name__)

#: What a check may take, seconds.
CHECK_S = 3.0
#: The capture is told so often what a mirror has done by now, seconds.
SAVE_S = 10.0


class Mirroring:
    """One worker's. ``file``: where a capture keeps what it has done; None: nothing is captured."""

    def __init__(
        self,
        config: RunConfig,
        reception: Reception,
        upstream: Upstream,
        recorder: Recorder,
        file: Path | None,
    ) -> None:
        self._config = config
        self._reception = reception
        self._upstream = upstream
        self._recorder = recorder
        self._file = file
        self._ended: list[Mirrored] = []
        self._feed: Feed | None = None
        self._ask: MirrorAsk | None = None
        self._target: Address | None = None
        self._past = Counts()
        self._ending: asyncio.Task[Shown] | None = None
        self._changing = asyncio.Lock()

    async def start(self, ask: MirrorAsk) -> str:
        """Begin; the same again changes nothing. Raises VerbError."""
        async with self._changing:
            if self._feed is not None and ask == self._ask:
                return "it mirrors so already"
            if self._feed is not None:
                raise VerbError("another mirror runs; MIRROR STOP first")
            address, selection = _address(ask, self._config), _selection(ask)
            tls = self._tls(address)
            target = Upstream(address, tls, self._config.connect_timeout, lambda up: None)
            await self._check(target, selection.wish)
            feed = Feed(
                self._recorder.table, _place(address, tls, self._config), self._source(), selection,
                self._config.mirror_buffer, fold_one, self._recorder.script,
            )  # fmt: skip
            feed.start()
            self._feed, self._ask, self._target = feed, ask, address
            self._reception.on_client = self._tap
            for client in self._reception.clients:
                self._tap(client.session)
        return f"mirrors {selection.wish.what} to {address.label}"

    async def stop(self) -> str:
        """End it, once what was copied has arrived or a bound is over."""
        async with self._changing:
            feed = self._untap()
            if feed is None:
                return "nothing was mirrored"
            last = await self._finish(feed)
        dropped = sum(last.counts.dropped.values())
        return f"stopped: {last.counts.answered} effects answered by {last.target}, {dropped} dropped"

    def source_changed(self, config: RunConfig) -> None:
        """Clients' commands go to another backend from now on: a mirror of the old one ends. It would not fit the new
        one, which may be the mirror itself."""
        self._config = config
        feed = self._untap()
        if feed is not None:
            _log.warning("the mirror to %s ends: traffic goes to another backend now", feed.shown().target)
            self._ending = asyncio.create_task(self._finish(feed))

    def _untap(self) -> Feed | None:
        """From here on nothing is copied. Returns what is to be ended."""
        feed, self._feed, self._ask = self._feed, None, None
        if feed is not None:
            self._reception.on_client = None
            for client in self._reception.clients:
                client.session.tapped(None)
            feed.queue.close()
        return feed

    async def _finish(self, feed: Feed) -> Shown:
        await feed.stop()
        last = feed.shown()
        self._past.add(last.counts)
        self._ended.append(shown.record(last))
        await self._write(self._ended)
        return last

    def shown(self) -> Shown | None:
        """What it has done; None: none runs."""
        return None if self._feed is None else self._feed.shown()

    @property
    def running(self) -> tuple[Feed, Selection, Address] | None:
        """The mirror, what of, and where it goes; None: none runs."""
        return None if self._feed is None or self._target is None else (self._feed, self._feed.selection, self._target)

    async def save_often(self) -> None:
        """Have the capture keep what there is by now, again and again."""
        while True:
            await asyncio.sleep(SAVE_S)
            if self._feed is not None:
                await self._write([*self._ended, shown.record(self._feed.shown())])

    async def _write(self, mirrors: list[Mirrored]) -> None:
        if self._file is None:
            return
        try:
            await asyncio.to_thread(mirrored.write, self._file, list(mirrors))
        except OSError as error:
            _log.error("%s: %s; what the mirror has done is not in the capture", self._file, error.strerror)

    def counters(self) -> dict[str, int]:
        """Totals since the worker's start, for metrics."""
        whole = Counts()
        whole.add(self._past)
        if self._feed is not None:
            whole.add(self._feed.shown().counts)
        numbers = {
            "mirror_effects": whole.effects, "mirror_answered": whole.answered, "mirror_late": whole.late,
            "mirror_unverifiable": whole.unverifiable, "mirror_errors": sum(whole.errors.values()),
            "mirror_missed": sum(whole.missed.values()), "mirror_dropped": sum(whole.dropped.values()),
        }  # fmt: skip
        return numbers | {f"mirror_dropped_{why.replace('-', '_')}": n for why, n in whole.dropped.items() if n}

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _tap(self, session: Session) -> None:
        if self._feed is not None:
            session.tapped(self._feed.queue)

    def _tls(self, address: Address) -> BackendTls | None:
        """The certificates that are named for the backend are the target's too."""
        if not address.tls:
            return None
        config = self._config
        return BackendTls(
            config.backend_tls_verify, config.backend_tls_ca, config.backend_tls_cert, config.backend_tls_key
        )

    def _source(self) -> Place:
        """The backend, for shunt's own second questions."""
        return _place(self._upstream.address, wiring.backend_tls(self._config), self._config)

    async def _check(self, target: Upstream, wish: Wish) -> None:
        """Raises VerbError: it does not answer, it is the source, or it follows the source and is written to."""
        there = await _info(target.control(), f"the target {target.address.label}")
        here = await _info(self._upstream.control(), "the backend")
        if there.get("run_id") and there.get("run_id") == here.get("run_id"):
            raise VerbError(f"{target.address.label} is the backend itself (run_id); name another server")
        if not wish.writes:
            return
        if there.get("role") in ("slave", "replica"):
            raise VerbError(
                f"{target.address.label} is a replica and can't be written to; mirror --reads, or promote it"
            )
        replid = there.get("master_replid")
        if here.get("role") in ("slave", "replica") and replid and replid == here.get("master_replid"):
            raise VerbError(
                f"the backend is a replica of {target.address.label}: its writes come back; name another server"
            )


def _address(ask: MirrorAsk, config: RunConfig) -> Address:
    if ask.target is None:
        if config.mirror_target is None:
            raise VerbError("name a target, or start shunt with --mirror-target")
        return config.mirror_target
    try:
        return Address.parse(ask.target)
    except AddressError as error:
        raise VerbError(f"the target: {error}") from None


def _selection(ask: MirrorAsk) -> Selection:
    wish = Wish(ask.what in ("writes", "all"), ask.what in ("reads", "all"), ask.percent, ask.patterns)
    try:
        regexes = [re.compile(Glob.of(pattern).regex, re.DOTALL) for pattern in ask.patterns]
    except ValueError as error:
        raise VerbError(f"a pattern {error}") from None
    return Selection(wish, regexes)


async def _info(control: Redis, who: str) -> dict[str, Any]:
    """INFO's server and replication parts. Raises VerbError."""
    try:
        async with asyncio.timeout(CHECK_S):
            return {**await control.info("server"), **await control.info("replication")}
    except (RedisError, OSError, TimeoutError, ssl.SSLError) as error:
        why = (str(error).splitlines() or [""])[0] or f"no answer within {CHECK_S:g} s"
        raise VerbError(f"{who} can't be asked who it is (INFO): {why}") from None
    finally:
        await control.aclose()


def _place(address: Address, tls: BackendTls | None, config: RunConfig) -> Place:
    """How a lane connects there. It logs in by itself; nobody else's state is touched when it fails."""
    context = None if tls is None else tls.context()

    async def connect(factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(config.connect_timeout):
            if address.scheme == "unix":
                return (await loop.create_unix_connection(factory, address.path))[1]
            name = address.host if context is not None else None
            made = await loop.create_connection(factory, address.host, address.port, ssl=context, server_hostname=name)
            return made[1]

    login = wiring.access(Address("redis", "127.0.0.1", 1), address)
    return Place(address.label, connect, () if login is None else login.prelude, address.db or 0)
