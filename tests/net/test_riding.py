"""Clients through an outage of their backend: what waits, what is sent again, what is never sent again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import hiredis
import pytest
import uvloop

from proxy.net import departure
from proxy.routing.ride import State
from tests.net.test_holding import Peer, World, world
from tests.servers import HOST, RedisServer, free_port, redis_server
from tests.wire import encode

pytestmark = pytest.mark.session_only("riding through needs a backend connection for each client")

Scene = Callable[[World], Awaitable[None]]


def play(redis: Any, scene: Scene, **options: Any) -> None:
    async def run() -> None:
        async with world(redis, ride_through="30s", **options) as it:
            await asyncio.wait_for(scene(it), 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


@pytest.fixture
def durable(tmp_path: Path) -> Any:
    """A Redis that keeps its data when it is killed."""
    with redis_server("--appendonly", "yes", "--appendfsync", "always") as redis:
        yield redis


def restart(redis: RedisServer) -> None:
    redis.kill()
    redis.start(wait=False)


async def calm(it: World, outages: int = 1) -> None:
    riding = it.app.riding
    await it.until(
        lambda: riding.counts.outages >= outages and riding.machine.state is State.CALM and not riding.waiting
    )


async def reply(peer: Peer, count: int = 1) -> list[Any]:
    """``count`` whole replies."""
    reader = hiredis.Reader()
    found: list[Any] = []
    while len(found) < count:
        data = await asyncio.wait_for(peer.reader.read(65536), 20)
        assert data, "the connection ended"
        reader.feed(data)
        while (each := reader.gets()) is not False:
            found.append(each)
    return found


# ---------------------------------------------------------------------------------------------- a real Redis


def test_idle_clients_keep_their_connection_and_their_state_through_a_kill(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        one, two = await it.peer(), await it.peer()
        assert await one.call("SET", "a", "1") == b"+OK\r\n"
        assert await two.call("SELECT", "3") == b"+OK\r\n"
        assert await two.call("CLIENT", "SETNAME", "worker") == b"+OK\r\n"
        restart(durable)
        two.send("SET", "b", "2")
        assert await two.line() == b"+OK\r\n"
        one.send("GET", "a")
        assert await reply(one) == [b"1"]
        await calm(it)
        two.send("CLIENT", "GETNAME")
        assert await reply(two) == [b"worker"]
        with durable.talk() as talk:
            assert talk.call("SELECT", "3") == b"+OK\r\n"
            assert talk.call("GET", "b") == b"$1\r\n2\r\n"
        assert it.app.riding.counts.ridden == 2
        assert it.app.riding.counts.ambiguous_writes == it.app.riding.counts.given_up == 0

    play(durable, scene)


def test_a_fetch_that_waits_is_answered_nil_at_once_and_counted(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        two, three = await it.peer(), await it.peer()
        two.send("BRPOP", "queue", "0")
        assert await three.call("HELLO", "3") != b""
        await reply_rest(three)
        three.send("BLMOVE", "queue", "other", "LEFT", "LEFT", "0")
        await it.until(lambda: len(durable.blocked()) == 2)
        durable.kill()
        assert await two.line() == b"*-1\r\n"
        assert await three.line() == b"_\r\n"
        assert it.app.riding.counts.ambiguous_fetches == 2
        two.send("BRPOP", "queue", "0")
        assert await two.silent()
        durable.start()
        durable.call("LPUSH", "queue", "job")
        assert await reply(two) == [[b"queue", b"job"]]

    play(durable, scene)


async def reply_rest(peer: Peer) -> None:
    """What is left of a reply whose first line was read."""
    with contextlib.suppress(TimeoutError):
        while True:
            await asyncio.wait_for(peer.reader.read(65536), 0.05)


def test_newcomers_are_accepted_and_wait(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        durable.kill()
        new = await it.peer()
        new.send("PING")
        assert await new.silent()
        durable.start()
        assert await new.line() == b"+PONG\r\n"

    play(durable, scene)


def test_a_newcomer_that_has_left_meanwhile_is_not_served(
    durable: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departure, "PATIENCE_S", 0.0)

    async def scene(it: World) -> None:
        stays = await it.peer()
        assert await stays.call("PING") == b"+PONG\r\n"
        durable.kill()
        await it.until(lambda: it.app.riding.waiting == 1)
        leaves = await it.peer()
        leaves.send("SET", "a", "1")
        await it.until(lambda: len(it.app._reception._arrivals) == 1)
        leaves.writer.close()
        await leaves.writer.wait_closed()
        durable.start()
        assert await stays.call("EXISTS", "a") == b":0\r\n"
        await it.until(lambda: not it.app._reception._arrivals)
        assert await stays.call("EXISTS", "a") == b":0\r\n"

    play(durable, scene)


def test_a_client_that_has_left_while_it_waited_is_dropped_with_what_it_sent(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        one, two = await it.peer(), await it.peer()
        assert await one.call("PING") == await two.call("PING") == b"+PONG\r\n"
        durable.kill()
        await it.until(lambda: it.app.riding.waiting == 2)
        one.send("SET", "a", "1")
        one.writer.close()
        await one.writer.wait_closed()
        durable.start()
        assert await two.call("EXISTS", "a") == b":0\r\n"
        await calm(it)
        assert await two.call("EXISTS", "a") == b":0\r\n"
        assert it.app.riding.counts.left == 1

    play(durable, scene)


def test_subscriptions_and_watches_come_along(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        hears, watches = await it.peer(), await it.peer()
        hears.send("SUBSCRIBE", "news")
        await reply(hears)
        assert await watches.call("SET", "k", "1") == b"+OK\r\n"
        assert await watches.call("WATCH", "k") == b"+OK\r\n"
        restart(durable)
        await calm(it)
        durable.call("PUBLISH", "news", "x")
        assert await reply(hears) == [[b"message", b"news", b"x"]]
        assert await watches.call("MULTI") == b"+OK\r\n"
        assert await watches.call("SET", "k", "2") == b"+QUEUED\r\n"
        assert await watches.call("EXEC") == b"*-1\r\n"

    play(durable, scene)


class WithUrl:
    """A Redis under another URL."""

    def __init__(self, url: str) -> None:
        self.url = url


def test_credentials_and_database_of_the_url_come_along_and_those_of_a_client_do_not(tmp_path: Path) -> None:
    with redis_server("--appendonly", "yes", "--appendfsync", "always", password="secret") as redis:

        async def own(it: World) -> None:
            one = await it.peer()
            assert await one.call("AUTH", "secret") == b"+OK\r\n"
            restart(redis)
            assert await one.ended() == b""
            assert it.app.riding.counts.given_up == 1

        async def urls(it: World) -> None:
            one = await it.peer()
            assert await one.call("SET", "k", "1") == b"+OK\r\n"
            restart(redis)
            assert await one.call("INCR", "k") == b":2\r\n"
            await calm(it)
            with redis.talk() as talk:
                assert talk.call("SELECT", "2") == b"+OK\r\n"
                assert talk.call("GET", "k") == b"$1\r\n2\r\n"

        play(WithUrl(f"redis://:secret@{HOST}:{redis.port}/2"), urls, allow_open=True)
        play(WithUrl(redis.url), own)


def test_an_open_transaction_ends_with_its_connection(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        one = await it.peer()
        assert await one.call("MULTI") == b"+OK\r\n"
        assert await one.call("SET", "a", "1") == b"+QUEUED\r\n"
        restart(durable)
        assert await one.ended() == b""
        assert (it.app.riding.counts.given_up, it.app.riding.counts.ambiguous_writes) == (1, 0)

    play(durable, scene)


def test_who_asks_for_the_end_gets_it(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        one = await it.peer()
        assert await one.call("QUIT") == b"+OK\r\n"
        assert await one.ended() == b""
        assert it.app.riding.counts.outages == 0

    play(durable, scene)


def test_writes_to_a_replica_wait_until_it_is_a_master(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        one, two = await it.peer(), await it.peer()
        assert await one.call("SET", "a", "1") == b"+OK\r\n"
        durable.call("REPLICAOF", HOST, str(free_port()))
        durable.call("CONFIG", "SET", "replica-serve-stale-data", "yes")
        one.send("INCR", "a")
        await it.until(lambda: it.app.riding.waiting == 1)
        two.writer.write(b"".join(_pipeline()))
        await it.until(lambda: it.app.riding.waiting == 2)
        reads = await it.peer()
        reads.send("GET", "a")
        assert await reply(reads) == [b"1"]
        durable.call("REPLICAOF", "NO", "ONE")
        assert await one.line() == b":2\r\n"
        said = await reply(two, 4)
        assert said[:3] == [b"OK", b"QUEUED", b"QUEUED"]
        assert [str(each) for each in said[3]] in (["1", "1"],)
        assert durable.call("LRANGE", "list", "0", "-1") == b"*1\r\n$1\r\nx\r\n"

    play(durable, scene)


def test_a_fetch_that_waited_when_its_master_became_a_replica_waits_on(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        one = await it.peer()
        one.send("BRPOP", "queue", "0")
        await it.until(lambda: durable.blocked())
        durable.call("REPLICAOF", HOST, str(free_port()))
        await it.until(lambda: it.app.riding.waiting == 1)
        durable.call("REPLICAOF", "NO", "ONE")
        await it.until(lambda: durable.blocked())
        durable.call("LPUSH", "queue", "job")
        assert await reply(one) == [[b"queue", b"job"]]
        assert it.app.riding.counts.ambiguous_fetches == 0

    play(durable, scene)


def _pipeline() -> list[bytes]:
    return [encode("MULTI"), encode("SADD", "queues", "q"), encode("LPUSH", "list", "x"), encode("EXEC")]


# ---------------------------------------------------------------------------------------------- a Redis that is played


class Played:
    """A backend whose answers the test gives. ``answer(words)``: bytes; None: it says nothing; b"": it hangs up."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}"
        self.heard: list[list[bytes]] = []
        self.answer: Callable[[list[bytes]], bytes | None] = lambda words: b"+OK\r\n"
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                parser.feed(data)
                while (words := parser.gets()) is not False:
                    if words[0] == b"PING":
                        writer.write(b"+PONG\r\n")
                        continue
                    self.heard.append(words)
                    said = self.answer(words)
                    if said == b"":
                        writer.transport.abort()
                        return
                    if said is not None:
                        writer.write(said)
        writer.close()

    def named(self, name: bytes) -> int:
        return sum(words[0] == name for words in self.heard)


