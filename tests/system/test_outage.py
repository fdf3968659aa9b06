"""Outages of the backend under a real Sidekiq: planned ones go unnoticed, others cost what Redis alone would cost."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.servers import RedisServer, Shunt, redis_server, shunt, shunt_cli, shunt_command, start, until
from tests.system.ledger.outages import held_ms, maintain
from tests.system.test_sidekiq import RUBY, Sidekiq, sidekiq
from tests.system.test_workers import all_serve, several, workers
from tests.wire import Talk, encode

pytestmark = [
    pytest.mark.skipif(shutil.which("sidekiq") is None, reason="Debian's ruby-sidekiq is not installed"),
    pytest.mark.session_only("riding through needs a backend connection for each client"),
]

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
TIMES = 5


def produce(shop: Sidekiq, home: Path) -> tuple[Path, object]:
    """Enqueue without a pause until the file is made."""
    stop = home / "enough"
    process = start(["ruby", str(RUBY / "produce_until.rb"), "job", str(stop)], home / "producer.log", env=shop.env())
    return stop, process


def made(home: Path) -> tuple[set[str], set[str]]:
    """The jobs whose push was acknowledged, and those whose push met a connection that ended."""
    said = until(lambda: [line for line in (home / "producer.log").read_text().splitlines() if line[:1] == "{"],
                 within_s=30, what="the producer has ended")  # fmt: skip
    told = json.loads(said[-1])
    return set(told["pushed"]), set(told["unknown"])


def complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if " WARN" in line or " ERROR" in line]


@pytest.mark.parametrize("workers", [1, 2])
def test_planned_outages_are_not_noticed_and_every_job_runs_once(tmp_path: Path, workers: int) -> None:
    options = ("--console", f"unix://{tmp_path}/s", "--workers", str(workers))
    with redis_server(*DURABLE) as redis, shunt(redis.url, *options) as through:
        with sidekiq(through.url, tmp_path / "shop") as shop:
            worker = shop.work()
            stop, _ = produce(shop, tmp_path)
            held = []
            for number in range(TIMES):
                before = len(shop.ledger.lines())
                until(lambda before=before: len(shop.ledger.lines()) > before + 50, within_s=30, what="jobs run")
                held.append(held_ms(maintain(redis, tmp_path, number)))
            stop.touch()
            pushed, unknown = made(tmp_path)
            until(lambda: len(shop.ledger.count("ran")) >= len(pushed), within_s=60, what="every job ran")
            ran = shop.ledger.count("ran")
            shop.stop(worker)
        assert unknown == set()
        assert set(ran) == pushed
        assert {tag: times for tag, times in ran.items() if times != 1} == {}
        assert complaints(worker.log) == []
        print("held, ms:", [round(each) for each in held])
        assert through.metric("shunt_ambiguous_writes_total") == through.metric("shunt_ambiguous_fetches_total") == 0
        assert through.metric("shunt_given_up_total") == 0
        assert through.metric("shunt_ridden_total") >= TIMES
        said = shunt_cli("stats", "0", "--json", "--console", f"unix://{tmp_path}/s")
        assert json.loads(said.stdout)["ridden"] >= TIMES


def test_a_kill_that_nobody_planned_doubles_nothing_and_loses_no_more_than_is_counted(tmp_path: Path) -> None:
    with redis_server(*DURABLE) as redis, shunt(redis.url, "--ride-through", "30s") as through:
        with sidekiq(through.url, tmp_path / "shop") as shop:
            worker = shop.work()
            stop, _ = produce(shop, tmp_path)
            for _ in range(3):
                before = len(shop.ledger.lines())
                until(lambda before=before: len(shop.ledger.lines()) > before + 50, within_s=30, what="jobs run")
                redis.kill()
                redis.start(wait=False)
            until(redis.answers, within_s=30, what="the last start")
            stop.touch()
            pushed, unknown = made(tmp_path)
            empty = [b":0\r\n"]
            until(lambda: [redis.call("LLEN", "queue:default")] == empty, within_s=60, what="the queue is empty")
            until(lambda: [redis.call("ZCARD", "retry")] == empty, within_s=60, what="nothing is tried again")
            shop.stop(worker)
            ran = shop.ledger.count("ran")
        writes = through.metric("shunt_ambiguous_writes_total")
        fetches = through.metric("shunt_ambiguous_fetches_total")
        lost = pushed - set(ran)
        doubled = sum(times - 1 for times in ran.values())
        print("lost", lost, "unknown", unknown, "doubled", doubled, "ambiguous writes", writes, "fetches", fetches)
        assert len(lost) <= fetches  # each a pop whose reply was lost with the server that was killed
        assert doubled + len(unknown) <= writes  # its client tried again, as it would have with Redis alone


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_aborts_and_traffic_goes_on(tmp_path: Path, workers: int) -> None:
    options = ("--console", f"unix://{tmp_path}/s", "--workers", str(workers))
    with redis_server(*DURABLE) as redis, shunt(redis.url, *options) as through:
        words = [*shunt_command(), "maintenance", "--console", f"unix://{tmp_path}/s"]
        walk = start(words, tmp_path / "walk.log", env={"PYTHONPATH": str(RUBY.parent.parent.parent)})
        until(lambda: "do the work now" in walk.log, within_s=30, what=f"traffic is held: {walk.log}")
        walk.signal(signal.SIGINT)
        assert walk.wait(30) == 1
        assert walk.log.splitlines()[-1] == "aborted: traffic goes on"
        with through.talk() as talk:
            assert talk.call("PING") == b"+PONG\r\n"
        done = shunt_cli("maintenance", "--done", "--console", f"unix://{tmp_path}/s")
        assert (done.returncode, "no maintenance is under way" in done.stderr) == (1, True)


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_clients_of_several_workers_ride_through(scheme: str, tmp_path: Path) -> None:
    options = ("--workers", "2", "--ride-through", "30s", "--console", f"unix://{tmp_path}/s")
    where = str(tmp_path / "redis.sock") if scheme == "unix" else None
    with redis_server(*DURABLE) as redis, shunt(redis.url, *options, address=where) as through:
        talks = [through.talk() for _ in range(8)]
        assert [talk.call("PING") for talk in talks] == [b"+PONG\r\n"] * 8
        redis.kill()
        until(lambda: through.metric("shunt_outages_total") >= 1, what="an outage is noticed")
        talks += [through.talk() for _ in range(8)]
        for talk in talks:
            talk.send(encode("INCR", "n"))
        redis.start(wait=False)
        assert sorted(int(talk.frame()[1:-2]) for talk in talks) == list(range(1, 17))
        assert through.metric("shunt_given_up_total") == 0


def held_by(redis: RedisServer, through: Shunt, home: Path, *words: str) -> Any:
    """A planned outage that has come to the point at which the work is done, and whose backend has gone."""
    given = [*shunt_command(), "maintenance", "--limit", "60s", *words, "--json", "--console", f"unix://{home}/s"]
    walk = start(given, home / "walk.log", env={"PYTHONPATH": str(RUBY.parent.parent.parent)})
    until(lambda: "do the work now" in walk.log, within_s=30, what=f"traffic is held: {walk.log}")
    redis.kill()
    return walk


def test_a_worker_that_dies_in_a_planned_outage_costs_its_own_clients_only(tmp_path: Path) -> None:
    options = ("--console", f"unix://{tmp_path}/s")
    with redis_server(*DURABLE) as redis, several(redis.url, *options, count=2) as through:
        talks = [through.talk() for _ in range(12)]
        assert [talk.call("PING") for talk in talks] == [b"+PONG\r\n"] * 12
        walk = held_by(redis, through, tmp_path)
        for talk in talks:
            talk.send(encode("INCR", "n"))
        os.kill(workers(through)[0], signal.SIGKILL)
        until(lambda: "worker 0 (process" in through.log, what="the worker's death is noticed")
        redis.start(wait=False)
        assert walk.wait(30) == 0, (walk.log, through.log)
        answers = [_answer(talk) for talk in talks]
        alive = [int(each[1:-2]) for each in answers if each]
        assert sorted(alive) == list(range(1, len(alive) + 1))
        assert redis.call("GET", "n").split(b"\r\n")[1] == b"%d" % len(alive)
        until(lambda: all_serve(through, 2), within_s=30, what="another worker has taken its place")
        with through.talk() as talk:
            assert talk.call("PING") == b"+PONG\r\n"


def test_a_worker_that_stands_still_in_a_planned_outage_does_not_end_it(tmp_path: Path) -> None:
    options = ("--console", f"unix://{tmp_path}/s")
    with redis_server(*DURABLE) as redis, several(redis.url, *options, count=2) as through:
        talks = [through.talk() for _ in range(12)]
        assert [talk.call("PING") for talk in talks] == [b"+PONG\r\n"] * 12
        walk = held_by(redis, through, tmp_path)
        pid = workers(through)[1]
        os.kill(pid, signal.SIGSTOP)
        for talk in talks:
            talk.send(encode("INCR", "n"))
        redis.start()
        try:
            assert walk.wait(30) == 0, (walk.log, through.log)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert sorted(int(talk.frame()[1:-2]) for talk in talks) == list(range(1, 13))


def test_traffic_of_several_workers_goes_to_the_target_after_a_planned_outage(tmp_path: Path) -> None:
    with redis_server(*DURABLE) as redis, redis_server() as new:
        options = ("--console", f"unix://{tmp_path}/s", "--route-file", f"{tmp_path}/route")
        with several(redis.url, *options, count=2) as through:
            talks = [through.talk() for _ in range(12)]
            assert [talk.call("PING") for talk in talks] == [b"+PONG\r\n"] * 12
            walk = held_by(redis, through, tmp_path, "--to", new.url)
            assert walk.wait(30) == 0, (walk.log, through.log)
            rows = json.loads(walk.log[walk.log.index("[\n") :])
            assert rows[-2]["said"] == f"12 clients go to {new.url} now"
            for talk in talks:
                talk.send(encode("INCR", "n"))
            assert sorted(int(talk.frame()[1:-2]) for talk in talks) == list(range(1, 13))
            assert new.call("GET", "n") == b"$2\r\n12\r\n"


def _answer(talk: Talk) -> bytes:
    """The next reply; b"": its connection has ended."""
    try:
        return talk.frame()
    except (OSError, EOFError):
        return b""


def test_what_redis_refuses_while_it_loads_waits(tmp_path: Path) -> None:
    with redis_server(*DURABLE) as redis, shunt(redis.url, "--ride-through", "30s") as through:
        redis.call("SET", "k", "1")
        redis.call("DEBUG", "POPULATE", 20_000)
        redis.call("BGREWRITEAOF")
        until(lambda: b"aof_rewrite_in_progress:0" in redis.call("INFO", "persistence"), what="it is on disk")
        talk = through.talk()
        assert talk.call("GET", "k") == b"$1\r\n1\r\n"
        redis.kill()
        redis.args = (*redis.args, "--key-load-delay", "100", "--loading-process-events-interval-bytes", "1024")
        redis.start(wait=False)
        until(lambda: b"LOADING" in _ping(redis), within_s=20, what="it loads", every_s=0.001)
        assert talk.call("INCR", "k") == b":2\r\n"
        assert through.metric("shunt_ambiguous_writes_total") == 0


def _ping(redis: RedisServer) -> bytes:
    try:
        return redis.call("PING")
    except (OSError, EOFError):
        return b""
