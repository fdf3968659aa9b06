"""What each command that writes has done, by its arguments and its reply: cases as data."""

from __future__ import annotations

import pytest

from protocol.commands import Trait, table
from proxy.mirror.effects import BY_REPLY_ALONE, EFFECTS, LEFT_OUT, Done, NoReply, Order, Unreadable, effect, read_reply

NOW = 1_000_000

#: What was sent | what Redis answered, in RESP with spaces for line ends | what the mirror gets, ";" between commands.
CASES = """
SET k v | +OK | SET k v
SET k v EX 10 | +OK | SET k v PXAT 1010000
SET k v PX 10 NX | +OK | SET k v PXAT 1000010
SET k v NX | $-1 |
SET k v NX | _ |
SET k v XX KEEPTTL | +OK | SET k v KEEPTTL
SET k v EXAT 5000 | +OK | SET k v PXAT 5000000
SET k v GET | $-1 | SET k v
SET k v XX GET | $-1 |
SET k v XX GET | $1 o | SET k v
SET k v NX GET | $1 o |
SET k v NX GET | $-1 | SET k v
SET k v | -OOM no room |
SET k EX EX 10 | +OK | SET k EX PXAT 1010000
SETEX k 10 v | +OK | SET k v PXAT 1010000
psetex k 10 v | +OK | SET k v PXAT 1000010
SETNX k v | :1 | SET k v
SETNX k v | :0 |
MSETNX a 1 b 2 | :1 | MSET a 1 b 2
MSETNX a 1 b 2 | :0 |
MSETEX 1 a 1 NX EX 10 | :1 | MSETEX 1 a 1 PXAT 1010000
INCR k | :1 | INCR k
INCRBYFLOAT k 0.1 | $3 1.1 | SET k 1.1 KEEPTTL
EXPIRE k 10 | :1 | PEXPIREAT k 1010000
EXPIRE k 10 NX | :1 | PEXPIREAT k 1010000
EXPIRE k 10 NX | :0 |
EXPIRE k -1 | :1 | DEL k
PEXPIRE k 10 | :1 | PEXPIREAT k 1000010
EXPIREAT k 2000 | :1 | PEXPIREAT k 2000000
EXPIREAT k 20 | :1 | DEL k
PERSIST k | :0 |
GETEX k | $1 v |
GETEX k EX 10 | $1 v | PEXPIREAT k 1010000
GETEX k EX 10 | $-1 |
GETEX k PERSIST | $1 v | PERSIST k
GETDEL k | $0 | DEL k
GETDEL k | $-1 |
DELIFEQ k v | :1 | DEL k
RENAMENX a b | :1 | RENAME a b
RENAMENX a b | :0 |
RESTORE k 10 dump REPLACE | +OK | RESTORE k 1000010 dump REPLACE ABSTTL
RESTORE k 0 dump | +OK | RESTORE k 0 dump
COPY a b | :0 |
MIGRATE h 1 k 0 100 | +OK | DEL k
MIGRATE h 1 k 0 100 COPY | +OK |
MIGRATE h 1 k 0 100 | +NOKEY |
LPUSH q a b | :2 | LPUSH q a b
LPOP q | $1 a | LREM q 1 a
RPOP q | $1 a | LREM q -1 a
RPOP q 2 | *2 $1 a $1 b | LREM q -1 a ; LREM q -1 b
LPOP q | $-1 |
BRPOP q r 2 | *2 $1 r $1 a | LREM r -1 a
BRPOP q r 2 | *-1 |
BLPOP q 2 | *2 $1 q $1 a | LREM q 1 a
LMPOP 2 q r LEFT | *2 $1 r *1 $1 a | LREM r 1 a
BLMPOP 1 2 q r RIGHT COUNT 2 | *2 $1 r *2 $1 a $1 b | LREM r -1 a ; LREM r -1 b
BLMOVE q r LEFT RIGHT 2 | $1 a | LMOVE q r LEFT RIGHT
BLMOVE q r LEFT RIGHT 2 | $-1 |
BRPOPLPUSH q r 2 | $1 a | LMOVE q r RIGHT LEFT
LREM q 0 a | :2 | LREM q 0 a
LREM q 0 a | :0 |
SPOP s | $1 a | SREM s a
SPOP s 2 | *2 $1 a $1 b | SREM s a b
SPOP s 2 | ~2 $1 a $1 b | SREM s a b
SPOP s 2 | *0 |
ZADD z NX 1 a | :0 | ZADD z NX 1 a
ZPOPMIN z | *2 $1 a $1 1 | ZREM z a
ZPOPMIN z | *2 $1 a ,1 | ZREM z a
ZPOPMAX z 2 | *4 $1 a $1 1 $1 b $1 2 | ZREM z a b
ZPOPMAX z 2 | *2 *2 $1 a ,1 *2 $1 b ,2 | ZREM z a b
ZPOPMAX z | *0 |
BZPOPMIN z y 2 | *3 $1 y $1 a $1 1 | ZREM y a
BZPOPMIN z y 2 | *-1 |
ZMPOP 1 z MIN | *2 $1 z *1 *2 $1 a $1 1 | ZREM z a
BZMPOP 1 1 z MIN | *2 $1 z *1 *2 $1 a ,1 | ZREM z a
ZREM z a b | :1 | ZREM z a b
SORT k | *0 |
SORT k STORE d | :2 | SORT k STORE d
BITFIELD k GET u8 0 | *1 :0 |
BITFIELD k SET u8 0 1 | *1 :0 | BITFIELD k SET u8 0 1
HSETNX h f v | :1 | HSET h f v
HINCRBYFLOAT h f 0.1 | $3 1.1 | HSET h f 1.1
HEXPIRE h 10 FIELDS 3 a b c | *3 :1 :-2 :2 | HPEXPIREAT h 1010000 FIELDS 1 a ; HDEL h c
HGETEX h EX 10 FIELDS 2 a b | *2 $1 v $-1 | HPEXPIREAT h 1010000 FIELDS 1 a
HGETEX h FIELDS 1 a | *1 $1 v |
HGETDEL h FIELDS 2 a b | *2 $1 v $-1 | HDEL h a
HSETEX h FNX EX 10 FIELDS 1 a 1 | :1 | HSETEX h PXAT 1010000 FIELDS 1 a 1
HSETEX h FNX EX 10 FIELDS 1 a 1 | :0 |
XADD x * f v | $3 7-1 | XADD x 7-1 f v
XADD x NOMKSTREAM MAXLEN ~ 10 LIMIT 5 * f v | $3 7-1 | XADD x NOMKSTREAM MAXLEN ~ 10 LIMIT 5 7-1 f v
XADD x NOMKSTREAM * f v | $-1 |
XREADGROUP GROUP g c STREAMS x > | *1 *2 $1 x *2 *2 $3 7-1 *0 *2 $3 7-2 *0 \
| XCLAIM x g c 0 7-1 7-2 TIME 1000000 RETRYCOUNT 1 FORCE JUSTID LASTID 7-2
XREADGROUP GROUP g c STREAMS x > | %1 $1 x *1 *2 $3 7-1 *0 \
| XCLAIM x g c 0 7-1 TIME 1000000 RETRYCOUNT 1 FORCE JUSTID LASTID 7-1
XREADGROUP GROUP g c STREAMS x 0 | *1 *2 $1 x *1 *2 $3 7-1 *0 |
XREADGROUP GROUP g c NOACK STREAMS x > | *1 *2 $1 x *1 *2 $3 7-1 *0 | XGROUP SETID x g 7-1
XREADGROUP GROUP g c STREAMS x > | *-1 |
XCLAIM x g c 100 7-1 7-2 | *1 *2 $3 7-1 *0 | XCLAIM x g c 0 7-1 TIME 1000000 FORCE
XCLAIM x g c 100 7-1 IDLE 5 JUSTID | *1 $3 7-1 | XCLAIM x g c 0 7-1 TIME 999995 JUSTID FORCE
XAUTOCLAIM x g c 100 0-0 | *3 $3 0-0 *1 *2 $3 7-1 *0 *1 $3 7-0 \
| XCLAIM x g c 0 7-1 TIME 1000000 FORCE ; XACK x g 7-0
EVALSHA abc 1 k | :1 | EVALSHA abc 1 k
FLUSHALL | +OK | FLUSHALL
SWAPDB 0 1 | +OK | SWAPDB 0 1
"""


