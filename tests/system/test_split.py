"""SPLIT as people ask for it: the command, several workers, metrics, the audit log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import RedisServer, Shunt, redis_server, shunt_cli, until
from tests.system.test_mirror import mirroring
from tests.system.test_workers import workers
from tests.wire import Talk

pytestmark = pytest.mark.session_only("a split needs a backend connection for each client")

HERE, THERE = b"$4\r\nhere\r\n", b"$5\r\nthere\r\n"


@pytest.fixture
def target() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def split(tmp_path: Path, *words: str, code: int = 0) -> Any:
    """What ``shunt split`` prints as JSON, or its line of error."""
    done = shunt_cli("split", *words, "--json", "--console", f"unix://{tmp_path}/s")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


def console(tmp_path: Path, *words: str) -> Any:
    """The answer on the console's own socket, or its line of error: a process for each would take a second."""
    with Talk(f"{tmp_path}/s") as talk:
        reply = talk.call("JSON", *words)
    return json.loads(reply.split(b"\r\n", 1)[1])["answer"] if reply[:1] == b"$" else reply.decode()


def facts(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = console(tmp_path, "SHOW", "SPLIT")
    return found


@contextlib.contextmanager
def splitting(redis: RedisServer, target: RedisServer, tmp_path: Path, count: int = 1) -> Iterator[Shunt]:
    """A shunt that mirrors writes; the two servers have other values under one key."""
    with mirroring(redis, tmp_path, count=count) as running:
        console(tmp_path, "MIRROR", "START", target.url)
        redis.call("SET", "k", "here")
        target.call("SET", "k", "there")
        yield running


def reads(running: Shunt, count: int = 1) -> list[bytes]:
    """What so many new clients read."""
    found = []
    for _ in range(count):
        with running.talk() as talk:
            found.append(talk.call("GET", "k"))
    return found


def test_a_split_is_begun_shown_and_ended_on_the_command_line(
    redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    with splitting(redis, target, tmp_path) as running:
        assert "write shunt split TARGET PERCENT" in split(tmp_path, target.url, code=2)
        assert "nothing may follow" in split(tmp_path, "end", "10%", code=2)
        assert "MIRROR START" not in split(tmp_path, "redis://127.0.0.1:1", "10%", code=1)
        assert split(tmp_path, "status") == {"state": "off"}
        assert split(tmp_path, target.url, "100%", "--addr", "127.0.0.0/8") == (
            f"100% from 127.0.0.0/8 of new connections read from 127.0.0.1:{target.port}"
        )
        assert reads(running) == [THERE]
        with running.talk() as talk:
            assert [talk.call("GET", "k"), talk.call("SET", "own", 1)] == [THERE, b"+OK\r\n"]
            shown = split(tmp_path, "status")
            assert (shown["state"], shown["percent"], shown["addr"]) == ("on", "100%", "127.0.0.0/8")
            assert (shown["clients"], shown["chosen"], shown["reads"], shown["left"]) == (0, 2, 2, 1)
        assert "so already" in split(tmp_path, target.url, "100%", "--addr", "127.0.0.0/8")
        assert split(tmp_path, "end").startswith("ended")
        assert split(tmp_path, "status")["ended_because"] == "SPLIT END"
        assert reads(running) == [HERE]
        assert running.metric("shunt_split_reads_total") == 2
        assert running.metric("shunt_split_connections_total") == 2
        assert running.metric("shunt_split_left_write_total") == 1
        assert running.metric("shunt_split_ended_asked_total") == 1
    done = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    verbs = [each["verb"] for each in done if each["verb"].startswith("SPLIT")]
    assert verbs == ["SPLIT", "SPLIT", "SPLIT", "SPLIT END"]


def test_the_workers_split_together(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    with splitting(redis, target, tmp_path, count=2) as running:
        assert console(tmp_path, "SPLIT", target.url, "100%").endswith("; 2 workers")
        assert "so already" in console(tmp_path, "SPLIT", target.url, "100%")
        assert reads(running, 12) == [THERE] * 12
        assert "SPLIT END first" in console(tmp_path, "SPLIT", "redis://127.0.0.1:1", "100%")
        shown = facts(tmp_path)
        assert (shown["state"], shown["chosen"], shown["reads"]) == ("on", 12, 12)
        console(tmp_path, "SPLIT", "END")
        assert facts(tmp_path)["state"] == "off"
        assert reads(running, 12) == [HERE] * 12


def test_a_split_that_ends_in_one_worker_ends_in_all(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    with splitting(redis, target, tmp_path, count=2) as running:
        console(tmp_path, "SPLIT", target.url, "100%")
        with running.talk() as talk:
            talk.call("NOSUCH", "a")  # what one worker's mirror can't send
        shown = until(lambda: facts(tmp_path) if facts(tmp_path)["state"] == "off" else None, what="it is off")
        assert shown is not None
        assert "the mirror has dropped something" in shown["ended_because"]
        assert reads(running, 12) == [HERE] * 12


def test_the_death_of_a_worker_ends_it(redis: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    with splitting(redis, target, tmp_path, count=2) as running:
        console(tmp_path, "SPLIT", target.url, "100%")
        os.kill(next(iter(workers(running).values())), signal.SIGKILL)
        until(lambda: facts(tmp_path)["state"] == "off", what="it is off")
        until(lambda: len(workers(running)) == 2, what="the worker is replaced")
        assert reads(running, 12) == [HERE] * 12
