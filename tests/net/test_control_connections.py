"""A connection of shunt's own that has closed is an error of Redis, whatever the event loop calls it."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from proxy.address import Address
from proxy.net.upstream import Upstream
from tests.servers import RedisServer


def test_a_write_to_a_connection_that_has_closed_is_a_connection_error(redis: RedisServer) -> None:
    async def scene() -> None:
        control = Upstream(Address.parse(redis.url), None, 1.0, lambda up: None).control()
        assert await control.ping()
        [connection] = control.connection_pool._available_connections
        connection._writer.transport.abort()
        await asyncio.sleep(0)  # the transport closes in the next turn
        with pytest.raises(RedisConnectionError, match="closed the connection"):
            await connection.send_command("PING", check_health=False)
        await control.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())
