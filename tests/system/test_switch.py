"""Switches of a running shunt: with several workers, killed at every step, with servers that stop or die.

That each step fails, under a real Sidekiq, is in ``test_ledger``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cutover.switch import Step
from tests.servers import HOST, RedisServer, Shunt, free_port, redis_server, shunt, shunt_cli, until
from tests.system.test_workers import several
from tests.wire import Talk

BEFORE = [step.name.lower() for step in Step if list(Step).index(step) <= list(Step).index(Step.COMMIT)]
machine_only = pytest.mark.session_only("is about the steps of a switch, which don't ask for the pool")
BEHIND = [step.name.lower() for step in Step if step.name.lower() not in BEFORE]


@contextlib.contextmanager
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two servers that keep what they acknowledged."""
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server(*durable) as source, redis_server(*durable) as target:
        yield source, target


class Pushers:
    """Clients that push numbered jobs all the time, and remember what was acknowledged, and what they can't know."""

    def __init__(self, address: tuple[str, int] | str, count: int = 6) -> None:
        self.acknowledged: set[bytes] = set()
        self.unknown: set[bytes] = set()
        self._address = address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._push, args=(number,), daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def _push(self, number: int) -> None:
        talk: Talk | None = None
        turn = 0
        while not self._stop.is_set():
            job = b"%d:%d" % (number, turn)
            turn += 1
            try:
                talk = talk or Talk(self._address)
                if talk.call("LPUSH", "queue:a", job)[:1] == b":":
                    self.acknowledged.add(job)
            except (OSError, EOFError):
                self.unknown.add(job)
                if talk is not None:
                    talk.sock.close()
                talk = None
                self._stop.wait(0.01)

    def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        until(lambda: len(self.acknowledged) >= wanted, within_s=30, what=f"{count} pushes")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def options(target: RedisServer, folder: Path) -> tuple[str, ...]:
    return (
        "--console", f"unix://{folder}/s", "--backends", f"new={target.url}",
        "--route-file", f"{folder}/route/record.json",
    )  # fmt: skip


def ask(folder: Path, *words: str, failing: bool = False) -> Any:
    """The console's answer, or its line of error where it must fail."""
    with Talk(f"{folder}/s", patience_s=60) as talk:
        said = talk.call("JSON", *words)
    assert (said[:1] == b"-") == failing, said
    return said.decode() if failing else json.loads(said.split(b"\r\n", 1)[1])["answer"]


def switch_at_last(folder: Path, to: str) -> Any:
    """A machine that is too busy to do it in time leaves traffic where it is, and may be asked again."""
    for _ in range(20):
        with Talk(f"{folder}/s", patience_s=60) as talk:
            said = talk.call("JSON", "SWITCH", to, "800ms", "FOLLOW")
        if said[:1] != b"-":
            return json.loads(said.split(b"\r\n", 1)[1])["answer"]
        assert b"no time left" in said or b"within the budget" in said or b"not held any more" in said, said
    raise AssertionError("not switched in twenty attempts")


def try_to_switch(folder: Path) -> None:
    """Whatever comes of it; the shunt that is asked may die of it."""
    said = b"no time left"
    with contextlib.suppress(OSError, EOFError), Talk(f"{folder}/s", patience_s=60) as talk:
        while b"no time left" in said:
            said = talk.call("SWITCH", "new", "800ms", "FOLLOW")


def jobs(server: RedisServer) -> list[bytes]:
    with server.talk() as talk:
        reply = talk.call("LRANGE", "queue:a", 0, -1)
    return reply.split(b"\r\n")[2::2]


def port_behind(running: Shunt) -> int:
    with running.talk() as talk:
        return int(talk.call("INFO", "server").split(b"tcp_port:")[1].split(b"\r\n")[0])


