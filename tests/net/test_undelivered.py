"""Clients that leave while a pop is in flight: a job is in its list or with a worker, and never nowhere."""

from __future__ import annotations

import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.capture.format import Flag, ReplyKind
from tests.net.scripted import Scripted
from tests.servers import RedisServer, Shunt, captured, redis_server, shunt, until
from tests.wire import Talk, encode

JOB = b"*2\r\n$1\r\nq\r\n$3\r\njob\r\n"
BACK = [b"RPUSH", b"q", b"job"]
WITHIN_S = 15.0


def break_off(talk: Talk) -> None:
    """End the connection with RST. On loopback shunt's socket knows it when this returns."""
    talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    talk.sock.close()


def seen(through: Shunt, name: str, **labels: str) -> int:
    return int(through.metric(f"shunt_{name}_total", **labels))


def counts(through: Shunt) -> tuple[int, int, int]:
    """Undelivered pops, those given back, those that were not."""
    names = ("undelivered_pops", "pops_given_back", "pops_not_given_back")
    return tuple(seen(through, name) for name in names)  # type: ignore[return-value]


def left(through: Shunt) -> None:
    until(lambda: through.metric("shunt_clients") == 0, what="shunt knows that the client has gone")


@pytest.fixture
def backend() -> Iterator[Scripted]:
    with Scripted() as made:
        yield made


@pytest.fixture(scope="module")
def steady(redis: RedisServer) -> Iterator[Shunt]:
    """One shunt in front of a real Redis, for many cases."""
    with shunt(redis.url) as through:
        yield through


# ---- a backend that answers when it is told to ----------------------------------------------------------------------


def test_a_job_that_comes_after_its_client_broke_off_goes_back_over_the_same_connection(
    backend: Scripted, tmp_path: Path
) -> None:
    with shunt(backend.url, capture=tmp_path / "capture") as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        break_off(talk)
        left(through)
        popping.say(JOB)
        pushing, command = backend.pushed.get(timeout=WITHIN_S)
        assert (command, pushing.number) == (BACK, popping.number)
        until(lambda: counts(through) == (1, 1, 0), what="it is counted")
        assert seen(through, "elements_given_back") == 1
        assert seen(through, "lost_replies") == 0
        through.stop()
    pop, push = (row for row in captured(tmp_path / "capture") if row["command"] in (b"BRPOP", b"RPUSH"))
    assert pop["flags"] & Flag.UNDELIVERED
    assert push["flags"] & Flag.GIVEN_BACK
    assert (push["conn"], push["keys"], push["reply"]) == (pop["conn"], [b"q"], ReplyKind.INTEGER)


def test_an_unblock_that_comes_too_late_is_asked_again_and_the_job_goes_back(backend: Scripted) -> None:
    """UNBLOCK answers 0: the pop's reply is on its way."""
    asked: list[int] = []

    def on_unblock(number: int) -> int:
        asked.append(number)
        if len(asked) == 2:
            popping.say(JOB)
        return 0

    with shunt(backend.url) as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        backend.on_unblock = on_unblock
        break_off(talk)
        assert backend.pushed.get(timeout=WITHIN_S)[1] == BACK
        assert set(asked) == {popping.number}
        assert len(asked) >= 2


def test_a_pop_that_was_ended_gives_nothing_back_and_its_connection_ends(backend: Scripted) -> None:
    def on_unblock(number: int) -> int:
        popping.say(b"*-1\r\n")
        return 1

    with shunt(backend.url) as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        backend.on_unblock = on_unblock
        break_off(talk)
        assert popping.ended.wait(WITHIN_S)
        assert counts(through) == (0, 0, 0)
        assert backend.pushed.empty()


def test_a_pop_that_never_ends_is_cut_off_at_the_bound_and_counted_as_open(backend: Scripted) -> None:
    with shunt(backend.url) as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        break_off(talk)
        until(lambda: seen(through, "open_pops") == 1, what="it is cut off")
        assert counts(through) == (0, 0, 0)
        assert popping.ended.wait(WITHIN_S)