def framed(reply: str) -> bytes:
    """ "*1 $1 a" as RESP. An empty bulk string has no word of its own."""
    return b"".join(word.encode() + b"\r\n" + (b"\r\n" if word == "$0" else b"") for word in reply.split())


def named(args: tuple[bytes, ...]) -> str:
    two = " ".join(arg.decode() for arg in args[:2]).upper()
    return two if two in table().commands else args[0].decode().upper()


def done(sent: str, reply: object) -> tuple[str, Done]:
    args = tuple(sent.encode().split())
    return named(args), Done(args, reply, NOW)


@pytest.mark.parametrize("case", CASES.replace("\\\n", "").strip().splitlines())
def test_an_exchange_has_this_effect(case: str) -> None:
    sent, reply, wanted = (part.strip() for part in case.split("|"))
    frame = framed(reply) if not reply.startswith(("-", "+")) else reply.encode() + b"\r\n"
    found = effect(*done(sent, read_reply(frame)))
    assert [b" ".join(order.args).decode() for order in found.orders] == [
        each.strip() for each in wanted.split(";") if each.strip()
    ]
    assert found.why == ""


def test_what_was_certainly_there_must_be_found() -> None:
    assert effect(*done("BRPOP q 1", [b"q", b"a"])).orders == (Order((b"LREM", b"q", b"-1", b"a"), least=1),)
    assert [order.least for order in effect(*done("SPOP s 600", [b"%d" % n for n in range(600)])).orders] == [500, 100]
    assert [order.least for order in effect(*done("ZREM z a b", 1)).orders] == [1]


