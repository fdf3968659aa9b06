"""The same bytes, to Redis and through shunt: the same bytes come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import RedisServer, Shunt, redis_server, shunt, until
from tests.system.raw_scenarios import SCENARIOS, SESSION_ONLY, Transcript, World, normal
from tests.wire import Address, encode


@pytest.fixture(scope="module")
def through(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shunt]:
    """shunt with a full recording, so that recording is part of what must not be felt."""
    with shunt(redis.url, capture=tmp_path_factory.mktemp("capture")) as running:
        yield running


def clean(redis: RedisServer) -> None:
    for words in ("FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH", "CONFIG SET busy-reply-threshold 5000"):
        assert redis.call(*words.split()) == b"+OK\r\n"


def transcript(name: str, address: Address, redis: RedisServer) -> Transcript:
    clean(redis)
    world = World(address, redis)
    try:
        return [normal(part) for part in SCENARIOS[name](world)]
    finally:
        world.close()
        until(lambda: not redis.held(), what="no client of the scenario is left in Redis")


def marked(name: str) -> Any:
    why = SESSION_ONLY.get(name)
    return pytest.param(name, marks=pytest.mark.session_only(why) if why else ())


@pytest.mark.parametrize("name", [marked(name) for name in SCENARIOS])
def test_the_same_bytes_come_back(name: str, redis: RedisServer, through: Shunt) -> None:
    expected = transcript(name, redis.address, redis)
    got = transcript(name, through.address, redis)
    assert got == expected


@pytest.mark.session_only("a client with nothing in flight outlives its backend connection")
def test_shutdown_ends_every_connection_without_a_reply(tmp_path: Path) -> None:
    heard = []
    for way in ("direct", "through"):
        with redis_server() as server, shunt(server.url, capture=tmp_path / way) as running:
            address = server.address if way == "direct" else running.address
            world = World(address, server)
            other, talk = world.talk(), world.talk()
            other.call("SET", "a", "1")
            talk.send(encode("PING") + encode("SHUTDOWN", "NOSAVE") + encode("PING"))
            heard.append((talk.to_eof(), other.to_eof()))
            until(lambda server=server: not server.process.alive(), what="redis-server has ended")
            world.close()
    assert heard[0] == heard[1]


def test_connections_become_plain_pipes_only_where_the_count_of_replies_cannot_be_known(
    redis: RedisServer, through: Shunt
) -> None:
    """Runs the scenarios whose number of replies the command table tells: none of them may lose count."""
    knowable = [name for name in SCENARIOS if "inside a transaction" not in name and "SYNC" not in name]
    before = through.metric("shunt_plain_pipes_total")
    for name in ("a transaction", "SUBSCRIBE in RESP3 among other commands", "CLIENT REPLY SKIP", "RESET"):
        assert name in knowable
        transcript(name, through.address, redis)
    assert through.metric("shunt_plain_pipes_total") == before
