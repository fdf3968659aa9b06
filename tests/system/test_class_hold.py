"""A class is held under load, between two real Redis: it stands still, the other goes on, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers import RedisServer, Shunt, redis_server, until
from tests.system.test_console import ask, audited, named, observed
from tests.system.test_outage import complaints, made, produce
from tests.system.test_sidekiq import sidekiq
from tests.wire import Talk, encode

pytestmark = pytest.mark.session_only("--classes needs a backend connection for each client")

NOTHING_LEFT = b"*-1\r\n"
CLASS, FLAG = ("CLASS", "queues"), ("--class", "queues")


@pytest.fixture(scope="module")
def jobs() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@contextlib.contextmanager
def divided(redis: RedisServer, jobs: RedisServer, tmp_path: Path, count: int) -> Iterator[Shunt]:
    for server in (redis, jobs):
        server.call("FLUSHALL")
    options = ("--backends", f"jobs={jobs.url}", "--classes", "queues=jobs:queue:*|queues")
    with observed(redis, tmp_path, *options, count=count) as running:
        yield running


@dataclass
class Load:
    """Clients of two classes, a thread each: every one pushes numbers to a list of its own, in pipelines of three, and
    checks each reply. ``done``: by list, what was answered."""

    running: Shunt
    done: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        for key in (f"{prefix}{number}" for prefix in ("queue:", "key:") for number in range(4)):
            self.done[key] = 0
            thread = threading.Thread(target=self._push, args=(key,))
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _push(self, key: str) -> None:
        try:
            with self.running.talk(patience_s=40.0) as talk:
                while not self._stop.wait(0.002):  # else they take all of a machine of two cores
                    next_ = range(self.done[key], self.done[key] + 3)
                    talk.send(b"".join(encode("RPUSH", key, number) for number in next_))
                    for number in next_:
                        reply = talk.frame()
                        assert reply == b":%d\r\n" % (number + 1), (key, number, reply)
                    self.done[key] += 3
        except Exception as error:
            self.wrong.append(f"{key}: {error!r}")

    def of(self, prefix: str) -> int:
        """What all clients of a class have been answered."""
        return sum(count for key, count in self.done.items() if key.startswith(prefix))

    def goes_on(self, prefix: str) -> None:
        """Each client of a class is answered some more."""
        before = dict(self.done)
        for key in before:
            if key.startswith(prefix):
                until(lambda key=key: self.done[key] > before[key] + 30, what=f"{key} goes on: {self.wrong}")

    def check(self, redis: RedisServer, jobs: RedisServer) -> None:
        """Each list has the numbers in order, each once."""
        assert self.wrong == []
        for key, count in self.done.items():
            with (jobs if key.startswith("queue:") else redis).talk() as talk:
                reply = talk.call("LRANGE", key, 0, -1)
            assert reply.split(b"\r\n")[2::2] == [b"%d" % number for number in range(count)], key


def _unfinished(jobs: RedisServer) -> int:
    """Bytes of the longest command of which Redis has a part."""
    return max(map(int, re.findall(rb"qbuf=(\d+)", jobs.call("CLIENT", "LIST"))))


def lengths(jobs: RedisServer) -> list[bytes]:
    return [jobs.call("LLEN", f"queue:{number}") for number in range(4)]


def said(tmp_path: Path, *words: str) -> Any:
    """What the console answers; its line of error."""
    with Talk(f"{tmp_path}/s") as talk:
        reply = talk.call("JSON", *words)
    return reply.decode() if reply.startswith(b"-") else json.loads(reply.split(b"\r\n", 1)[1])["answer"]


@pytest.mark.parametrize("count", [1, 2])
def test_a_class_stands_still_while_the_other_goes_on_and_nothing_is_lost(
    count: int, redis: RedisServer, jobs: RedisServer, tmp_path: Path
) -> None:
    with divided(redis, jobs, tmp_path, count) as running, Load(running) as load, contextlib.ExitStack() as stack:
        worker = stack.enter_context(named(running, "worker"))
        neighbour = stack.enter_context(named(running, "neighbour"))
        for _ in range(2):
            load.goes_on("queue:")
            worker.send(encode("BRPOP", "queue:none", "0"))
            neighbour.send(encode("BRPOP", "nothing", "0"))
            until(lambda: jobs.blocked() and redis.blocked(), what="both fetches wait")
            assert said(tmp_path, "HOLD", "10s", "30s", *CLASS).startswith("held: class queues, quiet after ")
            assert worker.frame() == NOTHING_LEFT
            before = lengths(jobs)
            load.goes_on("key:")
            assert lengths(jobs) == before
            assert said(tmp_path, "SHOW", "STATE")["held_classes"] == "queues"
            assert running.metric("shunt_class_held", **{"class": "queues"}) == count
            assert running.metric("shunt_class_held", **{"class": "default"}) == 0
            assert len(redis.blocked()) == 1
            assert said(tmp_path, "HOLD", "10s", "30s", *CLASS).startswith("held: class queues, quiet after ")
            assert said(tmp_path, "RELEASE", *CLASS).startswith("released: ")
            redis.call("LPUSH", "nothing", "job")
            assert neighbour.frame() == b"*2\r\n$7\r\nnothing\r\n$3\r\njob\r\n"
            assert said(tmp_path, "SHOW", "STATE")["held_classes"] is None
        load.goes_on("queue:")
        load.stop()
        load.check(redis, jobs)
        assert audited(tmp_path) == [("HOLD", "done"), ("HOLD", "done"), ("RELEASE", "done")] * 2
        assert running.metric("shunt_holds_total") == 2 * count


@pytest.mark.parametrize("count", [1, 2])
def test_a_hold_that_does_not_become_quiet_or_is_too_long_ends_in_every_worker(
    count: int, redis: RedisServer, jobs: RedisServer, tmp_path: Path
) -> None:
    with divided(redis, jobs, tmp_path, count) as running, Load(running) as load:
        with running.talk() as half:
            assert half.call("GET", "queue:x") == b"$-1\r\n"  # it stands there, so that what comes is sent on at once
            data = encode("SET", "queue:x", "x" * 1000)
            half.send(data[:500])
            until(lambda: _unfinished(jobs) > 400, what="half a command is in Redis")
            refused = said(tmp_path, "HOLD", "200ms", "30s", "CLASS", "default", *CLASS)
            assert "class queues: it did not become quiet within the budget" in refused
            assert said(tmp_path, "SHOW", "STATE")["held_classes"] is None
            load.goes_on("queue:")
            half.send(data[500:])
            assert half.frame() == b"+OK\r\n"
        assert said(tmp_path, "HOLD", "500ms", "600ms", *CLASS).startswith("held: class queues")
        load.goes_on("queue:")
        assert running.metric("shunt_holds_expired_total") == count
        assert said(tmp_path, "SHOW", "STATE")["held_classes"] is None
        assert said(tmp_path, "RELEASE") == "nothing was held"
        load.stop()
        load.check(redis, jobs)


@pytest.mark.parametrize("count", [1, 2])
def test_transactions_and_clients_that_left(count: int, redis: RedisServer, jobs: RedisServer, tmp_path: Path) -> None:
    with divided(redis, jobs, tmp_path, count) as running, contextlib.ExitStack() as stack:
        of_it = stack.enter_context(named(running, "of_it", ("MULTI",), ("SET", "queue:t", "1")))
        of_other = stack.enter_context(named(running, "of_other", ("MULTI",), ("SET", "t", "1")))
        assert ask(tmp_path, "hold", "1s", "30s", *FLAG).startswith("held: class queues")
        assert of_it.to_eof() == b""
        assert jobs.call("EXISTS", "queue:t") == b":0\r\n"
        assert of_other.call("EXEC") == b"*1\r\n+OK\r\n"
        leaves, stays = named(running, "leaves"), stack.enter_context(named(running, "stays"))
        for talk in (leaves, stays):
            talk.send(encode("LPUSH", "queue:l", "job") + encode("INCR", "n"))
        until(lambda: [row["state"] for row in said(tmp_path, "SHOW", "CLIENTS")].count("held") == 2, what="both wait")
        leaves.sock.close()
        assert ask(tmp_path, "release", *FLAG) == "released: 2 clients; 1 had left meanwhile and were closed"
        assert (stays.frame(), stays.frame()) == (b":1\r\n", b":1\r\n")
        assert jobs.call("LLEN", "queue:l") == b":1\r\n"


@pytest.mark.skipif(shutil.which("sidekiq") is None, reason="Debian's ruby-sidekiq is not installed")
def test_a_sidekiq_whose_queues_are_held_again_and_again_notices_nothing(
    redis: RedisServer, jobs: RedisServer, tmp_path: Path
) -> None:
    with divided(redis, jobs, tmp_path, 2) as running, sidekiq(running.url, tmp_path / "shop") as shop:
        worker = shop.work()
        stop, _ = produce(shop, tmp_path)
        for _ in range(8):
            before = len(shop.ledger.lines())
            until(lambda before=before: len(shop.ledger.lines()) > before + 30, within_s=60, what="jobs run")
            assert said(tmp_path, "HOLD", "3s", "4s", *CLASS).startswith("held: class queues, quiet after ")
            queues = [jobs.call("LRANGE", f"queue:{name}", 0, -1) for name in ("critical", "default", "low")]
            with running.talk() as talk:  # the other class goes on
                assert talk.call("INCR", "n").startswith(b":")
            assert [jobs.call("LRANGE", f"queue:{name}", 0, -1) for name in ("critical", "default", "low")] == queues
            assert said(tmp_path, "RELEASE", *CLASS).startswith("released: ")
        stop.touch()
        pushed, unknown = made(tmp_path)
        until(lambda: len(shop.ledger.count("ran")) >= len(pushed), within_s=60, what="every job ran")
        ran = shop.ledger.count("ran")
        shop.stop(worker)
    assert (unknown, set(ran)) == (set(), pushed)
    assert {tag: times for tag, times in ran.items() if times != 1} == {}
    assert complaints(worker.log) == []


def test_what_can_not_be_held_says_why(redis: RedisServer, jobs: RedisServer, tmp_path: Path) -> None:
    one = tmp_path / "one"
    one.mkdir()
    with divided(redis, jobs, tmp_path, 2):
        why = "there is no class nosuch; there are queues, default"
        assert why in ask(tmp_path, "hold", *FLAG, "--class", "nosuch", code=1)
        assert why in said(tmp_path, "RELEASE", "CLASS", "nosuch")
        assert said(tmp_path, "SHOW", "STATE")["held_classes"] is None
        assert said(tmp_path, "RELEASE", *CLASS) == "nothing was held"
    with observed(redis, one) as running, running.talk() as talk:
        for verb in ("HOLD", "RELEASE"):
            assert "there are no classes: start with --classes" in said(one, verb, *CLASS)
        assert "held_classes" not in said(one, "SHOW", "STATE")
        assert talk.call("PING") == b"+PONG\r\n"
