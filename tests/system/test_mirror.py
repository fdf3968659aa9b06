"""A mirror of real traffic: what arrives there, what is dropped, and that no client notices any of it."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from tests.servers import HOST, RedisServer, Shunt, free_port, redis_server, shunt, shunt_cli, until
from tests.system.test_sidekiq import sidekiq
from tests.system.test_workers import several
from tests.wire import Talk, encode

PASSWORD = "hunter2hunter2"


@pytest.fixture
def target() -> Iterator[RedisServer]:
    """Another redis-server."""
    with redis_server() as server:
        yield server


@contextlib.contextmanager
def mirroring(redis: RedisServer, tmp_path: Path, *args: str, count: int = 1, **given: Any) -> Iterator[Shunt]:
    """A shunt with its console at ``tmp_path``/s; nothing is mirrored yet."""
    options = ("--console", f"unix://{tmp_path}/s", "--audit-log", f"{tmp_path}/audit.jsonl", *args)
    opened = shunt(redis.url, *options, **given) if count == 1 else several(redis.url, *options, count=count, **given)
    with opened as running:
        redis.call("FLUSHALL")
        yield running


#: The console's verbs, asked on its own socket: a process of ``shunt mirror`` for each look would take a second.
_SHOWS = {"status": "SHOW MIRROR", "errors": "SHOW MIRROR ERRORS", "reads": "SHOW MIRROR READS"}


def mirror(tmp_path: Path, *words: str, code: int = 0) -> Any:
    """What ``shunt mirror`` prints as JSON, or its line of error."""
    if words[0] in _SHOWS:
        with Talk(f"{tmp_path}/s") as console:
            reply = console.call("JSON", *_SHOWS[words[0]].split())
        assert reply[:1] == b"$", reply
        return json.loads(reply.split(b"\r\n", 1)[1])["answer"]
    done = shunt_cli("mirror", *words, "--json", "--console", f"unix://{tmp_path}/s")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


def settled(tmp_path: Path) -> dict[str, Any]:
    """SHOW MIRROR once nothing waits any more."""

    def look() -> dict[str, Any] | None:
        shown = mirror(tmp_path, "status")
        done = shown["queued_bytes"] == 0 and shown["waiting"] == 0 and shown["answered"] >= shown["effects"]
        return shown if done else None

    return until(look, what="everything has arrived", every_s=0.2) or {}


def data(server: RedisServer) -> dict[tuple[int, bytes], bytes]:
    """Every key of every database, dumped."""
    found: dict[tuple[int, bytes], bytes] = {}
    for db in range(4):
        with redis_py.Redis(host=HOST, port=server.port, db=db) as client:
            found |= {(db, key): client.dump(key) for key in client.scan_iter()}
    return found


def test_a_mirror_has_what_was_written_since_it_began(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    with mirroring(redis, tmp_path) as running, running.talk() as talk, running.talk() as blocked:
        blocked.send(encode("BRPOP", "queue:early", 30))  # before there is a mirror
        until(redis.blocked, what="the fetch waits")
        talk.call("SET", "before", 1)
        assert "mirrors writes" in mirror(tmp_path, "start", target.url)
        talk.call("LPUSH", "queue:early", "job")
        assert blocked.frame().endswith(b"job\r\n")
        for command in (
            ("SELECT", 3), ("MULTI",), ("SET", "m", 1), ("GET", "m"), ("SELECT", 0), ("INCR", "n"), ("EXEC",),
            ("MULTI",), ("SET", "no", 1), ("DISCARD",), ("WATCH", "n"), ("SET", "n", 5), ("MULTI",),
            ("SET", "n", 6), ("EXEC",), ("SADD", "s", *range(50)), ("SPOP", "s", 20), ("INCRBYFLOAT", "f", "0.1"),
            ("SET", "big", "x" * 900_000), ("APPEND", "big", "y"), ("XADD", "x", "*", "f", "v"), ("SETNX", "n", "z"),
            ("LPUSH", "l", *range(30)), ("LPOP", "l", 3), ("RPOPLPUSH", "l", "l2"), ("LPUSH", "f", "wrong type"),
        ):  # fmt: skip
            talk.call(*command)
        shown = settled(tmp_path)
        assert (shown["errors"], shown["missed"], shown["dropped"]) == (0, 0, 0)
        there, here = data(target), data(redis)
        assert here.pop((0, b"before"))
        assert there == here
        assert running.metric("shunt_mirror_answered_total") == shown["answered"]
        assert "stopped" in mirror(tmp_path, "stop")
        talk.call("SET", "after", 1)
        assert mirror(tmp_path, "status") == {"state": "off"}
        assert target.call("EXISTS", "after") == b":0\r\n"


@pytest.mark.skipif(shutil.which("sidekiq") is None, reason="Debian's ruby-sidekiq is not installed")
@pytest.mark.slow
def test_a_mirrored_sidekiq_leaves_the_same_jobs_on_both(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    """Workers run meanwhile; then jobs are left over: in a queue that nobody works on, scheduled, dead."""
    with mirroring(redis, tmp_path) as running, sidekiq(running.url, tmp_path / "work") as shop:
        worker = shop.work()
        until(redis.blocked, within_s=30, what="the worker fetches")
        mirror(tmp_path, "start", target.url)
        made = shop.script("produce.rb", "a", "4")
        until(lambda: len(shop.ledger.count("ran")) >= len(made["ran"]), within_s=60, what="every job ran")
        shop.script("inspect.rb", "manage")
        shop.stop(worker)
        left = shop.script("produce.rb", "left", "1")
        assert left["ran"]
        shown = settled(tmp_path)
        assert (shown["errors"], shown["dropped"]) == (0, 0), mirror(tmp_path, "errors")
        for key in ("queue:default", "queue:critical", "queue:low", "queue:parked"):
            assert elements(target, "LRANGE", key, 0, -1) == elements(redis, "LRANGE", key, 0, -1), key
        for key in ("schedule", "retry", "dead"):
            assert elements(target, "ZRANGE", key, 0, -1) == elements(redis, "ZRANGE", key, 0, -1), key


def elements(server: RedisServer, *command: str | int) -> list[bytes]:
    """As a bag: two producers' pushes may be ordered otherwise there."""
    with redis_py.Redis(host=HOST, port=server.port) as client:
        return sorted(client.execute_command(*command))


