"""Random dialogues, cut anywhere: the same bytes come back from Redis and through shunt, and each command is a row.

``DIALOGUES`` in the environment sets how many are tried, ``DIALOGUE_SEED`` where to begin.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import POOL
from tests.servers import RedisServer, Shunt, captured, shunt, until
from tests.system.raw_dialogues import commands, inline
from tests.system.raw_scenarios import normal
from tests.wire import Address, Talk, encode

DIALOGUES = int(os.environ.get("DIALOGUES", "300"))
SEED = int(os.environ.get("DIALOGUE_SEED", "0"))

PLAIN = (
    """
PING|PING x|ECHO y|SET a 1|GET a|GET nope|INCR n|LPUSH l 1 2 3|LPUSH a x|FOO|GET|LRANGE l 0 -1|HSET h f v|HGETALL h
ZADD z 1.5 m|ZRANGE z 0 -1 WITHSCORES|ZSCORE z m|DEL a l|BRPOP l 0.01|BLMOVE l m LEFT LEFT 0.01|MGET a n nope|SMEMBERS s
XADD x 1-1 f v|XREAD STREAMS x 0|EVAL return(1) 0|TYPE a|OBJECT HELP|SELECT 1|SELECT 0|SELECT 77|CLIENT SETNAME x
WAIT 0 1|CLIENT GETNAME|DEBUG PROTOCOL attrib|DEBUG PROTOCOL map|DEBUG PROTOCOL push|COMMAND COUNT|ASKING|TTL a
""".strip()
    .replace("\n", "|")
    .split("|")
)
if POOL == "shared":  # after a write over a shared connection it is refused (docs/pooling.md)
    PLAIN.remove("WAIT 0 1")
    PLAIN.remove("DEBUG PROTOCOL push")  # while replies are off, its push and a RESET behind it may pass each other
STATE = (
    """
HELLO 3|HELLO 2|HELLO|HELLO 4|RESET|MULTI|EXEC|DISCARD|WATCH a|UNWATCH|MULTI|EXEC|SUBSCRIBE c|SUBSCRIBE c d|UNSUBSCRIBE
UNSUBSCRIBE c|PSUBSCRIBE p*|PUNSUBSCRIBE|SSUBSCRIBE e|SUNSUBSCRIBE|PUBLISH c m|SPUBLISH e m|CLIENT REPLY OFF
CLIENT REPLY ON|CLIENT REPLY SKIP|CLIENT TRACKING ON|CLIENT TRACKING OFF|SCRIPT LOAD return(2)
AUTH x
""".strip()
    .replace("\n", "|")
    .split("|")
)
RAW = [b"*0\r\n", b"*-1\r\n", b"\r\n", b"\n", b" \r\n", *(inline(line) for line in ("PING", "GET a", "set a ''"))]
LAST = [
    b"*1\r\n$x\r\n",
    commands("QUIT"),
    encode("ECHO", "x" * 100_000),
    b"*2\r\n$4\r\nECHO\r\n$9\r\nabc",
    b"PING 'x\r\n",
]


def dialogue(seed: int) -> tuple[bytes, list[int]]:
    """The bytes of one dialogue and where they are cut."""
    dice = random.Random(seed)
    parts = []
    for _ in range(dice.randint(1, 40)):
        kind = dice.random()
        word = dice.choice(PLAIN if kind < 0.5 else STATE)
        parts.append(dice.choice(RAW) if kind > 0.93 else commands(dice.choice([word, word.lower()])))
    if dice.random() < 0.2:  # in one piece: bytes that meet a closed socket would take replies along
        return b"".join([*parts, dice.choice(LAST), commands("PING")]), []
    data = b"".join(parts)
    return data, sorted(dice.randrange(len(data)) for _ in range(dice.choice([0, 0, 1, 3, 10])))


def heard(address: Address, seed: int) -> bytes:
    data, cuts = dialogue(seed)
    with Talk(address) as talk:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            talk.send(data[start:end])
        return bytes(normal(talk.half_close().to_eof()))


@pytest.fixture(scope="module")
def through(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shunt]:
    with shunt(redis.url, capture=tmp_path_factory.mktemp("capture")) as running:
        yield running


def test_random_dialogues_have_the_same_replies(redis: RedisServer, through: Shunt) -> None:
    for seed in range(SEED, SEED + DIALOGUES):
        answers = []
        for address in (redis.address, through.address):
            with redis.talk() as talk:
                talk.send(commands("FLUSHALL", "SCRIPT FLUSH")).frames(2)
            answers.append(heard(address, seed))
            if b"c" in dialogue(seed)[0]:  # nobody of the last dialogue may still listen
                until(lambda: not redis.held(), what="the last dialogue's connection is gone", every_s=0.001)
        if POOL == "shared" and re.search(rb"BRPOP|BLMOVE", dialogue(seed)[0].upper()):
            # Redis drops a client that closes its side while a pop waits; shunt may learn of it when that is answered.
            answers[1] = answers[1][: len(answers[0])]
        assert answers[1] == answers[0], f"DIALOGUE_SEED={seed}: {dialogue(seed)[0]!r}"


def test_each_command_of_a_random_dialogue_is_a_row(redis: RedisServer, tmp_path: Path) -> None:
    """Dialogues in which a connection may become a plain pipe, or end early, are left out."""
    seeds = [seed for seed in range(SEED, SEED + DIALOGUES) if countable(dialogue(seed)[0])]
    assert len(seeds) > DIALOGUES // 10
    with shunt(redis.url, capture=tmp_path) as through:
        for seed in seeds:
            heard(through.address, seed)
        assert through.metric("shunt_plain_pipes_total") == 0
        through.stop()
    rows = captured(tmp_path)
    for conn, seed in enumerate(seeds, 1):
        sent = [row["args"][0] for row in rows if row["conn"] == conn]
        assert sent == names(dialogue(seed)[0]), f"DIALOGUE_SEED={seed}"
        assert [row["seq"] for row in rows if row["conn"] == conn] == list(range(len(sent)))


def countable(data: bytes) -> bool:
    upper = data.upper()
    ends_early = any(last in data for last in LAST) or b"\r\n\r\n" in data
    apart = [
        (b"MULTI", b"SUBSCRIBE"),
        (b"REPLY", b"SUBSCRIBE"),
        (b"REPLY", b"RESET"),
        (b"REPLY", b"MULTI"),
    ]  # refused or not: Redis knows
    return not ends_early and not any(one in upper and other in upper for one, other in apart) and b"AUTH" not in upper


def names(data: bytes) -> list[bytes]:
    """The name of each command as sent."""
    found, at = [], 0
    while at < len(data):
        if data[at : at + 1] != b"*":
            end = data.index(b"\n", at) + 1
            found += data[at:end].split()[:1]
            at = end
            continue
        line = data.index(b"\r\n", at)
        count, at = int(data[at + 1 : line]), line + 2
        for number in range(count):
            line = data.index(b"\r\n", at)
            length = int(data[at + 1 : line])
            found += [data[line + 2 : line + 2 + length]] if number == 0 else []
            at = line + 2 + length + 2
    return found
