"""Fetches that are answered by shunt: which bytes are one, and when it is answered."""

from __future__ import annotations

import asyncio

import pytest

from proxy.net.fetching import Fetch, Fetches, parse
from tests.net.test_holding import LONG, World, play
from tests.servers import RedisServer
from tests.wire import encode

BRPOP = encode("brpop", "queue:a", "queue:b", 2)
CASES: dict[str, tuple[bytes, float | None]] = {
    "BRPOP": (BRPOP, 2.0),
    "for ever": (encode("BLPOP", "queue:a", 0), None),
    "the timeout comes first": (encode("BLMPOP", "0.5", 1, "a", "LEFT"), 0.5),
}
NONE = {
    "nothing": b"",
    "another command": encode("LPUSH", "queue:a", "x"),
    "half of it": BRPOP[:-3],
    "with another behind it": BRPOP + encode("PING"),
    "inline": b"BRPOP a 1\r\n",
    "a timeout that is no number": encode("BRPOP", "a", "soon"),
    "too few arguments": encode("BRPOP", "a"),
    "no RESP": b"*1\r\n:1\r\n",
}


@pytest.mark.parametrize("name", CASES)
def test_a_whole_fetch_is_seen_with_its_timeout(name: str) -> None:
    data, timeout_s = CASES[name]
    fetch = parse(data)
    assert isinstance(fetch, Fetch)
    assert (fetch.size, fetch.timeout_s) == (len(data), timeout_s)


@pytest.mark.parametrize("name", NONE)
def test_anything_else_is_none(name: str) -> None:
    assert parse(NONE[name]) is None


@pytest.mark.session_only("a planned outage needs a backend connection for each client")
def test_a_held_fetch_is_answered_nil_after_its_own_timeout_and_other_commands_wait(redis: RedisServer) -> None:
    async def scene(it: World) -> None:
        fetches: Fetches = it.app._fetches
        fetcher, pusher = await it.peer(), await it.peer()
        assert await fetcher.call("PING") == await pusher.call("PING") == b"+PONG\r\n"
        fetches.stop()
        assert (await it.holding.hold(LONG)).held
        pusher.send("LPUSH", "queue:a", "job")
        began = asyncio.get_running_loop().time()
        fetcher.send("BRPOP", "queue:a", "0.2")
        assert await fetcher.line() == b"*-1\r\n"
        assert asyncio.get_running_loop().time() - began >= 0.2
        fetcher.send("BRPOP", "queue:a", "0")
        assert await pusher.silent()
        assert fetches.answered == 1
        await fetches.go_on()
        it.holding.release()
        assert await pusher.line() == b":1\r\n"
        assert [await fetcher.line() for _ in range(5)][4] == b"job\r\n"

    play(redis, scene)


@pytest.mark.session_only("a planned outage needs a backend connection for each client")
def test_a_fetcher_that_has_something_else_to_say_may_say_it(redis: RedisServer) -> None:
    async def scene(it: World) -> None:
        fetches: Fetches = it.app._fetches
        fetcher = await it.peer()
        fetcher.send("BRPOP", "queue:a", "0")
        await it.until(lambda: redis.blocked())
        fetches.stop()
        await it.until(lambda: next(iter(it.app._reception.clients)).reading_held)
        redis.call("LPUSH", "queue:a", "job")
        assert [await fetcher.line() for _ in range(5)][4] == b"job\r\n"
        fetcher.send("LPUSH", "queue:b", "other")
        assert await fetcher.line() == b":1\r\n"
        await fetches.go_on()

    play(redis, scene)