# ---- a mirror that is not as it should be ----------------------------------------------------------------------------


@contextlib.contextmanager
def odd_server(answer: bytes | None, after: int = 1) -> Iterator[int]:
    """A server on a port of loopback that says it is some Redis, and answers ``answer`` to every command behind the
    first ``after`` of a connection; None: it stops reading then."""
    listening = socket.create_server((HOST, 0))
    listening.settimeout(0.05)
    ended = threading.Event()

    def serve(sock: socket.socket) -> None:
        sock.settimeout(0.05)
        seen = 0
        while not ended.is_set():
            try:
                data = sock.recv(4096) if answer is not None or seen < after else ended.wait(60) and b""
            except TimeoutError:
                continue
            except OSError:
                return
            if not data:
                return
            if b"INFO" in data.upper():
                sock.sendall(b"$42\r\n" + b"run_id:odd\r\nrole:master\r\nmaster_replid:1".ljust(42) + b"\r\n")
                continue
            for _ in range(data.count(b"*")):
                reply = b"$5\r\nshunt\r\n" if b"ECHO" in data and seen < after else b"+OK\r\n"
                seen += 1
                with contextlib.suppress(OSError):
                    sock.sendall(reply if seen <= after or answer is None else answer)

    def accept() -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listening.getsockname()[1]
    finally:
        ended.set()
        accepting.join()
        listening.close()


def busy(running: Shunt, commands: int, size: int = 10_000) -> None:
    """A client that writes and gets each reply, within its patience."""
    with running.talk(patience_s=5) as talk:
        for number in range(commands):
            assert talk.call("SET", f"k{number}", "x" * size) == b"+OK\r\n"


