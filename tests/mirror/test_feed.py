"""A mirror's way from the tap to what the target answers, with a target that a test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hiredis import Reader

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.engine.recorder import Recorder
from proxy.engine.session import Session
from proxy.mirror import feed as feed_module
from proxy.mirror import lane as lane_module
from proxy.mirror.feed import Feed, Place
from proxy.mirror.selection import Selection, Wish
from tests.wire import encode

COMMANDS = CommandTable(table().commands)
Handler = Callable[[tuple[bytes, ...]], bytes | None]


class Target:
    """A server that is not there: each connection's commands go to ``handler``, whose None is no answer."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.handler = handler or (lambda words: b":1\r\n")
        self.connections: list[Wire] = []
        self.refuses = False

    async def connect(self, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        if self.refuses:
            raise ConnectionRefusedError("nobody listens")
        protocol = factory()
        self.connections.append(Wire(self, protocol))
        protocol.connection_made(self.connections[-1])
        return protocol

    @property
    def heard(self) -> list[list[str]]:
        """What each connection was told, behind its login."""
        return [wire.heard for wire in self.connections]

    @property
    def all(self) -> list[str]:
        return [words for heard in self.heard for words in heard]


class Wire(asyncio.Transport):
    def __init__(self, target: Target, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._target = target
        self._protocol = protocol
        self._reader = Reader()
        self.heard: list[str] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._reader.feed(bytes(data))
        while (words := self._reader.gets()) is not False:
            if words[0] == b"ECHO":
                reply: bytes | None = b"$5\r\nshunt\r\n"
            else:
                self.heard.append(b" ".join(words).decode())
                reply = self._target.handler(tuple(words))
            if reply is not None:
                asyncio.get_running_loop().call_soon(self._give, reply)

    def _give(self, reply: bytes) -> None:
        if not self.closed:
            self._protocol.data_received(reply)

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    close = abort


class Client:
    """A connection whose commands and replies a test says."""

    def __init__(self, recorder: Recorder, feed: Feed) -> None:
        self.session = Session(recorder, b"client")
        self.session.tapped(feed.queue)

    def does(self, *words: str | int, reply: bytes = b":1\r\n") -> None:
        self.session.client_bytes(encode(*words), 1)
        self.session.backend_bytes(reply, 2)


@asynccontextmanager
async def fed(target: Target, *, source: Target | None = None, **given: Any) -> AsyncIterator[tuple[Feed, Recorder]]:
    recorder = Recorder(COMMANDS, 1, lambda: None, lambda sha, body: None)
    wish = given.pop("wish", Wish())
    place = Place("there", target.connect, given.pop("login", ()))
    here = Place("here", (source or Target()).connect)
    limit = given.pop("limit", 10**6)
    feed = Feed(COMMANDS, place, here, Selection(wish), limit, lambda key: key, given.pop("script", lambda sha: None))
    feed.start()
    try:
        yield feed, recorder
    finally:
        await feed.stop()


async def until(check: Callable[[], object]) -> None:
    """Bounded: AssertionError after five seconds."""
    for _ in range(5000):
        if check():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("not within five seconds")


async def test_a_clients_effects_take_one_connection_in_their_order() -> None:
    target = Target()
    async with fed(target) as (feed, recorder):
        clients = [Client(recorder, feed) for _ in range(8)]
        for number in range(50):
            for client in clients:
                client.does("RPUSH", f"q{client.session.conn}", number)
        await until(lambda: feed.shown().counts.answered == 400)
        assert len(target.connections) == feed_module.LANES
        for client in clients:
            mine = [f"RPUSH q{client.session.conn} {number}" for number in range(50)]
            assert sum([words for words in heard if words in mine] == mine for heard in target.heard) == 1


async def test_a_transaction_goes_whole_and_in_its_databases() -> None:
    target = Target(lambda words: b"*3\r\n:1\r\n+OK\r\n:1\r\n" if words[0] == b"EXEC" else b"+QUEUED\r\n")
    async with fed(target) as (feed, recorder):
        client = Client(recorder, feed)
        client.does("SELECT", 2, reply=b"+OK\r\n")
        client.does("MULTI", reply=b"+OK\r\n")
        for words in (("INCR", "a"), ("SELECT", 3), ("INCR", "b")):
            client.does(*words, reply=b"+QUEUED\r\n")
        client.does("EXEC", reply=b"*3\r\n:1\r\n+OK\r\n:1\r\n")
        client.does("INCR", "c")
        await until(lambda: feed.shown().counts.answered == 3)
        assert target.all == ["SELECT 2", "MULTI", "INCR a", "SELECT 3", "INCR b", "EXEC", "INCR c"]
        assert feed.queue.bytes == 0


@pytest.mark.parametrize("answer", [b"+OK\r\n", b"*0\r\n", b"$-1\r\n", b"-EXECABORT no\r\n"])
async def test_whatever_a_target_answers_to_exec_is_counted(answer: bytes) -> None:
    async with fed(Target(lambda words: answer)) as (feed, recorder):
        client = Client(recorder, feed)
        client.does("MULTI", reply=b"+OK\r\n")
        client.does("INCR", "a", reply=b"+QUEUED\r\n")
        client.does("INCR", "a", reply=b"+QUEUED\r\n")
        client.does("EXEC", reply=b"*2\r\n:1\r\n:2\r\n")
        await until(lambda: sum(feed.shown().counts.errors.values()) == 2)


async def test_a_removal_that_finds_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "AGAIN_S", (0.001, 0.002))
    answers = iter([b":0\r\n", b":1\r\n", b":0\r\n", b":0\r\n", b":0\r\n"])
    target = Target(lambda words: next(answers))
    async with fed(target) as (feed, recorder):
        client = Client(recorder, feed)
        client.does("BRPOP", "q", 0, reply=b"*2\r\n$1\r\nq\r\n$1\r\na\r\n")
        await until(lambda: feed.shown().counts.late == 1)
        client.does("BRPOP", "q", 0, reply=b"*2\r\n$1\r\nq\r\n$1\r\nb\r\n")
        await until(lambda: feed.shown().counts.missed)
        assert target.all == ["LREM q -1 a"] * 2 + ["LREM q -1 b"] * 3
        assert feed.shown().counts.missed == {"BRPOP": 1}


async def test_what_was_under_way_when_the_connection_broke_is_lost_and_the_rest_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lane_module, "AGAIN_FIRST_S", 0.001)
    monkeypatch.setattr(lane_module, "UNDER_WAY", 3)
    target = Target(lambda words: None)
    async with fed(target, login=((b"AUTH", b"x"),)) as (feed, recorder):
        target.handler = lambda words: b"+OK\r\n" if words[0] == b"AUTH" else None
        client = Client(recorder, feed)
        client.does("SELECT", 5, reply=b"+OK\r\n")
        for number in range(5):
            client.does("SET", "k", number, reply=b"+OK\r\n")
        await until(lambda: len([words for words in target.all if words.startswith("SET")]) == 2)
        target.handler = lambda words: b"+OK\r\n"
        next(wire for wire in target.connections if "SET k 0" in wire.heard).abort()
        await until(lambda: feed.shown().counts.answered == 3)
        assert feed.shown().counts.dropped == {"lost": 2}
        assert target.heard[-1] == ["AUTH x", "SELECT 5", "SET k 2", "SET k 3", "SET k 4"]


