"""Where a shunt's traffic goes, and moving it: the route record, the backends by name, one switch at a time.

Knows: what a target's name or URL means, and that the record wins over ``--backend``. Refuses to know: how clients are
moved (``hands``: of one worker, or the supervisor's of all), and the steps of a switch (``cutover``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from pydantic_core import PydanticCustomError

from proxy import config_checks, wiring
from proxy.address import Address, AddressError
from proxy.config import ConfigError, RunConfig
from proxy.console.verb import Value, VerbError
from proxy.console.world import Switched
from proxy.cutover.classes import agree
from proxy.cutover.failpoints import Failpoints
from proxy.cutover.finding import Level, Side
from proxy.cutover.preflight import preflight
from proxy.cutover.record import Recorded, RecordError, RouteFile
from proxy.cutover.replication import Server
from proxy.cutover.server_facts import Place
from proxy.cutover.switching import Hands, SwitchFailed, Switching, Target
from proxy.net.tls import BackendTls
from proxy.net.upstream import Upstream
from proxy.routing.route import MAIN, Backend, Fence, Route

_log = logging.getLogger(__name__)

CLASSES = (
    "with --classes traffic can't be switched: keys live on several Redis, and a switch moves all clients to one; move "
    "the data of a class by other means, then shunt route set CLASS=URL and start shunt again"
)
#: In this time clients must have gone over to another backend, at the end of a maintenance, seconds.
MOVE_S = 0.8
NO_FILE = "traffic can only be moved where shunt was started with --route-file FILE: a restart must know where it goes"


class Switchboard:
    """``config``: as the flags have it. ``routed``: with the backend that the record names. Raises ConfigError."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._file = None if config.route_file is None else RouteFile(config.route_file)
        self._switching: Switching | None = None
        main = Backend(MAIN, config.backend.bare)
        self._recorded = Recorded(Route(0, main))
        if self._file is not None:
            try:
                self._file.lock()
                self._recorded = self._file.read() or self._recorded
            except RecordError as error:
                raise ConfigError(str(error)) from None
        self.routed = config.model_copy(update={"backend": self._address(self.route.backend)})
        self._place_classes()
        if self.route.epoch and self.route.backend.url != main.url:
            _log.warning(
                "traffic goes to %s, as %s says (since %s), and not to --backend %s",
                self.route.backend.url, config.route_file, self.route.at, config.backend.label,
            )  # fmt: skip

    def _place_classes(self) -> None:
        """Bring the classes of the flags and of the record together, and have the record say it. Raises ConfigError."""
        urls = {named.name: named.address.bare for named in self._config.backends}
        try:
            agreed = agree(self._config.classes, self.route.classes, {MAIN: self.routed.backend.bare} | urls)
            self.routed = self.routed.model_copy(update={"classes": list(agreed.classes)})
            config_checks.classes(self.routed)
            if agreed.record != self.route.classes:
                self._record(agreed.record)
        except RecordError as error:
            raise ConfigError(str(error)) from None
        except PydanticCustomError as error:
            raise ConfigError(f"--classes, as --route-file {self._config.route_file} has them: {error}") from None
        for note in agreed.notes:
            _log.warning("%s", note)

    def _record(self, classes: tuple[tuple[str, Backend], ...]) -> None:
        """Raises RecordError."""
        if self._file is None:
            self._recorded = Recorded(replace(self.route, classes=classes))
            return
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        recorded = self._recorded.then(self.route.having(classes, at=at, by="shunt run"))
        self._file.prepare(recorded)
        self._file.commit()
        self._recorded = recorded

    @property
    def route(self) -> Route:
        return self._recorded.route if self._switching is None else self._switching.recorded.route

    @property
    def switching(self) -> bool:
        """Whether a switch is under way."""
        return self._switching is not None and self._switching.under_way

    def begin(self, hands: Hands) -> None:
        """Be able to switch, and finish what another process had begun."""
        if self._file is not None:
            self._switching = Switching(
                hands, self._file, self._recorded, self._target, self._look, Failpoints(os.environ)
            )
            self._switching.finish_later()

    async def close(self) -> None:
        """Let another process have the record."""
        if self._switching is not None:
            await self._switching.close()
        if self._file is not None:
            self._file.unlock()

    def adopt(self, config: RunConfig) -> None:
        """The configuration was read again: there may be other names."""
        self._config = self._config.model_copy(update={"backends": config.backends})

    # ---- moving traffic ---------------------------------------------------------------------------------------------

    async def switch(
        self, target: str, budget_s: float, follow: bool, by: str, progress: Callable[[str], None]
    ) -> Switched:
        """Have all traffic go to ``target``, a name or a URL. Raises VerbError."""
        return await self._go(self._named(target), budget_s, follow, by, progress)

    async def move(self, target: str, by: str, progress: Callable[[str], None]) -> str:
        """The same at the end of a maintenance. Returns what is to be said of it. Raises VerbError."""
        done = await self.switch(target, MOVE_S, False, by, progress)
        return f"{done.clients} clients go to {done.url} now"

    async def rollback(self, budget_s: float, by: str, progress: Callable[[str], None]) -> Switched:
        """Have it go where it went before; by replication, if that Redis follows. Raises VerbError."""
        route = self.route
        if route.previous is None:
            raise VerbError("there was no switch: traffic goes where it always went")
        if route.fence is Fence.PENDING:
            raise VerbError(
                f"{route.previous.url} does not follow {route.backend.url} yet, so it lacks what was written since; "
                "the log says why; shunt switch moves traffic there all the same"
            )
        return await self._go(self._target(route.previous), budget_s, route.fence is Fence.DONE, by, progress)

    async def _go(
        self, target: Target, budget_s: float, follow: bool, by: str, progress: Callable[[str], None]
    ) -> Switched:
        if self.routed.classes:
            raise VerbError(CLASSES)
        if self._switching is None:
            raise VerbError(NO_FILE)
        try:
            done = await self._switching.switch(target, budget_s=budget_s, follow=follow, by=by, progress=progress)
        except SwitchFailed as error:
            raise VerbError(f"not switched: {error}") from None
        notes = []
        if done.unfenced is not None:
            notes.append(f"the source does not follow yet, which is being tried on: {done.unfenced}")
        if done.strayed_bytes:
            notes.append(
                f"{done.strayed_bytes:,} bytes were written at the source past shunt meanwhile, and are lost; keys "
                "that expired there count too, and expire at the target as well"
            )
        held_ms = round(done.held_s * 1000, 1)
        return Switched(done.route.epoch, done.route.backend.url, done.clients, done.closed, held_ms, tuple(notes))

    async def _look(self, source: Target, target: Target, follow: bool) -> list[str]:
        """The quick checks of a preflight. A source that is not there is no reason to stay."""
        one, other = (Place(each.server.address, self._tls(each.server.address)) for each in (source, target))
        found = await preflight(one, other, follow=follow, quick=True)
        gone = any(each.check == "reach" and each.side is Side.SOURCE and each.level is Level.FAIL
                   for each in found.findings)  # fmt: skip
        return [
            f"{each.text} {each.do}".rstrip(". ")
            for each in found.findings
            if each.level is Level.FAIL and not (gone and not follow and each.side is Side.SOURCE)
        ]

    def _tls(self, address: Address) -> BackendTls:
        config = self._config.model_copy(update={"backend": address})
        return wiring.backend_tls(config) or BackendTls()

    def here(self) -> Server:
        """The Redis that traffic goes to."""
        return self._target(self.route.backend).server

    def server(self, target: str) -> Server:
        """The Redis that a name or a URL means. Raises VerbError."""
        if self._file is None:
            raise VerbError(NO_FILE)
        return self._named(target).server

    # ---- telling ----------------------------------------------------------------------------------------------------

    def routes(self) -> list[dict[str, Value]]:
        """The route in force and those before it, newest first."""
        recorded = self._recorded if self._switching is None else self._switching.recorded
        rows = [_row(route, route is recorded.route) for route in (recorded.route, *recorded.history)]
        for each in self.routed.classes:
            rows[0][f"class {each.name}"] = f"{each.backend}: {each.written}"
        return rows

    def backends(self) -> list[tuple[str, Address]]:
        """Every backend by name."""
        return [(MAIN, self._config.backend), *((named.name, named.address) for named in self._config.backends)]

    # ---- names ------------------------------------------------------------------------------------------------------

    def _named(self, text: str) -> Target:
        for name, address in self.backends():
            if text == name:
                return self._target(Backend(name, address.bare))
        try:
            address = Address.parse(text)
        except AddressError as error:
            names = ", ".join(name for name, _ in self.backends())
            raise VerbError(f"{error}; or one of the names {names} (--backends gives names)") from None
        if address.has_credentials:
            raise VerbError(
                "a URL with credentials would end up in files; put it into the configuration under a name "
                "(SHUNT_BACKENDS, or backends in the file: new=redis://…), shunt reload, and switch to the name"
            )
        if address.scheme != "unix" and address.port == 0:
            raise VerbError("port 0 can't be connected to; name the port of the target")
        known = next((name for name, each in self.backends() if each.bare == address.bare), address.bare)
        return self._target(Backend(known, address.bare))

    def _target(self, backend: Backend) -> Target:
        address = self._address(backend)
        config = self._config.model_copy(update={"backend": address})
        upstream = Upstream(address, wiring.backend_tls(config), config.connect_timeout, lambda up: None)
        return Target(backend, Server(address, upstream.control))

    def _address(self, backend: Backend) -> Address:
        """With its credentials, if the configuration still names it."""
        for name, address in self.backends():
            if name == backend.name and address.bare == backend.url:
                return address
        try:
            return next((each for _, each in self.backends() if each.bare == backend.url), Address.parse(backend.url))
        except AddressError as error:
            raise ConfigError(f"--route-file {self._config.route_file}: {error}") from None


def unmaintainable(config: RunConfig) -> str | None:
    """Why there is no planned outage with these options: one line; None: there may be one."""
    if config.pool == "shared":
        return "maintenance needs --pool session: clients that share connections can't be taken along"
    if config.classes:
        return "with --classes there is no maintenance: it is one backend's, and keys live on several"
    return None


def _row(route: Route, in_force: bool) -> dict[str, Value]:
    return {
        "epoch": route.epoch,
        "in_force": in_force,
        "backend": route.backend.name,
        "url": route.backend.url,
        "previous": None if route.previous is None else route.previous.url,
        "previous_follows": str(route.fence),
        "at": route.at or None,
        "by": route.by or None,
    }
