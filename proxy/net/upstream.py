"""The way to the backend: looking up its name, connecting, and whether it is up.

Knows: that a backend is *down* when connecting to it fails, and *up* again when a probe of shunt's own got an answer
that is not LOADING. Refuses to know: clients and RESP; probes and control commands are redis-py's business.

A name is looked up for each new connection, off the loop, and remembered for at most a second, so that a failover
by DNS is followed at once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from proxy.address import Address
from proxy.net.control_connections import TcpControl, TlsControl, UnixControl
from proxy.net.tls import BackendTls

_log = logging.getLogger(__name__)
_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)

#: How long a looked-up address is used, seconds.
LOOKUP_S = 1.0
#: Between two probes of a backend that is down, seconds: the first, and the longest.
PROBE_FIRST_S = 0.05
PROBE_LONGEST_S = 1.0
#: A probe that has not ended this long after it was cancelled is cancelled again, seconds.
CANCEL_AGAIN_S = 0.1
#: Errors of this machine, not of the backend: too many open files, no free port, no memory.
_OURS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}


class BackendDown(Exception):
    """The backend can't be connected to: one line that says why."""


class Upstream:
    """One backend. ``on_change(up)`` is called whenever it goes down or comes up, and after the first failed probe."""

    def __init__(
        self,
        address: Address,
        tls: BackendTls | None,
        connect_timeout_s: float,
        on_change: Callable[[bool], None],
    ) -> None:
        self.address = address
        self.up = False
        self.connect_errors = 0
        self.meanwhile = "clients are refused until it answers"  # for the log
        self._tls = tls
        self._context = None if tls is None else tls.context()
        self._timeout_s = connect_timeout_s
        self._on_change = on_change
        self._looked_up: tuple[float, list[tuple[str, int]]] = (-LOOKUP_S, [])
        self._probing: asyncio.Task[None] | None = None
        self._doubting: asyncio.Task[None] | None = None

    def renew_tls(self, tls: BackendTls | None) -> None:
        """Connect with these certificates from now on. Raises OSError, ssl.SSLError; then nothing has changed."""
        context = None if tls is None else tls.context()
        self._tls, self._context = tls, context

    def become(self, other: Upstream) -> None:
        """Be the other backend, which answers, from the next connection on."""
        for task in (self._probing, self._doubting):
            if task is not None:
                task.cancel()
        self._probing = self._doubting = None
        self.address, self._tls, self._context = other.address, other._tls, other._context
        self._looked_up = other._looked_up
        if not self.up:
            self.up = True
            self._on_change(True)

    async def connect(self, factory: Callable[[], _Protocol]) -> _Protocol:
        """A new connection.

        Raises BackendDown; unless the fault is this machine's, the backend is down from then on.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._connect(factory)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            self.connect_errors += 1
            why = _why(error, self._timeout_s)
            if getattr(error, "errno", None) not in _OURS:
                self._went_down(why)
            raise BackendDown(why) from None

    async def _connect(self, factory: Callable[[], _Protocol]) -> _Protocol:
        loop = asyncio.get_running_loop()
        address = self.address
        if address.scheme == "unix":
            _, protocol = await loop.create_unix_connection(factory, address.path)
            return protocol
        host = address.host if self._context is not None else None
        places = await self._lookup()
        for place in places[:-1]:
            try:
                _, protocol = await loop.create_connection(factory, *place, ssl=self._context, server_hostname=host)
                return protocol
            except OSError:
                continue  # the next address of the same name
        _, protocol = await loop.create_connection(factory, *places[-1], ssl=self._context, server_hostname=host)
        return protocol

    async def _lookup(self) -> list[tuple[str, int]]:
        """The addresses of the backend's name, as (host, port). Raises OSError."""
        when, places = self._looked_up
        if time.monotonic() - when < LOOKUP_S:
            return places
        found = await asyncio.get_running_loop().getaddrinfo(
            self.address.host, self.address.port, type=socket.SOCK_STREAM
        )
        places = list(dict.fromkeys((str(each[4][0]), int(each[4][1])) for each in found))
        self._looked_up = (time.monotonic(), places)
        return places

    # ---- up and down ------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Find out whether the backend is up, and tell; called at start, when nothing is known yet."""
        if self._probing is None:
            self._probing = asyncio.create_task(self._probe_until_up())

    def doubt(self) -> None:
        """A connection ended that should not have: find out whether the backend is down."""
        if self.up and self._doubting is None:
            self._doubting = asyncio.create_task(self._ask_once())

    async def _ask_once(self) -> None:
        why = await self.probe()
        self._doubting = None
        if why is not None:
            self._went_down(why)

    def _went_down(self, why: str) -> None:
        if self.up:
            self.up = False
            _log.warning("backend %s is down: %s; %s", self.address.label, why, self.meanwhile)
            self._on_change(False)
        if self._probing is None:
            self.watch()

    async def _probe_until_up(self) -> None:
        delay_s = PROBE_FIRST_S
        said = None
        while (why := await self.probe()) is not None:
            if said is None:
                self._on_change(False)
            if why != said:
                _log.warning("backend %s does not answer: %s; trying again", self.address.label, why)
                said = why
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, PROBE_LONGEST_S)
        self._probing = None
        self.up = True
        _log.info("backend %s is up", self.address.label)
        self._on_change(True)

    async def probe(self) -> str | None:
        """Ask PING on a connection of its own. None: it answered; else one line that says why it is not up."""
        control = self.control()
        try:
            async with asyncio.timeout(self._timeout_s + 1):
                await control.ping()
        except BusyLoadingError:
            return "it is loading its data"
        except AuthenticationError as error:
            return f"it refuses the credentials in its URL: {error}" if self.address.has_credentials else None
        except ResponseError:
            return None  # it answers, be it with an error (NOAUTH, BUSY)
        except (RedisError, OSError, TimeoutError, ssl.SSLError) as error:
            return _why(error, self._timeout_s)
        finally:
            await control.aclose()
        return None

    def control(self) -> Redis:
        """A connection for shunt's own commands, never used for a client's. The caller closes it."""
        address = self.address
        options: dict[str, Any] = {
            "username": address.user,
            "password": None if address.password is None else address.password.get_secret_value(),
            "socket_timeout": self._timeout_s + 1,
            "socket_connect_timeout": self._timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "lib_name": None,
            "lib_version": None,
            "protocol": 2,
        }
        if address.scheme == "unix":
            kind: type[AbstractConnection] = UnixControl
            options["path"] = address.path
        else:
            kind = TcpControl if self._tls is None else TlsControl
            options |= {"host": address.host, "port": address.port}
            options |= {} if self._tls is None else self._tls.redis_options()
        return Redis.from_pool(ConnectionPool(kind, max_connections=1, **options))

    async def close(self) -> None:
        """Stop probing. redis-py goes on if it is cancelled while its AUTH is refused: then it is told again."""
        for task in (self._probing, self._doubting):
            while task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=CANCEL_AGAIN_S)


def _why(error: BaseException, timeout_s: float) -> str:
    """One line for people."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).splitlines()[0] if str(error) else type(error).__name__
