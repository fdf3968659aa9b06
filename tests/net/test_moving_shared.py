"""Clients that share connections and keep one of their own, when traffic goes to another Redis: whose it is then."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.console.verb import VerbError
from proxy.net.pool import PoolStats
from tests.net.test_holding import Peer, World
from tests.net.test_moving import play, switch, switch_at_last, where
from tests.net.test_moving import target as target  # a fixture
from tests.servers import RedisServer, neutral
from tests.wire import encode

pytestmark = pytest.mark.session_only("the test names its pools itself")

SHARED: dict[str, Any] = {"pool": "shared", "pool_size": 1}


async def subscribed(it: World, channel: str) -> Peer:
    peer = await it.peer()
    peer.send("SUBSCRIBE", channel)
    await peer.reader.readuntil(b":1\r\n")
    return peer


async def hears(peer: Peer, server: RedisServer, channel: str) -> None:
    assert server.call("PUBLISH", channel, "hello") == b":1\r\n"
    expected = b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$5\r\nhello\r\n" % (len(channel), channel.encode())
    assert await peer.reader.readexactly(len(expected)) == expected


def stats(it: World) -> PoolStats:
    found = it.app.pool()
    assert found is not None
    return found


def pool(it: World) -> tuple[int, int, int]:
    """Connections now: shared, private, idle."""
    now = stats(it)
    return now.shared, now.private, now.idle


def test_a_connection_that_was_moved_is_given_back_and_is_the_next_clients(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        peer, other = await subscribed(it, "news"), await it.peer()
        assert await other.call("PING") == b"+PONG\r\n"
        assert (await switch(it)).clients == 2
        assert pool(it) == (0, 1, 0)
        await hears(peer, target, "news")
        peer.send("UNSUBSCRIBE", "news")
        await peer.reader.readuntil(b":0\r\n")
        assert pool(it) == (0, 0, 1)
        assert [neutral(each) for each in target.clients()] == [True]
        leases = stats(it).leases
        assert await other.call("SELECT", "2") == b"+OK\r\n"
        assert stats(it).leases == leases + 1
        assert pool(it) == (0, 0, 1)
        assert len(target.clients()) == 1
        assert [await where(peer), await where(other)] == [target.port] * 2
        await it.until(lambda: not redis.clients())

    play(redis, target, tmp_path, scene, **SHARED)


def test_after_exec_the_connection_of_a_client_that_watched_is_given_back(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        assert await peer.call("SELECT", "3") == b"+OK\r\n"
        assert await peer.call("WATCH", "a") == b"+OK\r\n"
        await switch(it)
        assert [await peer.call(word) for word in ("MULTI", "PING", "EXEC")] == [b"+OK\r\n", b"+QUEUED\r\n", b"*-1\r\n"]
        assert pool(it) == (0, 0, 1)
        assert await peer.call("SET", "a", "1") == b"+OK\r\n"
        assert pool(it) == (1, 0, 1)
        with target.talk() as talk:
            talk.call("SELECT", "3")
            assert talk.call("EXISTS", "a") == b":1\r\n"

    play(redis, target, tmp_path, scene, **SHARED)


def test_the_name_of_a_client_stays_with_shunt(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        assert await peer.call("CLIENT", "SETNAME", "mine") == b"+OK\r\n"
        assert await peer.call("WATCH", "a") == b"+OK\r\n"
        await switch(it)
        assert {each["name"] for each in target.clients()} == {""}
        assert await peer.call("UNWATCH") == b"+OK\r\n"
        assert await peer.call("CLIENT", "GETNAME") == b"$4\r\n"

    play(redis, target, tmp_path, scene, **SHARED)


def test_the_limit_holds_at_the_target_and_what_ends_at_the_source_takes_nobodys_place(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        one, two, other = await subscribed(it, "one"), await subscribed(it, "two"), await it.peer()
        assert await other.call("PING") == b"+PONG\r\n"
        assert pool(it) == (1, 2, 0)
        for turn in range(10):
            to, here, there = ("main", redis, target) if turn % 2 else ("new", target, redis)
            assert (await switch(it, to)).clients == 3
            await hears(one, here, "one")
            await hears(two, here, "two")
            assert await other.call("INCR", "n") == b":%d\r\n" % (turn // 2 + 1)
            assert (pool(it), len(here.clients())) == ((1, 2, 0), 3)
            await it.until(lambda there=there: not there.clients())
        assert stats(it).wait_timeouts == 0

    play(redis, target, tmp_path, scene, **SHARED, max_backend_connections=3)


class Busy:
    """Clients that change between shared connections and their own all the time, and count what was done for them."""

    def __init__(self) -> None:
        self.stopped = False
        self.done: Counter[str] = Counter()

    async def counts(self, peer: Peer) -> None:
        assert (await peer.call("INCR", "n"))[:1] == b":"
        self.done["n"] += 1

    async def watches(self, peer: Peer) -> None:
        assert await peer.call("WATCH", "w") == b"+OK\r\n"
        peer.writer.write(encode("MULTI") + encode("INCR", "w") + encode("EXEC"))
        assert [await peer.line(), await peer.line()] == [b"+OK\r\n", b"+QUEUED\r\n"]
        if await peer.line() == b"*1\r\n":
            assert (await peer.line())[:1] == b":"
            self.done["w"] += 1

    async def fetches(self, peer: Peer) -> None:
        assert (await peer.call("LPUSH", "q", "job"))[:1] == b":"
        self.done["jobs"] += 1
        if await peer.call("BRPOP", "q", "1") == b"*2\r\n":
            assert [await peer.line() for _ in range(4)][3] == b"job\r\n"
            self.done["jobs"] -= 1

    async def listens(self, peer: Peer) -> None:
        for word, count in (("SUBSCRIBE", 1), ("UNSUBSCRIBE", 0)):
            peer.send(word, "news")
            assert [await peer.line() for _ in range(6)][5] == b":%d\r\n" % count
        assert (await peer.call("INCR", "n"))[:1] == b":"
        self.done["n"] += 1

    async def go_on(self, peer: Peer, what: Callable[[Peer], Awaitable[None]]) -> None:
        while not self.stopped:
            await what(peer)


def test_clients_that_change_their_state_all_the_time_lose_nothing_in_twenty_switches(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        busy, most = Busy(), 6
        ways = (busy.counts, busy.watches, busy.fetches, busy.listens) * 4
        work = [asyncio.create_task(busy.go_on(await it.peer(), way)) for way in ways]
        for turn in range(20):
            before = busy.done.copy()
            done = await switch_at_last(it, "main" if turn % 2 else "new")
            assert (done.closed, done.notes) == ((), ())
            assert sum(pool(it)) <= most
            await it.until(lambda before=before: all(busy.done[key] > before[key] for key in "nw"))
        busy.stopped = True
        await asyncio.gather(*work)
        for key in "nw":
            assert redis.call("GET", key).split(b"\r\n")[1] == b"%d" % busy.done[key]
        assert redis.call("LLEN", "q") == b":%d\r\n" % busy.done["jobs"]
        whole = it.app._reception.pool
        assert whole is not None
        await it.until(lambda: (pool(it)[1], len(whole.connections())) == (0, sum(pool(it))))

    play(redis, target, tmp_path, scene, **SHARED, max_backend_connections=6, pool_wait=30)


def test_a_source_that_does_not_answer_any_more_keeps_no_place(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    """Its connections don't end: it is stopped. What the limit allows is for the target all the same."""

    async def scene(it: World) -> None:
        one, other = await subscribed(it, "one"), await it.peer()
        assert await other.call("PING") == b"+PONG\r\n"
        redis.process.signal(signal.SIGSTOP)
        try:
            await switch(it)
            waits = stats(it).waits
            assert await other.call("BLPOP", "none", "0.001") == b"*-1\r\n"
            assert stats(it).waits == waits
            await hears(one, target, "one")
        finally:
            redis.process.signal(signal.SIGCONT)

    play(redis, target, tmp_path, scene, **SHARED, max_backend_connections=2, pool_wait=10)


