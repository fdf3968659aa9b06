"""Hundreds of clients do everything at once, and go, and Redis' connections go: nobody ever hears a foreign reply.

``STRESS_SEED`` in the environment repeats what the clients do (not its order in time), ``STRESS_CLIENTS`` sets how
many there are, ``STRESS_KINDS=name_oneself,replies_off`` what they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from tests.servers import HOST, RedisServer, Shunt, free_port, neutral, redis_server, shunt, until
from tests.system import stress
from tests.system.stress import EVERYTHING, PLAIN, Client, Ended, ForeignReply, Line, Model, Refused, World
from tests.wire import Talk

SEED = int(os.environ.get("STRESS_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
KINDS = {
    turn: often
    for turn, often in EVERYTHING.items()
    if turn.__name__ in os.environ.get("STRESS_KINDS", "").split(",") or not os.environ.get("STRESS_KINDS")
}
#: Longest time for a phase. Each goes on until enough of everything was done, which takes a few seconds.
WITHIN_S = 30.0

pytestmark = pytest.mark.session_only("says itself which pool it wants, and runs with each")


@dataclass(frozen=True)
class Case:
    """A way to share backend connections, and what may be expected of it."""

    args: tuple[str, ...]
    clients: int
    turns: int  # of each kind, before Redis' connections are killed
    most_plain: int | None = None  # backend connections while all clients send plain commands only
    most_ever: int | None = None

    @property
    def shared(self) -> bool:
        return "shared" in self.args


CASES = {
    "session": Case(("--pool", "session"), 300, 25),
    "shared": Case(("--pool", "shared", "--pool-size", "2"), 300, 25, most_plain=30),
    "shared, 40 at most": Case(
        ("--pool", "shared", "--pool-size", "2", "--max-backend-connections", "40"),
        150,
        5,
        most_plain=30,
        most_ever=40,
    ),
}
#: Connections to Redis that are not made for clients: shunt's probe, and the test's own.
OTHERS = 3


def hello_patterns(redis: RedisServer) -> dict[int, re.Pattern[bytes]]:
    """What Redis answers to HELLO 2 and HELLO 3, with any connection's number."""
    patterns = {}
    for resp in (2, 3):
        reply = re.escape(redis.call("HELLO", resp))
        patterns[resp] = re.compile(re.sub(rb"(id\\\r\\\n:)\d+", rb"\1\\d+", reply))
    return patterns


async def soon(world: World, check: Callable[[], object], what: str) -> None:
    """Wait until ``check()`` is true, as long as no client complains."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WITHIN_S):
            while not check() and not world.failures:
                world.turned.clear()
                await world.turned.wait()
            return
    world.failures.append(f"not within {WITHIN_S} s: {what}; done: {dict(world.done)}")


async def everybody_again(world: World) -> None:
    """Wait until each client has taken two more turns."""
    before = world.by_client.copy()
    clients = list(before)
    await soon(world, lambda: all(world.by_client[c] >= before[c] + 2 for c in clients), "every client goes on")


@contextlib.asynccontextmanager
async def crowd(world: World, clients: int) -> AsyncIterator[None]:
    """So many clients for the time of the block. At its end each finishes its turn and takes leave."""
    for number in range(1, clients + 1):
        world.by_client[number] = 0
    tasks = [asyncio.create_task(Client(world, number).run()) for number in range(1, clients + 1)]
    try:
        yield
        world.over = True
        if not world.failures:
            await asyncio.wait(tasks, timeout=stress.PATIENCE_S + 5)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [end for end in ends if isinstance(end, Exception)] == []


async def kill(world: World, through: Shunt, how: Callable[[], object]) -> None:
    """Something that Redis' connections do not survive, until new ones work again."""

    def until_it_works() -> None:
        how()
        until(lambda: works(through), within_s=20, what="clients are served again")

    with world.storm():
        await asyncio.to_thread(until_it_works)