def test_a_reply_of_which_a_byte_was_sent_is_never_given_back(backend: Scripted) -> None:
    with shunt(backend.url) as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        popping.say(JOB[:10])
        assert talk.sock.recv(100) == JOB[:10]
        talk.send(encode("BRPOP", "q", 0))
        _, _ = backend.pops.get(timeout=WITHIN_S)
        break_off(talk)
        left(through)
        popping.say(JOB[10:] + b"*2\r\n$1\r\nq\r\n$5\r\nother\r\n")
        assert backend.pushed.get(timeout=WITHIN_S)[1] == [b"RPUSH", b"q", b"other"]
        until(lambda: counts(through) == (2, 1, 1), what="both are counted")
        assert seen(through, "pops_not_given_back", why="begun") == 1


def test_several_pops_go_back_last_first(backend: Scripted) -> None:
    with shunt(backend.url) as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0) + encode("RPOP", "q", 2) + encode("LMPOP", 2, "a", "b", "LEFT", "COUNT", 2))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        break_off(talk)
        left(through)
        two, mpop = b"*2\r\n$1\r\n2\r\n$1\r\n3\r\n", b"*2\r\n$1\r\nb\r\n*2\r\n$1\r\nx\r\n$1\r\ny\r\n"
        for piece in (JOB[:4], JOB[4:] + two[:9], two[9:] + mpop):
            popping.say(piece)
        pushed = [backend.pushed.get(timeout=WITHIN_S)[1] for _ in range(3)]
        assert pushed == [[b"LPUSH", b"b", b"y", b"x"], [b"RPUSH", b"q", b"3", b"2"], BACK]
        until(lambda: counts(through) == (3, 3, 0), what="all are counted")


def test_what_the_backend_does_not_take_is_lost_with_a_warning_that_names_the_list_only(backend: Scripted) -> None:
    backend.push_reply = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
    with shunt(backend.url) as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        break_off(talk)
        left(through)
        popping.say(b"*2\r\n$5\r\nqueue\r\n$6\r\nsecret\r\n")
        until(lambda: counts(through) == (1, 0, 1), what="it is counted")
        assert seen(through, "pops_not_given_back", why="failed") == 1
        [line] = [line for line in through.log.splitlines() if "lost:" in line]
        assert "queue" in line
        assert "OOM command not allowed" in line
        assert "secret" not in through.log


