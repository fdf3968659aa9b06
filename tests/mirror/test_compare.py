"""Which replies are the same: cases as data."""

from __future__ import annotations

import pytest

from protocol.commands import Trait, table
from proxy.mirror import compare
from proxy.mirror.effects import read_reply
from proxy.mirror.selection import compared
from tests.mirror.test_effects import framed

#: A read | the source's reply | the target's | whether they are the same.
CASES = """
GET | $1 a | $1 a | yes
GET | $1 a | $1 b | no
GET | $1 a | $-1 | no
GET | _ | $-1 | yes
LRANGE | *2 $1 a $1 b | *2 $1 b $1 a | no
SMEMBERS | *2 $1 a $1 b | *2 $1 b $1 a | yes
SMEMBERS | ~2 $1 a $1 b | *2 $1 b $1 a | yes
SMEMBERS | *2 $1 a $1 b | *2 $1 b $1 b | no
HGETALL | *4 $1 a $1 1 $1 b $1 2 | *4 $1 b $1 2 $1 a $1 1 | yes
HGETALL | *4 $1 a $1 1 $1 b $1 2 | *4 $1 a $1 2 $1 b $1 1 | no
HGETALL | %2 $1 a $1 1 $1 b $1 2 | *4 $1 b $1 2 $1 a $1 1 | yes
ZRANGE | *1 *2 $1 a ,1.5 | *2 $1 a $3 1.5 | yes
ZSCORE | ,0.1 | $19 0.10000000000000001 | yes
ZSCORE | ,1 | $1 1 | yes
ZSCORE | ,1 | $1 2 | no
EXISTS | :1 | :0 | no
TTL | :100 | :99 | yes
TTL | :100 | :90 | no
TTL | :100 | :-1 | no
PTTL | :5000 | :4500 | yes
GET | -WRONGTYPE | -WRONGTYPE | yes
GET | $1 a | -NOPERM | no
GET | -ERR | -NOPERM | no
"""


@pytest.mark.parametrize("case", CASES.strip().splitlines())
def test_replies_are_the_same_or_not(case: str) -> None:
    name, source, target, wanted = (part.strip() for part in case.split("|"))
    one, other = read_reply(framed(source)), read_reply(framed(target))
    assert compare.same(name, one, other) is (wanted == "yes")
    assert compare.same(name, other, one) is (wanted == "yes")


def test_what_has_no_order_has_one_checksum() -> None:
    one, other = compare.seen("SMEMBERS", [b"a", b"b"]), compare.seen("SMEMBERS", [b"b", b"a"])
    assert one == other
    assert compare.seen("LRANGE", [b"a", b"b"]).checksum != compare.seen("LRANGE", [b"b", b"a"]).checksum


def test_every_read_that_is_left_out_exists_and_the_others_are_compared() -> None:
    reads = {name for name, spec in table().commands.items() if spec.traits & Trait.READONLY}
    assert set(compare.NEVER_EQUAL) <= reads
    assert compared() == reads - set(compare.NEVER_EQUAL)
    assert not compared() & {"SCAN", "RANDOMKEY", "TIME", "INFO", "LASTSAVE", "CLIENT ID", "DEBUG", "OBJECT ENCODING"}
    assert (compare.UNORDERED | compare.PAIRS | set(compare.TOLERANCE)) <= reads


def test_a_read_that_would_wait_is_not_compared() -> None:
    assert not compare.comparable("XREAD", (b"XREAD", b"BLOCK", b"0", b"STREAMS", b"x", b"$"))
    assert compare.comparable("XREAD", (b"XREAD", b"STREAMS", b"x", b"0"))