def check(pushers: Pushers, holder: RedisServer) -> None:
    """Nothing acknowledged is lost, nothing is there twice, and all that is there was pushed."""
    found = jobs(holder)
    assert len(found) == len(set(found)), "a job is doubled"
    assert pushers.acknowledged <= set(found), f"{len(pushers.acknowledged - set(found))} acknowledged jobs are lost"
    assert set(found) <= pushers.acknowledged | pushers.unknown


@pytest.mark.parametrize("count", [1, 3])
def test_fifty_switches_forth_and_back_lose_and_double_nothing_and_no_client_notices(
    tmp_path: Path, count: int
) -> None:
    with pair() as (source, target):
        given = options(target, tmp_path)
        opened = shunt(source.url, *given) if count == 1 else several(source.url, *given, count=count)
        turns, held = (50 if count == 1 else 10), []
        with opened as running:
            pushers = Pushers(running.address)
            for turn in range(turns):
                pushers.more(1)
                said = switch_at_last(tmp_path, "main" if turn % 2 else "new")
                assert said["clients_closed"] == 0
                held.append(said["held_ms"])
            pushers.stop()
            assert (pushers.unknown, max(held) < 800) == (set(), True)
            check(pushers, source)
            assert ask(tmp_path, "SHOW", "ROUTES")[0]["epoch"] == turns
            assert ask(tmp_path, "SHOW", "HISTORY")[-1]["verb"] == "SWITCH main 800ms FOLLOW"


def test_a_worker_that_dies_or_is_renewed_after_a_switch_serves_the_target(tmp_path: Path) -> None:
    with pair() as (source, target), several(source.url, *options(target, tmp_path), count=2) as running:
        ask(tmp_path, "SWITCH", "new")
        state = ask(tmp_path, "SHOW", "STATE")
        pid = int(state["worker_pids"].split()[0].split(":")[1])
        os.kill(pid, signal.SIGKILL)
        until(lambda: ask(tmp_path, "SHOW", "STATE")["workers_replaced_died"] == 1, what="the worker's successor")
        until(lambda: ask(tmp_path, "SHOW", "STATE")["workers_serving"] == 2, what="two workers that serve")
        assert {port_behind(running) for _ in range(12)} == {target.port}
        running.process.signal(signal.SIGHUP)
        until(lambda: ask(tmp_path, "SHOW", "STATE")["workers_replaced_reload"] == 2, what="two renewed workers")
        assert {port_behind(running) for _ in range(12)} == {target.port}


@machine_only
@pytest.mark.parametrize("step", [*BEFORE, *BEHIND])
def test_killed_before_any_step_shunt_comes_back_where_the_record_says(tmp_path: Path, step: str) -> None:
    with pair() as (source, target):
        given, place = options(target, tmp_path), (HOST, free_port())
        with contextlib.ExitStack() as stack:
            env = {"SHUNT_FAILPOINTS": f"before {step}=kill"}
            running = stack.enter_context(shunt(source.url, *given, address=place, env=env))
            pushers = Pushers(place)
            pushers.more(50)
            try_to_switch(tmp_path)
            running.process.wait()
            running.stopped = True
            with shunt(source.url, *given, address=place) as again:
                pushers.more(50)
                holder = source if step in BEFORE else target
                assert port_behind(again) == holder.port
                if step in BEHIND:
                    until(lambda: b"slave" in source.call("ROLE"), what="the source follows")
                    assert ask(tmp_path, "SHOW", "ROUTES")[0]["previous_follows"] == "done"
                pushers.stop()
                check(pushers, holder)


@machine_only
@pytest.mark.parametrize("step", ["introduce", "match", "pin"])
def test_a_step_that_hangs_while_clients_wait_lets_them_go_on_at_the_source(tmp_path: Path, step: str) -> None:
    env = {"SHUNT_FAILPOINTS": f"before {step}=hang"}
    with pair() as (source, target), shunt(source.url, *options(target, tmp_path), env=env) as running:
        pushers = Pushers(running.address)
        until(lambda: len(pushers.acknowledged) > 50, what="pushes")
        said = ask(tmp_path, "SWITCH", "new", "FOLLOW", failing=True)
        assert "as before" in said
        pushers.stop()
        assert pushers.unknown == set()
        check(pushers, source)


