"""A session keeps count of what a live redis-server answers, in the corners where counting is hard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.engine.access import EMPTY
from tests.engine.playbook import Row, Talk, encode
from tests.servers import RedisServer, redis_server
from tests.wire import Talk as Wire

KINDS = "string integer double null array set map bignum true false verbatim"
#: Pipelined at once; each command is one row, and the last one's reply shows that nothing was miscounted.
DIALOGUES = {
    "RESET ends CLIENT REPLY OFF": "CLIENT REPLY OFF|RESET|PING",
    "RESET is skipped after CLIENT REPLY SKIP": "CLIENT REPLY SKIP|RESET|PING",
    "a wrong RESET does not end CLIENT REPLY OFF": "CLIENT REPLY OFF|RESET x|CLIENT REPLY ON|PING",
    "a skipped MULTI is a MULTI": "CLIENT REPLY SKIP|MULTI|SET a 1|EXEC|PING",
    "a wrong DISCARD ends nothing": "MULTI|DISCARD x|SET a 1|EXEC|PING",
    "a wrong EXEC ends the transaction": "MULTI|EXEC x|SET a 1|PING",
    "MULTI in MULTI": "MULTI|MULTI|SET a 1|EXEC|PING",
    "WATCH in MULTI": "MULTI|WATCH a|EXEC|PING",
    "RESET in MULTI": "MULTI|SET a 1|RESET|GET a|PING",
    "HELLO in MULTI": "MULTI|HELLO 3|EXEC|HGETALL h|PING",
    "confirmations in spite of OFF": "CLIENT REPLY OFF|SUBSCRIBE a b|UNSUBSCRIBE|CLIENT REPLY ON|PING",
    "confirmations in spite of SKIP": "CLIENT REPLY SKIP|SUBSCRIBE a b|PING|UNSUBSCRIBE|PING",
    "the protocol changes while subscribed": "SUBSCRIBE a|HELLO 3|GET x|UNSUBSCRIBE|HELLO 2|PING",
    "RESP3 subscriptions": "HELLO 3|SUBSCRIBE a b a|PSUBSCRIBE p*|SSUBSCRIBE s|GET x|PUBLISH a m|UNSUBSCRIBE zz a"
    "|UNSUBSCRIBE|PUNSUBSCRIBE|SUNSUBSCRIBE|SUNSUBSCRIBE|RESET|PING",
    "RESP2 subscriptions": "SUBSCRIBE a b a|GET x|PING|PING hi|SSUBSCRIBE s|UNSUBSCRIBE zz a"
    "|UNSUBSCRIBE|SUNSUBSCRIBE|GET x",
    "MONITOR": "MONITOR|PING|SET a b|RESET|PING",
    "MONITOR without replies": "CLIENT REPLY OFF|MONITOR|PING|CLIENT REPLY ON|PING",
    "PSYNC in MULTI": "MULTI|PSYNC ? -1|EXEC|PING",
    "tracking": "HELLO 3|CLIENT TRACKING ON|GET k|SET k 1|GET k|FLUSHALL|PING",
    "REPLCONF": "REPLCONF listening-port 1|REPLCONF ACK 1|REPLCONF ACK|PING",
    "wrong CLIENT REPLY": "CLIENT REPLY foo|CLIENT REPLY|PING",
    "unknown commands": "NOPE a|CLIENT NOPE|PING",
    "SUBSCRIBE of nothing": "SUBSCRIBE|PING",
    "SHUTDOWN that is refused": "SHUTDOWN ABORT|SHUTDOWN WHAT|PING",
    "a fetch in MULTI does not wait": "MULTI|BLPOP q 0|EXEC|PING",
    "RESP3 kinds": "HELLO 3|" + "|".join(f"DEBUG PROTOCOL {kind}" for kind in KINDS.split()) + "|PING",
    "attributes": "HELLO 3|DEBUG PROTOCOL attrib|PING",
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("--enable-debug-command", "yes") as running:
        yield running


@pytest.mark.parametrize("dialogue", DIALOGUES.values(), ids=DIALOGUES.keys())
def test_every_command_is_one_row(server: RedisServer, dialogue: str) -> None:
    commands = [encode(*command.split()) for command in dialogue.split("|")]
    talk = Talk()
    rows: list[Row] = []
    with Wire((server.host, server.port)) as wire:
        wire.send(b"".join(commands))
        talk.client(b"".join(commands))
        while len(rows) < len(commands):
            heard = wire.sock.recv(65536)
            assert heard, f"closed after {len(rows)} rows"
            talk.backend(heard)
            rows += talk.rows()
    assert [row["gap"] for row in rows] == [b""] * len(commands)
    assert [row["seq"] for row in rows] == list(range(len(commands)))
    assert (talk.session.piped, talk.session.in_flight) == (False, 0)


def test_an_empty_command_is_one_that_is_skipped(server: RedisServer) -> None:
    with Wire((server.host, server.port)) as wire:
        wire.send(encode("CLIENT", "REPLY", "SKIP") + EMPTY)
        assert wire.call("PING") == b"+PONG\r\n"