def works(through: Shunt) -> bool:
    """Ten new connections one after the other, each with a command."""
    try:
        for _ in range(10):
            with Talk(through.address, patience_s=5) as talk:
                if talk.call("PING") != b"+PONG\r\n":
                    return False
    except (OSError, EOFError):
        return False
    return True


def restart(redis: RedisServer) -> None:
    redis.kill()
    redis.start()


def connected(redis: RedisServer) -> int:
    """Connections that Redis has, without the one that asks."""
    found = re.search(rb"connected_clients:(\d+)", redis.call("INFO", "clients"))
    assert found
    return int(found[1]) - 1


class Highest:
    """The most backend connections ever seen at once."""

    def __init__(self, redis: RedisServer) -> None:
        self.seen = 0
        self._redis = redis

    async def watch(self) -> None:
        while True:
            with contextlib.suppress(OSError, EOFError, AssertionError):
                self.seen = max(self.seen, await asyncio.to_thread(connected, self._redis))
            await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_no_client_ever_hears_anothers_reply(case: Case) -> None:
    """Data survive the kill -9 (appendonly), so that who kept its connection must find what it wrote."""
    clients = int(os.environ.get("STRESS_CLIENTS", case.clients))
    keep = ("--appendonly", "yes", "--appendfsync", "no", "--auto-aof-rewrite-percentage", "0")
    with redis_server(*keep) as redis, shunt(redis.url, *case.args) as through:
        assert isinstance(through.address, tuple)
        world = World(through.address, hello_patterns(redis), SEED, may_be_full=case.most_ever is not None, menu=PLAIN)
        highest = Highest(redis)
        watching = asyncio.create_task(highest.watch())
        try:
            async with crowd(world, clients):
                await everybody_again(world)
                await everybody_again(world)  # HELLO may have taken a connection for its time
                plain = await asyncio.to_thread(redis.clients)
                world.menu = KINDS
                await soon(world, lambda: not scarce(world, case.turns), f"{case.turns} turns of each kind")
                ended = world.done["ended"]
                for words in ("normal", "pubsub", "normal"):
                    await kill(world, through, lambda words=words: redis.call("CLIENT", "KILL", "TYPE", words))
                    await everybody_again(world)
                await kill(world, through, lambda: restart(redis))
                await everybody_again(world)
                killed = world.done["ended"] - ended
        finally:
            watching.cancel()
        told = f"STRESS_SEED={SEED}, {world.replies} replies, {dict(world.done)}"
        print(told)
        assert world.failures == [], f"{told}\n\n" + "\n\n".join(world.failures[:3])
        assert scarce(world, case.turns) == {}, told
        assert world.replies > clients * 50, told
        assert killed > 5, told
        if case.most_plain is not None:
            assert len(plain) <= case.most_plain + OTHERS < clients // 3
        else:
            assert len(plain) >= clients
        if case.most_ever is not None:
            assert highest.seen <= case.most_ever + OTHERS
        until(lambda: through.metric("shunt_clients") == 0, what="no client is left")
        until(lambda: all(map(neutral, redis.clients())), what="no backend connection is in the middle of anything")
        left = len(redis.clients())
        assert left <= 1 if not case.shared else left <= (case.most_ever or highest.seen) + 1
        assert not redis.blocked(), "a pop was left behind"


def scarce(world: World, turns: int) -> dict[str, int]:
    """The kinds of turn that were taken less often than that."""
    return {turn.__name__: n for turn in KINDS if (n := world.done[turn.__name__]) < turns}


# ------------------------------------------------------------------------------------------ the checker itself


async def a_line(name: bytes) -> tuple[Line, socket.socket]:
    """A client's line whose other end is in the test's hand."""
    here, there = socket.socketpair()
    world = World((HOST, 0), {})
    return Line(name, world, *await asyncio.open_connection(sock=here)), there


