"""Clients whose reads go to a mirrored Redis, in front of two real ones: what they hear, and what ends it.

The two have other values under the same keys, so a reply tells who gave it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.console.verb import VerbError
from proxy.console.world import MirrorAsk, SplitAsk
from proxy.net.canary import CanaryClient
from proxy.split_shown import ENDED, Part
from tests.net.test_holding import LONG, Peer, World, world
from tests.net.test_routing import ask, frames
from tests.servers import HOST, RedisServer, captured, redis_server
from tests.wire import encode

pytestmark = pytest.mark.session_only("a split needs a backend connection for each client")

OK, HERE, THERE = b"+OK\r\n", b"$4\r\nhere\r\n", b"$5\r\nthere\r\n"
ALL = 100.0

Scene = Callable[[World, RedisServer], Awaitable[None]]


@pytest.fixture(scope="module")
def other() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def fragile() -> Iterator[RedisServer]:
    """A target that a test may end."""
    with redis_server() as server:
        yield server


def play(
    redis: RedisServer,
    target: RedisServer,
    scene: Scene,
    *,
    begin: float | None = ALL,
    mirrored: str | None = None,
    **options: Any,
) -> None:
    """``begin``: the share that is split before the scene; None: nothing is. ``mirrored``: the mirror's URL."""

    async def run() -> None:
        for server in (redis, target):
            server.call("FLUSHALL")
            server.call("CONFIG", "RESETSTAT")
        async with world(redis, **options) as it:
            it.app.splitting._seed = b"one of many"
            if begin is not None:
                await it.app.mirroring.start(MirrorAsk(mirrored or target.url))
                await it.app.splitting.start(SplitAsk(target.url, begin))
            redis.call("SET", "k", "here")
            target.call("SET", "k", "there")
            await asyncio.wait_for(scene(it, target), 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def shown(it: World) -> Part:
    return it.app.splitting.shown()


def counted(it: World) -> dict[str, int]:
    return {name: count for name, count in it.app.counters().items() if name.startswith("split_") and count}


async def ended(it: World, reason: str) -> None:
    await it.until(lambda: not shown(it).on)
    assert shown(it).why.startswith(ENDED[reason]), shown(it).why
    assert counted(it)[f"split_ended_{reason.replace('-', '_')}"] == 1


# ---- what clients hear -----------------------------------------------------------------------------------------------


def test_reads_are_answered_by_the_target_until_the_first_write(
    redis: RedisServer, other: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer = await it.peer()
        assert await ask(peer, "GET k", "EXISTS k", "STRLEN k") == [THERE, b":1\r\n", b":5\r\n"]
        assert shown(it).inside == 1
        assert await ask(peer, "SET own 1", "GET own", "GET k") == [OK, b"$1\r\n1\r\n", HERE]
        assert await ask(peer, "GET k") == [HERE]
        await it.until(lambda: target.call("GET", "own") == b"$1\r\n1\r\n")  # by the mirror
        assert (shown(it).inside, shown(it).reads, shown(it).left) == (0, 3, {"write": 1})
        assert counted(it) == {"split_connections": 1, "split_reads": 3, "split_left_write": 1}

    play(redis, other, scene, capture=tmp_path)
    rows = [(row["command"], row["backend"]) for row in captured(tmp_path)]
    there = [(b"GET", 1), (b"EXISTS", 1), (b"STRLEN", 1)]
    assert rows == [*there, (b"SET", 0), (b"GET", 0), (b"GET", 0), (b"GET", 0)]


@pytest.mark.parametrize(
    ("commands", "replies", "left"),
    [
        (["MULTI", "GET k", "EXEC", "GET k"], [OK, b"+QUEUED\r\n", b"*1\r\n" + HERE, HERE], "transaction"),
        (["WATCH k", "GET k"], [OK, HERE], "transaction"),
        (["EVAL return(redis.call('get',KEYS[1])) 1 k", "GET k"], [HERE, HERE], "script"),
        (["BLPOP none 0.01", "GET k"], [b"*-1\r\n", HERE], "blocking"),
        (["HELLO 3", "CLIENT TRACKING ON", "GET k"], [None, OK, HERE], "connection"),
    ],
    ids=["MULTI", "WATCH", "EVAL", "BLPOP", "TRACKING"],
)
def test_what_is_no_read_takes_a_client_to_the_backend_for_good(
    redis: RedisServer, other: RedisServer, commands: list[str], replies: list[bytes | None], left: str
) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer = await it.peer()
        assert await ask(peer, "GET k") == [THERE]
        said = await ask(peer, *commands)
        assert [wanted and reply for reply, wanted in zip(said, replies, strict=True)] == replies
        assert shown(it).left == {left: 1}

    play(redis, other, scene)


def test_reads_that_no_two_servers_answer_alike_are_the_backends_and_the_client_stays(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        target.call("SET", "more", 1)
        peer = await it.peer()
        assert await ask(peer, "GET k", "DBSIZE", "GET k", "SCAN 0", "PING", "GET k") == [
            THERE, b":1\r\n", THERE, b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n", b"+PONG\r\n", THERE,
        ]  # fmt: skip
        assert shown(it).left == {}

    play(redis, other, scene)


def test_a_pipeline_is_answered_in_its_order(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer = await it.peer()
        reads = ["GET k", "TIME"] * 50
        said = await ask(peer, *reads, "INCR n", "GET k", "GET n")
        assert said[0:100:2] == [THERE] * 50
        assert all(reply.startswith(b"*2") for reply in said[1:100:2])
        assert said[100:] == [b":1\r\n", HERE, b"$1\r\n1\r\n"]

    play(redis, other, scene)


def test_database_name_and_protocol_are_the_clients_there_too(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        for server, value in ((redis, "here3"), (target, "there3")):
            with server.talk() as talk:
                talk.call("SELECT", 3)
                talk.call("SET", "k", value)
        peer = await it.peer()
        assert await ask(peer, "SELECT 3", "GET k", "CLIENT SETNAME web", "GET k") == [
            OK, b"$6\r\nthere3\r\n", OK, b"$6\r\nthere3\r\n",
        ]  # fmt: skip
        hello, nil = await ask(peer, "HELLO 3", "GET none")
        assert (hello[:1], nil) == (b"%", b"_\r\n")
        names = [client["name"] for client in target.clients()]
        assert names.count("web") == 1
        assert await ask(peer, "SELECT 0", "GET k") == [OK, THERE]

    play(redis, other, scene)


def test_connections_that_were_open_are_not_touched(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        old = await it.peer()
        assert await ask(old, "GET k") == [HERE]
        await it.app.mirroring.start(MirrorAsk(target.url))
        await it.app.splitting.start(SplitAsk(target.url, ALL))
        new = await it.peer()
        assert await ask(new, "GET k") == [THERE]
        assert await ask(old, "GET k") == [HERE]

    play(redis, other, scene, begin=None)


def test_the_share_of_connections_is_kept(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        there = 0
        for _ in range(300):
            peer = await it.peer()
            there += await ask(peer, "GET k") == [THERE]
            peer.writer.close()
        assert 45 <= there <= 75  # of the seed: a fifth of 300
        assert shown(it).chosen == there

    play(redis, other, scene, begin=20)


def test_a_name_and_an_address_choose(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        for named, commands, reply in (
            ("web*", ["CLIENT SETNAME web1", "GET k"], THERE),
            ("web*", ["HELLO 2 SETNAME web2", "GET k"], THERE),
            ("web*", ["CLIENT SETNAME job", "GET k"], HERE),
            ("web*", ["GET k"], HERE),
        ):
            await it.app.splitting.start(SplitAsk(target.url, ALL, named))
            peer = await it.peer()
            assert (await ask(peer, *commands))[-1] == reply, commands
        for addr, reply in (
            ("127.0.0.0/8", THERE), ("10.0.0.0/8", HERE), ("127.*", THERE), ("::1", HERE), ("127.0.0.1:1", HERE)
        ):  # fmt: skip
            await it.app.splitting.start(SplitAsk(target.url, ALL, None, addr))
            assert await ask(await it.peer(), "GET k") == [reply], addr
        assert shown(it).left == {"name": 2}

    play(redis, other, scene)


def test_credentials_of_both_urls_are_used_and_an_own_login_stays_at_the_backend(redis: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        assert await ask(await it.peer(), "GET k") == [THERE]
        peer = await it.peer()
        assert (await ask(peer, "AUTH default wrong", "GET k"))[1] == HERE
        assert shown(it).left == {"connection": 1}

    with redis_server(password="secret") as guarded:
        url = f"redis://:secret@{HOST}:{guarded.port}"
        play(redis, guarded, scene, mirrored=url)  # SPLIT is given no password: the mirror's is known


def test_credentials_and_database_of_the_backends_url_hold_at_the_target_as_they_should(other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        with target.talk() as talk:
            talk.call("SELECT", 2)
            talk.call("SET", "k", "there")
        peer = await it.peer()
        assert await ask(peer, "GET k", "TIME", "GET k") != []
        assert (await ask(peer, "GET k"))[0] == THERE
        assert (await ask(peer, "AUTH secret"))[0].startswith(b"-ERR AUTH <password> called without any password")
        assert await ask(peer, "GET k", "SET k here", "GET k") == [THERE, OK, HERE]
        assert shown(it).left == {"write": 1}

    with redis_server(password="secret") as guarded:
        play(guarded, other, scene, backend=f"redis://:secret@{HOST}:{guarded.port}/2")


# ---- idempotence, refusals -------------------------------------------------------------------------------------------


def test_the_same_again_changes_nothing_and_another_share_is_taken_up(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        splitting = it.app.splitting
        peer = await it.peer()
        assert await ask(peer, "GET k") == [THERE]
        assert "so already" in (await splitting.start(SplitAsk(target.url, ALL)))[0]
        assert "from now on" in (await splitting.start(SplitAsk(target.url, 0.001)))[0]
        assert await ask(await it.peer(), "GET k") == [HERE]
        assert await ask(peer, "GET k") == [THERE]
        with pytest.raises(VerbError, match="SPLIT END first"):
            await splitting.start(SplitAsk(f"redis://{HOST}:1", ALL))
        assert (await splitting.end()).startswith("ended: 1 connections")
        assert await splitting.end() == "nothing was split"
        assert await ask(peer, "GET k") == [HERE]
        assert await ask(await it.peer(), "GET k") == [HERE]
        assert counted(it)["split_ended_asked"] == 1
        await splitting.start(SplitAsk(target.url, ALL))
        assert await ask(await it.peer(), "GET k") == [THERE]
        assert await ask(peer, "GET k") == [HERE]  # it has left

    play(redis, other, scene)


@pytest.mark.parametrize(
    ("mirror", "why"),
    [
        (None, "no mirror runs"),
        ({"what": "reads"}, "sends reads only"),
        ({"percent": 50}, "a part of the keys only"),
        ({"patterns": ("a*",)}, "a part of the keys only"),
    ],
)
def test_a_split_without_a_whole_mirror_of_writes_is_refused(
    redis: RedisServer, other: RedisServer, mirror: dict[str, Any] | None, why: str
) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        if mirror is not None:
            await it.app.mirroring.start(MirrorAsk(target.url, **mirror))
        with pytest.raises(VerbError, match=why):
            await it.app.splitting.start(SplitAsk(target.url, ALL))
        assert await ask(await it.peer(), "GET k") == [HERE]

    play(redis, other, scene, begin=None)


def test_a_split_to_another_server_than_the_mirrors_is_refused(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        await it.app.mirroring.start(MirrorAsk(target.url))
        for url, why in ((f"redis://{HOST}:1", "the mirror goes to"), ("nonsense", "the target")):
            with pytest.raises(VerbError, match=why):
                await it.app.splitting.start(SplitAsk(url, ALL))
        for name in ("[", "a\\"):
            with pytest.raises(VerbError, match="the pattern of NAME"):
                await it.app.splitting.start(SplitAsk(target.url, ALL, name))

    play(redis, other, scene, begin=None)


def test_a_split_is_refused_while_traffic_is_held(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        await it.app.mirroring.start(MirrorAsk(target.url))
        await it.holding.hold(LONG)
        with pytest.raises(VerbError, match="RELEASE first"):
            await it.app.splitting.start(SplitAsk(target.url, ALL))
        it.holding.release()

    play(redis, other, scene, begin=None)


def test_a_target_that_lacks_keys_is_named(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        await it.app.mirroring.start(MirrorAsk(target.url))
        redis.call("SET", "older", 1)
        _, notes = await it.app.splitting.start(SplitAsk(target.url, ALL))
        assert notes
        assert notes[0].startswith("the target has 1 keys, the backend 2")

    play(redis, other, scene, begin=None)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"pool": "shared"}, "--pool shared"),
        ({"rehearse": "redis-cluster"}, "--rehearse"),
        ({"ride_through": "5s"}, "--ride-through"),
        ({"classes": ["q=other:q:*"]}, "--classes"),
    ],
)
def test_a_split_is_refused_beside_what_it_does_not_know(
    redis: RedisServer, other: RedisServer, options: dict[str, Any], why: str
) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        with pytest.raises(VerbError, match=why):
            await it.app.splitting.start(SplitAsk(target.url, ALL))

    more = {"backends": [f"other={other.url}"]} if "classes" in options else {}
    play(redis, other, scene, begin=None, **options, **more)


# ---- what ends it ----------------------------------------------------------------------------------------------------


async def chosen(it: World) -> Peer:
    """A client that stands at the target."""
    peer = await it.peer()
    assert await ask(peer, "GET k") == [THERE]
    return peer


async def is_home(it: World, *peers: Peer) -> None:
    for peer in (*peers, await it.peer()):
        assert await ask(peer, "GET k") == [HERE]
    clients = [client for client in it.app._reception.clients if isinstance(client, CanaryClient)]
    assert [len(client.ends) for client in clients] == [1] * len(clients)


def test_the_end_of_the_mirror_ends_it(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer = await chosen(it)
        await it.app.mirroring.stop()
        await ended(it, "mirror-ended")
        await is_home(it, peer)

    play(redis, other, scene)


def test_a_dropped_command_ends_it(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer, writer = await chosen(it), await it.peer()
        await ask(writer, "NOSUCH a b")
        await ended(it, "mirror-dropped")
        await is_home(it, peer)
        with pytest.raises(VerbError, match="start it anew on a whole copy"):
            await it.app.splitting.start(SplitAsk(target.url, ALL))

    play(redis, other, scene)


def test_what_is_missing_at_the_target_ends_it(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer, writer = await chosen(it), await it.peer()
        redis.call("LPUSH", "l", "job")  # beside shunt
        assert await ask(writer, "RPOP l") == [b"$3\r\njob\r\n"]
        await ended(it, "mirror-missed")
        await is_home(it, peer)

    play(redis, other, scene)


def test_a_write_that_the_target_refuses_ends_it(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer, writer = await chosen(it), await it.peer()
        target.call("LPUSH", "kind", "a list")
        await ask(writer, "INCR kind")
        await ended(it, "mirror-refused")
        await is_home(it, peer)

    play(redis, other, scene)


def test_an_error_of_the_target_ends_it_and_its_client_hears_it(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        one, two = await chosen(it), await chosen(it)
        target.call("DEL", "k")
        target.call("LPUSH", "k", "x")
        assert (await ask(one, "GET k"))[0].startswith(b"-WRONGTYPE")
        await ended(it, "target-error")
        assert "GET: WRONGTYPE" in shown(it).why
        await is_home(it, one, two)

    play(redis, other, scene)


def test_a_hold_ends_it(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer = await chosen(it)
        assert (await it.holding.hold(LONG)).held
        await ended(it, "held")
        peer.send("GET", "k")
        assert await peer.silent()
        it.holding.release()
        assert await frames(peer, 1) == [HERE]
        await is_home(it, peer)

    play(redis, other, scene)


def test_after_a_switch_all_clients_are_where_traffic_goes(
    redis: RedisServer, other: RedisServer, tmp_path: Path
) -> None:
    """To the target of the split itself, with clients that stand at each of both."""

    async def scene(it: World, target: RedisServer) -> None:
        there, back = await chosen(it), await chosen(it)
        await ask(back, "SET own 1")
        assert it.app.board is not None
        done = await it.app.board.switch(target.url, 0.8, False, "a test", lambda line: None)
        assert (done.clients, done.closed) == (2, ())
        await ended(it, "held")
        for peer in (there, back, await it.peer()):
            assert await ask(peer, "GET k", "SET k new", "GET k") == [THERE, OK, b"$3\r\nnew\r\n"]
            target.call("SET", "k", "there")
        assert redis.call("GET", "k") == HERE
        await it.until(lambda: len(it.app._reception.clients) == 3)

    play(redis, other, scene, route_file=str(tmp_path / "route.json"))


def test_when_the_target_dies_no_client_notices(redis: RedisServer, fragile: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        idle, busy = await chosen(it), await chosen(it)
        target.process.signal(signal.SIGSTOP)  # so that the read is in flight when it dies
        busy.send("GET", "k")
        await it.until(lambda: any(session.in_flight for session in it.sessions()))
        target.process.popen.kill()
        assert await frames(busy, 1) == [HERE]
        await ended(it, "mirror-down")
        await is_home(it, idle, busy)
        assert shown(it).left["lost"] == 1

    play(redis, fragile, scene)


def test_a_target_that_hangs_ends_it_within_the_bound(redis: RedisServer, fragile: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer, writer = await chosen(it), await it.peer()
        target.process.signal(signal.SIGSTOP)
        try:
            await ask(writer, "SET a 1")
            await ended(it, "mirror-late")
            await is_home(it, peer)
        finally:
            target.process.signal(signal.SIGCONT)

    play(redis, fragile, scene)


def test_a_target_that_answers_no_read_ends_it_and_who_waits_is_answered(
    redis: RedisServer, fragile: RedisServer
) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        idle, one, two = await chosen(it), await chosen(it), await chosen(it)
        target.process.signal(signal.SIGSTOP)
        try:
            one.send("GET", "k")  # no write waits: the mirror sees nothing
            assert await ask(two, "GET k", "STRLEN k") == [HERE, b":4\r\n"]
            assert await frames(one, 1) == [HERE]
            await ended(it, "target-late")
            await is_home(it, idle, one, two)
        finally:
            target.process.signal(signal.SIGCONT)

    play(redis, fragile, scene)


# ---- one client's target connection ----------------------------------------------------------------------------------


def test_a_client_that_the_target_has_no_room_for_reads_from_the_backend(
    redis: RedisServer, fragile: RedisServer
) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        first = await chosen(it)
        target.call("CONFIG", "SET", "maxclients", len(target.clients()))
        peer = await it.peer()
        assert await ask(peer, "GET k", "GET k") == [HERE, HERE]
        assert shown(it).on
        assert shown(it).left == {"unreachable": 1}
        assert await ask(first, "GET k") == [THERE]

    play(redis, fragile, scene)


def test_a_client_whose_database_the_target_lacks_reads_from_the_backend(redis: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer = await it.peer()
        assert await ask(peer, "SELECT 9", "GET k", "SELECT 0", "GET k") == [OK, b"$-1\r\n", OK, HERE]
        assert shown(it).on
        assert shown(it).left == {"unreachable": 1}

    with redis_server("--databases", "2") as small:
        play(redis, small, scene)


def test_a_connection_that_the_target_closes_idle_is_made_again(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer = await it.peer()
        assert await ask(peer, "CLIENT SETNAME canary", "GET k") == [OK, THERE]
        (client,) = it.app._reception.clients
        assert isinstance(client, CanaryClient)
        for _ in range(2):  # where the client stands, and where it does not
            (there,) = (each for each in target.clients() if each["name"] == "canary")
            target.call("CLIENT", "KILL", "ID", there["id"])
            await it.until(lambda: client.ends[1].lost and client.session.here == 0)
            assert (await ask(peer, "GET k", "TIME", "GET k"))[::2] == [THERE, THERE]
            await ask(peer, "TIME")
        assert await ask(peer, "GET k") == [THERE]
        assert (shown(it).on, shown(it).left) == (True, {})

    play(redis, other, scene)


def test_a_client_that_says_quit_or_breaks_off_leaves_nothing_behind(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        base = len(target.clients())
        one, two, three = await chosen(it), await chosen(it), await chosen(it)
        assert len(target.clients()) == base + 3
        one.send("QUIT")
        assert await one.ended() == OK
        two.writer.write(encode("GET", "k"))
        two.writer.write_eof()
        assert await two.ended() == THERE
        three.writer.transport.abort()
        await it.until(lambda: not it.app._reception.clients)
        await it.until(lambda: len(target.clients()) == base)

    play(redis, other, scene)


def test_garbage_gets_the_backends_own_error(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer = await chosen(it)
        peer.writer.write(b"*1\r\n:5\r\n")
        assert (await peer.ended()).startswith(b"-ERR Protocol error: expected '$'")

    play(redis, other, scene)


def test_a_large_value_goes_through(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World, target: RedisServer) -> None:
        peer = await chosen(it)
        value = "v" * 3_000_000
        target.call("SET", "big", value)
        assert await ask(peer, "GET big") == [b"$3000000\r\n%b\r\n" % value.encode()]
        assert await ask(peer, f"SET big {value}", "STRLEN big") == [OK, b":3000000\r\n"]
        assert await ask(peer, "GET k") == [HERE]

    play(redis, other, scene)


# ---- all of it at once -----------------------------------------------------------------------------------------------


async def come_and_go(it: World, number: int, ended_: asyncio.Event) -> int:
    """A client that connects, reads, writes and reads what it wrote, again and again. Returns how often."""
    rounds = 0
    while not ended_.is_set():
        peer = await it.peer()
        for _ in range(3):
            assert await ask(peer, "GET same", "MGET same same", "TTL same") == [
                b"$1\r\n1\r\n", b"*2\r\n$1\r\n1\r\n$1\r\n1\r\n", b":-1\r\n",
            ]  # fmt: skip
        own = f"own:{number}"
        for value in (f"{rounds}a", f"{rounds}b"):
            assert (await ask(peer, f"SET {own} {value}", f"GET {own}"))[1].endswith(value.encode() + b"\r\n")
        peer.writer.close()
        rounds += 1
    return rounds


def test_no_client_notices_splits_that_begin_and_end_in_every_way(redis: RedisServer, other: RedisServer) -> None:
    """Twelve clients; splits are begun, changed, ended, held and cut off under them."""

    async def scene(it: World, target: RedisServer) -> None:
        for server in (redis, target):
            server.call("SET", "same", 1)
        mirroring, splitting = it.app.mirroring, it.app.splitting
        ended_ = asyncio.Event()
        clients = [asyncio.create_task(come_and_go(it, number, ended_)) for number in range(12)]

        async def begin() -> None:
            assert (await it.holding.hold(LONG)).held  # what is in flight when a mirror begins is not in it
            await mirroring.start(MirrorAsk(target.url))
            it.holding.release()
            await splitting.start(SplitAsk(target.url, 70))
            await it.until(lambda: shown(it).reads > 50)

        async def hold() -> None:
            assert (await it.holding.hold(LONG)).held
            it.holding.release()

        async def cut_off() -> None:
            target.call("CLIENT", "KILL", "TYPE", "normal")
            await it.until(lambda: not shown(it).on)
            await mirroring.stop()  # it has lost something, perhaps

        for _ in range(3):
            for end in (splitting.end, hold, cut_off, mirroring.stop):
                await begin()
                await end()
                await it.until(lambda: not shown(it).on)
        ended_.set()
        assert sum(await asyncio.gather(*clients)) > 50
        await it.until(lambda: not it.app._reception.clients)
        assert counted(it)["split_ended_held"] == 3

    play(redis, other, scene, begin=None, connect_timeout=10.0)