def act(scene: Callable[[World, Played], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        played = Played()
        server = await asyncio.start_server(played.serve, HOST, played.port)
        async with world(played, **{"ride_through": "30s", **options}) as it:  # type: ignore[arg-type]
            await asyncio.wait_for(scene(it, played), 60)
        server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def once(name: bytes, said: bytes | None) -> Callable[[list[bytes]], bytes | None]:
    """An answer to the first command of this name; +OK to all else."""
    left = [1]

    def answer(words: list[bytes]) -> bytes | None:
        if words[0] == name and left:
            left.clear()
            return said
        return b"+OK\r\n"

    return answer


def test_a_write_whose_reply_never_came_is_never_sent_again() -> None:
    async def scene(it: World, played: Played) -> None:
        played.answer = once(b"LPUSH", b"")
        one, two = await it.peer(), await it.peer()
        assert await two.call("GET", "a") == b"+OK\r\n"
        one.send("LPUSH", "queue", "job")
        assert await one.ended() == b""
        assert await two.call("GET", "a") == b"+OK\r\n"
        assert played.named(b"LPUSH") == 1
        assert it.app.riding.counts.ambiguous_writes == 1

    act(scene)


def test_reads_are_sent_again_in_their_order() -> None:
    async def scene(it: World, played: Played) -> None:
        played.answer = once(b"STRLEN", b"")
        one = await it.peer()
        assert await one.call("SELECT", "2") == b"+OK\r\n"
        for words in (("GET", "a"), ("STRLEN", "a"), ("EXISTS", "a")):
            one.send(*words)
        assert [await one.line() for _ in range(3)] == [b"+OK\r\n"] * 3
        assert [words[0] for words in played.heard] == [b"SELECT", b"GET", b"STRLEN", b"SELECT", b"STRLEN", b"EXISTS"]
        await calm(it)
        assert it.app.riding.counts.resent == 2

    act(scene)


def test_the_half_of_a_command_that_was_sent_comes_along() -> None:
    async def scene(it: World, played: Played) -> None:
        one = await it.peer()
        assert await one.call("GET", "a") == b"+OK\r\n"
        one.writer.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nab")
        await it.until(lambda: it.sessions()[0].half_forwarded)
        for writer in played.writers:
            writer.transport.abort()
        await calm(it)
        one.writer.write(b"cde\r\n")
        assert await one.line() == b"+OK\r\n"
        assert played.heard[-1] == [b"SET", b"k", b"abcde"]

    act(scene)


def test_a_read_that_breaks_every_connection_is_given_up() -> None:
    async def scene(it: World, played: Played) -> None:
        played.answer = lambda words: b"" if words[0] == b"GET" else b"+OK\r\n"
        one = await it.peer()
        one.send("GET", "poison")
        assert await one.ended() == b""
        assert played.named(b"GET") == 3
        assert it.app.riding.counts.given_up == 1

    act(scene)


REFUSALS = [
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-CLUSTERDOWN Hash slot not served\r\n",
]


@pytest.mark.parametrize("error", REFUSALS)
def test_what_was_refused_is_sent_again(error: bytes) -> None:
    async def scene(it: World, played: Played) -> None:
        played.answer = once(b"LPUSH", error)
        one = await it.peer()
        assert await one.call("LPUSH", "queue", "job") == b"+OK\r\n"
        assert played.named(b"LPUSH") == 2
        await calm(it)
        assert it.app.riding.counts.resent == 1

    act(scene)


def test_an_error_that_comes_in_pieces_is_read_whole() -> None:
    async def scene(it: World, played: Played) -> None:
        played.answer = once(b"LPUSH", b"-LOA")
        one = await it.peer()
        one.send("LPUSH", "queue", "job")
        await it.until(lambda: it.sessions() and it.sessions()[0].is_parked)
        played.writers[-1].write(b"DING Redis is loading the dataset in memory\r\n")
        assert await one.line() == b"+OK\r\n"
        assert played.named(b"LPUSH") == 2

    act(scene)


def test_a_refused_command_is_not_sent_again_when_a_later_one_ran() -> None:
    async def scene(it: World, played: Played) -> None:
        played.answer = lambda words: REFUSALS[2] if words[0] == b"SET" else b"+OK\r\n"
        one = await it.peer()
        one.writer.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        assert [await one.line(), await one.line()] == [REFUSALS[2], b"+OK\r\n"]
        assert played.named(b"SET") == 1
        assert it.app.riding.counts.outages == 0

    act(scene)


def test_a_refused_script_is_its_clients_business() -> None:
    async def scene(it: World, played: Played) -> None:
        played.answer = lambda words: REFUSALS[2]
        one = await it.peer()
        assert await one.call("EVAL", "return 1", "0") == REFUSALS[2]
        assert played.named(b"EVAL") == 1

    act(scene)


def test_who_has_waited_for_too_long_gets_the_error_and_the_next_gets_it_at_once() -> None:
    async def scene(it: World, played: Played) -> None:
        played.answer = lambda words: REFUSALS[0]
        one = await it.peer()
        assert await one.call("SET", "k", "1") == REFUSALS[0]
        before = played.named(b"SET")
        assert it.app.riding.counts.given_up == 1
        await it.until(lambda: it.app.riding.machine.state in (State.GONE, State.CALM))
        assert before >= 2

    act(scene, ride_through="300ms")


def test_beyond_the_limit_clients_are_closed_and_newcomers_refused(durable: RedisServer) -> None:
    async def scene(it: World) -> None:
        one = await it.peer()
        assert await one.call("PING") == b"+PONG\r\n"
        durable.kill()
        assert await one.ended() == b""
        with pytest.raises(ConnectionRefusedError):
            await refused(it)
        durable.start()
        await it.until(lambda: it.app.riding.machine.state is State.CALM and it.app.backend_up())
        assert await (await it.peer()).call("PING") == b"+PONG\r\n"

    async def run() -> None:
        async with world(durable, ride_through="200ms") as it:
            await asyncio.wait_for(scene(it), 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def refused(it: World) -> None:
    """Connect until it is refused; the listeners are shut a moment after the clients are closed."""
    for _ in range(200):
        peer = await it.peer()
        await peer.ended()


def test_what_is_too_large_to_be_kept_is_not_sent_again() -> None:
    async def scene(it: World, played: Played) -> None:
        played.answer = once(b"MGET", b"")
        one = await it.peer()
        one.send("MGET", "x" * 1_100_000)
        assert await one.ended() == b""
        assert it.app.riding.counts.given_up == 1

    act(scene)


def test_a_client_that_has_a_part_of_a_reply_is_closed() -> None:
    async def scene(it: World, played: Played) -> None:
        played.answer = lambda words: b"$10\r\nabc"
        one = await it.peer()
        one.send("GET", "a")
        assert await one.line() == b"$10\r\n"
        played.writers[-1].transport.abort()
        assert await one.ended() == b"abc"

    act(scene)
