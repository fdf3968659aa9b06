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
from tests.system.raw_dialogues import HELLO3, ONE_WAY, PING, commands, inline
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


def one_way(data: bytes) -> Scenario:
    def scenario(world: World) -> Transcript:
        return [world.talk().send(data).half_close().to_eof()]

    return scenario


# ------------------------------------------------------------------------------------- several connections


def every_cut(world: World) -> Transcript:
    """One dialogue, cut in two at each of its bytes, on a connection for each cut."""
    dialogue = (
        HELLO3 + commands("SET a 1", "GET a", "MULTI", "INCR a", "EXEC") + b"*0\r\n" + inline("ECHO 'x y'") + b"\r\n"
    )
    dialogue += encode("SET", "b", "1\r\n2") + commands(
        "SUBSCRIBE c", "UNSUBSCRIBE", "CLIENT REPLY SKIP", "GET a", "GET b", "DEL a b"
    )
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

#: Scenarios whose transcript is another with --pool shared, and why.
SESSION_ONLY: dict[str, str] = {
    **dict.fromkeys(
        ("blocking pops that are unblocked", "CLIENT KILL", "CLIENT TRACKING by redirection"),
        "CLIENT ID is shunt's own, and no id of Redis'",
    ),
    "WAIT": "WAIT is refused after a write over a shared connection",
    "HTTP": "what Redis answers before it closes for Host: may reach the client",
    "CLIENT PAUSE for writes": "a client that closes its side is answered all the same",
    "a busy script and SCRIPT KILL": "commands behind a busy script on its connection don't read BUSY",
}

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