async def test_a_target_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ANSWER_S", 0.01), ("LOOK_S", 0.005), ("AGAIN_FIRST_S", 0.001)):
        monkeypatch.setattr(lane_module, name, value)
    target = Target(lambda words: None)
    async with fed(target) as (feed, recorder):
        Client(recorder, feed).does("SET", "k", 1, reply=b"+OK\r\n")
        await until(lambda: feed.shown().counts.dropped["lost"] == 1)
        assert feed.queue.bytes == 0


async def test_a_target_that_is_down_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "STOP_S", 0.0)
    target = Target()
    target.refuses = True
    async with fed(target, limit=20_000) as (feed, recorder):
        client = Client(recorder, feed)
        for _ in range(1000):
            client.does("SET", "k", "x" * 100, reply=b"+OK\r\n")
            await asyncio.sleep(0)
        shown = feed.shown()
        assert shown.counts.dropped["queue-full"] > 900
        assert shown.queued_bytes <= 20_000
        assert (shown.lanes_up, shown.why_down) == (0, "nobody listens")
    assert feed.shown().counts.dropped["left-at-stop"] == 1000 - shown.counts.dropped["queue-full"]


async def test_a_script_that_the_target_does_not_know_is_sent_with_its_body() -> None:
    target = Target(lambda words: b"-NOSCRIPT no\r\n" if words[0] == b"EVALSHA" else b":1\r\n")
    async with fed(target, script=lambda sha: b"return 1" if sha == b"abc" else None) as (feed, recorder):
        client = Client(recorder, feed)
        client.does("EVALSHA", "ABC", 0)
        client.does("EVALSHA", "def", 0)
        await until(lambda: feed.shown().counts.answered == 2)
        assert sorted(target.all) == ["EVAL return 1 0", "EVALSHA ABC 0", "EVALSHA def 0"]
        assert feed.shown().counts.errors == {("EVALSHA", "NOSCRIPT"): 1}
        assert feed.shown().counts.unverifiable == 2


