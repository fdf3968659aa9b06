"""``--pool shared``: what docs/pooling.md promises, one test a promise. Nobody hears another: test_shared_stress."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from tests.servers import RedisServer, Shunt, redis_server, shunt, until
from tests.wire import Talk, encode

pytestmark = pytest.mark.session_only("the test names its pools itself")
MB = 1 << 20
SHARED = ("--pool", "shared", "--pool-size", "1")
NO_CONNECTION = b"-ERR max number of backend connections reached"


@pytest.fixture(scope="module")
def through(redis: RedisServer) -> Iterator[Shunt]:
    with shunt(redis.url, *SHARED) as running:
        yield running


def of_shunt(redis: RedisServer, running: Shunt) -> int:
    """Connections that Redis has, when shunt says that none is private any more."""
    until(lambda: running.metric("shunt_pool_connections", use="private") == 0, what="no private connection")
    return len(redis.clients())


def test_a_hundred_clients_that_read_and_write_have_one_connection() -> None:
    with redis_server() as redis, shunt(redis.url, *SHARED) as running, contextlib.ExitStack() as stack:
        talks = [stack.enter_context(running.talk()) for _ in range(100)]
        for number, talk in enumerate(talks):
            talk.send(encode("SET", f"k{number}", number) + encode("GET", f"k{number}"))
        for number, talk in enumerate(talks):
            assert talk.frames(2) == [b"+OK\r\n", b"$%d\r\n%d\r\n" % (len(str(number)), number)]
        assert of_shunt(redis, running) == 1
        assert running.metric("shunt_clients") == 100


def test_a_whole_transaction_goes_over_the_trunk_and_one_in_pieces_does_not(through: Shunt) -> None:
    leases = through.metric("shunt_pool_leases_total")
    with through.talk() as talk:
        talk.send(encode("MULTI") + encode("INCR", "whole") + encode("BLPOP", "none", 0) + encode("EXEC"))
        assert talk.frames(4) == [b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n", b"*2\r\n:1\r\n*-1\r\n"]
        assert through.metric("shunt_pool_leases_total") == leases
        assert [talk.call("MULTI"), talk.call("INCR", "whole")] == [b"+OK\r\n", b"+QUEUED\r\n"]
        assert through.metric("shunt_pool_connections", use="private") == 1
        assert talk.call("EXEC") == b"*1\r\n:2\r\n"
        until(lambda: through.metric("shunt_pool_connections", use="private") == 0, what="it was given back")


def test_nothing_overtakes_what_a_client_sent_before(redis: RedisServer, through: Shunt) -> None:
    """The pop needs another connection than the push before it, and the read behind it goes back to the first."""
    with through.talk() as talk:
        for number in range(300):
            talk.send(encode("RPUSH", "order", number) + encode("BLPOP", "order", 1) + encode("LLEN", "order"))
            pushed, popped, left = talk.frames(3)
            assert (pushed, left) == (b":1\r\n", b":0\r\n")
            assert popped.endswith(b"\r\n%d\r\n" % number)


def test_each_client_keeps_its_name_and_its_id(through: Shunt) -> None:
    with through.talk() as one, through.talk() as other:
        assert one.call("CLIENT", "SETNAME", "one") == b"+OK\r\n"
        assert one.call("CLIENT", "GETNAME") == b"$3\r\none\r\n"
        assert other.call("CLIENT", "GETNAME") == b"$-1\r\n"
        assert other.call("CLIENT", "SETNAME", "not one") == (
            b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"
        )
        ids = [int(talk.call("CLIENT", "ID")[1:-2]) for talk in (one, other, one)]
        assert ids[0] == ids[2] != ids[1]
        assert min(ids) >= 1 << 48
        assert b"name=one " in one.call("CLIENT", "INFO")
        assert one.call("CLIENT", "UNBLOCK", ids[1]) == b":0\r\n"


def test_databases_and_protocols_are_kept_apart(through: Shunt) -> None:
    with through.talk() as two, through.talk() as three, through.talk() as elsewhere:
        assert three.call("HELLO", 3)[:1] == b"%"
        assert elsewhere.call("SELECT", 5) == b"+OK\r\n"
        for _ in range(50):
            for talk in (two, three, elsewhere):
                talk.send(encode("GET", "apart"))
            assert [two.frame(), three.frame(), elsewhere.frame()] == [b"$-1\r\n", b"_\r\n", b"$-1\r\n"]
        assert elsewhere.call("SET", "apart", "x") == b"+OK\r\n"
        assert [two.call("GET", "apart"), elsewhere.call("GET", "apart")] == [b"$-1\r\n", b"$1\r\nx\r\n"]
        assert elsewhere.call("SELECT", 99).startswith(b"-ERR DB index")
        assert elsewhere.call("GET", "apart") == b"$1\r\nx\r\n"
        assert elsewhere.call("RESET") == b"+RESET\r\n"
        assert elsewhere.call("GET", "apart") == b"$-1\r\n"


def test_wait_is_refused_after_a_shared_write_and_works_after_a_private_one(through: Shunt) -> None:
    with through.talk() as talk:
        assert talk.call("WAIT", 0, 10) == b":0\r\n"
        assert talk.call("SET", "w", 1) == b"+OK\r\n"
        assert talk.call("WAIT", 0, 10).startswith(b"-ERR WAIT answers for its own connection's writes")
        assert [talk.call("WATCH", "w"), talk.call("SET", "w", 2)] == [b"+OK\r\n", b"+OK\r\n"]
        assert talk.call("WAIT", 0, 10) == b":0\r\n"


def test_users_are_kept_apart_and_share_among_themselves() -> None:
    with redis_server() as redis, shunt(redis.url, *SHARED) as running, contextlib.ExitStack() as stack:
        redis.call("ACL", "SETUSER", "alice", "on", ">secret", "~a:*", "+@all")
        alices = [stack.enter_context(running.talk()) for _ in range(20)]
        stranger = stack.enter_context(running.talk())
        for talk in alices:
            assert talk.call("AUTH", "alice", "secret") == b"+OK\r\n"
        assert stranger.call("AUTH", "alice", "wrong").startswith(b"-WRONGPASS")
        for number, talk in enumerate(alices):
            assert talk.call("SET", f"a:{number}", number) == b"+OK\r\n"
            assert talk.call("GET", "b").startswith(b"-NOPERM")
            assert talk.call("ACL", "WHOAMI") == b"$5\r\nalice\r\n"
        assert stranger.call("ACL", "WHOAMI") == b"$7\r\ndefault\r\n"
        until(lambda: of_shunt(redis, running) <= 8, what="idle connections but a few are closed")
        assert "secret" not in running.log


def test_a_backend_connection_that_ends_closes_those_with_commands_in_flight_and_nobody_else() -> None:
    with redis_server() as redis, shunt(redis.url, *SHARED) as running, contextlib.ExitStack() as stack:
        idle, busy, blocked = (stack.enter_context(running.talk()) for _ in range(3))
        with redis.talk() as control:
            assert idle.call("SET", "idle", 1) == b"+OK\r\n"
            blocked.send(encode("BRPOP", "jobs", 0))
            until(redis.blocked, what="the pop blocks")
            trunk = next(client["id"] for client in redis.clients() if client["cmd"] == "set")
            control.call("CLIENT", "PAUSE", 5_000, "WRITE")  # a write waits in Redis, reads and CLIENT KILL do not
            busy.send(encode("SET", "busy", 1))
            until(lambda: any((c["id"] == trunk and c["qbuf"] != "0") or "b" in c["flags"] for c in redis.clients()),
                  what="the write is in flight")  # fmt: skip
            assert control.call("CLIENT", "KILL", "ID", trunk) == b":1\r\n"
            assert busy.to_eof() == b""
            control.call("CLIENT", "UNPAUSE")
            assert idle.call("GET", "idle") == b"$1\r\n1\r\n"
            assert blocked.is_silent()


def test_what_a_client_that_left_had_not_sent_is_never_sent() -> None:
    with redis_server() as redis, shunt(redis.url, *SHARED) as running, running.talk(patience_s=60) as first:
        assert first.call("PING") == b"+PONG\r\n"
        redis.process.signal(signal.SIGSTOP)
        try:
            sent, chunk = 0, encode("SET", "first", b"x" * 60_000)
            first.sock.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                while True:
                    first.sock.sendall(chunk)
                    sent += 1
            second = Talk(running.address)
            second.send(encode("SET", "second", "would be there twice"))
            until(lambda: running.metric("shunt_clients") == 2, what="both clients")
            second.reset()
            until(lambda: running.metric("shunt_clients") == 1, what="the second has gone")
        finally:
            redis.process.signal(signal.SIGCONT)
        first.sock.settimeout(60)
        assert first.frames(sent) == [b"+OK\r\n"] * sent
        assert redis.call("EXISTS", "second") == b":0\r\n"


def test_who_does_not_read_is_closed_and_costs_the_others_nothing(redis: RedisServer) -> None:
    redis.call("SET", "v", os.urandom(MB))
    args = (*SHARED, "--client-buffer", "4MB")
    with shunt(redis.url, *args) as running, running.talk() as deaf, running.talk() as other:
        deaf.send(encode("GET", "v") * 100)
        until(lambda: running.metric("shunt_pool_clients_overflowed_total") == 1, what="it is closed")
        for _ in range(100):
            assert other.call("PING") == b"+PONG\r\n"
        assert len(other.call("GET", "v")) > MB
        assert len(deaf.to_eof()) < 30 * MB


def test_a_command_in_pieces_lets_others_pass(through: Shunt) -> None:
    with through.talk() as slow, through.talk() as big, through.talk() as other:
        whole, large = encode("SET", "slow", "v" * 1000), encode("SET", "big", "v" * 300_000)
        slow.send(whole[:500])
        big.send(large[:200_000])
        assert other.call("PING") == b"+PONG\r\n"
        assert slow.send(whole[500:]).frame() == b"+OK\r\n"
        assert big.send(large[200_000:]).frame() == b"+OK\r\n"
        assert other.call("STRLEN", "big") == b":300000\r\n"


def test_beyond_the_limit_clients_wait_in_turn_and_then_read_why() -> None:
    args = (*SHARED, "--max-backend-connections", "3", "--pool-wait", "500ms")
    with redis_server() as redis, shunt(redis.url, *args) as running, contextlib.ExitStack() as stack:
        talks = [stack.enter_context(running.talk()) for _ in range(5)]
        talks[0].call("PING")  # the trunk: one of three
        for talk in talks[:2]:
            talk.send(encode("BRPOP", "jobs", 0))
        until(lambda: len(redis.blocked()) == 2, what="two pops block")
        talks[2].send(encode("BRPOP", "jobs", 0) + encode("PING"))
        until(lambda: running.metric("shunt_pool_waiting") == 1, what="the third waits")
        assert talks[3].call("PING") == b"+PONG\r\n"
        assert redis.call("LPUSH", "jobs", "job") == b":1\r\n"
        until(lambda: len(redis.blocked()) == 2, what="the third has its turn")
        assert talks[3].call("BRPOP", "jobs", 0).startswith(NO_CONNECTION)
        assert talks[3].call("PING") == b"+PONG\r\n"
        assert talks[4].send(encode("SELECT", 1) + encode("SET", "in the wrong database", 1)).frame().startswith(
            NO_CONNECTION
        )  # fmt: skip
        assert talks[4].to_eof() == b""
        assert redis.call("EXISTS", "in the wrong database") == b":0\r\n"
        assert running.metric("shunt_pool_wait_timeouts_total") == 2
        assert running.metric("shunt_pool_wait_seconds_total") > 0.5
        assert len(redis.clients()) == 3


def test_a_client_that_goes_takes_its_blocked_pop_along(redis: RedisServer, through: Shunt) -> None:
    talk = through.talk().send(encode("BRPOP", "gone", 0))
    until(redis.blocked, what="the pop blocks")
    talk.reset()
    until(lambda: not redis.blocked(), what="the pop has gone with its client")
    assert redis.call("LPUSH", "gone", "job") == b":1\r\n"
    assert redis.call("LLEN", "gone") == b":1\r\n"


def test_a_script_that_holds_the_trunk_can_be_killed_through_shunt() -> None:
    slow = ("--busy-reply-threshold", "50")
    with redis_server(*slow) as redis, shunt(redis.url, *SHARED) as running, contextlib.ExitStack() as stack:
        busy, other, killer = (stack.enter_context(running.talk()) for _ in range(3))
        assert [talk.call("PING") for talk in (other, killer)] == [b"+PONG\r\n"] * 2
        busy.send(encode("EVAL", "while true do end", 0))
        until(lambda: redis.call("GET", "a").startswith(b"-BUSY"), what="the script runs")
        other.send(encode("GET", "a"))
        assert killer.call("SCRIPT", "KILL") == b"+OK\r\n"
        assert b"Script killed by user" in busy.frame()
        assert other.frame() == b"$-1\r\n"
