"""The way to a server: name, TCP, TLS, credentials, first answer; and connections of shunt's own.

Knows: how each of these fails, and the certificate that a server shows. Refuses to know: what it means (``checks``).
redis-py speaks; the way there is looked at without it, since it says of a failure only that there was one.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError

from proxy.address import Address
from proxy.cutover.server_facts import Certificate, Place, Reach, ServerFacts, Stage, Unknown
from proxy.net.control_connections import TcpControl, TlsControl, UnixControl

#: Longest wait for a connection, and for one answer, seconds.
CONNECT_S = 5.0
ANSWER_S = 5.0
_DAY_S = 86400.0
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_UNCHECKED = Unknown("it is not checked (tls-verify is none), so nothing is known of it")


def control(place: Place) -> Redis:
    """A connection of shunt's own, in RESP2; the caller closes it. Nothing is tried twice."""
    address = place.address
    options: dict[str, Any] = {
        "username": address.user,
        "password": None if address.password is None else address.password.get_secret_value(),
        "db": address.db or 0,
        "socket_timeout": ANSWER_S,
        "socket_connect_timeout": CONNECT_S,
        "retry": Retry(NoBackoff(), 0),
        "lib_name": None,
        "lib_version": None,
        "protocol": 2,
    }
    kind: type[AbstractConnection] = TcpControl
    if address.scheme == "unix":
        kind = UnixControl
        options["path"] = address.path
    else:
        options |= {"host": address.host, "port": address.port}
    if address.tls:
        kind = TlsControl
        options |= place.tls.redis_options()
    return Redis.from_pool(ConnectionPool(kind, max_connections=1, **options))


async def reach(place: Place, clock: Callable[[], float] = time.time) -> ServerFacts:
    """How far a connection comes, and the certificate on the way. Never raises but for cancellation."""
    began = time.monotonic()
    stage = Stage.CONNECT
    certificate: Certificate | Unknown | None = None
    try:
        async with asyncio.timeout(CONNECT_S):
            writer = await _connected(place.address)
            if place.address.tls:
                stage = Stage.TLS
                await writer.start_tls(place.tls.context(), server_hostname=place.address.host)
                certificate = _certificate(writer, clock)
        writer.transport.abort()
    except (OSError, ssl.SSLError, TimeoutError) as error:
        stage = Stage.NAME if isinstance(error, socket.gaierror) else stage
        return ServerFacts(place, Reach(stage, _why(error), time.monotonic() - began))
    connect_s = time.monotonic() - began
    failed, why = await _first_answer(place)
    return ServerFacts(place, Reach(failed, why, connect_s), certificate)


async def _connected(address: Address) -> asyncio.StreamWriter:
    """Raises OSError."""
    if address.scheme == "unix":
        _, writer = await asyncio.open_unix_connection(address.path)
    else:
        _, writer = await asyncio.open_connection(address.host, address.port)
    return writer


def _certificate(writer: asyncio.StreamWriter, clock: Callable[[], float]) -> Certificate | Unknown:
    shown = writer.get_extra_info("ssl_object").getpeercert()
    if not shown:
        return _UNCHECKED
    expires_s = float(ssl.cert_time_to_seconds(shown["notAfter"]))
    return Certificate(expires_s, (expires_s - clock()) / _DAY_S)


async def _first_answer(place: Place) -> tuple[Stage | None, str]:
    asking = control(place)
    try:
        async with asyncio.timeout(CONNECT_S + ANSWER_S):
            await asking.ping()
    except AuthenticationError as error:
        return Stage.CREDENTIALS, _why(error)
    except NoPermissionError:
        pass  # a user who may not PING is a user all the same
    except BusyLoadingError:
        return Stage.ANSWER, "it is loading its data"
    except (RedisError, OSError, ssl.SSLError, TimeoutError) as error:
        return Stage.ANSWER, _why(error)
    finally:
        await asking.aclose()
    return None, ""


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, socket.gaierror):
        return (error.strerror or "no such name").lower()
    if isinstance(error, OSError):
        named = _ERRNO.search(str(error))  # asyncio joins what it met at several addresses into a text
        number = error.errno or (int(named[1]) if named else None)
        return os.strerror(number).lower() if number else line(error)
    return line(error)


def line(error: BaseException) -> str:
    """An error in one line."""
    return (str(error).splitlines() or [""])[0][:200].rstrip(" .?!") or type(error).__name__
