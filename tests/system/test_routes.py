"""Keys on several Redis behind a running shunt: with several workers, with a record, and with a real Sidekiq."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.engine.routed import OUTCOMES
from tests.servers import RedisServer, free_port, redis_server, shunt, shunt_cli, until
from tests.system.test_sidekiq import sidekiq

pytestmark = pytest.mark.session_only("--classes needs a backend connection for each client")


@pytest.fixture(scope="module")
def jobs() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def test_several_workers_a_record_and_what_is_shown(redis: RedisServer, jobs: RedisServer, tmp_path: Path) -> None:
    record, console = tmp_path / "route.json", f"unix://{tmp_path}/console"
    options = [
        "--workers", "2", "--backends", f"jobs={jobs.url}", "--route-file", str(record), "--console", console,
    ]  # fmt: skip
    with shunt(redis.url, *options, "--classes", "queues=jobs:queue:*|queues", capture=tmp_path / "c") as running:
        for _ in range(6):
            with running.talk() as talk:
                assert talk.call("INCR", "a").startswith(b":")
                assert talk.call("INCR", "queue:a").startswith(b":")
                assert talk.call("MSET", "a", "1", "queue:a", "1").startswith(b"-CROSSBACKEND")
                assert talk.call("DEL", "a", "queue:a").startswith(b"-CROSSBACKEND")
        shown = json.loads(shunt_cli("route", "show", "--console", console, "--json").stdout)
        assert (shown["epoch"], shown["class queues"]) == (1, "jobs: queue:*|queues")
        refused = shunt_cli("switch", "jobs", "--console", console)
        assert refused.returncode != 0
        assert "with --classes traffic can't be switched" in refused.stderr
        assert running.metric("shunt_crossbackend_total", outcome="keys", command="MSET") == 6
        assert running.metric("shunt_findings_total", rule="crossbackend") == 12
    assert (redis.call("GET", "a"), jobs.call("GET", "queue:a")) == (b"$1\r\n6\r\n", b"$1\r\n6\r\n")
    assert redis.call("EXISTS", "queue:a") == jobs.call("EXISTS", "a") == b":0\r\n"

    moved = shunt_cli("route", "set", f"queues={redis.url}", "--route-file", str(record))
    assert json.loads(moved.stdout) == {"epoch": 2, "url": redis.url, "class": "queues"}
    with shunt(redis.url, *options, "--classes", "queues=jobs:queue:*") as running, running.talk() as talk:
        assert talk.call("SET", "queue:b", "1") == b"+OK\r\n"
        assert "the class queues is on main, as the route record says, and not on jobs" in running.log
    assert redis.call("EXISTS", "queue:b") == b":1\r\n"


def test_without_the_class_that_the_record_has_elsewhere_nothing_starts(redis: RedisServer, tmp_path: Path) -> None:
    record = str(tmp_path / "route.json")
    elsewhere = f"redis://127.0.0.1:{free_port()}"
    early = shunt_cli("route", "set", f"queues={elsewhere}", "--route-file", record)
    assert (early.returncode != 0, "there is no record yet" in early.stderr) == (True, True)
    options = ("--backends", f"jobs={elsewhere}", "--classes", "queues=jobs:queue:*", "--route-file", record)
    with shunt(redis.url, *options):
        pass
    refused = shunt_cli("run", "--backend", redis.url, "--route-file", record)
    assert refused.returncode == 2
    assert f"the class queues is on {elsewhere}" in refused.stderr


@pytest.mark.skipif(shutil.which("sidekiq") is None, reason="Debian's ruby-sidekiq is not installed")
def test_a_sidekiq_whose_queues_are_on_another_redis_notices_nothing(
    redis: RedisServer, jobs: RedisServer, tmp_path: Path
) -> None:
    for server in (redis, jobs):
        server.call("FLUSHALL")
    options = ("--backends", f"jobs={jobs.url}", "--classes", "queues=jobs:queue:*|queues")
    with shunt(redis.url, *options) as through, sidekiq(through.url, tmp_path / "sidekiq") as shop:
        made = [shop.script("produce.rb", "early", "2")]
        worker = shop.work()
        made.append(shop.script("produce.rb", "late", "4"))
        wanted = {tag for each in made for tag in each["ran"]}
        until(lambda: len(shop.ledger.count("ran")) >= len(wanted), within_s=60, what="every job ran")
        seen = shop.script("inspect.rb", "manage")
        shop.stop(worker)
        assert set(shop.ledger.count("ran")) == wanted
        assert set(shop.ledger.count("ran").values()) == {1}
        assert [name for name, *_ in seen["queues"]] == ["critical", "default", "low"]
        refused = {outcome: through.metric("shunt_crossbackend_total", outcome=outcome) for outcome in OUTCOMES}
        assert {outcome: count for outcome, count in refused.items() if count} == {}
        assert jobs.call("EXISTS", "queues") == b":1\r\n"
        assert redis.call("EXISTS", "queues") == b":0\r\n"
        assert redis.call("EXISTS", "stat:processed") == b":1\r\n"
