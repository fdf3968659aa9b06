"""Holding a worker's traffic in front of a real Redis: what waits, what ends, what is never lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy import config
from proxy.app import App
from proxy.net import departure
from proxy.net.holding import Outcome
from proxy.routing.gate import Budget, State
from tests.conftest import POOL
from tests.net.scripted import Scripted
from tests.servers import HOST, RedisServer, captured, free_port
from tests.wire import encode

#: Long enough for a loaded machine; nothing here waits for its end.
LONG = Budget(quiet_s=20, hold_s=30, patience_s=0, transactions_s=20)


class Peer:
    """A client's own socket, beside the loop of the worker that it talks to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *words: str) -> None:
        self.writer.write(encode(*words))

    async def line(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n"), 15)

    async def call(self, *words: str) -> bytes:
        self.send(*words)
        return await self.line()

    async def silent(self) -> bool:
        """Whether nothing comes although everything has been given its turn."""
        try:
            await asyncio.wait_for(self.reader.read(1), 0.05)
        except TimeoutError:
            return True
        return False

    async def ended(self) -> bytes:
        """What came before the end; the end comes within a bound."""
        try:
            return await asyncio.wait_for(self.reader.read(), 15)
        except ConnectionError:
            return b""


class World:
    """A worker in this process, in front of a Redis."""

    def __init__(self, app: App, redis: RedisServer, port: int) -> None:
        self.app, self.redis, self._port = app, redis, port
        self.holding = app.holding
        self._peers: list[Peer] = []

    async def peer(self) -> Peer:
        made = Peer(*await asyncio.open_connection(HOST, self._port))
        self._peers.append(made)
        return made

    async def until(self, check: Callable[[], Any]) -> None:
        async with asyncio.timeout(15):
            while not check():  # noqa: ASYNC110 - what is asked has no event of its own
                await asyncio.sleep(0.002)

    def sessions(self) -> list[Any]:
        return [client.session for client in self.app._reception.clients]

    def close(self) -> None:
        for peer in self._peers:
            peer.writer.close()


@asynccontextmanager
async def world(redis: RedisServer, **options: Any) -> AsyncIterator[World]:
    port = free_port()
    made = config.load({"listen": [f"redis://{HOST}:{port}"], "backend": redis.url, "pool": POOL, **options})
    app = App(made)
    await app.start()
    running = asyncio.create_task(app.run())
    it = World(app, redis, port)
    try:
        await it.until(app.backend_up)
        yield it
    finally:
        it.close()
        app.end(at_once=True)
        await running
        await app.stop()


def play(redis: RedisServer, scene: Callable[[World], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        redis.call("FLUSHALL")
        async with world(redis, **options) as it:
            await asyncio.wait_for(scene(it), 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_what_is_sent_while_held_waits_and_is_answered_in_order_after_the_release(redis: RedisServer) -> None:
    async def scene(it: World) -> None:
        one, two = await it.peer(), await it.peer()
        assert await one.call("SET", "a", "1") == b"+OK\r\n"
        assert (await it.holding.hold(LONG)).held
        one.send("INCR", "a")
        two.send("INCR", "b")
        one.send("INCR", "a")
        assert await one.silent()
        assert (redis.call("GET", "a"), redis.call("EXISTS", "b")) == (b"$1\r\n1\r\n", b":0\r\n")
        it.holding.release()
        assert [await one.line(), await one.line(), await two.line()] == [b":2\r\n", b":3\r\n", b":1\r\n"]

    play(redis, scene)


def test_a_client_that_comes_while_held_is_served_after_the_release(redis: RedisServer) -> None:
    async def scene(it: World) -> None:
        assert (await it.holding.hold(LONG)).held
        new = await it.peer()
        new.send("PING")
        assert await new.silent()
        it.holding.release()
        assert await new.line() == b"+PONG\r\n"

    play(redis, scene)


def test_a_fetch_that_waits_reads_a_nil_and_its_next_try_waits_for_the_release(redis: RedisServer) -> None:
    async def scene(it: World) -> None:
        worker = await it.peer()
        worker.send("BRPOP", "queue:a", "0")
        await it.until(lambda: redis.blocked())
        assert (await it.holding.hold(LONG)).held
        assert await worker.line() == b"*-1\r\n"
        worker.send("BRPOP", "queue:a", "0")
        redis.call("LPUSH", "queue:a", "job")
        assert await worker.silent()
        assert redis.call("LLEN", "queue:a") == b":1\r\n"
        it.holding.release()
        assert [await worker.line() for _ in range(5)][4] == b"job\r\n"
        assert it.holding.counts.unblocked == 1

    play(redis, scene)


def test_a_job_that_is_popped_in_the_same_moment_is_delivered(redis: RedisServer) -> None:
    """UNBLOCK answers 0 then: the pop has won."""

    async def scene(it: World) -> None:
        workers = [await it.peer() for _ in range(20)]
        for worker in workers:
            worker.send("BRPOP", "queue:a", "0")
        await it.until(lambda: len(redis.blocked()) == len(workers))
        holding = asyncio.create_task(it.holding.hold(LONG))
        await it.until(lambda: it.holding.gate.state is not State.OPEN)
        pushed = [redis.call("LPUSH", "queue:a", f"job{number}") for number in range(10)]
        assert len(pushed) == 10
        assert (await holding).held
        got = 0
        for worker in workers:
            first = await worker.line()
            if first == b"*2\r\n":
                got += 1
                assert [await worker.line() for _ in range(4)][3].startswith(b"job")
            else:
                assert first == b"*-1\r\n"
        assert redis.call("LLEN", "queue:a") == b":%d\r\n" % (10 - got)
        it.holding.release()

    play(redis, scene)


def test_an_open_transaction_finishes_before_it_is_quiet(redis: RedisServer) -> None:
    async def scene(it: World) -> None:
        client = await it.peer()
        assert await client.call("MULTI") == b"+OK\r\n"
        holding = asyncio.create_task(it.holding.hold(LONG))
        await it.until(lambda: it.holding.gate.state is State.CLOSING)
        assert await client.call("SET", "a", "1") == b"+QUEUED\r\n"
        client.send("EXEC")
        assert [await client.line(), await client.line()] == [b"*1\r\n", b"+OK\r\n"]
        assert (await holding).held
        client.send("GET", "a")
        assert await client.silent()
        it.holding.release()
        assert [await client.line(), await client.line()] == [b"$1\r\n", b"1\r\n"]

    play(redis, scene)


def test_a_transaction_that_does_not_finish_is_closed_and_nothing_of_it_ran(redis: RedisServer) -> None:
    async def scene(it: World) -> None:
        client = await it.peer()
        await client.call("MULTI")
        await client.call("SET", "a", "1")
        outcome = await it.holding.hold(Budget(quiet_s=20, hold_s=30, transactions_s=0.05))
        assert outcome.held
        assert await client.ended() == b""
        assert redis.call("EXISTS", "a") == b":0\r\n"
        assert it.holding.counts.transactions_closed == 1
        it.holding.release()

    play(redis, scene)


def test_half_a_command_that_was_sent_on_is_waited_for_and_the_hold_released_by_itself(redis: RedisServer) -> None:
    """With --pool shared nothing of it has been sent on: it waits where it is."""

    async def scene(it: World) -> None:
        slow, other = await it.peer(), await it.peer()
        await slow.call("PING")
        slow.writer.write(encode("SET", "a", "12345")[:-4])
        await it.until(lambda: any(session.half_sent for session in it.sessions()))
        outcome = await it.holding.hold(Budget(quiet_s=0.2, hold_s=30))
        assert outcome.held == (POOL == "shared")
        assert it.holding.counts.aborted == (POOL == "session")
        if outcome.held:
            it.holding.release()
        else:
            assert "budget" in outcome.why
        assert await other.call("PING") == b"+PONG\r\n"
        slow.writer.write(encode("SET", "a", "12345")[-4:])
        assert await slow.line() == b"+OK\r\n"

    play(redis, scene)


@pytest.mark.parametrize("popped", [b"$-1\r\n", b"$3\r\njob\r\n"])
def test_a_pop_whose_client_has_gone_is_waited_for_and_what_it_took_is_back_before_it_is_quiet(
    redis: RedisServer, popped: bytes
) -> None:
    async def scene(it: World) -> None:
        it.app._reception.orphans.wait_s = 15.0
        client = await it.peer()
        client.send("LPOP", "q")
        popping, _ = await asyncio.to_thread(backend.pops.get, timeout=15)
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.writer.close()
        await it.until(lambda: not it.app._reception.clients)
        said: list[str] = []
        holding = asyncio.create_task(it.holding.hold(LONG, said.append))
        await it.until(lambda: len(said) > 3 or holding.done())
        assert (holding.done(), set(said)) == (False, {"1 commands in flight"})
        popping.say(popped)
        assert (await holding).held
        back = [] if popped == b"$-1\r\n" else [[b"LPUSH", b"q", b"job"]]
        assert [backend.pushed.get_nowait()[1] for _ in back] == back
        it.holding.release()

    with Scripted() as backend:
        play(redis, scene, backend=backend.url)


def test_a_hold_ends_by_itself_at_its_limit(redis: RedisServer) -> None:
    async def scene(it: World) -> None:
        client = await it.peer()
        await client.call("PING")
        assert (await it.holding.hold(Budget(quiet_s=0.2, hold_s=0.3))).held
        client.send("PING")
        assert await client.line() == b"+PONG\r\n"
        assert (it.holding.gate.state, it.holding.counts.expired) == (State.OPEN, 1)

    play(redis, scene)


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_what_a_client_sent_that_left_while_held_never_runs(redis: RedisServer, how: str) -> None:
    async def scene(it: World) -> None:
        client, other = await it.peer(), await it.peer()
        await client.call("PING")
        await other.call("PING")
        assert (await it.holding.hold(LONG)).held
        client.send("LPUSH", "queue:a", "job")
        await client.writer.drain()
        if how == "reset":
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.writer.close()
        await it.until(lambda: client.writer.transport.is_closing())
        assert await other.silent()
        it.holding.release()
        assert await other.call("PING") == b"+PONG\r\n"
        await it.until(lambda: len(it.app._reception.clients) == 1)
        assert redis.call("EXISTS", "queue:a") == b":0\r\n"
        assert it.holding.counts.gone + it.app._reception.counts.reset_while_paused == 1

    play(redis, scene)


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_what_a_client_sent_that_came_while_held_and_gave_up_never_runs(
    redis: RedisServer, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has never been read: it waits in the listening socket, or to be taken in."""
    monkeypatch.setattr(departure, "PATIENCE_S", 0.0)

    async def scene(it: World) -> None:
        assert (await it.holding.hold(LONG)).held
        client, other = await it.peer(), await it.peer()
        client.send("LPUSH", "queue:a", "job")
        other.send("PING")
        await client.writer.drain()
        if how == "reset":
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.writer.close()
        await client.writer.wait_closed()
        assert await other.silent()
        it.holding.release()
        assert await other.line() == b"+PONG\r\n"
        await it.until(lambda: it.app.counters()["departed"])
        assert len(it.app._reception.clients) == 1
        assert redis.call("EXISTS", "queue:a") == b":0\r\n"

    play(redis, scene)


def test_a_client_that_sends_all_and_closes_its_side_at_once_is_answered(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departure, "PATIENCE_S", 60.0)

    async def scene(it: World) -> None:
        assert (await it.holding.hold(LONG)).held
        client = await it.peer()
        client.send("PING")
        client.writer.write_eof()
        it.holding.release()
        assert await client.ended() == b"+PONG\r\n"
        assert it.app.counters()["departed"] == 0

    play(redis, scene)


def test_two_who_ask_get_the_one_answer(redis: RedisServer) -> None:
    async def scene(it: World) -> None:
        outcomes: list[Outcome] = await asyncio.gather(it.holding.hold(LONG), it.holding.hold(LONG))
        assert [outcome.held for outcome in outcomes] == [True, True]
        assert (await it.holding.hold(LONG)).held
        assert it.holding.counts.holds == 1
        it.holding.release()
        it.holding.release()

    play(redis, scene)


def test_a_hold_under_load_loses_no_command_and_doubles_none(redis: RedisServer) -> None:
    async def scene(it: World) -> None:
        running = True

        async def counts(peer: Peer) -> int:
            sent = 0
            while running:
                for _ in range(8):
                    peer.send("INCR", "n")
                for _ in range(8):
                    assert (await peer.line())[:1] == b":"
                sent += 8
            return sent

        peers = [await it.peer() for _ in range(30)]
        work = [asyncio.create_task(counts(peer)) for peer in peers]
        for _ in range(20):
            assert (await it.holding.hold(LONG)).held
            before = redis.call("GET", "n")
            assert redis.call("GET", "n") == before
            it.holding.release()
            await asyncio.sleep(0)
        running = False
        total = sum(await asyncio.gather(*work))
        assert redis.call("GET", "n").split(b"\r\n")[1] == b"%d" % total

    play(redis, scene, max_clients=100)


def test_what_waited_is_recorded_once(redis: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        client = await it.peer()
        await client.call("PING")
        assert (await it.holding.hold(LONG)).held
        client.send("INCR", "a")
        assert await client.silent()
        it.holding.release()
        assert await client.line() == b":1\r\n"

    play(redis, scene, capture=str(tmp_path))
    assert [row["command"] for row in captured(tmp_path)] == [b"PING", b"INCR"]


def test_what_a_client_sends_that_a_hold_overtakes_on_its_way_in_waits_for_the_release(redis: RedisServer) -> None:
    """The hold begins in the turn of the loop in which the client is connected: its reading can't be stopped yet."""

    async def scene(it: World) -> None:
        reception = it.app._reception
        made = reception._made

        def hold_first(client: Any) -> None:
            if not holding:
                holding.append(asyncio.create_task(it.holding.hold(LONG)))
                reception.hold()
            made(client)

        holding: list[asyncio.Task[Outcome]] = []
        reception._made = hold_first  # type: ignore[method-assign]
        peer = await it.peer()
        peer.send("INCR", "n")
        await it.until(lambda: holding)
        assert (await holding[0]).held
        assert await peer.silent()
        assert redis.call("EXISTS", "n") == b":0\r\n"
        it.holding.release()
        assert await peer.line() == b":1\r\n"
        assert await peer.call("INCR", "n") == b":2\r\n"

    play(redis, scene)