def test_who_monitors_is_closed_and_who_subscribed_goes_along(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        peer, monitor = await subscribed(it, "news"), await it.peer()
        assert await monitor.call("MONITOR") == b"+OK\r\n"
        done = await switch(it)
        assert (done.clients, [line.split(": ")[1] for line in done.closed]) == (1, ["it sent MONITOR"])
        await monitor.ended()
        await hears(peer, target, "news")
        assert pool(it) == (0, 1, 0)

    play(redis, target, tmp_path, scene, **SHARED)


@pytest.mark.parametrize("how", ["its end", "nothing"])
def test_who_leaves_after_the_switch_takes_its_connection_along(
    redis: RedisServer, target: RedisServer, tmp_path: Path, how: str
) -> None:
    async def scene(it: World) -> None:
        peer = await subscribed(it, "news")
        await switch(it)
        peer.writer.close() if how == "nothing" else peer.writer.write_eof()
        await it.until(lambda: pool(it) == (0, 0, 0))
        await it.until(lambda: not target.clients())

    play(redis, target, tmp_path, scene, **SHARED)


def test_credentials_of_its_own_go_along_with_a_client(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer, other = await it.peer(), await it.peer()
        assert await peer.call("AUTH", "me", "secret") == b"+OK\r\n"
        peer.send("SUBSCRIBE", "news")
        await peer.reader.readuntil(b":1\r\n")
        assert await other.call("AUTH", "me", "secret") == b"+OK\r\n"
        assert await other.call("WATCH", "a") == b"+OK\r\n"
        assert ((await switch(it)).closed, pool(it)) == ((), (0, 2, 0))
        await hears(peer, target, "news")
        for command, reply in (("MULTI", b"+OK\r\n"), ("ACL WHOAMI", b"+QUEUED\r\n"), ("EXEC", b"*-1\r\n")):
            assert await other.call(*command.split()) == reply
        peer.send("UNSUBSCRIBE", "news")
        await peer.reader.readuntil(b":0\r\n")
        for each in (peer, other):
            assert [await each.call("ACL", "WHOAMI"), await each.line()] == [b"$2\r\n", b"me\r\n"]
        assert pool(it) == (1, 0, 2)
        assert {each["user"] for each in target.clients()} == {"me"}

    for server in (redis, target):
        server.call("ACL", "SETUSER", "me", "on", ">secret", "~*", "&*", "+@all")
    try:
        play(redis, target, tmp_path, scene, **SHARED)
    finally:
        for server in (redis, target):
            server.call("ACL", "DELUSER", "me")


def test_a_target_that_refuses_a_clients_state_leaves_everything_as_it_was(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        peer, other = await subscribed(it, "news"), await it.peer()
        assert await other.call("PING") == b"+PONG\r\n"
        before = pool(it)
        target.call("ACL", "SETUSER", "default", "-subscribe")
        try:
            with pytest.raises(VerbError, match=r"refuses SUBSCRIBE.*as before"):
                await switch(it)
        finally:
            target.call("ACL", "SETUSER", "default", "+subscribe")
        assert pool(it) == before == (1, 1, 0)
        await hears(peer, redis, "news")
        assert await where(other) == redis.port
        await it.until(lambda: not target.clients())
        assert (await switch(it)).clients == 2
        await hears(peer, target, "news")

    play(redis, target, tmp_path, scene, **SHARED)
