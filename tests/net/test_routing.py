"""Keys on several backends: every command reaches the Redis of its keys, and replies come as from one."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.net.routing import RoutedClient
from tests.net.test_holding import LONG, Peer, World, world
from tests.servers import HOST, RedisServer, captured, free_port, redis_server
from tests.wire import encode, frame_end

pytestmark = pytest.mark.session_only("--classes needs a backend connection for each client")

CLASSES = ["queues=other:q:*|queues", r"deep=main:q:low:*"]
OK, QUEUED, NIL = b"+OK\r\n", b"+QUEUED\r\n", b"$-1\r\n"
CROSS = b"-CROSSBACKEND keys of this command live on backends %b and %b\r\n"
ACROSS = b"-CROSSBACKEND keys of this transaction live on backends %b and %b\r\n"
ABORTED = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


@pytest.fixture(scope="module")
def other() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


Scene = Callable[[World], Awaitable[None]]


def play(main: RedisServer, other: RedisServer, scene: Scene, **options: Any) -> None:
    async def run() -> None:
        for server in (main, other):
            server.call("FLUSHALL")
            server.call("SCRIPT", "FLUSH")
        given = {"backends": [f"other={other.url}"], "classes": CLASSES, **options}
        async with world(main, **given) as it:
            await asyncio.wait_for(scene(it), 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def frames(peer: Peer, count: int) -> list[bytes]:
    """The next replies, each as its bytes."""
    data, found = b"", []
    async with asyncio.timeout(20):
        while len(found) < count:
            end = frame_end(data) if data else -1
            if end < 0:
                more = await peer.reader.read(65536)
                assert more, (found, data)
                data += more
            else:
                found.append(data[:end])
                data = data[end:]
    assert data == b""
    return found


async def ask(peer: Peer, *commands: str) -> list[bytes]:
    """The replies to commands, each one line of words, sent in one write."""
    peer.writer.write(b"".join(encode(*command.split()) for command in commands))
    return await frames(peer, len(commands))


def counted(it: World) -> dict[tuple[str, str], int]:
    return it.app.engine().crossbackend


def routed(it: World) -> RoutedClient:
    (client,) = it.app._reception.clients
    assert isinstance(client, RoutedClient)
    return client


def test_commands_reach_the_redis_of_their_keys(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        assert await ask(peer, "SET a 1", "SET q:a 2", "SET q:low:a 3", "LPUSH queues x", "SADD a:s 1", "INCR q:a") == [
            OK, OK, OK, b":1\r\n", b":1\r\n", b":3\r\n",
        ]  # fmt: skip
        assert await ask(peer, "GET a", "GET q:a") == [b"$1\r\n1\r\n", b"$1\r\n3\r\n"]

    play(redis, other, scene)
    assert sorted(redis.call("KEYS", "*").split(b"\r\n")[2::2]) == [b"a", b"a:s", b"q:low:a"]
    assert sorted(other.call("KEYS", "*").split(b"\r\n")[2::2]) == [b"q:a", b"queues"]


def test_what_spans_backends_is_refused_in_its_turn_and_sent_to_neither(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        assert await ask(
            peer, "SET a 1", "MSET b 1 q:b 1", "SET q:a 1", "MSET q:b 1 b 1", "EVAL return{KEYS[1]} 2 a q:a",
            "BRPOP l q:l 0", "RENAME a q:z", "MGET a q:low:a", "SUNIONSTORE q:d s1", "PING",
        ) == [
            OK, CROSS % (b"main", b"other"), OK, CROSS % (b"other", b"main"), CROSS % (b"main", b"other"),
            CROSS % (b"main", b"other"), CROSS % (b"main", b"other"), b"*2\r\n$1\r\n1\r\n$-1\r\n",
            CROSS % (b"other", b"main"), b"+PONG\r\n",
        ]  # fmt: skip
        assert counted(it) == {
            ("keys", "MSET"): 2, ("keys", "EVAL"): 1, ("keys", "BRPOP"): 1, ("keys", "RENAME"): 1,
            ("keys", "SUNIONSTORE"): 1,
        }  # fmt: skip

    play(redis, other, scene)
    assert redis.call("EXISTS", "b", "q:b") == other.call("EXISTS", "b", "q:b") == b":0\r\n"


def test_what_can_be_sent_in_parts_is_when_asked_for(redis: RedisServer, other: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        big = "x" * 300_000
        assert await ask(
            peer, "SET a 1", "SET q:a 2", f"SET q:b {big}", "MGET a q:a none q:b a", "EXISTS q:a a none q:a",
            "TOUCH a q:a", "MGET a none", "UNLINK a q:a q:none", "DEL q:b a b", "MSET a 1 q:a 1", "MULTI", "DEL a q:a",
            "EXEC", "DBSIZE",
        ) == [
            OK, OK, OK, b"*5\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n$300000\r\n%b\r\n$1\r\n1\r\n" % big.encode(),
            b":3\r\n", b":2\r\n", b"*2\r\n$1\r\n1\r\n$-1\r\n", b":2\r\n", b":1\r\n", CROSS % (b"main", b"other"), OK,
            CROSS % (b"main", b"other"), ABORTED, b":0\r\n",
        ]  # fmt: skip
        assert await ask(peer, "DEL q:x x") == [b":0\r\n"]
        _, values = await ask(peer, "HELLO 3", "MGET q:x x")
        assert values == b"*2\r\n_\r\n_\r\n"
        assert await ask(peer, "SUBSCRIBE news") != []
        assert (await ask(peer, "MGET a q:a"))[0].startswith(b"-CROSSBACKEND this connection stays at backend main")
        assert counted(it)["split", "MGET"] == 4

    play(redis, other, scene, split_keys=True, capture=tmp_path)
    parts = [(row["backend"], row["nkeys"]) for row in captured(tmp_path) if row["command"] == b"UNLINK"]
    assert parts == [(0, 1), (1, 2)]


def test_a_part_that_fails_is_the_answer_and_the_rest_is_not_sent(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await ask(peer, "SET a 1", "SET q:a 1")
        other.call("REPLICAOF", "127.0.0.1", str(free_port()))
        try:
            assert (await ask(peer, "DEL q:a a"))[0].startswith(b"-READONLY")
            assert await ask(peer, "EXISTS a") == [b":1\r\n"]
        finally:
            other.call("REPLICAOF", "NO", "ONE")

    play(redis, other, scene, split_keys=True)


TRANSACTIONS = [
    ("at the first backend", ["MULTI", "INCR a", "INCR b", "EXEC"], [OK, QUEUED, QUEUED, b"*2\r\n:1\r\n:1\r\n"]),
    ("at the other", ["MULTI", "INCR q:a", "INCR q:b", "EXEC"], [OK, QUEUED, QUEUED, b"*2\r\n:1\r\n:1\r\n"]),
    (
        "at one after the other",
        ["MULTI", "INCR q:a", "EXEC", "MULTI", "INCR a", "EXEC", "INCR q:a"],
        [OK, QUEUED, b"*1\r\n:1\r\n", OK, QUEUED, b"*1\r\n:1\r\n", b":2\r\n"],
    ),
    (
        "that spans them",
        ["MULTI", "INCR a", "INCR q:a", "INCR b", "EXEC", "EXISTS a b", "EXISTS q:a"],
        [OK, QUEUED, ACROSS % (b"main", b"other"), QUEUED, ABORTED, b":0\r\n", b":0\r\n"],
    ),
    (
        "with a command that spans them",
        ["MULTI", "MSET a 1 q:a 1", "INCR a", "EXEC", "EXISTS a"],
        [OK, CROSS % (b"main", b"other"), QUEUED, ABORTED, b":0\r\n"],
    ),
    (
        "that spans them and is discarded",
        ["MULTI", "INCR q:a", "INCR a", "DISCARD", "MULTI", "INCR a", "EXEC"],
        [OK, QUEUED, ACROSS % (b"other", b"main"), OK, OK, QUEUED, b"*1\r\n:1\r\n"],
    ),
    (
        "in which something without keys came first",
        ["MULTI", "PING", "INCR q:a", "EXEC"],
        [OK, QUEUED, ACROSS % (b"main", b"other"), ABORTED],
    ),
    (
        "with WATCH",
        ["WATCH q:a", "GET a", "MULTI", "INCR q:a", "EXEC"],
        [OK, NIL, OK, QUEUED, b"*1\r\n:1\r\n"],
    ),
    (
        "with WATCH of what is changed meanwhile",
        ["WATCH q:a", "SET a 1", "SET q:a 5", "GET a", "MULTI", "INCR q:a", "EXEC", "GET q:a"],
        [OK, OK, OK, b"$1\r\n1\r\n", OK, QUEUED, b"*-1\r\n", b"$1\r\n5\r\n"],
    ),
    (
        "at another backend than its WATCH",
        ["WATCH a", "MULTI", "INCR q:a", "EXEC", "MULTI", "INCR q:a", "EXEC"],
        [OK, OK, ACROSS % (b"main", b"other"), ABORTED, OK, QUEUED, b"*1\r\n:1\r\n"],
    ),
    (
        "with WATCH on both",
        ["WATCH a", "WATCH q:a", "UNWATCH", "WATCH q:a", "UNWATCH"],
        [OK, b"-CROSSBACKEND watched keys live on backends main and other\r\n", OK, OK, OK],
    ),
    ("that Redis refuses", ["MULTI", "NOSUCH", "INCR a", "EXEC"], [OK, b"-ERR", QUEUED, ABORTED]),
    ("that never was one", ["EXEC", "INCR q:a", "DISCARD", "INCR a"], [b"-ERR", b":1\r\n", b"-ERR", b":1\r\n"]),
    ("nested", ["MULTI", "MULTI", "INCR a", "EXEC"], [OK, b"-ERR", QUEUED, b"*1\r\n:1\r\n"]),
]


@pytest.mark.parametrize("at_once", [True, False], ids=["in one write", "one by one"])
@pytest.mark.parametrize(("what", "commands", "replies"), TRANSACTIONS, ids=[case[0] for case in TRANSACTIONS])
def test_a_transaction(
    redis: RedisServer, other: RedisServer, what: str, commands: list[str], replies: list[bytes], at_once: bool
) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        if at_once:
            said = await ask(peer, *commands)
        else:
            said = [(await ask(peer, command))[0] for command in commands]
        assert [b"-ERR" if reply.startswith(b"-ERR") else reply for reply in said] == replies
        assert await ask(peer, "SET a x", "SET q:a y") == [OK, OK]

    play(redis, other, scene)


def test_database_name_and_protocol_follow_the_client(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await ask(peer, "SELECT 3", "CLIENT SETNAME worker", "SET a 1", "SET q:a 1", "SELECT 4", "SET q:b 1", "SET b 1")
        name = b"$6\r\nworker\r\n"
        assert await ask(peer, "GET q:a", "CLIENT GETNAME", "GET a", "CLIENT GETNAME") == [NIL, name, NIL, name]
        hello, one, two = await ask(peer, "HELLO 3", "GET none", "GET q:none")
        assert hello.startswith(b"%7")
        assert (one, two) == (b"_\r\n", b"_\r\n")
        reset, one, two = await ask(peer, "RESET", "GET none", "GET q:none")
        assert (reset, one, two) == (b"+RESET\r\n", NIL, NIL)
        assert (await ask(peer, "CLIENT GETNAME"))[0] in (NIL, b"$0\r\n\r\n")
        assert await ask(peer, "SET c 1", "SET q:c 1") == [OK, OK]

    play(redis, other, scene)
    for server, key in ((redis, "{}"), (other, "q:{}")):
        for database, name in ((3, "a"), (4, "b"), (0, "c")):
            with server.talk() as talk:
                talk.call("SELECT", database)
                assert talk.call("EXISTS", key.format(name)) == b":1\r\n", (database, name)


def test_a_fetch_waits_on_either_side_and_what_is_behind_it_waits_too(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        one, two = await it.peer(), await it.peer()
        for first, second in (("q:l", "l"), ("l", "q:l")):
            one.writer.write(encode("BRPOP", first, "0") + encode("LPUSH", second, "x") + encode("PING"))
            await it.until(lambda: any(session.blocked for session in it.sessions()))
            assert await one.silent()
            assert await ask(two, f"EXISTS {second}", f"LPUSH {first} job") == [b":0\r\n", b":1\r\n"]
            popped, pushed, pong = await frames(one, 3)
            assert popped == b"*2\r\n$%d\r\n%b\r\n$3\r\njob\r\n" % (len(first), first.encode())
            assert (pushed, pong) == (b":1\r\n", b"+PONG\r\n")
            await ask(two, f"DEL {second}")

    play(redis, other, scene)


def test_messages_come_from_the_first_backend_and_a_subscriber_stays_there(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        peer, speaker = await it.peer(), await it.peer()
        await ask(peer, "HELLO 3", "SET q:a 1")
        assert (await ask(peer, "SUBSCRIBE news"))[0].startswith(b">3\r\n$9\r\nsubscribe")
        assert await ask(speaker, "SET q:a 2", "PUBLISH news hi") == [OK, b":1\r\n"]
        assert await frames(peer, 1) == [b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n"]
        assert await ask(peer, "GET a", "GET q:a") == [
            b"_\r\n", b"-CROSSBACKEND this connection stays at backend main: it is subscribed\r\n",
        ]  # fmt: skip
        await ask(peer, "UNSUBSCRIBE news")
        assert await ask(peer, "GET q:a") == [b"$1\r\n2\r\n"]
        assert counted(it) == {("stuck", "GET"): 1}

    play(redis, other, scene)


def test_without_replies_a_client_stays_where_it_is(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        for words in ("CLIENT REPLY OFF", "SET a 1", "SET q:a 1", "SET b 1", "CLIENT REPLY ON"):
            peer.send(*words.split())
        assert await frames(peer, 1) == [OK]
        assert await ask(peer, "EXISTS a b", "EXISTS q:a") == [b":2\r\n", b":0\r\n"]
        peer.writer.write(encode("CLIENT", "REPLY", "SKIP") + encode("SET", "c", "1"))
        why = b"with CLIENT REPLY OFF or SKIP nothing tells whether what was sent has been run"
        assert await ask(peer, "EXISTS c", "EXISTS c") == [
            b"-CROSSBACKEND this connection stays at backend other: " + why + b"\r\n", b":0\r\n",
        ]  # fmt: skip
        assert counted(it) == {("stuck", "SET"): 2, ("stuck", "EXISTS"): 1}

    play(redis, other, scene)


def test_the_whole_keyspace_is_the_first_backends_and_scripts_stay_where_the_client_stands(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        assert await ask(peer, "SET q:a 1", "DBSIZE", "SET a 1", "SET q:b 1", "DBSIZE") == [
            OK, b":0\r\n", OK, OK, b":1\r\n",
        ]  # fmt: skip
        (missing,) = await ask(peer, "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 q:a")
        assert missing.startswith(b"-NOSCRIPT")
        peer.send("SCRIPT", "LOAD", "return 1")
        await frames(peer, 1)
        assert await ask(peer, "EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 1 q:a", "EVAL return(2) 0") == [
            b":1\r\n", b":2\r\n",
        ]  # fmt: skip
        assert await ask(peer, "NOSUCH x") != [OK]
        assert counted(it) == {("keys-unknown", "EVAL"): 1, ("keys-unknown", "unknown"): 1}

    play(redis, other, scene)


@pytest.mark.parametrize("size", [300_000, 3_000_000])
def test_a_command_in_pieces_goes_where_its_keys_are(redis: RedisServer, other: RedisServer, size: int) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        value = "x" * size
        for commands, replies in (
            ([("SET", "q:a", value), ("SET", "a", value), ("STRLEN", "q:a"), ("STRLEN", "a")],
             [OK, OK, b":%d\r\n" % size, b":%d\r\n" % size]),
            ([("MSET", "q:b", value, "q:c", value), ("MSET", "b", value, "q:b", "1"), ("MULTI",), ("SET", "q:d", value),
              ("EXEC",)],
             [OK, CROSS % (b"main", b"other"), OK, QUEUED, b"*1\r\n+OK\r\n"]),
        ):  # fmt: skip
            data = b"".join(encode(*command) for command in commands)
            for start in range(0, len(data), 77_777):
                peer.writer.write(data[start : start + 77_777])
                await peer.writer.drain()
            assert await frames(peer, len(replies)) == replies

    play(redis, other, scene)


def test_a_command_that_comes_byte_by_byte(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        data = encode("SET", "q:a", "1") + encode("GET", "q:a") + b"SET a 2\r\n" + encode("GET", "a") + b"GET q:a\r\n"
        for byte in data:
            peer.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert await frames(peer, 5) == [OK, b"$1\r\n1\r\n", OK, b"$1\r\n2\r\n", b"$1\r\n1\r\n"]

    play(redis, other, scene)


def test_a_client_that_leaves_takes_all_its_connections_along(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await ask(peer, "SET a 1", "SET q:a 1", "SET a 1")
        assert len(other.clients()) == 1
        peer.writer.close()
        await it.until(lambda: not other.clients() and not redis.clients())
        assert it.app.clients() == 0

    play(redis, other, scene)


def test_a_job_popped_for_a_client_that_has_gone_is_given_back_where_it_was(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        with socket.create_connection((HOST, it._port)) as own:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            own.sendall(encode("BRPOP", "q:l", "0"))
            await it.until(lambda: any(session.blocked for session in it.sessions()))
            await ask(await it.peer(), "SET a 1")
        other.call("LPUSH", "q:l", "job")
        await it.until(lambda: it.app.engine().given_back_elements == 1)
        assert it.app.clients() == 1
        assert other.call("LRANGE", "q:l", "0", "-1") == b"*1\r\n$3\r\njob\r\n"
        assert redis.call("EXISTS", "q:l") == b":0\r\n"

    play(redis, other, scene)


def test_a_connection_that_redis_has_closed_meanwhile_is_opened_again(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await ask(peer, "SELECT 2", "SET a 1", "SET q:a 1", "SET b 1")
        other.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await it.until(lambda: routed(it).ends[1].lost)
        assert await ask(peer, "GET q:a", "GET b") == [b"$1\r\n1\r\n", b"$1\r\n1\r\n"]

    play(redis, other, scene)


def test_a_backend_that_cant_be_reached_costs_its_commands_alone(redis: RedisServer, other: RedisServer) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        down = b"-CROSSBACKEND backend other can't be connected to: connection refused\r\n"
        assert await ask(peer, "SET a 1", "GET q:a", "GET a", "MULTI", "SET q:a 1", "EXEC", "GET a") == [
            OK, down, b"$1\r\n1\r\n", OK, down, ABORTED, b"$1\r\n1\r\n",
        ]  # fmt: skip
        assert counted(it) == {("unreachable", "GET"): 1, ("unreachable", "SET"): 1}

    play(redis, other, scene, backends=[f"other=redis://127.0.0.1:{free_port()}"])


def test_a_hold_holds_what_was_about_to_go_over_and_ends_fetches_at_every_backend(
    redis: RedisServer, other: RedisServer
) -> None:
    async def scene(it: World) -> None:
        one, two, three = [await it.peer() for _ in range(3)]
        await ask(one, "SET a 1", "SET q:a 1")
        two.writer.write(encode("BRPOP", "q:l", "0") + encode("INCR", "b"))
        three.send("BRPOP", "l", "0")
        await it.until(lambda: sum(session.blocked for session in it.sessions()) == 2)
        assert (await it.holding.hold(LONG)).held
        assert await frames(two, 1) == [b"*-1\r\n"]
        assert await frames(three, 1) == [b"*-1\r\n"]
        assert redis.call("EXISTS", "b") == b":0\r\n"
        one.writer.write(encode("INCR", "a") + encode("INCR", "q:a"))
        assert await one.silent()
        assert await two.silent()
        it.holding.release()
        assert await frames(one, 2) == [b":2\r\n", b":2\r\n"]
        assert await frames(two, 1) == [b":1\r\n"]

    play(redis, other, scene)


def test_credentials_are_each_backends_own(redis: RedisServer) -> None:
    with redis_server("--requirepass", "theirs") as other:
        url = f"redis://:theirs@127.0.0.1:{other.port}/2"

        async def scene(it: World) -> None:
            peer = await it.peer()
            assert (await ask(peer, "GET q:a"))[0].startswith(b"-NOAUTH")
            peer.writer.write(encode("AUTH", "mine") + encode("SET", "q:a", "1") + encode("SET", "a", "1"))
            assert await frames(peer, 3) == [OK, OK, OK]
            assert await ask(peer, "GET q:a", "RESET") == [b"$1\r\n1\r\n", b"+RESET\r\n"]
            assert await ask(peer, "AUTH mine", "GET q:a", "GET a") == [OK, b"$1\r\n1\r\n", b"$1\r\n1\r\n"]

        async def run() -> None:
            redis.call("FLUSHALL")
            port = free_port()
            given = {"listen": [f"redis://:mine@127.0.0.1:{port}"], "backend": f"{redis.url}/2"}
            async with world(redis, backends=[f"other={url}"], classes=CLASSES, **given) as it:
                it._port = port
                await asyncio.wait_for(scene(it), 60)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())


def test_rows_say_which_backend_a_command_went_to(redis: RedisServer, other: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await ask(peer, "SET a 1", "SET q:a 1", "MSET a 1 q:a 1", "GET q:a", "GET a")

    play(redis, other, scene, capture=tmp_path)
    rows = [row for row in captured(tmp_path) if row["command"] != b""]
    backends = {0: "main", 1: "other"}
    assert [(row["command"], backends[row["backend"]], row["error"]) for row in rows] == [
        (b"SET", "main", b""), (b"SET", "other", b""), (b"MSET", "other", b"CROSSBACKEND"), (b"GET", "other", b""),
        (b"GET", "main", b""),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_random_pipelines_are_answered_as_each_class_alone_would_answer(
    redis: RedisServer, other: RedisServer, seed: int
) -> None:
    """The oracle: the same commands, each sent to the Redis of its keys by a client of that Redis alone."""
    chance = random.Random(seed)
    commands = list(itertools.chain.from_iterable(_group(chance) for _ in range(300)))
    for server in (redis, other):
        server.call("FLUSHALL")
    expected = []
    with redis.talk() as at_main, other.talk() as at_other:
        for elsewhere, words in commands:
            replies = [to.call(*words) for to in (at_main, at_other) if elsewhere in (None, to is at_other)]
            expected.append(replies[0])

    async def scene(it: World) -> None:
        peer = await it.peer()
        data = b"".join(encode(*words) for _, words in commands)
        heard = asyncio.create_task(frames(peer, len(commands)))
        for start, end in itertools.pairwise([0, *sorted(chance.sample(range(1, len(data)), 40)), len(data)]):
            peer.writer.write(data[start:end])
            await asyncio.sleep(0)
        assert await heard == expected

    play(redis, other, scene)


Group = list[tuple[bool | None, tuple[Any, ...]]]


def _group(chance: random.Random) -> Group:
    """Commands that belong together: whether they are for the other backend (None: for both), and their words."""
    elsewhere = chance.random() < 0.5
    kind = chance.random()
    if kind < 0.05:
        return [(None, ("SELECT", chance.randrange(4)))]
    some = [_command(chance, elsewhere) for _ in range(chance.randrange(1, 5))]
    if kind < 0.3:
        words = [("MULTI",), *some, (chance.choice(["EXEC", "EXEC", "DISCARD"]),)]
    elif kind < 0.4:
        words = [("WATCH", _key(chance, elsewhere)), ("MULTI",), *some, ("EXEC",)]
    else:
        words = some
    return [(elsewhere, each) for each in words]


def _key(chance: random.Random, elsewhere: bool) -> str:
    return ("q:" if elsewhere else "") + chance.choice("abc")


def _command(chance: random.Random, elsewhere: bool) -> tuple[Any, ...]:
    key = _key(chance, elsewhere)
    words: tuple[Any, ...] = chance.choice([
        ("INCR", key), ("SET", key, chance.randrange(100)), ("GET", key), ("APPEND", key, "1"), ("DEL", key),
        ("LPUSH", key + ":l", "x"), ("RPOP", key + ":l"), ("MGET", key, key + "2"), ("HSET", key, "f", "v"),
        ("SET", key, "y" * chance.choice([1, 5000])), ("OBJECT", "ENCODING", key),
    ])  # fmt: skip
    return words
