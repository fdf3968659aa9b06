"""What a client may say to Redis in raw bytes, as scenarios whose transcript can be compared.

Knows: how to speak (exact bytes, several connections, half-closes) and what differs from run to run by nature
(ids, ports, times). Refuses to know: what the right answer is; Redis says that.

A scenario takes a ``World`` and returns its transcript: the bytes that came back, in the order that they were
read, with what must differ written as a letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.servers import RedisServer, until
from tests.wire import Address, Talk, dribble, encode


@dataclass
class World:
    """Connections by the way under test, and Redis itself for what others do meanwhile."""

    address: Address
    redis: RedisServer
    opened: list[Talk] = field(default_factory=list)

    def talk(self) -> Talk:
        self.opened.append(Talk(self.address))
        return self.opened[-1]

    def close(self) -> None:
        for talk in self.opened:
            talk.close()


Transcript = list[Any]
Scenario = Callable[[World], Transcript]


def inline(*lines: str) -> bytes:
    return "".join(line + "\r\n" for line in lines).encode()


def commands(*lines: str) -> bytes:
    """Each line's words as one RESP command."""
    return b"".join(encode(*line.split()) for line in lines)


PING = encode("PING")
HELLO3 = commands("HELLO 3")

#: Bytes that are sent in one go and followed by a FIN; all that comes back until EOF is the transcript.
ONE_WAY: dict[str, bytes] = {
    "inline commands": inline("PING", "SET a 1", "GET a", "  get   a  ", 'SET "quoted key" \'x y\'', 'GET "quoted key"'),
    "inline commands ended by a line feed only": b"PING\nSET a 1\nGET a\n",
    "inline commands with escapes": inline('SET e "\\x00\\xff\\n\\"q\\""', "STRLEN e", "GET e", "SET f 'it\\'s'", "GET f"),
    "inline after RESP after inline": inline("PING") + encode("ECHO", b"x\r\ny") + inline("ECHO z"),
    "an inline command with unbalanced quotes": inline("PING", 'SET a "b'),
    "an inline command of 70000 bytes without an end": b"PING " + b"x" * 70_000,
    "a FIN in the middle of a command": PING + b"*2\r\n$4\r\nECHO\r\n$10\r\nabc",
    "nothing but a FIN": b"",
    "empty arrays": b"*0\r\n" + PING + b"*-1\r\n" + PING + b"*-7\r\n*0\r\n" + PING,
    "only empty arrays": b"*0\r\n*0\r\n*-1\r\n",
    "empty lines": b"\r\n\r\n" + PING + b"\n\r\n" + PING + b" \r\n" + PING,
    "empty bulk strings": encode("SET", "", "") + encode("GET", "") + encode("", "") + PING,
    "a null bulk string in a command": PING + b"*2\r\n$3\r\nGET\r\n$-1\r\n",
    "a bulk length that is no number": PING + b"*2\r\n$3\r\nGET\r\n$x\r\n",
    "a bulk length with a sign": PING + b"*2\r\n$3\r\nGET\r\n$+1\r\na\r\n",
    "a bulk length over the limit": PING + b"*2\r\n$3\r\nGET\r\n$536870913\r\n",
    "a bulk length that overflows": PING + b"*2\r\n$3\r\nGET\r\n$92233720368547758080\r\n",
    "an integer where a bulk string is due": PING + b"*2\r\n$3\r\nGET\r\n:1\r\n",
    "an array within an array": PING + b"*1\r\n*1\r\n$4\r\nPING\r\n",
    "an array length that is no number": PING + b"*x\r\n",
    "an array length over the limit": PING + b"*2147483648\r\n",
    "an array length that overflows": PING + b"*184467440737095516160\r\n",
    "a bulk string without its line end": b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    "a protocol error behind commands, and commands behind it": PING + PING + b"*1\r\n!\r\n" + PING,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP with POST": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes that are no protocol": b"\x00\x01\x02\xff\r\n" + PING,
    "unknown commands": commands("FOO", "FOO bar baz", "CLIENT FOO", "CONFIG FOO", "XGROUP FOO") + PING,
    "wrong numbers of arguments": commands("GET", "GET a b", "SET a", "CLIENT", "MULTI x", "OBJECT", "BRPOP a"),
    "a command name with odd bytes": encode(b"F\x00\xff\r\nOO", "x") + encode(b"x" * 300) + PING,
    "many arguments": encode("DEL", *range(100_000)) + encode("RPUSH", "l", *range(50_000)) + commands("LLEN l"),
    "many pairs": encode("MSET", *range(40_000)) + encode("MGET", *range(0, 40_000, 500)) + commands("DBSIZE"),
    "a long pipeline": b"".join(encode("INCR", "n") + encode("ECHO", i) for i in range(5_000)),
    "a big value in a pipeline": commands("SET a 1") + encode("SET", "b", b"v" * 3_000_000) + commands("GET b", "GET a"),
    "every kind of value in RESP2": b"".join(
        commands(f"DEBUG PROTOCOL {kind}")
        for kind in "string integer double null array set map verbatim true false bignum".split()
    ),
    "every kind of value in RESP3": HELLO3
    + b"".join(
        commands(f"DEBUG PROTOCOL {kind}")
        for kind in "string integer double null array set map attrib push verbatim true false bignum".split()
    ),
    "HELLO without arguments": commands("HELLO", "PING"),
    "HELLO in mid-connection": commands("SET a 1", "HSET h f v", "HGETALL h")
    + commands("HELLO 3 SETNAME joe", "CLIENT GETNAME", "HGETALL h", "GET nope", "HELLO 2", "HGETALL h", "GET nope"),
    "HELLO 4": commands("HELLO 4", "PING", "HELLO 3", "HELLO 4", "HELLO x", "HELLO 3 FOO", "HELLO 3 SETNAME", "GET nope"),
    "HELLO with wrong credentials": commands("HELLO 3 AUTH joe wrong", "PING", "GET nope", "HELLO 3 AUTH default any"),
    "AUTH without a password set": commands("AUTH x", "AUTH default x", "AUTH joe x", "AUTH", "AUTH a b c", "PING"),
    "SELECT": commands("SET a 0", "SELECT 3", "GET a", "SET a 3", "SELECT 99", "SELECT x", "GET a", "SELECT 0", "GET a"),
    "SWAPDB and MOVE": commands("SET a 0", "MOVE a 1", "GET a", "SWAPDB 0 1", "GET a", "COPY a a DB 2", "SELECT 2", "GET a"),
    "RESET": commands("SELECT 3", "CLIENT SETNAME joe", "HELLO 3", "MULTI", "SET a 1", "RESET", "CLIENT GETNAME", "GET a", "EXEC"),
    "QUIT with commands behind it": commands("SET a 1", "QUIT", "SET a 2", "PING"),
    "QUIT inline": inline("PING", "QUIT", "PING"),
    "CLIENT REPLY OFF and ON": commands("SET a 1", "CLIENT REPLY OFF", "SET a 2", "GET a", "FOO", "CLIENT REPLY ON", "GET a"),
    "CLIENT REPLY SKIP": commands("CLIENT REPLY SKIP", "SET a 1", "GET a", "CLIENT REPLY SKIP", "FOO", "GET a"),
    "CLIENT REPLY SKIP twice": commands("CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "SET a 1", "SET a 2", "GET a", "PING"),
    "CLIENT REPLY SKIP while OFF": commands(
        "CLIENT REPLY OFF", "CLIENT REPLY SKIP", "SET a 1", "CLIENT REPLY ON", "GET a", "CLIENT REPLY ON", "PING"
    ),
    "CLIENT REPLY without a known mode": commands("CLIENT REPLY FOO", "CLIENT REPLY", "GET a"),
    "CLIENT REPLY OFF and a transaction": commands(
        "CLIENT REPLY OFF", "MULTI", "SET a 1", "EXEC", "CLIENT REPLY ON", "MULTI", "CLIENT REPLY SKIP", "GET a", "EXEC", "PING"
    ),
    "CLIENT REPLY OFF inside a transaction": commands(
        "MULTI", "SET a 1", "CLIENT REPLY OFF", "GET a", "EXEC", "PING", "CLIENT REPLY ON", "GET a"
    ),
    "CLIENT REPLY OFF and QUIT": commands("CLIENT REPLY OFF", "SET a 1", "QUIT"),
    "CLIENT REPLY OFF and a protocol error": commands("CLIENT REPLY OFF", "SET a 1") + b"*1\r\n!\r\n",
    "CLIENT REPLY OFF and RESET": commands("CLIENT REPLY OFF", "SET a 1", "RESET", "PING", "GET a"),
    "CLIENT REPLY SKIP and an empty array": commands("CLIENT REPLY SKIP") + b"*0\r\n" + commands("SET a 1", "GET a"),
    "CLIENT REPLY SKIP and HELLO 3": commands("CLIENT REPLY SKIP", "HELLO 3", "GET nope", "CLIENT REPLY SKIP", "RESET", "GET nope"),
    "a transaction": commands("MULTI", "SET a 1", "INCR a", "LPUSH a x", "GET a", "EXEC", "GET a"),
    "an empty transaction": commands("MULTI", "EXEC", "PING"),
    "a transaction in RESP3": HELLO3 + commands("MULTI", "HSET h f v", "HGETALL h", "GET nope", "EXEC", "PING"),
    "a discarded transaction": commands("MULTI", "SET a 1", "DISCARD", "GET a", "DISCARD", "EXEC"),
    "transactions with errors": commands(
        "MULTI", "MULTI", "EXEC", "MULTI", "WATCH a", "EXEC", "EXEC", "MULTI", "FOO", "SET a 1", "EXEC", "GET a"
    )
    + commands("MULTI", "GET", "EXEC", "MULTI", "SET a 1", "EXEC x", "EXEC", "MULTI", "SAVE", "SYNC", "MONITOR", "EXEC"),
    "a transaction with an empty array inside": commands("MULTI") + b"*0\r\n" + commands("SET a 1") + b"\r\n" + commands("EXEC"),
    "a transaction with RESET inside": commands("MULTI", "SET a 1", "RESET", "GET a", "EXEC"),
    "a transaction with QUIT inside": commands("MULTI", "SET a 1", "QUIT", "EXEC"),
    "a transaction with HELLO and SELECT inside": commands(
        "HSET h f v", "MULTI", "HELLO 3", "SELECT 1", "SET a 1", "EXEC", "GET a", "SELECT 0", "HGETALL h"
    ),
    "a transaction with AUTH inside": commands("MULTI", "AUTH x", "AUTH default x", "PING", "EXEC", "PING"),
    "a transaction with a protocol error inside": commands("MULTI", "SET a 1") + b"*1\r\n!\r\n",
    "a transaction with blocking commands": commands("MULTI", "BRPOP l 0", "BLMOVE l m LEFT LEFT 0", "XREAD BLOCK 0 STREAMS s $", "EXEC", "PING"),
    "WATCH without a change": commands("WATCH a b", "MULTI", "SET a 1", "EXEC", "WATCH a", "UNWATCH", "SET a 2", "MULTI", "GET a", "EXEC"),
    "WATCH with a change": commands("WATCH a", "SET a 9", "MULTI", "SET a 1", "EXEC", "GET a"),
    "blocking pops that time out": commands("BRPOP l 0.05", "BLPOP l m 0.05", "BLMOVE l m LEFT LEFT 0.05", "BZPOPMIN z 0.05", "PING")
    + HELLO3
    + commands("BRPOP l 0.05", "BLMPOP 0.05 1 l LEFT", "XREAD BLOCK 20 STREAMS s $", "PING"),
    "blocking pops that need not wait": commands("RPUSH l a b c", "BRPOP l 0", "BLPOP x l 0", "BLMOVE l m LEFT LEFT 0", "LRANGE m 0 -1"),
    "blocking pops with errors": commands("BRPOP l x", "BRPOP l -1", "SET s v", "BRPOP s 0", "BRPOP l", "PING"),
    "a blocking pop with commands behind it": commands("INCR n", "BRPOP l 0.1", "INCR n", "INCR n", "BRPOP l 0.05", "INCR n"),
    "scripts": encode("EVAL", "return {KEYS[1],ARGV[1],1,{2,false}}", 1, "k", "v")
    + encode("EVAL", "return redis.call('incr',KEYS[1])", 1, "n")
    + encode("EVAL", "return redis.error_reply('MINE own')", 0)
    + encode("EVAL", "return redis.call('nope')", 0)
    + encode("EVAL", "syntax error", 0)
    + encode("EVALSHA", "f" * 40, 0)
    + encode("SCRIPT", "LOAD", "return 7")
    + encode("EVALSHA", "4ca238f611c9d0ae4e9a75a5dbac22aedc1e4bb9", 0)
    + encode("EVAL", "return 1", "x")
    + encode("EVAL", "return 1", 5, "a"),
    "scripts in RESP3": HELLO3
    + encode("EVAL", "redis.setresp(3); return {map={a=1}}", 0)
    + encode("EVAL", "redis.setresp(3); return {double=1.5}", 0)
    + encode("EVAL", "redis.setresp(3); return {set={x=true}}", 0)
    + encode("EVAL", "return redis.call('hgetall',KEYS[1])", 1, "h")
    + PING,
    "functions": encode("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f',function(k,a) return {k[1],a[1]} end)")
    + commands("FCALL f 1 key arg", "FCALL nope 0", "FUNCTION LIST", "FUNCTION DELETE l"),
    "streams": commands("XADD s 1-1 f v", "XADD s 1-2 f w", "XADD s 1-1 f v", "XGROUP CREATE s g 0", "XREADGROUP GROUP g c COUNT 1 STREAMS s >")
    + commands("XACK s g 1-1", "XPENDING s g", "XRANGE s - +", "XREAD COUNT 9 STREAMS s 0", "XLEN s")
    + HELLO3
    + commands("XREAD COUNT 9 STREAMS s 0", "XINFO STREAM s"),
    "SUBSCRIBE in RESP2": commands("SUBSCRIBE a b", "PSUBSCRIBE p*", "PING", "PING hi", "GET a", "SUBSCRIBE a", "UNSUBSCRIBE", "PUNSUBSCRIBE", "PING", "GET a"),
    "UNSUBSCRIBE without subscriptions": commands("UNSUBSCRIBE", "UNSUBSCRIBE x y", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "PING"),
    "SSUBSCRIBE in RESP2": commands("SSUBSCRIBE a b", "SUBSCRIBE c", "PING", "SUNSUBSCRIBE a", "GET a", "SUNSUBSCRIBE", "UNSUBSCRIBE", "GET a"),
    "SUBSCRIBE in RESP3 among other commands": HELLO3
    + commands("SUBSCRIBE a b", "SET k 1", "GET k", "PSUBSCRIBE p*", "PING", "PUBLISH a m1", "PUBLISH p1 m2", "GET k")
    + commands("UNSUBSCRIBE a", "GET k", "UNSUBSCRIBE", "PUNSUBSCRIBE", "UNSUBSCRIBE", "GET k"),
    "SSUBSCRIBE in RESP3 among other commands": HELLO3
    + commands("SSUBSCRIBE a b", "GET k", "SPUBLISH a m", "SUNSUBSCRIBE", "SUNSUBSCRIBE", "GET k"),
    "SUBSCRIBE with wrong arguments": commands("SUBSCRIBE", "PING", "SUBSCRIBE a", "SUBSCRIBE", "PING", "UNSUBSCRIBE", "GET a"),
    "SUBSCRIBE and QUIT": commands("SUBSCRIBE a", "QUIT", "PING"),
    "SUBSCRIBE and RESET": commands("SUBSCRIBE a b", "PSUBSCRIBE c", "RESET", "GET k", "PING"),
    "SUBSCRIBE and HELLO": commands("SUBSCRIBE a", "HELLO 3", "PING", "RESET", "HELLO 3", "SUBSCRIBE a", "HELLO 2", "PING", "UNSUBSCRIBE", "GET k"),
    "SUBSCRIBE inside a transaction": commands("MULTI", "SUBSCRIBE a b", "EXEC", "PING", "UNSUBSCRIBE", "GET k"),
    "SUBSCRIBE inside a transaction in RESP3": HELLO3
    + commands("MULTI", "SET k 1", "SUBSCRIBE a b", "GET k", "EXEC", "GET k", "UNSUBSCRIBE", "GET k"),
    "UNSUBSCRIBE inside a transaction": HELLO3 + commands("SUBSCRIBE a b", "MULTI", "UNSUBSCRIBE", "EXEC", "GET k"),
    "SUBSCRIBE while replies are off": commands("CLIENT REPLY OFF", "SUBSCRIBE a", "CLIENT REPLY ON", "PING", "UNSUBSCRIBE a", "GET k"),
    "a sharded PUBLISH to oneself": HELLO3 + commands("SUBSCRIBE a", "PUBLISH a 1", "PUBLISH a 2", "PING", "UNSUBSCRIBE a", "PUBLISH a 3"),
    "CLIENT TRACKING of one's own keys": HELLO3
    + commands("CLIENT TRACKING ON", "GET a", "SET a 1", "GET a", "SET a 2", "MULTI", "GET a", "SET a 3", "EXEC", "PING")
    + commands("CLIENT TRACKING OFF", "SET a 4", "GET a", "CLIENT TRACKING ON BCAST PREFIX x", "SET xy 1", "FLUSHALL", "PING"),
    "CLIENT TRACKING in RESP2": commands("CLIENT TRACKING ON", "CLIENT TRACKING ON REDIRECT 99999", "CLIENT CACHING YES", "PING"),
    "DEBUG SLEEP in a pipeline": commands("PING", "DEBUG SLEEP 0.1", "PING"),
    "WAIT": commands("SET a 1", "WAIT 0 0", "WAIT 1 10", "PING"),
    "CLIENT commands": commands("CLIENT SETNAME joe", "CLIENT GETNAME", "CLIENT NO-EVICT ON", "CLIENT TRACKINGINFO", "CLIENT GETREDIR", "CLIENT SETNAME", "CLIENT UNPAUSE"),
    "CLIENT PAUSE for writes": commands("CLIENT PAUSE 80 WRITE", "GET a", "SET a 1", "GET a", "CLIENT UNPAUSE"),
    "big replies full of small parts": commands("COMMAND COUNT", "COMMAND DOCS get set xadd", "COMMAND INFO get foo", "CONFIG GET *max*") + HELLO3
    + commands("COMMAND DOCS get set xadd", "COMMAND INFO get foo", "CONFIG GET *max*", "PING"),
    "SORT, SCAN and OBJECT": commands("RPUSH l 3 1 2", "SORT l", "SORT l BY w_* GET # GET o_*", "SCAN 0 MATCH l COUNT 100", "OBJECT ENCODING l", "OBJECT HELP"),
    "ASKING, READONLY, CLUSTER": commands("ASKING", "READONLY", "READWRITE", "CLUSTER INFO", "CLUSTER KEYSLOT a", "MIGRATE 127.0.0.1 1 nokey 0 100"),
    "lower and mixed case": commands("set a 1", "GeT a", "multi", "Incr a", "exec", "client setname x", "client getname", "hello 3", "subscribe a", "unsubscribe", "quit"),
}  # fmt: skip


def one_way(data: bytes) -> Scenario:
    def scenario(world: World) -> Transcript:
        return [world.talk().send(data).half_close().to_eof()]

    return scenario


# ------------------------------------------------------------------------------------- several connections


def every_cut(world: World) -> Transcript:
    """One dialogue, cut in two at each of its bytes, on a connection for each cut."""
    dialogue = HELLO3 + commands("SET a 1", "GET a", "MULTI", "INCR a", "EXEC") + b"*0\r\n" + inline("ECHO 'x y'") + b"\r\n"
    dialogue += encode("SET", "b", "1\r\n2") + commands("SUBSCRIBE c", "UNSUBSCRIBE", "CLIENT REPLY SKIP", "GET a", "GET b", "DEL a b")
    heard = []
    for at in range(1, len(dialogue)):
        talk = world.talk()
        dribble(talk, dialogue, at)
        heard.append(talk.half_close().to_eof())
        talk.close()
    return heard


def byte_by_byte(world: World) -> Transcript:
    talk = world.talk()
    for byte in encode("SET", "k", "v" * 40) + inline("GET k") + encode("GET", "k"):
        talk.send(bytes([byte]))
    return [*talk.frames(3), talk.half_close().to_eof()]


def messages_between_confirmations(world: World) -> Transcript:
    talk, heard = world.talk(), []
    heard.append(talk.call("SUBSCRIBE", "a"))
    world.redis.call("PUBLISH", "a", "1")
    heard.append(talk.frame())
    talk.send(commands("SUBSCRIBE b c", "PSUBSCRIBE *"))
    heard += talk.frames(3)
    world.redis.call("PUBLISH", "b", b"two\r\n")
    heard += talk.frames(2)
    heard.append(talk.call("UNSUBSCRIBE", "a"))
    world.redis.call("PUBLISH", "a", "3")
    heard.append(talk.frame())
    talk.send(commands("UNSUBSCRIBE", "PUNSUBSCRIBE"))
    heard += talk.frames(3)
    world.redis.call("PUBLISH", "a", "4")
    return [*heard, talk.call("GET", "k"), talk.is_silent()]


def messages_among_commands(world: World) -> Transcript:
    talk, heard = world.talk(), []
    heard.append(talk.call("HELLO", "3"))
    heard.append(talk.call("SUBSCRIBE", "a"))
    for number in range(5):
        world.redis.call("PUBLISH", "a", number)
        heard.append(talk.frame())
        heard.append(talk.call("INCR", "n"))
    heard.append(talk.call("SSUBSCRIBE", "a"))
    world.redis.call("SPUBLISH", "a", "s")
    heard.append(talk.frame())
    talk.send(commands("PING", "SUNSUBSCRIBE", "UNSUBSCRIBE", "PING"))
    return heard + talk.frames(4)


def many_messages(world: World) -> Transcript:
    talk = world.talk()
    talk.call("SUBSCRIBE", "a")
    with world.redis.talk() as publisher:
        publisher.send(b"".join(encode("PUBLISH", "a", b"%d" % i * 50) for i in range(3_000))).frames(3_000)
    return talk.frames(3_000)


def a_monitor(world: World) -> Transcript:
    talk, other = world.talk(), world.talk()
    heard = [talk.call("MONITOR")]
    other.send(commands("SET a 1", "GET a", "MULTI", "INCR a", "EXEC")).frames(5)
    heard += talk.frames(5)
    heard.append(talk.call("PING")[:1])
    heard.append(talk.frame()[:1])
    heard.append(talk.send(encode("RESET")).until(b"+RESET\r\n"))
    return [*heard, talk.call("GET", "a"), talk.is_silent()]


def tracking_of_others(world: World) -> Transcript:
    talk, heard = world.talk(), []
    heard += talk.send(HELLO3 + commands("CLIENT TRACKING ON", "GET a", "GET b")).frames(4)
    world.redis.call("MSET", "a", "1", "b", "2")
    heard += talk.frames(2)
    heard.append(talk.call("GET", "a"))
    world.redis.call("SET", "a", "3")
    heard.append(talk.frame())
    world.redis.call("FLUSHALL")
    heard.append(talk.frame())
    return [*heard, talk.call("PING")]


def tracking_by_redirection(world: World) -> Transcript:
    ears, talk = world.talk(), world.talk()
    own = ears.call("CLIENT", "ID")[1:-2]
    heard = [ears.call("SUBSCRIBE", "__redis__:invalidate")]
    heard.append(talk.call("CLIENT", "TRACKING", "ON", "REDIRECT", own))
    heard.append(talk.call("GET", "a"))
    world.redis.call("SET", "a", "1")
    return [*heard, ears.frame(), talk.call("PING")]


def a_pop_that_is_served(world: World) -> Transcript:
    heard = []
    for resp in (2, 3):
        talk = world.talk()
        talk.call("HELLO", resp)
        for pop, push in (
            ("BRPOP x l 0", "RPUSH l a"),
            ("BLMOVE l m LEFT LEFT 0", "RPUSH l b"),
            ("BZPOPMIN z 0", "ZADD z 1 m"),
            ("XREAD BLOCK 0 STREAMS s $", f"XADD s 5-{resp} f v"),
            ("BLMPOP 0 2 x l LEFT", "RPUSH l c"),
        ):
            talk.send(commands(pop, "ECHO behind"))
            until(world.redis.blocked, what=f"{pop} blocks")
            world.redis.call(*push.split())
            heard += talk.frames(2)
        talk.close()
    return heard


def a_pop_that_is_unblocked(world: World) -> Transcript:
    talk, heard = world.talk(), []
    own = talk.call("CLIENT", "ID")[1:-2]
    for how in ("TIMEOUT", "ERROR"):
        talk.send(encode("BRPOP", "l", 0))
        until(world.redis.blocked, what="BRPOP blocks")
        heard.append(world.redis.call("CLIENT", "UNBLOCK", own, how))
        heard.append(talk.frame())
    return [*heard, talk.call("PING")]


def a_half_close_while_blocked(world: World) -> Transcript:
    talk = world.talk().send(commands("PING", "BRPOP l 0", "PING"))
    until(world.redis.blocked, what="BRPOP blocks")
    return [talk.half_close().to_eof(), until(lambda: not world.redis.blocked(), what="no BRPOP is left")]


def a_half_close_while_subscribed(world: World) -> Transcript:
    return [world.talk().send(commands("SUBSCRIBE a", "PING")).half_close().to_eof()]


def a_client_that_is_killed(world: World) -> Transcript:
    talk, heard = world.talk(), []
    own = talk.call("CLIENT", "ID")[1:-2]
    heard.append(world.redis.call("CLIENT", "KILL", "ID", own))
    heard.append(talk.to_eof())
    other = world.talk()
    own = other.call("CLIENT", "ID")[1:-2]
    other.send(encode("CLIENT", "KILL", "ID", own, "SKIPME", "no"))
    return [*heard, other.to_eof()]


def a_busy_script(world: World) -> Transcript:
    world.redis.call("CONFIG", "SET", "busy-reply-threshold", "50")
    busy, other = world.talk(), world.talk()
    other.call("PING")
    busy.send(encode("EVAL", "while true do end", 0) + PING)

    def refused() -> bytes | None:
        reply = other.call("GET", "a")
        return reply if reply.startswith(b"-BUSY") else None

    heard = [until(refused, what="Redis says BUSY"), other.call("SCRIPT", "KILL")]
    return [*heard, *busy.frames(2), other.call("GET", "a")]


def a_transaction_watched_by_two(world: World) -> Transcript:
    one, other = world.talk(), world.talk()
    heard = [*one.send(commands("WATCH a", "MULTI", "SET a 1")).frames(3), other.call("SET", "a", "2")]
    heard.append(one.call("EXEC"))
    heard += one.send(commands("GET a", "WATCH a", "MULTI", "SET a 1")).frames(4)
    return [*heard, other.call("GET", "a"), one.call("EXEC"), other.call("GET", "a")]


def a_replica(word: str) -> Scenario:
    """SYNC or PSYNC: the header, the snapshot's magic, and a write that follows it."""

    def scenario(world: World) -> Transcript:
        talk = world.talk()
        talk.send(encode("REPLCONF", "listening-port", "1") + encode("REPLCONF", "capa", "psync2")).frames(2)
        talk.send(encode(*word.split()))
        head = talk.until(b"\r\n") if word.startswith("PSYNC") else b""
        length = talk.until(b"\r\n").lstrip(b"\n")
        snapshot = talk.take(int(length[1:]))
        talk.send(encode("REPLCONF", "ACK", 0))  # a replica says where it is and gets no reply
        world.redis.call("SET", "streamed", "value")
        stream = talk.until(b"value\r\n").replace(b"*1\r\n$4\r\nPING\r\n", b"")
        return [re.sub(rb" \w{40} \d+", b" ID OFFSET", head), snapshot[:5], snapshot[-9:-8], stream]

    return scenario


def stepwise(world: World) -> Transcript:
    """Each command waits for its reply: nothing is pipelined."""
    talk = world.talk()
    steps = "HELLO 3|SELECT 2|CLIENT SETNAME a|SET k 1|MULTI|GET k|EXEC|RESET|GET k|WATCH k|DISCARD|UNWATCH|FOO"
    return [talk.call(*step.split()) for step in steps.split("|")]


TALKS: dict[str, Scenario] = {
    "a dialogue cut at every byte": every_cut,
    "a dialogue byte by byte": byte_by_byte,
    "step by step": stepwise,
    "messages between confirmations": messages_between_confirmations,
    "messages among commands in RESP3": messages_among_commands,
    "three thousand messages": many_messages,
    "MONITOR": a_monitor,
    "CLIENT TRACKING of what others change": tracking_of_others,
    "CLIENT TRACKING by redirection": tracking_by_redirection,
    "blocking pops that are served": a_pop_that_is_served,
    "blocking pops that are unblocked": a_pop_that_is_unblocked,
    "a half-close while blocked": a_half_close_while_blocked,
    "a half-close while subscribed": a_half_close_while_subscribed,
    "CLIENT KILL": a_client_that_is_killed,
    "a busy script and SCRIPT KILL": a_busy_script,
    "a transaction watched by two": a_transaction_watched_by_two,
    "SYNC": a_replica("SYNC"),
    "PSYNC": a_replica("PSYNC ? -1"),
}

SCENARIOS: dict[str, Scenario] = {**{name: one_way(data) for name, data in ONE_WAY.items()}, **TALKS}

_DIFFERS = (
    (re.compile(rb"\$2\r\nid\r\n:\d+"), b"$2\r\nid\r\n:ID"),  # HELLO
    (re.compile(rb"\+\d+\.\d+ \[(\d+) [\d.:]+\]"), rb"+TIME [\1 ADDR]"),  # MONITOR
)


def normal(part: Any) -> Any:
    """``part`` with what differs from run to run by nature written as a word."""
    if isinstance(part, bytes):
        for pattern, word in _DIFFERS:
            part = pattern.sub(word, part)
    return part