@machine_only
@pytest.mark.parametrize("whose", ["source", "target"])
@pytest.mark.parametrize("step", ["match", "promote", "move", "fence"])
def test_a_server_that_stops_for_a_second_loses_nothing(tmp_path: Path, step: str, whose: str) -> None:
    with pair() as (source, target):
        pid = (source if whose == "source" else target).process.pid
        stop = f"kill -STOP {pid} && {{ sleep 1 && kill -CONT {pid} & }}"
        env = {"SHUNT_FAILPOINTS": f"before {step}=hook={stop}"}
        with shunt(source.url, *options(target, tmp_path), env=env) as running:
            pushers = Pushers(running.address)
            pushers.more(50)
            try_to_switch(tmp_path)
            epoch = ask(tmp_path, "SHOW", "ROUTES")[0]["epoch"]
            holder = target if epoch else source
            pushers.more(50)
            assert port_behind(running) == holder.port
            pushers.stop()
            check(pushers, holder)


@machine_only
@pytest.mark.parametrize("whose", ["source", "target"])
@pytest.mark.parametrize("step", ["hold", "promote", "move", "fence"])
def test_a_server_that_is_killed_loses_nothing_that_it_had_acknowledged(tmp_path: Path, step: str, whose: str) -> None:
    with pair() as (source, target):
        victim = source if whose == "source" else target
        env = {"SHUNT_FAILPOINTS": f"before {step}=hook=kill -9 {victim.process.pid}"}
        with shunt(source.url, *options(target, tmp_path), env=env) as running:
            pushers = Pushers(running.address)
            pushers.more(50)
            try_to_switch(tmp_path)
            victim.process.wait()
            victim.start()
            route = ask(tmp_path, "SHOW", "ROUTES")[0]
            holder = target if route["epoch"] else source
            pushers.more(50)
            pushers.stop()
            check(pushers, holder)
            assert port_behind(running) == holder.port


def test_a_full_disk_under_the_record_leaves_traffic_at_the_source(tmp_path: Path) -> None:
    with pair() as (source, target), shunt(source.url, *options(target, tmp_path)) as running:
        folder = tmp_path / "route"
        next_one = folder / "record.json.next"
        next_one.mkdir()  # nothing can be written there, as on a full disk, also for root
        said = ask(tmp_path, "SWITCH", "new", failing=True)
        assert "--route-file" in said
        assert "can't be written" in said
        assert port_behind(running) == source.port
        next_one.rmdir()
        assert ask(tmp_path, "SWITCH", "new")["epoch"] == 1
        shutil.rmtree(folder)
        said = ask(tmp_path, "SWITCH", "main", failing=True)
        assert port_behind(running) == target.port


def test_the_record_is_one_shunts_and_can_be_corrected_while_none_runs(tmp_path: Path) -> None:
    record = f"{tmp_path}/route/record.json"
    with pair() as (source, target):
        with shunt(source.url, *options(target, tmp_path)):
            done = shunt_cli("route", "set", target.url, "--route-file", record)
            assert (done.returncode, "another shunt has it" in done.stderr) == (1, True)
        assert shunt_cli("route", "set", target.url, "--route-file", record).returncode == 0
        with shunt(source.url, *options(target, tmp_path)) as running:
            assert port_behind(running) == target.port
            assert "and not to --backend" in running.log
            assert [row["epoch"] for row in ask(tmp_path, "SHOW", "ROUTES")] == [1, 0]


def test_without_a_route_file_there_is_no_switch(tmp_path: Path) -> None:
    with redis_server() as source, shunt(source.url, "--console", f"unix://{tmp_path}/s"):
        assert "--route-file FILE" in ask(tmp_path, "SWITCH", "redis://127.0.0.1:1", failing=True)
