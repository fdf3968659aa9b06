"""All consoles of one shunt: the one that speaks RESP, the HTTP side, the audit log, opened together.

Knows: what depends on what, and in which order they open and close. Refuses to know: options (``config``), and what the
verbs do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from proxy.address import Address, HostPort
from proxy.console import http
from proxy.console.audit import Audit
from proxy.console.desk import Desk
from proxy.console.door import RUN, DoorError
from proxy.console.http import ConsoleError
from proxy.console.http_verbs import HttpVerbs
from proxy.console.resp import RespConsole
from proxy.console.tokens import TokenError, Tokens
from proxy.console.verb import Verb, VerbError
from proxy.console.verbs import table
from proxy.console.world import Reread, World

_log = logging.getLogger(__name__)
#: A change that is still under way when shunt ends gets this long, seconds.
SETTLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Places:
    """``console`` None: none. ``asked_for``: someone named it, so that failing to open it is an error of the start."""

    console: Address | None = None
    asked_for: bool = False
    audit: Path | None = None
    http: HostPort | None = None
    tokens: Path | None = None


class Consoles:
    """``more``: verbs beside those that every shunt has."""

    def __init__(self, places: Places, world: World, more: Iterable[Verb] = ()) -> None:
        self._places = places
        self._world = world
        self._audit = Audit(places.audit)
        self._tokens = Tokens(places.tokens)
        self._desk = Desk(table(world, self._audit, more), self._audit)
        self.resp: RespConsole | None = None
        self.http: http.HttpConsole | None = None

    async def open(self) -> None:
        """Raises ConsoleError: one line with what to do."""
        try:
            await self._audit.open()
            self._tokens.read()
        except OSError as error:
            raise ConsoleError(f"--audit-log {self._places.audit}: {error.strerror}; name another file") from None
        except TokenError as error:
            raise ConsoleError(str(error)) from None
        if self._places.console is not None:
            await self._open_resp(self._places.console)
        elif not self._places.asked_for:
            _log.info("no console: neither $XDG_RUNTIME_DIR nor %s can be used; --console unix:///path opens one", RUN)
        if self._places.http is not None:
            self.http = await http.start(
                self._places.http.host, self._places.http.port, self._world.source, self._world.workforce,
                HttpVerbs(self._desk, self._tokens).routes(),
            )  # fmt: skip

    async def _open_resp(self, address: Address) -> None:
        console = RespConsole(address, self._desk)
        try:
            await console.open()
        except DoorError as error:
            if self._places.asked_for:
                raise ConsoleError(str(error)) from None
            # Nobody asked for a console here: clients matter more than a second shunt's lack of one.
            _log.error("no console: %s", error)
            return
        self.resp = console

    async def reload(self) -> list[Reread]:
        """Open the audit log's file again, and read the tokens again."""
        done = []
        if self._audit.path is not None:
            try:
                await self._audit.open()
                done.append(Reread("audit-log", "opened again"))
            except OSError as error:
                done.append(Reread("audit-log", f"can't be opened again, the old file is kept: {error.strerror}"))
        if self._tokens.path is not None:
            try:
                self._tokens.read()
                done.append(Reread("http-token-file", f"read again: {len(self._tokens)} tokens"))
            except TokenError as error:
                raise VerbError(str(error)) from None
        return done

    async def close(self) -> None:
        """Last of all: who asked for the end is told that it has come."""
        await self._desk.settled(SETTLE_S)
        if self.resp is not None:
            await self.resp.close()
        if self.http is not None:
            await self.http.close()
        self._audit.close()
