"""Holding a class of keys in front of real Redis: its commands stand still, all others go on, and nothing is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.net.class_holding import ClassHoldings
from proxy.net.routing import RoutedClient
from proxy.routing.gate import Budget, State
from tests.net.test_holding import LONG, Peer, World
from tests.net.test_routing import NIL, OK, QUEUED, Scene, ask, frames
from tests.net.test_routing import play as play_routed
from tests.servers import RedisServer, redis_server
from tests.wire import encode

pytestmark = pytest.mark.session_only("--classes needs a backend connection for each client")

CLASSES = ["queues=other:q:*|queues", "state=main:s:*"]
NOTHING_LEFT = b"*-1\r\n"


@pytest.fixture(scope="module")
def other() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def play(main: RedisServer, other: RedisServer, scene: Scene, **options: Any) -> None:
    play_routed(main, other, scene, classes=CLASSES, **options)


def by_class(it: World) -> ClassHoldings:
    assert it.app.class_holdings is not None
    return it.app.class_holdings


async def hold(it: World, *names: str, budget: Budget = LONG) -> None:
    outcome = await by_class(it).hold(names, budget, lambda text: None)
    assert outcome.held, outcome


def waiting(it: World) -> int:
    return sum(isinstance(each, RoutedClient) and each.session.waits for each in it.app._reception.clients)


def test_a_held_class_stands_still_and_the_others_go_on(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        one, two, three = [await it.peer() for _ in range(3)]
        await hold(it, "queues")
        assert by_class(it).held() == {"queues": 1, "state": 0, "default": 0}
        one.writer.write(encode("INCR", "s:n") + encode("INCR", "q:n") + encode("INCR", "s:n") + encode("PING"))
        three.writer.write(encode("INCR", "q:n"))
        assert await ask(two, "INCR s:m", "INCR b", "PING", "MGET s:m b") == [
            b":1\r\n", b":1\r\n", b"+PONG\r\n", b"*2\r\n$1\r\n1\r\n$1\r\n1\r\n",
        ]  # fmt: skip
        assert await frames(one, 1) == [b":1\r\n"]
        await it.until(lambda: waiting(it) == 2)
        assert await one.silent()
        assert await three.silent()
        assert (redis.call("GET", "s:n"), other.call("EXISTS", "q:n")) == (b"$1\r\n1\r\n", b":0\r\n")
        freed = by_class(it).release(["queues"])
        assert (freed.held, freed.clients, freed.gone) == (True, 2, 0)
        assert sorted([(await frames(one, 1))[0], (await frames(three, 1))[0]]) == [b":1\r\n", b":2\r\n"]
        assert await frames(one, 2) == [b":2\r\n", b"+PONG\r\n"]
        assert by_class(it).held() == {"queues": 0, "state": 0, "default": 0}

    play(redis, other, scene)


def test_two_classes_are_held_and_released_each_for_itself(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        one, two, three = [await it.peer() for _ in range(3)]
        await hold(it, "queues", "state")
        await hold(it, "queues", "queues")
        one.send("INCR", "q:n")
        two.send("INCR", "s:n")
        three.send("INCR", "n")
        assert await three.line() == b":1\r\n"
        await it.until(lambda: waiting(it) == 2)
        by_class(it).release(["state"])
        assert await two.line() == b":1\r\n"
        assert await one.silent()
        by_class(it).release(())
        assert await one.line() == b":1\r\n"
        assert [each.holds for each in by_class(it).counts] == [1, 1, 0]
        assert not by_class(it).release(["state"]).held

    play(redis, other, scene)


def test_a_command_goes_only_when_neither_its_class_nor_all_traffic_is_held(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        one, two = await it.peer(), await it.peer()
        await hold(it, "queues")
        one.writer.write(encode("INCR", "q:n") + encode("INCR", "n"))
        await it.until(lambda: waiting(it) == 1)
        assert (await it.holding.hold(LONG)).held
        two.send("INCR", "n")
        by_class(it).release(["queues"])
        assert await one.silent()
        await hold(it, "state")
        it.holding.release()
        assert await frames(one, 1) == [b":1\r\n"]
        assert sorted([(await frames(one, 1))[0], (await frames(two, 1))[0]]) == [b":1\r\n", b":2\r\n"]
        two.send("GET", "s:n")
        await it.until(lambda: waiting(it) == 1)
        assert (await it.holding.hold(LONG)).held
        it.holding.release()
        assert await two.silent()
        by_class(it).release(["state"])
        assert await frames(two, 1) == [NIL]

    play(redis, other, scene)


def test_a_fetch_of_the_class_reads_a_nil_and_one_of_another_class_waits_on(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        worker, neighbour, behind = [await it.peer() for _ in range(3)]
        worker.send("BRPOP", "q:l", "0")
        neighbour.send("BRPOP", "s:l", "0")
        behind.writer.write(encode("BRPOP", "l", "0") + encode("INCR", "s:n"))
        await it.until(lambda: sum(session.blocked for session in it.sessions()) == 3)
        await hold(it, "queues")
        assert await frames(worker, 1) == [NOTHING_LEFT]
        assert await neighbour.silent()
        assert await behind.silent()
        worker.send("BRPOP", "q:l", "0")
        other.call("LPUSH", "q:l", "job")
        redis.call("LPUSH", "s:l", "job")
        assert await frames(neighbour, 1) == [b"*2\r\n$3\r\ns:l\r\n$3\r\njob\r\n"]
        assert await worker.silent()
        assert other.call("LLEN", "q:l") == b":1\r\n"
        by_class(it).release(["queues"])
        assert await frames(worker, 1) == [b"*2\r\n$3\r\nq:l\r\n$3\r\njob\r\n"]
        await hold(it, "state")
        assert await frames(behind, 2) == [NOTHING_LEFT, b":1\r\n"]

    play(redis, other, scene)


@pytest.mark.parametrize(("first", "name"), [("q:l", "queues"), ("s:l", "state")])
def test_a_fetch_of_another_class_behind_one_that_is_ended_waits_on(
    redis: RedisServer, other: RedisServer, first: str, name: str
) -> None:
    """Where both are on one backend, both are in Redis already when the hold begins."""

    async def scene(it: World) -> None:
        peer = await it.peer()
        peer.writer.write(encode("BRPOP", first, "0") + encode("BRPOP", "l", "0"))
        await it.until(lambda: (other if name == "queues" else redis).blocked())
        await hold(it, name)
        assert await frames(peer, 1) == [NOTHING_LEFT]
        peer.send("INCR", first + ":n")
        await it.until(lambda: redis.blocked())
        assert await peer.silent()
        redis.call("LPUSH", "l", "job")
        assert await frames(peer, 1) == [b"*2\r\n$1\r\nl\r\n$3\r\njob\r\n"]
        assert await peer.silent()
        by_class(it).release([name])
        assert await frames(peer, 1) == [b":1\r\n"]

    play(redis, other, scene)


def test_a_fetch_over_keys_of_two_classes_belongs_to_both(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        worker = await it.peer()
        for name in ("state", "default"):
            worker.send("BRPOP", "s:l", "l", "0")
            await it.until(lambda: redis.blocked())
            await hold(it, name)
            assert await frames(worker, 1) == [NOTHING_LEFT]
            worker.send("BRPOP", "s:l", "l", "0")
            redis.call("LPUSH", "l", "job")
            assert await worker.silent()
            by_class(it).release([name])
            assert await frames(worker, 1) == [b"*2\r\n$1\r\nl\r\n$3\r\njob\r\n"]

    play(redis, other, scene)


def test_who_pipelines_another_class_without_end_does_not_keep_it_from_becoming_quiet(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        stop = False
        sent = 0

        async def pour() -> None:
            nonlocal sent
            peer.writer.write(encode("INCR", "s:n"))
            while not stop:
                peer.writer.write(encode("INCR", "n") * 50)
                sent += 50
                await peer.writer.drain()
                await asyncio.sleep(0)

        pouring = asyncio.create_task(pour())
        reading = asyncio.create_task(_drain(peer))
        await it.until(lambda: sent > 1000)
        await hold(it, "state")
        before = sent
        await it.until(lambda: sent > before + 1000)
        assert by_class(it).held()["state"] == 1
        stop = True
        await pouring
        assert await ask(await it.peer(), "PING") == [b"+PONG\r\n"]
        await it.until(lambda: redis.call("GET", "n").split(b"\r\n")[1] == b"%d" % sent)
        reading.cancel()

    play(redis, other, scene)


async def _drain(peer: Peer) -> None:
    while await peer.reader.read(65536):
        pass


def test_an_open_transaction_of_the_class_finishes_and_one_of_another_class_is_left_alone(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        one, two, three = [await it.peer() for _ in range(3)]
        assert await ask(one, "MULTI", "INCR q:n") == [OK, QUEUED]
        assert await ask(two, "MULTI", "INCR s:n") == [OK, QUEUED]
        assert await ask(three, "MULTI") == [OK]
        holding = asyncio.create_task(hold(it, "queues"))
        await it.until(lambda: by_class(it).held()["queues"])
        assert await ask(one, "INCR q:n") == [QUEUED]
        assert not holding.done()
        one.writer.write(encode("EXEC") + encode("INCR", "q:n"))
        assert await frames(one, 1) == [b"*2\r\n:1\r\n:2\r\n"]
        await holding
        three.writer.write(encode("INCR", "q:n") + encode("EXEC"))
        await it.until(lambda: waiting(it) == 2)
        assert await one.silent()
        assert await three.silent()
        assert await ask(two, "INCR s:n", "EXEC") == [QUEUED, b"*2\r\n:1\r\n:2\r\n"]
        by_class(it).release(["queues"])
        assert await frames(three, 2) in ([QUEUED, b"*1\r\n:3\r\n"], [QUEUED, b"*1\r\n:4\r\n"])
        assert await frames(one, 1) in ([b":3\r\n"], [b":4\r\n"])

    play(redis, other, scene)


def test_a_transaction_of_the_class_that_does_not_finish_is_closed_and_nothing_of_it_ran(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        one, two = await it.peer(), await it.peer()
        await ask(one, "MULTI", "INCR q:n")
        await ask(two, "MULTI", "INCR s:n")
        await hold(it, "queues", budget=Budget(quiet_s=20, hold_s=30, transactions_s=0.05))
        assert await one.ended() == b""
        assert other.call("EXISTS", "q:n") == b":0\r\n"
        assert await ask(two, "EXEC") == [b"*1\r\n:1\r\n"]
        assert it.app.counters()["transactions_closed"] == 1

    play(redis, other, scene)


def test_a_hold_that_does_not_become_quiet_lets_the_class_go_on(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        half, two = await it.peer(), await it.peer()
        assert await ask(half, "GET q:n") == [NIL]  # it stands at its backend, so that what comes is sent on at once
        data = encode("SET", "q:n", "x" * 1000)
        half.writer.write(data[:500])
        await it.until(lambda: any(session.half_forwarded for session in it.sessions()))
        said: list[str] = []
        holding = asyncio.create_task(by_class(it).hold(["state", "queues"], Budget(0.2, 30.0), said.append))
        await it.until(lambda: by_class(it).held()["queues"])
        two.writer.write(encode("INCR", "q:m") + encode("INCR", "s:m"))
        outcome = await holding
        assert not outcome.held
        assert outcome.why.startswith("class queues: it did not become quiet within the budget")
        assert "class queues: 1 clients with commands in flight; 1 commands half sent" in said
        assert by_class(it).held() == {"queues": 0, "state": 0, "default": 0}
        assert await frames(two, 2) == [b":1\r\n", b":1\r\n"]
        half.writer.write(data[500:])
        assert await frames(half, 1) == [OK]
        assert it.app.counters()["holds_not_quiet"] == 1

    play(redis, other, scene)


def test_a_hold_ends_by_itself_at_its_limit(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await hold(it, "queues", budget=Budget(quiet_s=0.2, hold_s=0.3))
        peer.writer.write(encode("INCR", "q:n") + encode("INCR", "n"))
        assert await frames(peer, 2) == [b":1\r\n", b":1\r\n"]
        assert (by_class(it).held()["queues"], it.app.counters()["holds_expired"]) == (0, 1)

    play(redis, other, scene)


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_what_a_client_sent_that_left_while_held_never_runs(redis: RedisServer, other: RedisServer, how: str) -> None:
    async def scene(it: World) -> None:
        client, late, stays = await it.peer(), await it.peer(), await it.peer()
        await hold(it, "queues")
        for peer in (client, late):
            peer.writer.write(encode("LPUSH", "q:l", "job") + encode("INCR", "n"))
        stays.send("LPUSH", "q:l", "stays")
        await it.until(lambda: waiting(it) == 3)
        for peer in (client, late):
            if how == "reset":
                sock = peer.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.writer.close()
            await it.until(peer.writer.transport.is_closing)
        assert await stays.silent()
        by_class(it).release(["queues"])
        assert await stays.line() == b":1\r\n"
        await it.until(lambda: len(it.app._reception.clients) == 1)
        assert (other.call("LLEN", "q:l"), redis.call("EXISTS", "n")) == (b":1\r\n", b":0\r\n")
        assert it.app.counters()["gone_while_held"] + it.app._reception.counts.reset_while_paused == 2

    play(redis, other, scene)


def test_a_job_that_is_popped_in_the_same_moment_is_delivered(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        workers = [await it.peer() for _ in range(20)]
        for worker in workers:
            worker.send("BRPOP", "q:l", "0")
        await it.until(lambda: len(other.blocked()) == len(workers))
        holding = asyncio.create_task(hold(it, "queues"))
        await it.until(lambda: by_class(it).held()["queues"])
        for number in range(10):
            other.call("LPUSH", "q:l", f"job{number}")
        await holding
        got = 0
        for worker in workers:
            (reply,) = await frames(worker, 1)
            got += reply != NOTHING_LEFT
        assert other.call("LLEN", "q:l") == b":%d\r\n" % (10 - got)

    play(redis, other, scene)


def test_commands_whose_keys_cant_be_told_wait_for_every_class(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peers = [await it.peer() for _ in range(3)]
        redis.call("SET", "n", "1")
        await hold(it, "state")
        for peer, line in zip(peers, ("FLUSHALL", "EVAL return(5) 0", "NOSUCH x"), strict=True):
            peer.send(*line.split())
        await it.until(lambda: waiting(it) == 3)
        assert redis.call("EXISTS", "n") == b":1\r\n"
        by_class(it).release(["state"])
        assert await frames(peers[0], 1) == [OK]
        assert await frames(peers[1], 1) == [b":5\r\n"]
        assert (await frames(peers[2], 1))[0].startswith(b"-ERR unknown command")

    play(redis, other, scene)


def test_a_client_that_comes_while_a_class_is_held_is_served_and_waits_where_it_must(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        await hold(it, "queues")
        new = await it.peer()
        assert await ask(new, "PING", "INCR n") == [b"+PONG\r\n", b":1\r\n"]
        new.send("INCR", "q:n")
        assert await new.silent()
        by_class(it).release(["queues"])
        assert await new.line() == b":1\r\n"

    play(redis, other, scene)


def test_a_command_that_waits_for_a_backend_that_is_down_is_refused_after_the_release(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await hold(it, "queues")
        peer.writer.write(encode("INCR", "q:n") + encode("INCR", "n"))
        await it.until(lambda: waiting(it) == 1)
        by_class(it).release(["queues"])
        refused, counted = await frames(peer, 2)
        assert refused.startswith(b"-CROSSBACKEND backend other can't be connected to")
        assert counted == b":1\r\n"

    play(redis, other, scene, backends=["other=redis://127.0.0.1:1"])


def test_holds_under_load_lose_nothing_double_nothing_and_stand_still(redis: RedisServer, other: RedisServer) -> None:
    """Sixteen clients send both classes in turns, pipelined; each checks its own order by the replies."""

    async def scene(it: World) -> None:
        running = True

        async def counts(peer: Peer, name: str) -> int:
            sent = 0
            while running:
                keys = [f"q:{name}", f"s:{name}", f"s:{name}", f"q:{name}"]
                assert await ask(peer, *(f"INCR {key}" for key in keys)) == [
                    b":%d\r\n" % (sent + 1), b":%d\r\n" % (sent + 1), b":%d\r\n" % (sent + 2), b":%d\r\n" % (sent + 2),
                ]  # fmt: skip
                sent += 2
            return sent

        async def others(peer: Peer) -> int:
            sent = 0
            while running:
                sent += 1
                assert await ask(peer, "INCR s:all") == [b":%d\r\n" % sent]
            return sent

        peers = [await it.peer() for _ in range(16)]
        work = [asyncio.create_task(counts(peer, str(number))) for number, peer in enumerate(peers)]
        alone = asyncio.create_task(others(await it.peer()))
        one = await it.peer()
        for round in range(20):
            name, server = (("queues", other), ("state", redis))[round % 2]
            await hold(it, name)
            before = _values(server)
            seen = redis.call("GET", "s:all")
            if name == "queues":
                await it.until(lambda seen=seen: redis.call("GET", "s:all") != seen)
            else:
                assert [await ask(one, "PING") for _ in range(20)] == [[b"+PONG\r\n"]] * 20
            after = _values(server)
            if name == "queues":
                assert after == before
            else:
                assert {key: after[key] for key in before} == before
            by_class(it).release([name])
            await asyncio.sleep(0)
        running = False
        totals = await asyncio.gather(*work)
        assert int(redis.call("GET", "s:all").split(b"\r\n")[1]) == await alone
        for number, total in enumerate(totals):
            for server, prefix in ((other, "q"), (redis, "s")):
                assert server.call("GET", f"{prefix}:{number}") == b"$%d\r\n%d\r\n" % (len(str(total)), total)

    play(redis, other, scene, max_clients=100)


def _values(server: RedisServer) -> dict[bytes, bytes]:
    keys = sorted(server.call("KEYS", "*").split(b"\r\n")[2::2])
    return {key: server.call("GET", key.decode()) for key in keys}


def test_who_is_shown_as_held(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await hold(it, "queues")
        peer.send("GET", "q:n")
        await it.until(lambda: waiting(it) == 1)
        (row,), _ = await it.app.control.clients()
        assert row.state == "held"
        by_class(it).release([])
        assert await frames(peer, 1) == [NIL]
        (row,), _ = await it.app.control.clients()
        assert row.state == "plain"
        assert it.holding.gate.state is State.OPEN

    play(redis, other, scene)
