"""What happens when a client, the backend or shunt itself goes away: nothing is lost, nobody is left hanging."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import (
    HOST,
    RedisServer,
    Shunt,
    captured,
    free_port,
    redis_server,
    shunt,
    shunt_cli,
    until,
)
from tests.wire import Address, Talk, encode


@pytest.fixture(scope="module")
def through(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shunt]:
    with shunt(redis.url, capture=tmp_path_factory.mktemp("capture")) as running:
        yield running


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> None:
    if "redis" in request.fixturenames:
        request.getfixturevalue("redis").call("FLUSHALL")


def knock(address: Address) -> str:
    """What a client meets that connects and sends PING: refused, works, loading, closed, or the error it got."""
    try:
        with Talk(address, patience_s=10) as talk:
            reply = talk.call("PING")
    except ConnectionRefusedError:
        return "refused"
    except (EOFError, ConnectionError):
        return "closed"
    if reply == b"+PONG\r\n":
        return "works"
    return "loading" if reply.startswith(b"-LOADING") else repr(reply)


# ------------------------------------------------------------------------------------------ a client goes


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_pop_is_not_left_behind_when_its_client_goes(how: str, redis: RedisServer, through: Shunt) -> None:
    talks = [through.talk() for _ in range(10)]
    for talk in talks:
        talk.send(encode("BRPOP", "jobs", 0))
    until(lambda: len(redis.blocked()) == 10, what="ten BRPOPs block")
    for talk in talks:
        talk.reset() if how == "reset" else talk.close()
    until(lambda: not redis.held(), what="no backend connection is left")
    redis.call("LPUSH", "jobs", *range(10))
    assert redis.call("LLEN", "jobs") == b":10\r\n"


def test_a_client_that_goes_with_replies_under_way_takes_its_backend_connection_along(
    redis: RedisServer, through: Shunt
) -> None:
    redis.call("SET", "big", b"x" * 4_000_000)
    for _ in range(20):
        talk = through.talk().send(encode("GET", "big") * 10)
        talk.take(100)
        talk.reset()
    until(lambda: not redis.held(), what="no backend connection is left")
    assert knock(through.address) == "works"


def test_connections_that_come_and_go_leave_no_open_files(redis: RedisServer, through: Shunt) -> None:
    assert knock(through.address) == "works"
    until(lambda: not redis.held(), what="no backend connection is left")
    before = through.process.open_files()
    for number in range(300):
        talk = through.talk()
        if number % 3:
            talk.send(encode("INCR", "n"))
        talk.reset() if number % 2 else talk.close()
    until(lambda: not redis.held(), what="no backend connection is left")
    until(lambda: through.process.open_files() <= before + 2, what="as many open files as before")


@pytest.mark.session_only("CLIENT ID is shunt's own, and no id of Redis'")
def test_a_backend_connection_that_redis_closes_closes_its_client_and_no_other(
    redis: RedisServer, through: Shunt
) -> None:
    one, other = through.talk(), through.talk()
    own = one.call("CLIENT", "ID")[1:-2]
    other.call("PING")
    redis.call("CLIENT", "KILL", "ID", own)
    assert one.to_eof() == b""
    assert other.call("PING") == b"+PONG\r\n"
    assert knock(through.address) == "works"


# ------------------------------------------------------------------------------------------ the backend goes


@pytest.mark.session_only("a client with nothing in flight outlives its backend connection")
def test_a_backend_that_is_down_means_refused_connections_and_not_accepted_ones(tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(redis_server(port=port))
        through = stack.enter_context(shunt(redis.url, capture=tmp_path))
        talks = [through.talk() for _ in range(20)]
        for talk in talks:
            talk.call("PING")
        talks[0].send(encode("BRPOP", "jobs", 0))
        redis.kill()
        assert [talk.to_eof() for talk in talks] == [b""] * 20
        met = Counter[str]()
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            met[knock(through.address)] += 1
            time.sleep(0.001)
        assert met["refused"] > 50
        assert met["closed"] <= 1, f"accepted and then closed: {met}"
        assert set(met) <= {"refused", "closed"}
        assert through.get("/readyz")[0] == 503
        assert through.get("/healthz")[0] == 200

        redis = stack.enter_context(redis_server(port=port))
        met = Counter()

        def works() -> bool:
            met[what := knock(through.address)] += 1
            return what == "works"

        until(works, within_s=10, what="connections work again")
        assert set(met) <= {"refused", "works"}
        assert [knock(through.address) for _ in range(20)] == ["works"] * 20
        until(through.ready, what="ready again")


def test_clients_that_hammer_a_dead_backend_are_refused_and_not_accepted(tmp_path: Path) -> None:
    """Ten threads that reconnect at once, as redis-rb 4 does for a blocking command."""
    with redis_server() as redis, shunt(redis.url) as through:
        assert knock(through.address) == "works"
        redis.kill()
        met: Counter[str] = Counter()
        end = time.monotonic() + 1.5

        def hammer() -> None:
            while time.monotonic() < end:
                met[knock(through.address)] += 1

        threads = [threading.Thread(target=hammer) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert met["refused"] > 10 * met["closed"]
        assert met["closed"] <= 20, f"accepted and then closed: {met}"


def test_shunt_may_start_before_its_backend() -> None:
    port = free_port()
    with shunt(f"redis://{HOST}:{port}", wait=False) as through:
        until(lambda: through.get("/healthz")[0] == 200, what="shunt is up")
        assert through.get("/readyz")[0] == 503
        with redis_server(port=port):
            until(lambda: knock(through.address) == "works", what="connections work")


def test_a_backend_that_loads_its_data_is_not_up() -> None:
    port = free_port()
    slowly = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    with redis_server(*slowly, port=port) as redis, shunt(redis.url) as through:
        redis.call("DEBUG", "POPULATE", "20000")
        redis.call("SAVE")
        redis.kill()
        until(lambda: knock(through.address) == "refused", what="connections are refused")
        redis.start(wait=False)
        until(lambda: knock(redis.address) == "loading", what="Redis loads", every_s=0.002)
        met = [knock(through.address) for _ in range(20)]
        assert knock(redis.address) == "loading", "Redis had loaded too early for this test"
        assert set(met) == {"refused"}
        redis.call("CONFIG", "SET", "key-load-delay", "0")
        until(lambda: knock(through.address) == "works", what="connections work")


def test_a_backend_that_hangs_is_not_connected_to_for_ever() -> None:
    """A listener that never answers: connects succeed, PING does not; shunt must not be ready."""
    with socket.socket() as deaf:
        deaf.bind((HOST, 0))
        deaf.listen(64)
        with shunt(f"redis://{HOST}:{deaf.getsockname()[1]}", wait=False) as through:
            until(lambda: through.get("/healthz")[0] == 200, what="shunt is up")
            assert through.get("/readyz")[0] == 503


MOVING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints, struct addrinfo **result) {
    __typeof__(getaddrinfo) *real = dlsym(RTLD_NEXT, "getaddrinfo");
    char address[64] = "";
    if (name && strcmp(name, "moving.test") == 0) {
        FILE *file = fopen(getenv("MOVING_FILE"), "r");
        if (!file || !fgets(address, sizeof address, file)) return EAI_NONAME;
        fclose(file);
        name = address;
    }
    return real(name, port, hints, result);
}
"""


