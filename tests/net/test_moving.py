"""Clients that go over to another Redis while they are connected: what of their state goes along."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.console.verb import VerbError
from proxy.console.world import Switched
from tests.conftest import POOL
from tests.net.test_holding import Peer, World, world
from tests.servers import HOST, RedisServer, captured, certificates, free_port, redis_server
from tests.wire import encode


@pytest.fixture(scope="module")
def target() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


Scene = Callable[[World], Awaitable[None]]


def play(source: RedisServer, target: RedisServer, folder: Path, scene: Scene, **options: Any) -> None:
    async def run() -> None:
        for server in (source, target):
            server.call("REPLICAOF", "NO", "ONE")
            server.call("FLUSHALL")
        given = {"backends": [f"new={target.url}"], "route_file": str(folder / "route.json"), **options}
        async with world(source, **given) as it:
            await asyncio.wait_for(scene(it), 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def switch(it: World, to: str = "new", *, follow: bool = False) -> Switched:
    assert it.app.board is not None
    return await it.app.board.switch(to, 0.8, follow, "a test", lambda line: None)


async def switch_at_last(it: World, to: str) -> Switched:
    """A machine that is too busy to do it in time leaves traffic where it is, and may be asked again."""
    while True:
        try:
            return await switch(it, to, follow=True)
        except VerbError as error:
            if not any(why in str(error) for why in ("no time left", "within the budget", "not held any more")):
                raise


async def where(peer: Peer) -> int:
    """The port of the Redis that answers."""
    head = await peer.call("INFO", "server")
    text = await asyncio.wait_for(peer.reader.readexactly(int(head[1:-2]) + 2), 15)
    return int(text.split(b"tcp_port:")[1].split(b"\r\n")[0])


def test_all_clients_and_those_who_come_later_are_served_by_the_target(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        old = [await it.peer() for _ in range(20)]
        for peer in old:
            assert await where(peer) == redis.port
        done = await switch(it)
        assert (done.epoch, done.clients, done.closed) == (1, 20, ())
        assert [await where(peer) for peer in old] == [target.port] * 20
        assert await where(await it.peer()) == target.port
        await it.until(lambda: not redis.clients())
        assert (await switch(it, "main")).epoch == 2
        assert await where(old[0]) == redis.port

    play(redis, target, tmp_path, scene)


def test_database_name_and_protocol_go_along(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await peer.call("SELECT", "5")
        await peer.call("CLIENT", "SETNAME", "worker-1")
        await switch(it)
        assert await peer.call("SET", "a", "1") == b"+OK\r\n"
        with target.talk() as talk:
            talk.call("SELECT", "5")
            assert talk.call("GET", "a") == b"$1\r\n1\r\n"
        assert await peer.call("CLIENT", "GETNAME") == b"$8\r\n"
        assert await peer.line() == b"worker-1\r\n"

    play(redis, target, tmp_path, scene)


def test_resp3_goes_along(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        peer.send("HELLO", "3")
        assert await peer.line() == b"%7\r\n"
        await peer.reader.readuntil(b"modules\r\n*0\r\n")
        await switch(it)
        assert await peer.call("GET", "missing") == b"_\r\n"

    play(redis, target, tmp_path, scene)


def test_subscriptions_go_along(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        peer.send("SUBSCRIBE", "news", "sport", "weather")
        peer.send("PSUBSCRIBE", "log.*")
        peer.send("UNSUBSCRIBE", "sport")
        for _ in range(5):
            await peer.reader.readuntil(b"\r\n:")
            await peer.line()
        await switch(it)
        assert target.call("PUBLISH", "sport", "x") == b":0\r\n"
        assert target.call("PUBLISH", "news", "hello") == b":1\r\n"
        assert await asyncio.wait_for(peer.reader.readuntil(b"hello\r\n"), 15) == (
            b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n"
        )
        assert target.call("PUBLISH", "log.a", "line") == b":1\r\n"
        assert (await asyncio.wait_for(peer.reader.readuntil(b"line\r\n"), 15)).startswith(b"*4\r\n$8\r\npmessage\r\n")
        assert redis.call("PUBLISH", "news", "old") == b":0\r\n"

    play(redis, target, tmp_path, scene)


def test_exec_after_watch_answers_nil_whatever_happened_to_the_keys(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        peer, other = await it.peer(), await it.peer()
        assert await peer.call("SELECT", "3") == b"+OK\r\n"
        assert await peer.call("WATCH", "a") == b"+OK\r\n"
        await switch(it)
        assert await peer.call("MULTI") == b"+OK\r\n"
        assert await peer.call("SET", "a", "1") == b"+QUEUED\r\n"
        assert await peer.call("EXEC") == b"*-1\r\n"
        assert await peer.call("MULTI") == b"+OK\r\n"
        assert await peer.call("SET", "a", "2") == b"+QUEUED\r\n"
        peer.send("EXEC")
        assert [await peer.line(), await peer.line()] == [b"*1\r\n", b"+OK\r\n"]
        assert await other.call("EXISTS", "a") == b":0\r\n"  # it was written in database 3

    play(redis, target, tmp_path, scene)


def test_tracking_goes_along_and_all_that_was_cached_is_told_to_be_invalid(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        peer.send("HELLO", "3")
        await peer.reader.readuntil(b"modules\r\n*0\r\n")
        assert await peer.call("CLIENT", "TRACKING", "on", "bcast", "PREFIX", "user:") == b"+OK\r\n"
        await switch(it)
        assert await peer.reader.readexactly(24) == b">2\r\n$10\r\ninvalidate\r\n_\r\n"
        target.call("SET", "user:1", "x")
        assert await asyncio.wait_for(peer.reader.readuntil(b"user:1\r\n"), 15) == (
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n$6\r\nuser:1\r\n"
        )

    play(redis, target, tmp_path, scene)


def test_nobody_goes_on_as_another_user(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    """In session mode no password is kept: who logged in for itself must do so again."""

    async def scene(it: World) -> None:
        peer, other = await it.peer(), await it.peer()
        assert await peer.call("AUTH", "me", "secret") == b"+OK\r\n"
        assert await other.call("PING") == b"+PONG\r\n"
        done = await switch(it)
        if POOL == "session":
            assert [line.split(": ")[1] for line in done.closed] == [
                "it logged in with credentials of its own, which are not kept"
            ]
            assert await peer.ended() == b""
        else:
            assert [await peer.call("ACL", "WHOAMI"), await peer.line()] == [b"$2\r\n", b"me\r\n"]
        assert [await other.call("ACL", "WHOAMI"), await other.line()] == [b"$7\r\n", b"default\r\n"]

    for server in (redis, target):
        server.call("ACL", "SETUSER", "me", "on", ">secret", "~*", "&*", "+@all")
    try:
        play(redis, target, tmp_path, scene)
    finally:
        for server in (redis, target):
            server.call("ACL", "DELUSER", "me")


def test_who_has_got_a_part_of_a_message_is_closed_and_reads_nothing_else_behind_it(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    """It does not read: the rest of the message is still at the source, and never comes."""
    size = 24 << 20  # more than two sockets hold

    async def scene(it: World) -> None:
        peer = await it.peer()
        peer.send("SUBSCRIBE", "news")
        await peer.reader.readuntil(b":1\r\n")
        assert redis.call("PUBLISH", "news", b"x" * size) == b":1\r\n"
        await it.until(lambda: any(each.peer.reading_held for each in it.app._reception.clients))
        done = await switch(it)
        assert [line.split(": ")[1] for line in done.closed] == ["it has got a part of a message"]
        assert target.call("PUBLISH", "news", "second") == b":0\r\n"
        head = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$%d\r\n" % size
        came = await peer.ended()
        assert came[: len(head)] == head
        assert came[len(head) :].strip(b"x") == b""
        assert len(came) < size

    play(redis, target, tmp_path, scene)


def test_a_client_whose_state_can_not_go_along_is_closed_between_two_commands_and_named(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        peer, other = await it.peer(), await it.peer()
        assert await peer.call("MONITOR") == b"+OK\r\n"
        assert await other.call("PING") == b"+PONG\r\n"
        done = await switch(it)
        assert done.clients == 1
        assert len(done.closed) == 1
        assert b"tcp_port" not in await peer.ended()
        assert await where(other) == target.port

    play(redis, target, tmp_path, scene)


def test_a_client_of_which_nothing_proves_what_has_run_keeps_traffic_at_the_source(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        peer, other = await it.peer(), await it.peer()
        peer.send("CLIENT", "REPLY", "OFF")
        peer.send("LPUSH", "queue:a", "job")
        await it.until(lambda: redis.call("LLEN", "queue:a") == b":1\r\n")
        with pytest.raises(Exception, match=r"uses CLIENT REPLY.*shunt kill it"):
            await switch(it)
        assert await where(other) == redis.port
        peer.send("CLIENT", "REPLY", "ON")
        assert await peer.line() == b"+OK\r\n"
        assert (await switch(it)).clients == 2

    play(redis, target, tmp_path, scene)


def test_a_fetch_that_waits_goes_on_at_the_target(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        peer.send("BRPOP", "queue:a", "0")
        await it.until(redis.blocked)
        await switch(it)
        assert await peer.line() == b"*-1\r\n"
        peer.send("BRPOP", "queue:a", "0")
        await it.until(target.blocked)
        target.call("LPUSH", "queue:a", "job")
        assert [await peer.line() for _ in range(5)][4] == b"job\r\n"

    play(redis, target, tmp_path, scene)


@pytest.mark.session_only("a client that shares has no backend connection before it has sent something")
def test_a_client_whose_tls_handshake_outlasts_a_switch_sends_nothing_to_the_source(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    """What it sends comes in with the last of its handshake. Who waits for that has his turn before uvloop hands it on,
    but not if both fill its read buffer of 256 KB, and it reads again at once. That is what ``made`` does here."""
    port = free_port()
    files = certificates(tmp_path)
    options = {"listen_tls_cert": str(files["cert"]), "listen_tls_key": str(files["key"])}

    async def scene(it: World) -> None:
        reception, words = it.app._reception, encode("INCR", "n")
        let_in = reception._made

        def made(client: Any) -> None:
            let_in(client)
            reception._buffer.data[: len(words)] = words
            client.buffer_updated(len(words))

        reception._made = made  # type: ignore[method-assign]
        reader, writer = await asyncio.open_connection(HOST, port)
        heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ssl.create_default_context(cafile=str(files["ca"])).wrap_bio(heard, said, server_hostname="localhost")
        while not _shakes_hands(client):
            writer.write(said.read())
            heard.write(await asyncio.wait_for(reader.read(65536), 15))
        assert (await switch(it)).clients == 0  # its handshake has begun, and its connection goes to the source
        writer.write(said.read())
        heard.write(await asyncio.wait_for(reader.read(), 15))
        assert redis.call("EXISTS", "n") == target.call("EXISTS", "n") == b":0\r\n"
        await it.until(lambda: not redis.clients())

    listen = [f"rediss://{HOST}:{port}"]
    play(redis, target, tmp_path, scene, listen=listen, capture=str(tmp_path / "capture"), **options)
    assert [row["command"] for row in captured(tmp_path / "capture")] == []


def _shakes_hands(client: ssl.SSLObject) -> bool:
    """Whether the handshake is over, as far as the client knows: the last of it may still have to be sent."""
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def test_a_target_that_does_not_answer_leaves_everything_as_it_was(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        assert await where(peer) == redis.port
        with pytest.raises(Exception, match=r"not switched: The target at 127.0.0.1:1 is not reached.*as before"):
            await switch(it, "redis://127.0.0.1:1")
        assert await where(peer) == redis.port
        assert not (tmp_path / "route.json").exists()

    play(redis, target, tmp_path, scene)


def test_the_source_under_another_name_is_no_target(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        with pytest.raises(Exception, match="Source and target are one server"):
            await switch(it, f"redis://localhost:{redis.port}")

    play(redis, target, tmp_path, scene)


def test_clients_who_logged_in_for_themselves_can_not_go_where_the_url_logs_in(
    redis: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        with pytest.raises(Exception, match="give --backend the same kind of URL"):
            await switch(it, "other")

    with redis_server(password="secret") as other:
        play(redis, redis, tmp_path, scene, backends=[f"other=redis://:secret@127.0.0.1:{other.port}/3"])


def test_the_targets_own_credentials_and_database_are_used(tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        assert await peer.call("SET", "a", "1") == b"+OK\r\n"
        await switch(it)
        assert await peer.call("SET", "a", "2") == b"+OK\r\n"
        assert await (await it.peer()).call("INCR", "a") == b":3\r\n"
        assert await peer.call("AUTH", "anything") == (
            b"-ERR AUTH <password> called without any password configured for the default user. "
            b"Are you sure your configuration is correct?\r\n"
        )

    with redis_server(password="old") as source, redis_server(password="new") as target:
        options = {
            "backend": f"redis://:old@127.0.0.1:{source.port}/1",
            "backends": [f"new=redis://:new@127.0.0.1:{target.port}/4"],
        }
        play(source, target, tmp_path, scene, **options)
        with source.talk() as old, target.talk() as new:
            old.call("SELECT", "1")
            new.call("SELECT", "4")
            assert (old.call("GET", "a"), new.call("GET", "a")) == (b"$1\r\n1\r\n", b"$1\r\n3\r\n")
    record = (tmp_path / "route.json").read_text()
    assert ":old@" not in record
    assert ":new@" not in record


def test_what_runs_where_is_in_the_capture(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await peer.call("INCR", "a")
        await switch(it)
        await peer.call("DECR", "a")
        await switch(it, "main")
        await peer.call("INCR", "b")

    play(redis, target, tmp_path, scene, capture=str(tmp_path / "capture"))
    rows = [row for row in captured(tmp_path / "capture") if row["command"] in (b"INCR", b"DECR")]
    assert [(row["epoch"], row["backend"]) for row in rows] == [(0, 0), (1, 1), (2, 0)]


def test_replication_brings_the_data_and_the_way_back(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    async def scene(it: World) -> None:
        peer = await it.peer()
        await peer.call("SET", "a", "1")
        await switch(it, follow=True)
        assert await peer.call("INCR", "a") == b":2\r\n"
        assert redis.call("ROLE").startswith(b"*5\r\n$5\r\nslave")
        assert redis.call("SET", "a", "9").startswith(b"-READONLY")
        assert it.app.board is not None
        back = await it.app.board.rollback(0.8, "a test", lambda line: None)
        assert back.epoch == 2
        assert await peer.call("INCR", "a") == b":3\r\n"
        assert await where(peer) == redis.port
        assert target.call("ROLE").startswith(b"*5\r\n$5\r\nslave")

    play(redis, target, tmp_path, scene)


def test_a_target_that_holds_keys_is_never_made_to_follow(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        target.call("SET", "precious", "1")
        with pytest.raises(Exception, match=r"holds 1 keys, and following would delete them"):
            await switch(it, follow=True)
        assert target.call("GET", "precious") == b"$1\r\n1\r\n"

    play(redis, target, tmp_path, scene)


def test_a_url_with_credentials_is_no_target_since_it_would_end_up_in_files(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def scene(it: World) -> None:
        with pytest.raises(Exception, match="put it into the configuration under a name") as refused:
            await switch(it, "redis://:hunter2@127.0.0.1:1")
        assert "hunter2" not in str(refused.value)

    play(redis, target, tmp_path, scene)


def test_twenty_switches_under_load_lose_no_command_and_double_none(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
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
        for turn in range(20):
            done = await switch_at_last(it, "main" if turn % 2 else "new")
            assert (done.closed, done.notes) == ((), ())
        running = False
        total = sum(await asyncio.gather(*work))
        assert redis.call("GET", "n").split(b"\r\n")[1] == b"%d" % total

    play(redis, target, tmp_path, scene, max_clients=100)


def test_the_record_wins_over_the_flags_after_a_restart(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    async def first(it: World) -> None:
        await switch(it)

    async def second(it: World) -> None:
        assert await where(await it.peer()) == target.port
        assert it.app.board is not None
        assert it.app.board.route.epoch == 1

    play(redis, target, tmp_path, first)
    play(redis, target, tmp_path, second)


@pytest.mark.parametrize("recorded", ["off", "none", "keys"])
def test_scripts_and_functions_are_there_already(
    redis: RedisServer, target: RedisServer, tmp_path: Path, recorded: str
) -> None:
    body = "return redis.call('GET', KEYS[1])"
    library = "#!lua name=tests\nredis.register_function('seven', function() return 7 end)"

    async def scene(it: World) -> None:
        redis.call("FUNCTION", "FLUSH")
        target.call("FUNCTION", "FLUSH")
        target.call("SCRIPT", "FLUSH")
        peer = await it.peer()
        assert await peer.call("EVAL", body, "1", "a") == b"$-1\r\n"
        assert redis.call("FUNCTION", "LOAD", library) == b"$5\r\ntests\r\n"
        await switch(it)
        assert await peer.call("EVALSHA", hashlib.sha1(body.encode()).hexdigest(), "1", "a") == b"$-1\r\n"
        assert await peer.call("FCALL", "seven", "0") == b":7\r\n"

    capture = {} if recorded == "off" else {"capture": str(tmp_path / "capture"), "capture_args": recorded}
    play(redis, target, tmp_path, scene, **capture)