@pytest.mark.parametrize(
    ("came", "complaint"),
    [
        (b"$7\r\nc2.1=1;\r\n", "it belongs to c2.1"),
        (b"*1\r\n$7\r\nc7.3=1;\r\n", "it belongs to c7.3"),
        (b":1\r\n", "got b':1"),
        (b"$-1\r\n", "got b'"),
        (b"-ERR max number of backend connections reached\r\n", "got b'-ERR max"),
        (b"-LOADING Redis is loading\r\n", "got b'-LOADING"),
        (b"c2.1=1;\r\n", "torn"),
        (b"", "c1.1: closed"),
        (b"$7\r\nc1.1=1;\r\n$7\r\nc2.1=1;\r\n", "it belongs to c2.1"),
    ],
)
async def test_a_foreign_reply_is_noticed(came: bytes, complaint: str) -> None:
    line, there = await a_line(b"c1.1")
    model = Model(b"c1.1", 1, random.Random(1))
    there.sendall(came)
    there.shutdown(socket.SHUT_WR)
    with pytest.raises(ForeignReply, match=re.escape(complaint)):
        await line.exchange([model.echo(), model.echo()])
    line.close()
    there.close()


async def test_the_replies_that_are_due_are_no_foreign_ones() -> None:
    line, there = await a_line(b"c1.1")
    model = Model(b"c1.1", 1, random.Random(1))
    pairs = [model.echo(), model.set(line, "a"), model.get(line, "a"), model.get(line, "b")]
    there.sendall(b"$7\r\nc1.1=1;\r\n+OK\r\n$7\r\nc1.1=2;\r\n$-1\r\n")
    await line.exchange(pairs)
    line.close()
    there.close()


async def test_a_refusal_is_legal_only_where_backend_connections_are_few() -> None:
    line, there = await a_line(b"c1.1")
    line.world.may_be_full = True
    there.sendall(b"-ERR max number of backend connections reached\r\n")
    with pytest.raises(Refused):
        await line.exchange([Model(b"c1.1", 1, random.Random(1)).echo()])
    assert line.world.done == {"refused for want of a connection": 1}
    line.close()
    there.close()


async def test_an_end_is_excused_only_by_what_happened_since_the_last_reply() -> None:
    line, there = await a_line(b"c1.1")
    model = Model(b"c1.1", 1, random.Random(1))
    with line.world.storm():
        pass
    there.sendall(b"$7\r\nc1.1=1;\r\n")
    await line.exchange([model.echo()])
    there.shutdown(socket.SHUT_WR)
    with pytest.raises(ForeignReply, match="nothing had happened"):
        await line.exchange([model.echo()])
    with line.world.storm(), pytest.raises(Ended):
        await line.exchange([model.echo()])
    line.close()
    there.close()


class Muddle:
    """A proxy that shares one connection to Redis badly: what comes back goes to whoever spoke last."""

    def __init__(self, redis: RedisServer) -> None:
        self.address = (HOST, free_port())
        self._redis = redis
        self._last: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        reader, self._backend = await asyncio.open_connection(*self._redis.address)
        async with await asyncio.start_server(self._client, *self.address):
            while data := await reader.read(65_536):
                if self._last is not None:
                    self._last.write(data)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                self._last = writer
                self._backend.write(data)
        writer.close()


async def say_something(me: Client) -> None:
    """In one write: parts of several clients' commands would be no protocol any more."""
    await me.main.exchange([me.model.echo()])


async def test_a_proxy_that_mixes_replies_up_is_found_out() -> None:
    with redis_server() as redis:
        muddle = Muddle(redis)
        running = asyncio.create_task(muddle.run())
        world = World(muddle.address, {}, SEED, menu={say_something: 1})
        world.epoch = 1  # until the muddle listens
        async with crowd(world, 20):
            await soon(world, lambda: world.failures, "somebody complains")
        running.cancel()
    assert any("it belongs to" in failure for failure in world.failures), world.failures