@pytest.mark.session_only("a new client needs no new backend connection")
def test_a_name_is_looked_up_again_for_new_connections(tmp_path: Path) -> None:
    (tmp_path / "moving.c").write_text(MOVING)
    library, file = tmp_path / "moving.so", tmp_path / "address"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "moving.c", "-ldl"], check=True)
    port = free_port()
    env = {"LD_PRELOAD": str(library), "MOVING_FILE": str(file)}
    with redis_server(port=port) as one, redis_server(port=port, host="127.0.0.2") as two:
        one.call("SET", "who", "one")
        two.call("SET", "who", "two")
        file.write_text(HOST)
        with shunt(f"redis://moving.test:{port}", env=env) as through, through.talk() as old:
            assert b"one" in old.call("GET", "who")
            file.write_text("127.0.0.2")

            def moved() -> bool:
                with through.talk() as new:
                    return b"two" in new.call("GET", "who")

            until(moved, within_s=5, what="a new connection goes to the new address")
            assert b"one" in old.call("GET", "who")


# ------------------------------------------------------------------------------------------ shunt goes


def refused(through: Shunt) -> bool:
    return knock(through.address) == "refused"


def test_a_drain_closes_idle_clients_and_finishes_what_was_begun(redis: RedisServer, tmp_path: Path) -> None:
    with shunt(redis.url, capture=tmp_path) as through:
        idle, worker, waiter = through.talk(), through.talk(), through.talk()
        idle.call("PING")
        worker.send(encode("INCR", "n") * 200 + encode("BRPOP", "none", 1) + encode("INCR", "n") * 200)
        assert worker.frame() == b":1\r\n"
        waiter.send(encode("BRPOP", "none", 2))
        until(lambda: len(redis.blocked()) == 2, what="both pops block")
        through.terminate()
        assert idle.to_eof() == b""
        until(lambda: refused(through), what="new connections are refused")
        assert worker.frames(399)[-1] == b":399\r\n"
        assert worker.frame() == b":400\r\n"
        assert worker.to_eof() == b""
        assert waiter.to_eof() == b"*-1\r\n"
        assert through.process.wait() == 0


def test_a_drain_unblocks_pops_without_end_and_loses_no_job(redis: RedisServer, tmp_path: Path) -> None:
    with shunt(redis.url, "--drain-timeout", "2s", capture=tmp_path) as through:
        talks = [through.talk() for _ in range(30)]
        for talk in talks:
            talk.send(encode("BRPOP", "jobs", 0))
        until(lambda: len(redis.blocked()) == 30, what="thirty pops block")
        through.terminate()
        pushed = 0
        with redis.talk() as producer:
            while through.process.alive():
                if pushed < 15:  # some pops are served while draining, some are unblocked
                    producer.call("LPUSH", "jobs", f"job-{pushed}")
                    pushed += 1
                time.sleep(0.02)
        replies = [talk.to_eof() for talk in talks]
        assert through.process.wait() == 0
        served = [reply for reply in replies if b"job-" in reply]
        assert len(set(served)) == len(served)
        assert len(served) + int(redis.call("LLEN", "jobs")[1:-2]) == pushed
        assert set(replies) - set(served) <= {b"*-1\r\n"}


