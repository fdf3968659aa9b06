"""The connections that carry what is given back: the one that popped it, or one of shunt's own.

Knows: what of a client's commands a connection still answers, and whether more may be sent over it. Refuses to know:
what is given back, and when (``orphans``).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from redis.exceptions import RedisError, ResponseError

from proxy.engine.giving_back import GiveBack
from proxy.net.backend import Backend
from proxy.net.client import Client
from proxy.net.endpoint import now_ns
from proxy.net.pool import Pool
from proxy.net.sharing import PooledClient, PrivateBackend, Trunk
from proxy.net.upstream import Upstream

_log = logging.getLogger(__name__)

#: The longest that giving back over a connection of shunt's own may take, seconds.
PUSH_S = 2.0


class Line(Protocol):
    """The connection that the gone client's commands went over. ``reads``: replies may come; ``usable``: more may be
    sent over it too."""

    @property
    def reads(self) -> bool: ...
    @property
    def usable(self) -> bool: ...
    def send(self, data: bytes, replies: int) -> None: ...
    def end(self) -> None: ...


class OwnLine:
    """A backend connection of the client's own; ``pool``: whose it is, None: nobody's.

    Where commands wait to be sent it is of no use: they must not run for a client that has gone, and only aborting
    takes them back.
    """

    def __init__(self, backend: Backend, pool: Pool | None) -> None:
        self._backend, self._pool = backend, pool
        lost = backend.lost or backend.closing or backend.eof_received_
        self._stuck = not lost and backend.transport.get_write_buffer_size() > 0

    @property
    def reads(self) -> bool:
        backend = self._backend
        return not (self._stuck or backend.lost or backend.closing or backend.eof_received_)

    @property
    def usable(self) -> bool:
        return self.reads and not self._backend.eof_sent

    def send(self, data: bytes, replies: int) -> None:
        self._backend.write(data)

    def end(self) -> None:
        self._backend.keep_for(None)
        if self._pool is None:
            self._backend.abort()
        elif isinstance(self._backend, PrivateBackend):
            self._pool.retire(self._backend)


class SharedLine:
    """A trunk: others use it too."""

    def __init__(self, client: PooledClient, trunk: Trunk) -> None:
        self._client, self._trunk = client, trunk

    @property
    def reads(self) -> bool:
        return self._trunk.usable

    @property
    def usable(self) -> bool:
        return self._trunk.usable

    def send(self, data: bytes, replies: int) -> None:
        self._client.send_own(data, replies)

    def end(self) -> None:
        self._client.orphan = None


class NoLine:
    """Nothing is to be had any more over what carried the client's commands."""

    reads = usable = False

    def send(self, data: bytes, replies: int) -> None:
        raise AssertionError("no line")

    def end(self) -> None:
        pass


def line_of(client: Client, pool: Pool | None) -> Line:
    """What the client's commands in flight went over. What of them was not sent over a trunk is dropped."""
    backend = client.peer
    if isinstance(backend, Backend):
        return OwnLine(backend, pool)
    if isinstance(client, PooledClient) and client.trunk is not None and not client.session.prelude_pending:
        client.session.drop_unsent(client.session.in_flight - client.trunk.owed(client), now_ns())
        return SharedLine(client, client.trunk)
    return NoLine()


async def push_over(upstream: Upstream, back: GiveBack) -> list[bytes]:
    """Give back over a connection of shunt's own. The first line of each reply; what did not come is left out."""
    control = upstream.control()
    replies: list[bytes] = []
    try:
        async with asyncio.timeout(PUSH_S):
            await control.select(back.db)
            push = {b"LPUSH": control.lpush, b"RPUSH": control.rpush}
            for command in back.commands:
                word, key, *elements = command
                length = await push[word](key, *elements)
                replies.append(b":%d" % length)
    except ResponseError as error:
        replies.append(b"-ERR " + str(error).encode())
    except (RedisError, OSError, TimeoutError) as error:
        _log.debug("giving back to %r: %s", back.key, error)
    finally:
        await control.aclose()
    return replies
