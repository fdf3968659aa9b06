"""Inline commands are split into words exactly as redis-server splits them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from protocol.inline import split_inline
from tests.wire import Talk

LINES = [
    b"a", b"a b", b"  a   b  ", b"\ta\tb", b'"a b" c', b"'a b' c", b'"a\\x41\\n\\r\\t\\b\\a\\\\\\"" x', b"'it\\'s' x",
    b"'\\n' x",
    b'a"b c"', b"a'b c'", b'"a"b', b"'a'b", b'"a', b"'a", b'"a\\', b'a\\ b', b"a\\", b'"\\x4"', b'"\\xzz"', b'"\\xAf"',
    b'""', b"''",
    b'"" ""', b'"a"\v"b"', b"a\vb", b"a\fb", b"\va", b"a\rb", b'"a"\rb', b'"\r"', b"\xff\xfe", b'"\\q"',
    b'x""', b"x''y",
]  # fmt: skip


@pytest.fixture(scope="module")
def talk(live_url: str) -> Iterator[Talk]:
    with Talk(("127.0.0.1", int(live_url.rsplit(":", 1)[1]))) as talk:
        yield talk


def answered(talk: Talk, line: bytes) -> list[bytes] | None:
    """The words that Redis makes of ``line``, as EVAL gives them back; None where they can't be told."""
    talk.send(b'EVAL "return ARGV" 0 ' + line + b"\r\n")
    reply = talk.frame()
    if not reply.startswith(b"*"):
        raise AssertionError(reply)
    count, rest = reply[1:].split(b"\r\n", 1)
    words = []
    for _ in range(int(count)):
        length, rest = rest[1:].split(b"\r\n", 1)
        words.append(rest[: int(length)])
        rest = rest[int(length) + 2 :]
    return words


@pytest.mark.parametrize("line", LINES, ids=repr)
def test_words_are_what_redis_makes_of_them(talk: Talk, live_url: str, line: bytes) -> None:
    words = split_inline(line + b"\r")
    if words is not None:
        assert answered(talk, line) == words
        return
    with Talk(("127.0.0.1", int(live_url.rsplit(":", 1)[1]))) as other:
        other.send(b"ECHO " + line + b"\r\n")
        assert other.frame() == b"-ERR Protocol error: unbalanced quotes in request\r\n"


def test_random_lines_are_what_redis_makes_of_them(talk: Talk) -> None:
    chance = random.Random(7)
    told = 0
    for _ in range(3000):
        line = bytes(chance.choices(b"ab \"'\\x4fn\t\v\r\xff", k=chance.randrange(1, 14)))
        words = split_inline(line + b"\r")
        if words is not None:
            assert answered(talk, line) == words, line
            told += 1
    assert told > 500
