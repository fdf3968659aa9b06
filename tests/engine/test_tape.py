"""The bytes of commands in flight: each in its place, whatever the reads cut, and never more than there is room for."""

from __future__ import annotations

import random

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.capture.format import ArgsMode
from proxy.engine.recorder import Recorder
from proxy.engine.tape import Tape
from tests.wire import encode

COMMANDS = [
    encode("GET", "a"),
    b"PING\r\n",
    encode("SET", "k", b"x" * 5000),
    encode("MGET", *"abcdef"),
    encode("DEL", b""),
]


def tape(limit: int = 1_000_000) -> Tape:
    recorder = Recorder(
        CommandTable(table().commands), ArgsMode.KEYS, lambda: None, lambda sha, body: None
    )  # what it records is of no interest here
    return Tape(recorder, limit)


def test_each_command_is_kept_wherever_the_reads_cut() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        commands = [rng.choice(COMMANDS) for _ in range(rng.randint(1, 8))]
        data = b"".join(commands)
        cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.randint(0, 6)))
        made = tape()
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            made.feed(data[begin:end])
        assert made.whole == commands, seed
        assert made.half == b"", seed


def test_the_half_of_a_command_is_kept() -> None:
    made = tape()
    made.feed(encode("GET", "a") + b"*2\r\n$3\r\nGE")
    assert (made.whole, made.half) == ([encode("GET", "a")], b"*2\r\n$3\r\nGE")
    made.feed(b"T\r\n$1\r\nb\r\n")
    assert (made.whole[1], made.half) == (encode("GET", "b"), b"")


def test_what_is_answered_is_forgotten_and_the_room_is_there_again() -> None:
    made = tape()
    made.feed(encode("GET", "a") * 3)
    made.keep(1)
    assert made.whole == [encode("GET", "a")]
    made.keep(0)
    assert (made.whole, made.kept) == ([], 0)


def test_what_does_not_fit_keeps_its_place() -> None:
    made = tape(limit=1000)
    made.feed(encode("GET", "a") + encode("SET", "k", b"x" * 5000) + encode("GET", "b"))
    assert made.whole == [encode("GET", "a"), None, encode("GET", "b")]
    made.feed(b"*2\r\n$3\r\nGET\r\n$2000\r\n" + b"x" * 1500)
    assert made.half is None
    made.feed(b"x" * 500 + b"\r\n" + encode("GET", "c"))
    assert made.whole[3:] == [None, encode("GET", "c")]


def test_what_is_no_command_takes_no_place_and_nonsense_is_the_end() -> None:
    made = tape()
    made.feed(b"\r\n*0\r\n" + encode("GET", "a"))
    assert made.whole == [encode("GET", "a")]
    assert not made.lost
    made.feed(b"*1\r\n:1\r\n")
    assert made.lost


def test_places_can_be_dropped() -> None:
    made = tape()
    made.feed(encode("GET", "a") + encode("BRPOP", "q", 0) + encode("GET", "b"))
    made.drop([1])
    assert made.whole == [encode("GET", "a"), encode("GET", "b")]