def test_clients_are_served_and_drops_counted_while_the_mirror_is_down(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    with mirroring(redis, tmp_path, "--mirror-buffer", "1MB") as running:
        mirror(tmp_path, "start", target.url)
        target.kill()
        until(lambda: mirror(tmp_path, "status")["state"] == "down", what="it is seen to be down")
        busy(running, 300)
        shown = mirror(tmp_path, "status")
        assert shown["dropped_queue-full"] >= 190
        assert shown["queued_bytes"] <= 1_000_000
        assert running.metric("shunt_mirror_dropped_queue_full_total") == shown["dropped_queue-full"]
        target.start()
        until(lambda: mirror(tmp_path, "status")["state"] == "up", what="it is back", every_s=0.2)
        settled(tmp_path)
        assert elements(target, "KEYS", "k*")


def test_clients_are_served_while_the_mirror_never_reads(redis: RedisServer, tmp_path: Path) -> None:
    with odd_server(None) as port, mirroring(redis, tmp_path, "--mirror-buffer", "4MB") as running:
        mirror(tmp_path, "start", f"redis://{HOST}:{port}")
        busy(running, 1000)
        shown = mirror(tmp_path, "status")
        assert shown["dropped_queue-full"] > 0
        assert shown["queued_bytes"] <= 4_000_000
        until(lambda: mirror(tmp_path, "status")["dropped"] > shown["dropped"], what="it is given up", every_s=0.5)
        assert redis.call("DBSIZE") == b":1000\r\n"


def test_what_a_mirror_refuses_is_counted_by_command_and_error(redis: RedisServer, tmp_path: Path) -> None:
    with odd_server(b"-OOM command not allowed\r\n") as port, mirroring(redis, tmp_path) as running:
        mirror(tmp_path, "start", f"redis://{HOST}:{port}")
        busy(running, 50, 10)
        assert settled(tmp_path)["errors"] == 50
        assert mirror(tmp_path, "errors") == [{"command": "SET", "on_the_target": "OOM", "count": 50, "of": "writes"}]


def test_a_mirror_that_speaks_no_resp_is_connected_to_again(redis: RedisServer, tmp_path: Path) -> None:
    with odd_server(b"HTTP/1.1 400 Bad Request\r\n") as port, mirroring(redis, tmp_path) as running:
        mirror(tmp_path, "start", f"redis://{HOST}:{port}")
        busy(running, 50, 10)
        until(lambda: mirror(tmp_path, "status").get("dropped_lost", 0) > 0, what="what was under way is counted")


# ---- what is refused, chosen, compared -------------------------------------------------------------------------------


def test_a_mirror_is_refused_where_it_would_do_harm(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    with mirroring(redis, tmp_path):
        assert "is the backend itself" in mirror(tmp_path, "start", redis.url, code=1)
        assert "can't be asked who it is" in mirror(tmp_path, "start", f"redis://{HOST}:{free_port()}", code=1)
        assert "name a target" in mirror(tmp_path, "start", code=1)
        assert "not a redis URL" in mirror(tmp_path, "start", "http://x", code=1)
        target.call("REPLICAOF", HOST, redis.port)
        assert "is a replica" in mirror(tmp_path, "start", target.url, code=1)
        assert mirror(tmp_path, "status") == {"state": "off"}


def test_the_targets_password_is_in_no_log_and_needs_no_command_line(redis: RedisServer, tmp_path: Path) -> None:
    with redis_server(password=PASSWORD) as target:
        url = f"redis://:{PASSWORD}@{HOST}:{target.port}/2"
        with mirroring(redis, tmp_path, env={"SHUNT_MIRROR_TARGET": url}) as running, running.talk() as talk:
            mirror(tmp_path, "start")
            talk.call("SET", "k", "v")
            settled(tmp_path)
            mirror(tmp_path, "stop")
            mirror(tmp_path, "start", url)
            with redis_py.Redis(host=HOST, port=target.port, password=PASSWORD, db=0) as client:
                assert client.get("k") == b"v"  # the client's database, not the URL's
            for text in (running.log, (tmp_path / "audit.jsonl").read_text(), str(mirror(tmp_path, "status"))):
                assert PASSWORD not in text


def test_only_the_keys_that_were_asked_for_are_mirrored(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    with mirroring(redis, tmp_path) as running, running.talk() as talk:
        mirror(tmp_path, "start", target.url, "--class", "queue:*", "--class", "stat:?")
        for command in (
            ("LPUSH", "queue:a", 1), ("SET", "stat:1", 1), ("SET", "stat:22", 1), ("FLUSHALL",),
            ("MSET", "queue:x", 1, "y", 2), ("MULTI",), ("SET", "z", 1), ("LPUSH", "queue:b", 1), ("EXEC",),
        ):  # fmt: skip
            talk.call(*command)
        assert settled(tmp_path)["outside_selection"] == 4
        assert elements(target, "KEYS", "*") == [b"queue:a", b"queue:b", b"stat:1"]
        mirror(tmp_path, "stop")
        target.call("FLUSHALL")
        mirror(tmp_path, "start", target.url, "--sample", "10%")
        for number in range(500):
            talk.call("SET", f"key:{number}", 1)
        talk.call("FLUSHALL")
        settled(tmp_path)
        assert 20 < len(elements(target, "KEYS", "*")) < 90


def test_reads_are_compared(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    with mirroring(redis, tmp_path) as running, running.talk() as talk:
        mirror(tmp_path, "start", target.url, "--all")
        talk.call("SADD", "s", *range(200))
        talk.call("HSET", "h", *range(400))
        talk.call("SET", "user:1", "v", "EX", 100)
        settled(tmp_path)
        target.call("SET", "user:2", "only there")
        target.call("ACL", "SETUSER", "default", "-strlen")
        for command in (("SMEMBERS", "s"), ("HGETALL", "h"), ("GET", "user:1"), ("GET", "user:2"), ("TTL", "user:1"),
                        ("STRLEN", "user:1"), ("SCAN", 0), ("RANDOMKEY",), ("GET", "s")):  # fmt: skip
            for _ in range(25):
                talk.call(*command)
        talk.call("HELLO", 3)
        talk.call("HGETALL", "h")
        talk.call("SMEMBERS", "s")
        shown = settled(tmp_path)
        assert (shown["reads_compared"], shown["reads_differed"]) == (25 * 7 + 2, 50)
        rows = {(row["command"], row["pattern"]): row for row in mirror(tmp_path, "reads")}
        assert next(iter(rows)) == ("STRLEN", "user:<id>")  # what only the target refuses comes first
        assert rows["STRLEN", "user:<id>"]["only_on_target"] == "NOPERM 25"
        assert rows["GET", "user:<id>"]["how"] == "null → string 25"
        assert rows["GET", "s"]["differed"] == 0  # both refuse it
        assert shown["asked_again_differed"] == 0
        until(lambda: mirror(tmp_path, "status")["asked_again"] >= 7, what="a sample was asked of the source again")


def test_several_workers_mirror_together(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    with mirroring(redis, tmp_path, count=2) as running, contextlib.ExitStack() as stack:
        assert "is the backend itself" in mirror(tmp_path, "start", redis.url, code=1)
        assert "2 workers" in mirror(tmp_path, "start", target.url)
        talks = [stack.enter_context(running.talk()) for _ in range(20)]
        for number, talk in enumerate(talks):
            talk.call("SET", f"k{number}", 1)
        shown = settled(tmp_path)
        assert (shown["answered"], shown["connections"]) == (20, "8 of 8")
        assert len(elements(target, "KEYS", "*")) == 20
        mirror(tmp_path, "stop")
        assert mirror(tmp_path, "status") == {"state": "off"}


@pytest.mark.parametrize("count", [1, 2])
def test_a_mirror_ends_when_traffic_is_switched(
    count: int, redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    """To the mirror itself, say: each write would be done there twice."""
    options = ("--backends", f"new={target.url}", "--route-file", f"{tmp_path}/route.json")
    with mirroring(redis, tmp_path, *options, count=count) as running, running.talk() as talk:
        mirror(tmp_path, "start", target.url)
        talk.call("INCR", "n")
        settled(tmp_path)
        with Talk(f"{tmp_path}/s", patience_s=60) as console:
            assert console.call("SWITCH", "new")[:1] == b"*"
        until(lambda: mirror(tmp_path, "status") == {"state": "off"}, what="the mirror has ended")
        assert talk.call("INCR", "n") == b":2\r\n"
        assert target.call("GET", "n") == b"$1\r\n2\r\n"
        assert redis.call("GET", "n") == b"$1\r\n1\r\n"
        assert "traffic goes to another backend now" in running.log


def test_a_job_that_is_given_back_is_there_on_the_mirror_too(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    with mirroring(redis, tmp_path) as running:
        mirror(tmp_path, "start", target.url)
        gone = running.talk()
        gone.send(encode("BRPOP", "queue:a", 30))
        until(redis.blocked, what="the fetch waits")
        redis.process.signal(signal.SIGSTOP)  # so that the client has gone before the reply comes
        with running.talk() as talk:
            talk.send(encode("LPUSH", "queue:a", "job"))
            gone.reset()
            redis.process.signal(signal.SIGCONT)
            assert talk.frame() == b":1\r\n"
        until(lambda: redis.call("LLEN", "queue:a") == b":1\r\n", what="the job is back, or was never popped")
        settled(tmp_path)
        until(lambda: target.call("LRANGE", "queue:a", 0, -1) == redis.call("LRANGE", "queue:a", 0, -1))


def test_the_report_tells_what_the_mirror_found(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    with mirroring(redis, tmp_path, capture=tmp_path / "capture") as running, running.talk() as talk:
        mirror(tmp_path, "start", target.url, "--all")
        target.call("ACL", "SETUSER", "default", "-incr")
        talk.call("INCR", "n")
        talk.call("GET", "n")
        settled(tmp_path)
    text = " ".join(shunt_cli("report", str(tmp_path / "capture")).stdout.split())
    assert "What changed for us on the target" in text
    assert "INCR NOPERM writes 1" in text
    assert "Of 1 reads that both answered, 1 differed." in text