def test_a_connection_that_takes_no_more_gives_back_over_another(backend: Scripted) -> None:
    """The client had closed its side before it broke off, and its FIN was passed on."""
    with shunt(backend.url) as through:
        talk = through.talk()
        talk.send(encode("SELECT", 3) + encode("BRPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        talk.sock.shutdown(socket.SHUT_WR)
        assert popping.ended.wait(WITHIN_S)
        break_off(talk)  # nothing tells shunt of it before it writes
        popping.say(JOB)
        pushing, command = backend.pushed.get(timeout=WITHIN_S)
        assert command == BACK
        assert pushing.number != popping.number
        assert (pushing.number, b"3") in backend.selected
        until(lambda: counts(through) == (1, 1, 0), what="it is counted")


def test_a_half_sent_command_behind_the_pop_is_not_mixed_with_what_gives_back(
    backend: Scripted, tmp_path: Path
) -> None:
    with shunt(backend.url, capture=tmp_path / "capture") as through:
        talk = through.talk()
        talk.send(encode("SELECT", 5) + encode("BRPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        talk.send(encode("SET", "k", b"v" * 100_000)[:90_000])  # longer than shared mode holds back
        until(lambda: seen(through, "client_rx_bytes") > 80_000, what="it has come")
        break_off(talk)
        left(through)
        popping.say(JOB)
        pushing, command = backend.pushed.get(timeout=WITHIN_S)
        assert command == BACK
        assert pushing.number != popping.number
        assert (pushing.number, b"5") in backend.selected
        until(lambda: counts(through) == (1, 1, 0), what="it is counted")
        through.stop()
    [push] = [row for row in captured(tmp_path / "capture") if row["flags"] & Flag.GIVEN_BACK]
    assert (push["command"], push["db"], push["reply"]) == (b"RPUSH", 5, ReplyKind.INTEGER)


def test_a_job_of_more_than_16_mb_is_not_given_back_and_says_so(backend: Scripted) -> None:
    with shunt(backend.url) as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        break_off(talk)
        left(through)
        popping.say(b"*2\r\n$1\r\nq\r\n$%d\r\n%b\r\n" % (17 << 20, b"j" * (17 << 20)))
        until(lambda: seen(through, "pops_not_given_back", why="too-long") == 1, what="it is counted")


def test_a_big_job_that_comes_in_many_reads_goes_back_whole(backend: Scripted) -> None:
    job = bytes(range(256)) * 4096 * 8
    with shunt(backend.url) as through:
        talk = through.talk()
        talk.send(encode("BLPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        break_off(talk)
        left(through)
        popping.say(b"*2\r\n$1\r\nq\r\n$%d\r\n%b\r\n" % (len(job), job))
        assert backend.pushed.get(timeout=WITHIN_S)[1] == [b"LPUSH", b"q", job]


def test_a_sorted_sets_member_is_counted_as_lost(backend: Scripted) -> None:
    with shunt(backend.url) as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0) + encode("ZPOPMIN", "z"))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        break_off(talk)
        # ZPOPMIN is a write that can't be given back: behind a fetch that waits, nothing is waited for.
        until(lambda: seen(through, "open_pops") == 2, what="both are cut off at once")
        assert backend.pushed.empty()
        del popping


# ---- a real Redis ---------------------------------------------------------------------------------------------------


def test_a_client_that_breaks_off_as_its_job_comes_loses_none(redis: RedisServer) -> None:
    """RST, then LPUSH: the job stays in the list or is popped for nobody, and put back."""
    redis.call("FLUSHALL")
    with shunt(redis.url) as through, redis.talk() as producer:
        for number in range(150):
            talk = through.talk()
            talk.send(encode("BRPOP", "other", "q", 0))
            until(lambda: b"blocked_clients:1\r" in producer.call("INFO", "clients"), what="it waits", every_s=0.001)
            break_off(talk)
            job = b"%d" % number
            producer.call("LPUSH", "q", job)
            assert producer.call("BRPOP", "q", 10) == b"*2\r\n$1\r\nq\r\n$%d\r\n%b\r\n" % (len(job), job)
        undelivered, given, lost = counts(through)
        assert given == undelivered
        assert lost == 0


@pytest.mark.parametrize("pops", [
    [("RPOP", "q")], [("LPOP", "q")], [("RPOP", "q", 3)], [("LPOP", "q", 3), ("LPOP", "q")],
    [("RPOP", "q", 2), ("RPOP", "q"), ("LPOP", "q", 2)], [("LMPOP", 2, "p", "q", "RIGHT", "COUNT", 3)],
    [("LMPOP", 1, "q", "LEFT")], [("RPOP", "q", 99)],
], ids=lambda pops: " ".join(str(word) for word in sum(pops, ())))  # fmt: skip
def test_a_list_is_as_it_was_after_pops_for_a_client_that_broke_off(
    pops: list[tuple[str | int, ...]], redis: RedisServer, steady: Shunt
) -> None:
    redis.call("FLUSHALL")
    said = encode("SELECT", 2) + b"".join(encode(*pop) for pop in pops)
    given, heard = counts(steady)[1], seen(steady, "client_rx_bytes")
    with redis.talk() as beside:
        beside.call("SELECT", 2)
        beside.call("RPUSH", "q", *"abcdefgh")
        before = beside.call("LRANGE", "q", 0, -1)
        with steady.talk() as talk:
            assert talk.call("SELECT", 2) == b"+OK\r\n"
            redis.process.signal(signal.SIGSTOP)
            try:
                talk.send(b"".join(encode(*pop) for pop in pops))
                until(lambda: seen(steady, "client_rx_bytes") - heard == len(said), what="they have come")
                break_off(talk)
                left(steady)
            finally:
                redis.process.signal(signal.SIGCONT)
        until(lambda: counts(steady)[1:] == (given + len(pops), 0), what="all were given back")
        assert beside.call("LRANGE", "q", 0, -1) == before


def test_nothing_behind_a_fetch_that_waits_is_run_for_a_client_that_has_gone(redis: RedisServer) -> None:
    redis.call("FLUSHALL")
    with shunt(redis.url) as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0) + encode("SET", "doubled", 1))
        until(lambda: b"blocked_clients:1\r" in redis.call("INFO", "clients"), what="it waits")
        break_off(talk)
        until(lambda: seen(through, "open_pops") == 1, what="it is cut off")
        until(lambda: b"blocked_clients:0\r" in redis.call("INFO", "clients"), what="Redis knows")
        assert redis.call("EXISTS", "doubled") == b":0\r\n"


def test_a_client_that_closes_its_side_is_served_as_redis_does_and_no_job_is_taken(redis: RedisServer) -> None:
    redis.call("FLUSHALL")
    with shunt(redis.url) as through, through.talk() as talk:
        talk.send(encode("BRPOP", "q", 0))
        until(lambda: b"blocked_clients:1\r" in redis.call("INFO", "clients"), what="it waits")
        talk.sock.shutdown(socket.SHUT_WR)
        assert talk.to_eof() == b""
        redis.call("LPUSH", "q", "job")
        assert redis.call("LRANGE", "q", 0, -1) == b"*1\r\n$3\r\njob\r\n"


def test_a_client_that_closes_its_side_and_reads_on_gets_its_job(redis: RedisServer) -> None:
    redis.call("FLUSHALL")
    redis.call("RPUSH", "q", "job")
    with shunt(redis.url) as through, through.talk() as talk:
        talk.send(encode("RPOP", "q"))
        talk.sock.shutdown(socket.SHUT_WR)
        assert talk.to_eof() == b"$3\r\njob\r\n"
        assert seen(through, "pops_given_back") == 0


def test_where_unblock_is_not_allowed_a_job_that_comes_in_time_goes_back_all_the_same() -> None:
    """The clients' credentials are their own, and shunt has none."""
    with (
        redis_server(password="pw") as redis,
        shunt(redis.url.replace(":pw@", "")) as through,
        redis.talk() as producer,
    ):
        talk = through.talk()
        assert talk.call("AUTH", "pw") == b"+OK\r\n"
        talk.send(encode("BRPOP", "q", 0))
        until(lambda: b"blocked_clients:1\r" in producer.call("INFO", "clients"), what="it waits")
        break_off(talk)
        left(through)
        producer.call("LPUSH", "q", "job")
        until(lambda: producer.call("LRANGE", "q", 0, -1) == b"*1\r\n$3\r\njob\r\n", what="the job is back")
        until(lambda: counts(through) == (1, 1, 0), what="it is counted")


def test_a_stop_waits_for_what_was_popped_for_clients_that_were_cut_off(backend: Scripted) -> None:
    with shunt(backend.url, "--drain-timeout", "50ms") as through:
        talk = through.talk()
        talk.send(encode("BRPOP", "q", 0))
        popping, _ = backend.pops.get(timeout=WITHIN_S)
        asked: list[int] = []

        def on_unblock(number: int) -> int:
            asked.append(number)
            if "cut off" in through.log:
                popping.say(JOB)
            return 0

        backend.on_unblock = on_unblock
        through.stop()
        assert backend.pushed.get(timeout=WITHIN_S)[1] == BACK
        assert asked
        talk.close()
