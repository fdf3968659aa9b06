"""A real Sidekiq under load through shunt, by the job ledger: no job lost, none doubled; and what a kill -9 costs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers import RedisServer, redis_server, shunt, until

from .ledger.crash import explain
from .ledger.direct import Producer
from .ledger.failures import UNDONE, every_step_fails, shunt_dies_at_every_step
from .ledger.history import APPENDONLY, commands, events
from .ledger.holds import done_while_held, hold_often
from .ledger.kills import (
    KilledWorker,
    Outcome,
    killed_redis,
    killed_shunt,
    killed_under_load,
    killed_worker,
)
from .ledger.load import JobLoad
from .ledger.sockets import unread_from
from .ledger.switches import switch_often, switchable
from .test_workers import several

pytestmark = [
    pytest.mark.skipif(shutil.which("sidekiq") is None, reason="Debian's ruby-sidekiq is not installed"),
    pytest.mark.session_only("names the pool itself"),
]
POOLS = ["session", "shared"]


# ------------------------------------------------------------------------- without trouble, and held


@pytest.mark.parametrize("pool", POOLS)
def test_under_load_no_job_is_lost_none_doubled_none_overtaken(pool: str, redis: RedisServer, tmp_path: Path) -> None:
    redis.call("FLUSHALL")
    with shunt(redis.url, "--pool", pool) as through, JobLoad(through.url, tmp_path) as load:
        load.wait_for(got=1000, acknowledged=1000, failed=20)
        load.stop()
        audit = load.audit([redis])
        assert (audit.faults, audit.ambiguous, load.complaints()) == ({}, {}, [])
        assert audit.intended == audit.acknowledged == audit.ran > 1000
        assert audit.remaining == {}


def test_jobs_that_are_not_run_are_all_found_in_redis(redis: RedisServer, tmp_path: Path) -> None:
    redis.call("FLUSHALL")
    with shunt(redis.url) as through, JobLoad(through.url, tmp_path, workers=1, rate=600, kinds=["bulk"]) as load:
        load.wait_for(got=200, acknowledged=500)
        load.stop(drain=False)
        audit = load.audit([redis])
        assert audit.faults == {}
        assert audit.intended == audit.ran + len(audit.remaining)


@pytest.mark.parametrize("pool", POOLS)
def test_twenty_holds_under_load_lose_and_double_nothing_and_sidekiq_notices_nothing(
    pool: str, redis: RedisServer, tmp_path: Path
) -> None:
    redis.call("FLUSHALL")
    console = tmp_path / "console"
    with (
        shunt(redis.url, "--pool", pool, "--console", f"unix://{console}") as through,
        JobLoad(through.url, tmp_path / "load") as load,
    ):
        load.wait_for(got=100)
        holder = hold_often(console, load, 20)
        load.stop()
        audit = load.audit([redis])
        assert (audit.faults, audit.ambiguous, load.complaints()) == ({}, {}, [])
        assert len(holder.held) == 20, f"{holder.too_slow} holds did not become quiet"
        assert done_while_held(holder) == []


@pytest.mark.parametrize("pool", POOLS)
def test_fifty_switches_forth_and_back_lose_and_double_nothing_and_sidekiq_notices_nothing(
    pool: str, tmp_path: Path
) -> None:
    with (
        switchable(tmp_path, "--pool", pool) as (through, source, target),
        JobLoad(through.url, tmp_path / "load") as load,
    ):
        load.wait_for(got=100)
        switched = switch_often(tmp_path, load, 50)
        load.stop()
        audit = load.audit([source, target])
        assert (audit.faults, audit.ambiguous, load.complaints()) == ({}, {}, [])
        assert len(switched.held_ms) == 50, switched.aborted
        assert audit.intended == audit.ran


# ------------------------------------------------------------------------- switches that go wrong


@pytest.mark.parametrize("pool", POOLS)
def test_when_each_step_of_a_switch_fails_sidekiq_notices_nothing(pool: str, tmp_path: Path) -> None:
    made = every_step_fails(tmp_path, pool)
    assert (made.audit.faults, made.audit.ambiguous, made.complaints) == ({}, {}, [])
    for step in UNDONE:
        assert any(f"a failpoint at before {step};" in said for said in made.aborted), (step, made.aborted)


def test_shunt_killed_while_it_holds_loses_and_doubles_nothing_and_goes_on_where_the_record_says(
    tmp_path: Path,
) -> None:
    made = shunt_dies_at_every_step(tmp_path, "session", steps=["promote", "commit", "move", "release"])
    assert made.audit.faults == {}
    assert made.restarts == 4


# ------------------------------------------------------------------------- kill -9


def assert_explained(outcome: Outcome) -> None:
    """Each lost and each doubled job is one that was under way at a kill; nothing else is wrong."""
    audit, explained = outcome.audit, outcome.explained
    assert explained.unexplained == {}
    named = [jid for toll in explained.tolls for jid in (*toll.pops, *toll.pushes, *toll.hands)]
    assert sorted(named) == sorted([*audit.lost, *audit.doubled])
    for toll in explained.tolls:
        assert (toll.forgotten, toll.revived) == ([], []), "shunt said of a push or a pop what Redis did not do"
        assert len(toll.pops) <= toll.popping
        assert len(toll.pushes) <= toll.pushing
    assert {"strangers", "overtaken", "torn"}.isdisjoint(audit.faults)


@pytest.mark.parametrize("pool", POOLS)
def test_what_a_killed_shunt_costs_was_in_flight_in_it(pool: str, tmp_path: Path) -> None:
    with killed_shunt("--pool", pool) as subject:
        assert_explained(killed_under_load(subject, tmp_path, kills=3))


def test_what_a_killed_worker_costs_was_in_flight_in_it(tmp_path: Path) -> None:
    with killed_worker() as subject:
        assert_explained(killed_under_load(subject, tmp_path, kills=3))


def test_a_killed_redis_alone_costs_what_was_in_flight_too(tmp_path: Path) -> None:
    with killed_redis("always") as subject:
        assert_explained(killed_under_load(subject, tmp_path, kills=3))


def test_jobs_popped_into_a_killed_shunt_are_lost_and_each_is_named(tmp_path: Path) -> None:
    """As bad as it gets: shunt stands still while all its fetches are served, and is killed then."""
    with killed_shunt() as subject, JobLoad(subject.url, tmp_path, workers=1, producers=0) as load:
        server = subject.server
        with Producer(server.url, load.ledger.directory) as direct:
            until(lambda: len(server.blocked()) == load.threads, what="every thread waits for a job")
            began = time.monotonic()
            subject.running.process.signal(signal.SIGSTOP)
            pushed = [direct.push() for _ in range(load.threads + 3)]
        popped = len(pushed) - int(server.call("LLEN", "queue:default")[1:-2])
        kill = replace(subject.kill(), began=began)
        load.wait_for(got=len(pushed) - popped)
        load.stop()
        audit = load.audit([server])
        assert 1 <= popped <= load.threads
        assert sorted(audit.lost) == sorted(pushed[:popped])
        assert audit.doubled == {}
        made = explain(load.ledger.book(), audit, [kill], events(commands(server.directory)))
        assert made.unexplained == {}
        assert sorted(made.tolls[0].pops) == sorted(audit.lost)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_pushes_whose_replies_were_in_a_killed_worker_are_ambiguous_and_each_that_is_doubled_is_named(
    tmp_path: Path,
) -> None:
    """Redis stands still until every push is under way; the worker does when their replies come, and is killed then.
    redis-rb sends a push again that got no reply, and another worker takes it at once."""
    with (
        redis_server(*APPENDONLY, "no") as server,
        several(server.url, count=KilledWorker.COUNT) as running,
        JobLoad(running.url, tmp_path, workers=0, kinds=["plain"]) as load,
    ):
        subject = KilledWorker(server, running)
        load.wait_for(acknowledged=50)
        began = time.monotonic()
        pid, ports = subject.busiest()
        with stopped(server.process.pid):
            until(lambda: load.under_way() == load.producer_threads, what="every producer waits for an answer")
            seen = until(lambda: unread_from(ports, server.port), what="pushes wait at Redis' sockets")
            book = load.ledger.book()
            waiting = {jid for jid in book.intended if not book.outcome(jid)}
            os.kill(pid, signal.SIGSTOP)
        until(lambda: server.answers() and not unread_from(ports, server.port), what="Redis has run them")
        kill = replace(subject.kill(pid), began=began)
        load.wait_for(acknowledged=50)
        load.stop()
        audit = load.audit([server])
        assert audit.lost == {}
        assert waiting <= audit.remaining.keys()
        # Whose second attempt meets a worker doubles its job; whose waits for the dead one's successor may give up.
        # (The first look may come before all of them have reached Redis' sockets.)
        assert seen <= len(waiting & {*audit.doubled, *audit.ambiguous})
        assert audit.doubled.keys() <= waiting
        made = explain(load.ledger.book(), audit, [kill], events(commands(server.directory)))
        assert made.unexplained == {}
        assert sorted(made.tolls[0].pushes) == sorted(audit.doubled)
