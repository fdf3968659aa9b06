"""Whatever a client and Redis say to each other, and however it is cut: each command is one row, in order."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from proxy.capture.format import ArgsMode
from tests.engine.playbook import Talk, encode

BULK = b"$5\r\nvalue\r\n"
#: Commands with one plain reply: the words, the reply, its kind.
PLAIN: list[tuple[tuple[str, ...], bytes, str]] = [
    (("GET", "a"), BULK, "bulk"), (("GET", "a"), b"$-1\r\n", "null"), (("SET", "a", "x" * 300), b"+OK\r\n", "simple"),
    (("INCR", "n"), b":12345\r\n", "integer"), (("LPUSH", "s", "x"), b"-WRONGTYPE no\r\n", "error"),
    (("LRANGE", "l", "0", "-1"), b"*2\r\n$7\r\nmessage\r\n$0\r\n\r\n", "array"),
    (("BRPOP", "q", "1"), b"*-1\r\n", "null"),
    (("EVAL", "return {1,{2,3}}", "0"), b"*2\r\n:1\r\n*2\r\n:2\r\n:3\r\n", "array"),
    (("NOSUCH",), b"-ERR unknown\r\n", "error"),
    (("GET", "big"), b"$40000\r\n" + b"v" * 40000 + b"\r\n", "bulk"), (("SELECT", "1"), b"+OK\r\n", "simple"),
]  # fmt: skip
#: What only RESP3 has.
RESP3: list[tuple[tuple[str, ...], bytes, str]] = [
    (("HGETALL", "h"), b"%1\r\n$1\r\na\r\n_\r\n", "map"), (("SMEMBERS", "s"), b"~1\r\n$1\r\na\r\n", "set"),
    (("ZSCORE", "z", "a"), b",1.5\r\n", "double"), (("GET", "a"), b"_\r\n", "null"),
    (("GET", "a"), b"|1\r\n+ttl\r\n:9\r\n$1\r\nx\r\n", "bulk"), (("INFO",), b"=5\r\ntxt:a\r\n", "verbatim"),
]  # fmt: skip


@dataclass
class Model:
    """A client and a Redis that agree: what each says, and the rows that must come of it."""

    chance: random.Random
    up: bytes = b""
    down: bytes = b""
    rows: list[tuple[bytes, str, int, int, int]] = field(default_factory=list)  # command, reply, in, out, txn
    pushes: int = 0
    resp3: bool = False
    txns: int = 0

    def say(self, words: tuple[str, ...], reply: bytes, kind: str, txn: int = 0) -> None:
        command = encode(*words)
        inline = len(words) == 1 and self.chance.random() < 0.3
        command = words[0].lower().encode() + b"\r\n" if inline else command
        self.up += command
        self.down += reply
        name = " ".join(words[:2]) if words[0] in ("CLIENT", "SCRIPT") else words[0]
        self.rows.append((name.encode(), kind, len(command), len(reply), txn))

    def step(self) -> None:
        """One thing that clients do."""
        self.chance.choice([self.plain] * 6 + [self.transaction, self.silence, self.skip, self.subscribe, self.hello,
                                               self.nothing, self.push])()  # fmt: skip

    def plain(self) -> None:
        self.say(*self.chance.choice(PLAIN + RESP3 * self.resp3))

    def transaction(self) -> None:
        self.txns += 1
        self.say(("MULTI",), b"+OK\r\n", "simple", self.txns)
        for _ in range(self.chance.randrange(4)):
            words, _, _ = self.chance.choice(PLAIN)
            self.say(words, b"+QUEUED\r\n", "simple", self.txns)
        ends: list[tuple[tuple[str, ...], bytes, str]] = [
            (("EXEC",), b"*1\r\n" + BULK, "array"),
            (("EXEC",), b"*-1\r\n", "null"),
            (("EXEC",), b"-EXECABORT no\r\n", "error"),
            (("DISCARD",), b"+OK\r\n", "simple"),
        ]
        end = self.chance.choice(ends)
        self.say(*end, self.txns)

    def silence(self) -> None:
        self.say(("CLIENT", "REPLY", "OFF"), b"", "none")
        for _ in range(self.chance.randrange(4)):
            self.say(self.chance.choice(PLAIN)[0], b"", "none")
        self.say(("CLIENT", "REPLY", "ON"), b"+OK\r\n", "simple")

    def skip(self) -> None:
        self.say(("CLIENT", "REPLY", "SKIP"), b"", "none")
        self.say(self.chance.choice(PLAIN)[0], b"", "none")

    def subscribe(self) -> None:
        mark, kind = (b">", "push") if self.resp3 else (b"*", "array")
        channels = [f"c{number}" for number in range(self.chance.randrange(1, 4))]
        confirm = [mark + b"3\r\n$9\r\nsubscribe\r\n$2\r\nc%d\r\n:%d\r\n" % (n, n + 1) for n in range(len(channels))]
        self.say(("SUBSCRIBE", *channels), b"".join(confirm), kind)
        for _ in range(self.chance.randrange(3)):
            self.pushes += 1
            self.down += mark + b"3\r\n$7\r\nmessage\r\n$2\r\nc0\r\n" + BULK
        numbers = reversed(range(len(channels)))
        leave = [mark + b"3\r\n$11\r\nunsubscribe\r\n$2\r\nc%d\r\n:%d\r\n" % (n, n) for n in numbers]
        self.say(("UNSUBSCRIBE",), b"".join(leave), kind)

    def hello(self) -> None:
        self.resp3 = not self.resp3
        version, mark = ("3", b"%1") if self.resp3 else ("2", b"*2")
        self.say(("HELLO", version), mark + b"\r\n$2\r\nid\r\n:7\r\n", "map" if self.resp3 else "array")

    def nothing(self) -> None:
        self.up += self.chance.choice([b"*0\r\n", b"*-1\r\n", b"\r\n", b"\n"])

    def push(self) -> None:
        if self.resp3:
            self.pushes += 1
            self.down += b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"


@pytest.mark.parametrize("seed", range(150))
def test_each_command_is_one_row_in_order_with_its_kind_and_sizes(seed: int) -> None:
    chance = random.Random(seed)
    talk = Talk(mode=chance.choice(list(ArgsMode)))
    model = Model(chance)
    rows: list[tuple[bytes, str, int, int, int]] = []
    heard = answered = b""
    for _ in range(chance.randrange(1, 12)):
        model.up = model.down = b""
        for _ in range(chance.randrange(1, 12)):
            model.step()
        heard, answered = heard + model.up, answered + model.down
        _feed(chance, talk, model.up, up=True)
        _feed(chance, talk, model.down, up=False)
        rows += [(r["command"], r["reply"], r["request_bytes"], r["reply_bytes"], r["txn"]) for r in talk.rows()]
    assert rows == model.rows
    assert talk.recorder.counters.pushes == model.pushes
    assert (talk.session.in_flight, talk.session.piped, talk.session.quiet) == (0, False, True)
    assert (talk.sent, talk.said) == (heard, answered)


def _feed(chance: random.Random, talk: Talk, data: bytes, *, up: bool) -> None:
    most = chance.choice([1 << 20, 1000, 50, 7]) if len(data) < 5000 else chance.choice([1 << 20, 1000])
    while data:
        size = chance.randrange(1, most + 1)
        (talk.client if up else talk.backend)(data[:size])
        data = data[size:]
