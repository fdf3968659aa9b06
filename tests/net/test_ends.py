"""The two ends of a connection where they meet shunt's own answers: order, and bounds."""

from __future__ import annotations

import contextlib

import pytest

from tests.servers import HOST, RedisServer, free_port, shunt
from tests.wire import Talk, encode

MB = 1 << 20
GREETING = b"-ERR max number of clients reached\r\n"


@pytest.mark.session_only("a new client needs no new backend connection")
def test_an_error_that_redis_greets_with_reaches_the_client(redis: RedisServer) -> None:
    with shunt(redis.url) as through, redis.talk() as keep:
        keep.call("CONFIG", "SET", "maxclients", 1)
        try:
            greetings = set()
            for _ in range(20):
                with through.talk() as talk:
                    greetings.add(talk.to_eof())
        finally:
            keep.call("CONFIG", "SET", "maxclients", 10_000)
    assert greetings == {GREETING}


def test_an_unauthenticated_client_that_never_reads_is_not_read_for_ever(redis: RedisServer) -> None:
    where = (HOST, free_port())
    with shunt(redis.url, listen=f"redis://:pw@{HOST}:{where[1]}", address=where) as through:
        before = through.process.rss()
        with Talk(where) as talk:
            talk.sock.settimeout(1.0)
            sent, wrong = 0, encode("AUTH", "x") * 1_000
            with contextlib.suppress(TimeoutError):
                while sent < 64 * MB:
                    sent += talk.sock.send(wrong)
        assert sent < 64 * MB, "shunt went on reading"
        assert through.process.peak_rss() - before < 32 * MB