def test_a_pop_of_many_is_a_pop() -> None:
    assert effect(*done("LPOP q 101", [b"a"] * 101)).orders == (Order((b"LPOP", b"q", b"101")),)
    assert len(effect(*done("RPOP q 100", [b"a"] * 100)).orders) == 100


@pytest.mark.parametrize("name", ["BRPOP", "BLPOP"])
def test_a_fetch_that_was_sent_before_anybody_listened_is_told_by_its_reply(name: str) -> None:
    assert len(effect(name, Done((name.encode(),), [b"q", b"a"], NOW)).orders) == 1


@pytest.mark.parametrize("name", sorted(set(EFFECTS) - BY_REPLY_ALONE - {"FLUSHALL", "FLUSHDB"}))
def test_other_commands_without_their_arguments_have_no_known_effect(name: str) -> None:
    """Nor do they raise, whatever the reply is."""
    for reply in (1, b"x", [b"x", b"y"], None):
        assert effect(name, Done((name.encode(),), reply, NOW)).orders == ()


def test_what_a_script_does_is_not_known() -> None:
    assert effect(*done("EVAL x 1 k", 1)).unverifiable


def test_without_a_reply_only_what_needs_none_is_mirrored() -> None:
    assert effect(*done("SADD s a", NoReply())).orders == (Order((b"SADD", b"s", b"a")),)
    assert effect(*done("SPOP s", NoReply())).why == "no-reply"
    assert effect(*done("SPOP s", Unreadable())).why == "reply-not-known"


def test_an_unknown_command_is_not_sent() -> None:
    assert effect("JSON.SET", Done((b"JSON.SET", b"k", b"$", b"1"), b"OK", NOW)).why == "unknown-command"


def test_every_command_that_writes_has_its_rule() -> None:
    writes = {name for name, spec in table().commands.items() if spec.traits & Trait.WRITE}
    assert writes - set(EFFECTS) == set(LEFT_OUT)
    assert set(EFFECTS) - writes == {"SCRIPT FLUSH", "SCRIPT LOAD"}