async def test_reads_are_compared_and_the_source_is_asked_again() -> None:
    target, source = Target(lambda words: b"$1\r\nv\r\n"), Target(lambda words: b"$1\r\nw\r\n")
    async with fed(target, source=source, wish=Wish(writes=False, reads=True)) as (feed, recorder):
        client = Client(recorder, feed)
        await until(lambda: source.connections)
        await asyncio.sleep(0)
        for _ in range(feed_module.AGAIN_ONE_IN):
            client.does("GET", "k", reply=b"$1\r\nv\r\n")
        client.does("GET", "k", reply=b"$-1\r\n")
        client.does("SET", "k", 1, reply=b"+OK\r\n")
        await until(lambda: feed.shown().rows and feed.shown().rows["GET", "k"].again)
        await until(lambda: feed.shown().rows["GET", "k"].compared == feed_module.AGAIN_ONE_IN + 1)
        row = feed.shown().rows["GET", "k"]
        assert (row.differed, row.shapes, row.again, row.again_differed) == (1, {"null → string": 1}, 1, 1)
        assert not any(words.startswith("SET") for words in target.all)


async def test_a_reply_that_would_take_the_loops_time_is_not_compared() -> None:
    many = b"*6000\r\n" + b":1\r\n" * 6000
    async with fed(Target(lambda words: many), wish=Wish(writes=False, reads=True)) as (feed, recorder):
        Client(recorder, feed).does("SMEMBERS", "s", reply=b"*0\r\n")
        await until(lambda: feed.shown().counts.dropped["too-long-to-compare"])
        assert feed.shown().rows == {}


async def test_a_transaction_that_never_ends_counts_until_its_connection_does() -> None:
    target = Target()
    async with fed(target, limit=20_000) as (feed, recorder):
        client = Client(recorder, feed)
        client.does("MULTI", reply=b"+OK\r\n")
        for _ in range(100):
            client.does("SET", "k", "x" * 500, reply=b"+QUEUED\r\n")
            await asyncio.sleep(0)
        await until(lambda: not feed.queue.records)
        assert 15_000 < feed.queue.bytes <= 20_000
        client.session.finish(5)
        await until(lambda: feed.queue.bytes == 0)
        assert target.all == []