def test_a_drain_ends_at_its_timeout_and_counts_what_was_left(redis: RedisServer, tmp_path: Path) -> None:
    """A command that cannot be unblocked outlives the drain: the client is closed and the capture says so."""
    redis.call("CONFIG", "SET", "busy-reply-threshold", "50")
    with shunt(redis.url, "--drain-timeout", "500ms", capture=tmp_path) as through:
        talk = through.talk()
        talk.send(encode("EVAL", "local t=redis.call('time')[1]+3 while redis.call('time')[1]+0<t do end", 0))
        until(lambda: redis.call("GET", "a").startswith(b"-BUSY"), what="the script runs")
        through.terminate()
        assert through.process.wait(10) == 0
        assert talk.to_eof() == b""
    until(lambda: redis.call("PING") == b"+PONG\r\n", what="the script has ended")
    assert [row["reply"] for row in captured(tmp_path) if row["command"] == b"EVAL"] == [1]


def test_a_second_signal_stops_at_once(redis: RedisServer) -> None:
    with shunt(redis.url, "--drain-timeout", "60s") as through:
        talk = through.talk().send(encode("BRPOP", "none", 55))
        until(redis.blocked, what="the pop blocks")
        through.terminate()
        until(lambda: refused(through), what="the drain has begun")
        assert through.process.alive()
        through.terminate()
        through.process.wait(5)
        through.stopped = True
        assert talk.to_eof() in (b"", b"*-1\r\n", b"<reset>")
        until(lambda: not redis.blocked(), what="no pop is left behind")


def test_an_interrupt_drains_as_well(redis: RedisServer) -> None:
    with shunt(redis.url) as through:
        talk = through.talk().send(encode("BRPOP", "none", 1))
        until(redis.blocked, what="the pop blocks")
        through.process.signal(signal.SIGINT)
        assert talk.to_eof() == b"*-1\r\n"
        assert through.process.wait() == 0


def test_kill_9_loses_at_most_the_last_flush_of_a_capture(redis: RedisServer, tmp_path: Path) -> None:
    before = len(redis.clients())  # of the module's own shunt, which may keep some
    with shunt(redis.url, "--capture-flush", "200ms", capture=tmp_path) as through, through.talk() as talk:
        for number in range(100):
            talk.call("SET", f"early:{number}", number)

        def written() -> bool:
            return sum(row["command"] == b"SET" for row in captured(tmp_path)) == 100

        until(written, within_s=10, every_s=0.1, what="the first hundred rows are in the file")
        talk.call("SET", "late", "1")
        through.crash()
    rows = captured(tmp_path)
    assert [row["keys"] for row in rows[:100]] == [[b"early:%d" % number] for number in range(100)]
    assert shunt_cli("capture", "ls", str(tmp_path)).returncode == 0
    until(lambda: len(redis.clients()) <= before, what="Redis has seen shunt go")


def test_a_backend_that_dies_leaves_rows_that_say_lost(tmp_path: Path) -> None:
    with redis_server() as redis, shunt(redis.url, capture=tmp_path) as through:
        talk = through.talk().send(encode("PING") + encode("BRPOP", "jobs", 0))
        until(redis.blocked, what="the pop blocks")
        redis.kill()
        assert talk.to_eof() == b"+PONG\r\n"
        through.stop()
    rows = captured(tmp_path)
    assert [(row["command"], row["reply"], row["latency_ns"]) for row in rows if row["command"] == b"BRPOP"] == [
        (b"BRPOP", 1, -1)
    ]


# ------------------------------------------------------------------------------------------ the disk goes


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_counted_and_never_felt(redis: RedisServer, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        with shunt(redis.url, "--capture-flush", "100ms", capture=disk / "capture") as through, through.talk() as talk:
            filler = disk / "filler"
            with filler.open("wb") as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 65_536)
                    file.flush()
            burst = encode("SET", "k", os.urandom(5_000)) * 500

            def overflows() -> bool:
                assert talk.send(burst).frames(500) == [b"+OK\r\n"] * 500
                return through.metric("shunt_capture_gap_rows_total") > 0

            until(overflows, within_s=60, what="the queue is full and gap rows are counted")
            assert through.metric("shunt_capture_failing") == 1
            filler.unlink()
            talk.call("SET", "after", "1")

            def recovered() -> bool:
                talk.call("SET", "after", "1")
                rows = captured(disk / "capture")
                return any(row["keys"] == [b"after"] for row in rows) and any(row["gap"] for row in rows)

            until(recovered, every_s=0.2, what="rows and the gap are written again")
            through.stop()
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
