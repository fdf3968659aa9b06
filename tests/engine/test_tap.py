"""What a tap copies of a connection: commands with their replies, whatever is under way, within its bounds."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.engine.pooled import PooledSession
from proxy.engine.recorder import Recorder
from proxy.engine.session import Session
from proxy.engine.tap import FIELDS, TapQueue, unpack
from tests.wire import encode

COMMANDS = CommandTable(table().commands)


class World:
    """A session with a tap for pushes and fetches."""

    def __init__(self, *, limit: int = 10**6, value: int = 10**5, tapped: bool = True) -> None:
        self.woken = 0
        self.session = Session(Recorder(COMMANDS, 1, lambda: None, lambda sha, body: None), b"client")
        self.queue = TapQueue(COMMANDS, ["LPUSH", "BRPOP", "SET"], limit, value, self.wake)
        if tapped:
            self.session.tapped(self.queue)

    def wake(self) -> None:
        self.woken += 1

    def say(self, *commands: tuple[str | int, ...], cut: int | None = None) -> None:
        data = b"".join(encode(*each) for each in commands)
        for piece in (data[:cut], data[cut:]) if cut else (data,):
            self.session.client_bytes(piece, 1_000)

    def answer(self, data: bytes, cut: int | None = None) -> None:
        for piece in (data[:cut], data[cut:]) if cut else (data,):
            self.session.backend_bytes(piece, 5_000)

    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(FIELDS, record, strict=True)) for record in self.queue.take(1000)]

    def seen(self) -> list[tuple[str, tuple[bytes, ...] | None, bytes | None]]:
        return [(r["name"], r["args"] and unpack(r["args"]), r["reply"]) for r in self.records()]


def test_a_wanted_command_is_copied_with_its_reply() -> None:
    world = World()
    world.say(("LPUSH", "q", "job"), ("GET", "q"), ("lpush", "q", ""))
    world.answer(b":1\r\n$3\r\nabc\r\n:2\r\n")
    assert world.seen() == [("LPUSH", (b"LPUSH", b"q", b"job"), b":1\r\n"), ("LPUSH", (b"lpush", b"q", b""), b":2\r\n")]
    assert world.woken == 1


@pytest.mark.parametrize("cut", range(1, 40))
def test_commands_and_replies_may_come_in_pieces(cut: int) -> None:
    world = World()
    world.say(("LPUSH", "q", "j" * 3000), ("SET", "a", "b"), cut=cut)
    world.answer(b"$" + b"2000\r\n" + b"x" * 2000 + b"\r\n+OK\r\n", cut=cut * 50)
    assert [len(reply or b"") for _, _, reply in world.seen()] == [2009, 5]


def test_time_and_database_stand_in_the_record() -> None:
    world = World()
    world.say(("SELECT", 3), ("LPUSH", "q", 1))
    world.answer(b"+OK\r\n:1\r\n")
    select, push = world.records()
    assert (select["name"], select["db"], push["db"], push["latency_ns"], push["kind"]) == ("SELECT", 0, 3, 4_000, 4)


def test_of_what_was_in_flight_when_it_began_only_the_reply_is_known() -> None:
    world = World(tapped=False)
    world.say(("BRPOP", "q", 0), ("LPUSH", "r", 1))
    world.session.tapped(world.queue)
    world.say(("LPUSH", "s", 1))
    world.answer(b"*2\r\n$1\r\nq\r\n$1\r\nj\r\n:1\r\n:1\r\n")
    assert world.seen() == [
        ("BRPOP", None, b"*2\r\n$1\r\nq\r\n$1\r\nj\r\n"),
        ("LPUSH", None, b":1\r\n"),
        ("LPUSH", (b"LPUSH", b"s", b"1"), b":1\r\n"),
    ]


@pytest.mark.parametrize(("size", "known"), [(10, True), (5000, False)])
def test_a_reply_that_had_begun_already_is_known_as_far_as_the_session_kept_it(size: int, known: bool) -> None:
    world = World(tapped=False)
    world.say(("BRPOP", "q", 0))
    reply = b"*2\r\n$1\r\nq\r\n$%d\r\n%b\r\n" % (size, b"j" * size)
    world.answer(reply[:12])
    world.session.tapped(world.queue)
    world.answer(reply[12:])
    world.say(("LPUSH", "q", 1))
    world.answer(b":1\r\n")
    assert [reply for _, _, reply in world.seen()] == [reply if known else None, b":1\r\n"]


def test_what_is_queued_in_a_transaction_has_its_place_wanted_or_not() -> None:
    world = World()
    world.say(("MULTI",), ("SET", "a", 1), ("GET", "a"), ("EXEC",))
    world.answer(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\n1\r\n")
    records = world.records()
    assert [(r["name"], r["queued"], r["args"] is None) for r in records] == [
        ("MULTI", False, False), ("SET", True, False), ("GET", True, True), ("EXEC", False, False),
    ]  # fmt: skip
    assert records[-1]["reply"] == b"*2\r\n+OK\r\n$1\r\n1\r\n"


def test_a_push_between_the_pieces_of_replies_is_no_reply() -> None:
    world = World()
    world.say(("HELLO", 3), ("LPUSH", "q", 1))
    world.answer(b"%1\r\n$5\r\nproto\r\n:3\r\n")
    world.answer(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n:1\r\n", cut=20)
    assert world.seen() == [("LPUSH", (b"LPUSH", b"q", b"1"), b":1\r\n")]


def test_without_a_reply_the_record_has_none() -> None:
    world = World()
    world.say(("CLIENT", "REPLY", "SKIP"), ("SET", "a", 1), ("SET", "b", 2))
    world.answer(b"+OK\r\n")
    assert [(r["kind"], r["reply"]) for r in world.records()] == [(0, None), (2, b"+OK\r\n")]


def test_what_is_too_large_is_dropped_and_the_next_record_says_so() -> None:
    world = World(value=1000)
    world.say(("SET", "a", "x" * 2000), ("SET", "b", "y"), ("MODULE.X", "z"))
    world.answer(b"+OK\r\n+OK\r\n+OK\r\n")
    [record] = world.records()
    assert record["holed"]
    assert (world.queue.drops["too-large"], world.queue.drops["unknown-command"]) == (1, 1)


def test_a_full_queue_drops_and_counts_and_takes_again_when_there_is_room() -> None:
    world = World(limit=2_000)
    for _ in range(10):
        world.say(("SET", "a", "x" * 300))
        world.answer(b"+OK\r\n")
    taken = world.records()
    assert 1 <= len(taken) < 4
    assert world.queue.drops["queue-full"] == 10 - len(taken)
    assert world.queue.bytes <= 2_000
    world.queue.release(sum(record["cost"] for record in taken))
    assert world.queue.bytes == 0
    world.say(("SET", "a", "b"))
    world.answer(b"+OK\r\n")
    assert [record["holed"] for record in world.records()] == [True]


def test_when_a_connection_ends_nothing_is_kept_for_it() -> None:
    world = World()
    world.say(("BRPOP", "q", 0), ("SET", "a", "x" * 500))
    assert world.queue.bytes > 500
    world.session.finish(9_000)
    records = world.records()
    assert [record["name"] for record in records] == ["BRPOP", "SET", None]
    world.queue.release(sum(record["cost"] for record in records))
    assert world.queue.bytes == 0


def test_a_connection_that_is_no_longer_looked_at_is_not_copied() -> None:
    world = World()
    world.say(("SET", "a", 1))
    world.session.tapped(None)
    world.answer(b"+OK\r\n")
    world.queue.release(sum(record["cost"] for record in world.records()))
    assert world.queue.bytes == 0
    world.session.tapped(world.queue)
    world.queue.close()
    world.say(("SET", "a", 1))
    world.answer(b"+OK\r\n")
    assert world.records() == []


def test_a_connection_that_becomes_a_plain_pipe_is_counted() -> None:
    world = World()
    world.say(("SET", "a", 1))
    world.answer(b"HTTP\r\n")
    assert world.queue.drops["plain-pipe"] == 1
    assert [record["name"] for record in world.records()] == [None]


def test_sessions_that_share_are_tapped_the_same_way() -> None:
    assert issubclass(PooledSession, Session)
