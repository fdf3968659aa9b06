"""A planned outage, step by step: what is compared, what ends it, and that traffic always goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.console.verb import VerbError
from proxy.cutover.maintenance import Facts, differences
from proxy.routing.gate import State
from tests.net.test_holding import LONG, World, play
from tests.net.test_riding import calm
from tests.servers import RedisServer, redis_server

pytestmark = pytest.mark.session_only("a planned outage needs a backend connection for each client")

BEFORE = Facts("1", "7.0.15", "master", 10, {"db0": 8, "db1": 1}, {"queues": 3, "schedule": 2})
LACKS = {
    "nothing": (BEFORE, []),
    "more is right": (Facts("2", "7.2", "master", 99, {"db0": 90, "db1": 9}, {"queues": 4, "schedule": 2}), []),
    "keys": (
        Facts("2", "7.2", "master", 0, {"db0": 8}, {"queues": 3, "schedule": 2}),
        ["db1 has 0 keys without expiry, and had 1"],
    ),
    "Sidekiq's": (
        Facts("2", "7.2", "master", 10, {"db0": 8, "db1": 1}, {"queues": 3}),
        ["schedule has 0 members, and had 2"],
    ),
}


@pytest.mark.parametrize("name", LACKS)
def test_what_is_less_than_before(name: str) -> None:
    after, found = LACKS[name]
    assert differences(BEFORE, after) == found


@pytest.fixture
def durable() -> Any:
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as redis:
        yield redis


class Walk:
    """A maintenance under way, and what it says."""

    def __init__(self, it: World, limit_s: float = 30.0, to: str | None = None) -> None:
        self.lines: list[str] = []
        self.it = it
        self.task = asyncio.create_task(it.app.control.maintain(limit_s, to, "test", self.lines.append))

    async def says(self, words: str) -> None:
        await self.it.until(lambda: self.task.done() or any(words in line for line in self.lines))
        assert any(words in line for line in self.lines), (self.lines, self.task)


async def goes_on(it: World) -> None:
    assert it.holding.gate.state is State.OPEN
    assert await (await it.peer()).call("PING") == b"+PONG\r\n"


def test_a_restart_in_a_plan_is_met_by_nobody(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        fetcher, pusher = await it.peer(), await it.peer()
        assert await pusher.call("SADD", "queues", "a") == b":1\r\n"
        fetcher.send("BRPOP", "queue:a", "1")
        await it.until(lambda: durable.blocked())
        walk = Walk(it)
        await walk.says("do the work now")
        assert await fetcher.line() == b"*-1\r\n"
        pusher.send("LPUSH", "queue:a", "job")
        durable.kill()
        durable.start(wait=False)
        rows = await walk.task
        steps = ["look at the backend", "stop fetches", "hold traffic", "wait until the backend is back", "release"]
        assert [row["step"] for row in rows] == steps
        assert "Sidekiq's queues 1" in rows[3]["said"]
        assert await pusher.line() == b":1\r\n"
        fetcher.send("BRPOP", "queue:a", "1")
        assert [await fetcher.line() for _ in range(5)][4] == b"job\r\n"
        counts = it.app.riding.counts
        assert (counts.ridden, counts.given_up, counts.ambiguous_fetches, counts.ambiguous_writes) == (2, 0, 0, 0)
        assert not it.app.riding.machine.takes
        await goes_on(it)

    play(durable, scene)


def fails(redis: RedisServer, scene: Callable[[World, Walk], Awaitable[None]], why: str, limit_s: float = 30.0) -> None:
    async def whole(it: World) -> None:
        assert await (await it.peer()).call("SET", "a", "1") == b"+OK\r\n"
        walk = Walk(it, limit_s)
        await walk.says("do the work now")
        await scene(it, walk)
        with pytest.raises(VerbError, match=why):
            await walk.task
        await goes_on(it)

    play(redis, whole)


def test_it_can_be_aborted(durable: RedisServer) -> None:
    async def scene(it: World, walk: Walk) -> None:
        it.app.control.end_maintenance(False)

    fails(durable, scene, "aborted after 'hold traffic'; traffic goes on")


def test_a_release_by_somebody_else_ends_it(durable: RedisServer) -> None:
    async def scene(it: World, walk: Walk) -> None:
        await it.app.control.release()

    fails(durable, scene, "released by somebody else")


def test_it_ends_at_its_limit(durable: RedisServer) -> None:
    async def scene(it: World, walk: Walk) -> None:
        await walk.says("has not gone yet")

    fails(durable, scene, "limit", limit_s=0.5)


def test_a_backend_that_comes_back_without_its_keys_is_not_released_to_until_somebody_says_so(
    durable: RedisServer,
) -> None:
    async def scene(it: World) -> None:
        one = await it.peer()
        assert await one.call("SET", "a", "1") == b"+OK\r\n"
        walk = Walk(it)
        await walk.says("do the work now")
        durable.kill()
        for file in durable.directory.glob("appendonlydir/*"):
            file.unlink()
        durable.start(wait=False)
        await walk.says("db0 has 0 keys without expiry, and had 1")
        assert it.holding.gate.state is State.HELD
        it.app.control.end_maintenance(True)
        rows = await walk.task
        assert rows[-1]["step"] == "release"
        await calm(it)
        assert await one.call("EXISTS", "a") == b":0\r\n"

    play(durable, scene)


def test_what_clients_take_out_before_the_hold_is_not_missed_afterwards(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        one, fetcher = await it.peer(), await it.peer()
        assert await one.call("ZADD", "schedule", "1", "job") == b":1\r\n"
        fetcher.send("BRPOP", "queue:a", "1")  # so that it stays at stopping fetches for a while
        await it.until(lambda: durable.blocked())
        walk = Walk(it)
        await walk.says("fetches wait in Redis")
        assert await one.call("ZREM", "schedule", "job") == b":1\r\n"
        await walk.says("do the work now")
        durable.kill()
        durable.start(wait=False)
        rows = await walk.task
        assert rows[-1]["step"] == "release"
        await goes_on(it)

    play(durable, scene)


def test_a_backend_that_is_gone_before_it_is_counted_keeps_nobody_waiting(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        one, fetcher = await it.peer(), await it.peer()
        assert await one.call("ZADD", "schedule", "1", "job") == b":1\r\n"
        fetcher.send("BRPOP", "queue:a", "1")
        await it.until(lambda: durable.blocked())
        walk = Walk(it)
        await walk.says("fetches wait in Redis")
        assert await one.call("ZREM", "schedule", "job") == b":1\r\n"
        durable.kill()
        await walk.says("is gone before its keys were counted")
        durable.start(wait=False)
        rows = await walk.task
        assert rows[-1]["step"] == "release"
        assert any("so it is not waited for" in line for line in walk.lines)
        await goes_on(it)

    play(durable, scene)


def test_traffic_goes_to_the_target_afterwards(durable: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World, new: RedisServer) -> None:
        one = await it.peer()
        assert await one.call("SET", "a", "1") == b"+OK\r\n"
        walk = Walk(it, to=new.url)
        await walk.says("db0 has 0 keys without expiry, and had 1")
        new.call("SET", "a", "2")
        rows = await walk.task
        assert rows[-2]["said"] == f"1 clients go to {new.url} now"
        one.send("GET", "a")
        assert [await one.line(), await one.line()] == [b"$1\r\n", b"2\r\n"]
        await goes_on(it)

    with redis_server() as new:
        play(durable, lambda it: scene(it, new), route_file=str(tmp_path / "route"))


def test_only_one_is_under_way(durable: RedisServer) -> None:
    async def scene(it: World, walk: Walk) -> None:
        with pytest.raises(VerbError, match="a maintenance is under way"):
            await it.app.control.maintain(1, None, "test", lambda line: None)
        it.app.control.end_maintenance(False)

    fails(durable, scene, "aborted")


def test_traffic_that_somebody_else_holds_stays_held(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        assert (await it.holding.hold(LONG)).held
        with pytest.raises(VerbError, match="traffic is held already; release it first"):
            await it.app.control.maintain(30, None, "test", lambda line: None)
        assert it.holding.gate.state is State.HELD
        it.holding.release()
        await goes_on(it)

    play(durable, scene)


def test_nothing_to_end_is_said(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        with pytest.raises(VerbError, match="no maintenance is under way"):
            it.app.control.end_maintenance(False)

    play(durable, scene)
