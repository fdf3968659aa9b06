"""redis-py's connections, on uvloop: a write to a connection that has just closed is a redis ConnectionError.

uvloop raises RuntimeError for it where asyncio raises nothing, and redis-py knows OSError only. Who asks a server that
is going away (a planned outage, a switch) would otherwise be met by an error that nobody expects.
"""

from __future__ import annotations

from collections.abc import Iterable

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError


class _Closable(AbstractConnection):
    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Raises redis' ConnectionError and TimeoutError."""
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise RedisConnectionError(f"it closed the connection ({error})") from None


class TcpControl(_Closable, Connection):
    """Over TCP."""


class TlsControl(_Closable, SSLConnection):
    """Over TLS."""


class UnixControl(_Closable, UnixDomainSocketConnection):
    """Over a unix socket."""
