"""A mirror of real traffic: what arrives there, what is dropped, and that no client notices any of it."""

from __future__ import annotations

import contextlib
import json
import shutil
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


def mirror(tmp_path: Path, *words: str, code: int = 0) -> Any:
    """What ``shunt mirror`` prints as JSON, or its line of error."""
    done = shunt_cli("mirror", *words, "--json", "--console", f"unix://{tmp_path}/s")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


def settled(tmp_path: Path) -> dict[str, Any]:
    """SHOW MIRROR once nothing waits any more."""

    def look() -> dict[str, Any] | None:
        shown = mirror(tmp_path, "status")
        return shown if shown["queued_bytes"] == 0 and shown["answered"] >= shown["effects"] else None

    return until(look, what="everything has arrived", every_s=0.2) or {}


def data(server: RedisServer) -> dict[tuple[int, bytes], bytes]:
    """Every key of every database, dumped."""
    found: dict[tuple[int, bytes], bytes] = {}
    for db in range(4):
        with redis_py.Redis(host=HOST, port=server.port, db=db) as client:
            found |= {(db, key): client.dump(key) for key in client.keys()}
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
            ("MULTI",), ("SET", "discarded", 1), ("DISCARD",), ("WATCH", "n"), ("SET", "n", 5), ("MULTI",),
            ("SET", "n", 6), ("EXEC",), ("SADD", "s", *range(50)), ("SPOP", "s", 20), ("INCRBYFLOAT", "f", "0.1"),
            ("SET", "big", "x" * 900_000), ("APPEND", "big", "y"), ("XADD", "x", "*", "f", "v"), ("SET", "n", "z", "NX"),
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
        until(lambda: mirror(tmp_path, "status")["late"] >= 0)
        print(shown, mirror(tmp_path, "errors"))
        for key in ("queue:default", "queue:critical", "queue:low", "queue:parked"):
            assert elements(target, "LRANGE", key, 0, -1) == elements(redis, "LRANGE", key, 0, -1), key
        for key in ("schedule", "retry", "dead"):
            assert elements(target, "ZRANGE", key, 0, -1) == elements(redis, "ZRANGE", key, 0, -1), key


def elements(server: RedisServer, *command: str | int) -> list[bytes]:
    """As a bag: two producers' pushes may be ordered otherwise there."""
    with redis_py.Redis(host=HOST, port=server.port) as client:
        return sorted(client.execute_command(*command))
