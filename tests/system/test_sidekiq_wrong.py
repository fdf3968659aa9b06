"""A real Sidekiq set up wrongly on purpose, in the ways that cost people nights; each must be named by the report.

One capture for all of them: a client with another namespace than the workers, a worker that a deploy left behind, one
that is killed, a client that is connected to Redis directly. And one in which nothing is wrong.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Process, RedisServer, redis_server, shunt, shunt_cli, start, until
from tests.system.test_sidekiq import RUBY, Sidekiq, sidekiq


def _ruby_has(library: str) -> bool:
    asked = shutil.which("ruby") and subprocess.run(["ruby", "-r", library, "-e", ""], capture_output=True, check=False)
    return bool(asked) and asked.returncode == 0


pytestmark = pytest.mark.skipif(
    shutil.which("sidekiq") is None or not _ruby_has("redis-namespace"),
    reason="Debian's ruby-sidekiq and ruby-redis-namespace are not installed",
)


@dataclass
class Worker:
    """A Sidekiq process with a heartbeat every second. ``identity`` as Redis knows it."""

    process: Process
    identity: bytes


def work(shop: Sidekiq, redis: RedisServer, name: str, queues: list[str], tag: str) -> Worker:
    """A worker that has sent its first heartbeat."""
    args = ["sidekiq", "-r", str(RUBY / "fast_beat.rb"), "-c", "3", "-g", tag]
    for queue in queues:
        args += ["-q", queue]
    process = start(args, shop.directory / f"{name}.log", env=shop.env(), cwd=shop.directory)
    shop.workers.append(process)
    mine = f":{process.popen.pid}:".encode()

    def found() -> bytes | None:
        parts = redis.call("SMEMBERS", "processes").split(b"\r\n")
        return next((part for part in parts if mine in part), None)

    return Worker(process, until(found, within_s=40, what=f"{name} beats:\n{process.log}") or b"")


def beats(redis: RedisServer, identity: bytes, count: int) -> None:
    """Wait for so many more heartbeats of a process."""
    seen = redis.call("HGET", identity, "beat")
    for number in range(count):
        before = seen

        def beaten(before: bytes = before) -> bytes | None:
            now = redis.call("HGET", identity, "beat")
            return now if now != before else None

        seen = until(beaten, what=f"heartbeat {number + 1} of {identity!r}") or b""


def report(capture: Path) -> dict[str, Any]:
    """What the report says of Sidekiq."""
    done = shunt_cli("report", str(capture), "--format", "json")
    assert done.returncode in (0, 1, 3), done.stderr
    return dict(json.loads(done.stdout)["sidekiq"])


@dataclass
class Wrong:
    """What was done, and what the report says."""

    left_over: bytes
    killed: bytes
    current: bytes
    found: dict[str, Any]

    def advice(self, rule: str) -> list[dict[str, Any]]:
        return [each for each in self.found["advice"] if each["rule"] == rule]


@contextlib.contextmanager
def recorded(home: Path) -> Iterator[tuple[RedisServer, Sidekiq, Callable[[], dict[str, Any]]]]:
    """A Redis, what runs through a recording shunt in front of it, and how to end that with a report."""
    with (
        redis_server() as redis,
        shunt(redis.url, "--backend-facts", "1s", capture=home / "capture") as through,
        sidekiq(through.url, home / "shop") as shop,
    ):

        def end() -> dict[str, Any]:
            through.stop()
            return report(home / "capture")

        yield redis, shop, end


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Wrong:
    with recorded(tmp_path_factory.mktemp("wrong")) as (redis, shop, end), redis.talk() as direct:
        direct.call("CLIENT", "SETNAME", "cron-job")
        left_over = work(shop, redis, "left-over", ["default", "old"], tag="shop")
        killed = work(shop, redis, "killed", ["low"], tag="mailer")
        shop.script("push_in_namespace.rb", "5")
        current = work(shop, redis, "current", ["critical", "default"], tag="shop")
        made = shop.script("produce_naps.rb", "20")["ran"]
        until(lambda: len(shop.ledger.count("ran")) == len(made), within_s=30, what="every job ran")
        beats(redis, killed.identity, 3)
        killed.process.popen.kill()
        beats(redis, current.identity, 8)  # the killed one is silent for as long
        return Wrong(left_over.identity, killed.identity, current.identity, end())


def test_a_queue_of_another_namespace_is_never_fetched_and_its_nearest_is_named(wrong: Wrong) -> None:
    [advice] = wrong.advice("queue-never-fetched")
    assert advice["level"] == "high"
    assert advice["subject"] == "shop:queue:default"
    assert "fetched is queue:default: the same name under another namespace" in advice["seen"]
    assert advice["seen"].startswith("5 jobs in 5 pushes from 127.0.0.1")


def test_two_namespaces_are_named(wrong: Wrong) -> None:
    [advice] = wrong.advice("two-namespaces")
    assert "namespace shop: 5 pushes, 0 jobs fetched" in advice["seen"]


def test_a_worker_that_a_deploy_left_behind_is_named_and_the_current_one_is_not(wrong: Wrong) -> None:
    [advice] = wrong.advice("process-left-over")
    assert wrong.left_over.decode() in advice["subject"]
    assert "queues default, old beside critical, default" in advice["seen"]
    assert wrong.current.decode() in advice["seen"]


def test_a_worker_that_was_killed_has_vanished_and_the_others_have_not(wrong: Wrong) -> None:
    [advice] = wrong.advice("process-vanished")
    assert wrong.killed.decode() in advice["subject"]
    assert "3 fetches from its address were cut off then" in advice["seen"]


def test_the_fetches_of_the_killed_worker_were_cut_off_and_no_job_is_said_to_be_lost(wrong: Wrong) -> None:
    [advice] = wrong.advice("fetch-lost")
    assert advice["level"] == "low"
    assert "3 waiting fetches cut off" in advice["seen"]


def test_a_client_that_is_connected_directly_is_named_and_shunt_itself_is_not(wrong: Wrong) -> None:
    [advice] = wrong.advice("past-the-proxy")
    assert advice["level"] == "high"
    assert "1 connection named 'cron-job'" in advice["seen"]
    own = [sample["own"] for sample in wrong.found["facts"]]
    assert max(own) > 3
    assert {sample["unsure"] for sample in wrong.found["facts"]} == {""}


def test_nothing_else_is_found(wrong: Wrong) -> None:
    assert {each["rule"] for each in wrong.found["advice"]} == {
        *("queue-never-fetched", "two-namespaces"),
        *("process-left-over", "process-vanished", "fetch-lost", "past-the-proxy"),
    }


def test_processes_tell_their_tags_and_queues(wrong: Wrong) -> None:
    told = {each["identity"]: (each["tag"], each["queues"], each["concurrency"]) for each in wrong.found["processes"]}
    assert told[wrong.current.decode()] == ("shop", ["critical", "default"], 3)
    assert told[wrong.killed.decode()] == ("mailer", ["low"], 3)
    assert len(told) == 3


def test_a_healthy_sidekiq_gets_no_advice_and_every_number_is_right(tmp_path: Path) -> None:
    with recorded(tmp_path) as (redis, shop, end):
        worker = work(shop, redis, "worker", ["default"], tag="shop")
        made = shop.script("produce_naps.rb", "30")["ran"]
        until(lambda: len(shop.ledger.count("ran")) == len(made), within_s=30, what="every job ran")
        beats(redis, worker.identity, 3)
        shop.stop(worker.process)
        found = end()
    assert found["advice"] == []
    [queue] = found["queues"]
    assert (queue["pushed"], queue["fetched"], queue["depth"]) == (30, 30, 0)
    assert (queue["unseen_in"], queue["unseen_out"], queue["unknown_pushes"]) == (0, 0, 0)
    assert queue["wait_ns"]["count"] == 30
    assert 0 < queue["highest"] <= 30
    assert [(job["name"], job["count"]) for job in found["jobs"]] == [("NapJob", 30)]
    [process] = found["processes"]
    assert process["ended_ts"] > process["last_ts"] > process["first_ts"]
    assert found["facts"][0]["info"]["maxmemory_policy"] == "noeviction"
    assert (found["facts"][0]["moment"], found["facts"][-1]["moment"]) == ("start", "end")
    assert all(sample["others"] == [] for sample in found["facts"])
