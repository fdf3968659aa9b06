"""Switches that go wrong under load: a step fails or hangs, a server stops or dies, shunt dies, the record can't be
written.

Knows: how each is brought about, at which steps nothing is in flight, and when all of it has happened. Refuses to know:
what came of the jobs.

A death at a step at which traffic flows costs what any kill -9 costs (``kills``). Here it comes while traffic is held:
nothing is in flight, and nothing may be lost or doubled. Jobs that fail on purpose are left out of those loads: where
nobody answers, Sidekiq can't put them back, and loses them by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.exceptions import RedisError

from proxy.cutover.switch import Step
from tests.servers import HOST, RedisServer, Shunt, free_port, redis_server, shunt, until

from .auditor import Audit
from .direct import NO_RETRY
from .load import KINDS, JobLoad
from .switches import TARGETS

STEPS = [step.name.lower() for step in Step]
#: Up to and with these a switch can be taken back.
UNDONE = STEPS[: STEPS.index("commit") + 1]
#: Before these nothing is in flight.
QUIET = STEPS[STEPS.index("introduce") : STEPS.index("release") + 1]
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
#: For one answer, and for all attempts together: a busy machine may need several for a switch, and a step that hangs
#: does so for two seconds.
PATIENCE_S = 90.0
#: What is done to the server whose process id stands in the file $1: it is killed (and has none until it is back), or
#: stands still for two seconds. Then $3 is written to the file $2.
_KILL = """for _ in $(seq 1000); do [ -e "$1" ] && break; sleep 0.01; done
pid=$(cat "$1") && rm "$1" && kill -9 $pid && echo $3 >>"$2"
"""
_STOP = 'kill -STOP $(cat "$1"); { sleep 2; kill -CONT $(cat "$1"); } & echo $3 >>"$2"\n'
SURE_KINDS = ("plain", "bulk")


@dataclass
class Failures:
    """``injected``: what went wrong on purpose; ``aborted``: what was said of switches that were not done;
    ``switched``: how many were; ``restarts``: of shunt, each found at the Redis that the record names."""

    injected: int = 0
    aborted: list[str] = field(default_factory=list)
    switched: int = 0
    restarts: int = 0
    audit: Audit = field(default_factory=Audit)
    complaints: list[str] = field(default_factory=list)


class Scene:
    """Two durable servers, and shunt between them and a load. ``failpoints``: see proxy/cutover/failpoints.py."""

    def __init__(self, folder: Path, pool: str, stack: contextlib.ExitStack) -> None:
        self.source = stack.enter_context(redis_server(*DURABLE))
        self.target = stack.enter_context(redis_server(*DURABLE))
        self.address = (HOST, free_port())
        self.record = folder / "route" / "record.json"
        self.made = Failures()
        self._folder, self._pool, self._stack = folder, pool, stack

    def start(self, failpoints: str) -> Shunt:
        places = ("--console", f"unix://{self._folder}/console", "--route-file", str(self.record))
        names = ("--backends", f"new={self.target.url}", "--pool", self._pool)
        started = shunt(
            self.source.url, *places, *names, address=self.address, env={"SHUNT_FAILPOINTS": failpoints}
        )  # fmt: skip
        return self._stack.enter_context(started)

    @property
    def servers(self) -> list[RedisServer]:
        return [self.source, self.target]

    def recorded(self) -> int:
        """The port of the Redis that the record names."""
        if not self.record.exists():
            return self.source.port
        return int(json.loads(self.record.read_text())["route"]["backend"]["url"].rpartition(":")[2])

    def switch(self) -> bool:
        """Ask for one switch to where traffic is not. Whether it was done; False too where shunt died of it."""
        to = TARGETS[self.recorded() == self.target.port]
        try:
            place = f"{self._folder}/console"
            with redis.Redis(unix_socket_path=place, retry=NO_RETRY, socket_timeout=PATIENCE_S) as console:
                console.execute_command("SWITCH", to, "800ms", "FOLLOW")
        except redis.ResponseError as error:
            self.made.aborted.append(str(error))
            if "FLUSHALL it if nobody needs them" in str(error):  # it died, and came back with old data
                self.idle.call("FLUSHALL")
            return False
        except RedisError:
            return False
        self.made.switched += 1
        return True

    @property
    def idle(self) -> RedisServer:
        """The server that traffic does not go to."""
        return self.source if self.recorded() == self.target.port else self.target

    def switch_until(self, enough: Callable[[], bool]) -> None:
        """Ask again and again. AssertionError: not enough in time."""

        def asked() -> bool:
            self.switch()
            return enough()

        until(asked, within_s=PATIENCE_S, every_s=0.05, what=f"switches that go wrong: {self.made.aborted[-3:]}")

    def settle(self, load: JobLoad) -> None:
        """One good switch more, so that it is clear who follows whom; the load's end; the audit."""
        wanted = self.made.switched + 1
        self.switch_until(lambda: self.made.switched >= wanted)
        load.wait_for(got=50, acknowledged=50)
        load.stop()
        until(lambda: b"slave" in self.idle.call("ROLE"), within_s=30, what="the other server follows")
        self.made.audit = load.audit(self.servers)
        self.made.complaints = load.complaints()


@contextlib.contextmanager
def scene(folder: Path, pool: str) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        yield Scene(folder, pool, stack)


def every_step_fails(folder: Path, pool: str, action: str = "error") -> Failures:
    """``error``: each step fails once; ``hang``: each takes longer than any client may wait."""
    failpoints = ";".join(f"before {step}={action}" for step in STEPS)
    with scene(folder, pool) as stage:
        through = stage.start(failpoints)
        with JobLoad(through.url, folder / "load") as load:
            load.wait_for(got=100)
            stage.switch_until(lambda: stage.made.switched == 1)
            load.wait_for(got=50, acknowledged=50)
            stage.settle(load)
        stage.made.injected = len(STEPS)
        return stage.made


def a_server_fails_at_every_step(folder: Path, pool: str, *, whose: str, kill: bool) -> Failures:
    """Source or target stands still for two seconds before each step, or dies before each at which traffic is held."""
    told = folder / "told"
    with scene(folder, pool) as stage:
        victim = stage.source if whose == "source" else stage.target
        steps, kinds = (QUIET, SURE_KINDS) if kill else (STEPS, KINDS)
        pid = folder / "pid"
        pid.write_text(str(victim.process.pid))
        act = folder / "act"
        act.write_text(_KILL if kill else _STOP)
        through = stage.start(";".join(f"before {step}=hook=sh {act} {pid} {told} {step}" for step in steps))
        with JobLoad(through.url, folder / "load", kinds=kinds) as load, revived(victim, pid):
            load.wait_for(got=100)
            stage.switch_until(lambda: told.exists() and len(told.read_text().split()) == len(steps))
            until(
                lambda: pid.exists() and all(map(RedisServer.answers, stage.servers)), within_s=30, what="both are up"
            )
            load.wait_for(got=50, acknowledged=50)
            stage.settle(load)
        stage.made.injected = len(steps)
        return stage.made


@contextlib.contextmanager
def revived(server: RedisServer, pid: Path) -> Iterator[None]:
    """Start the server again whenever it has died, and write its process id into the file ``pid``."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            if server.process.popen.poll() is not None:
                server.start(wait=False)
                pid.with_name("pid.next").write_text(str(server.process.pid))
                pid.with_name("pid.next").rename(pid)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def shunt_dies_at_every_step(folder: Path, pool: str, steps: Sequence[str] = QUIET) -> Failures:
    """kill -9 of shunt before each step at which traffic is held; the next one begins where the record says."""
    with scene(folder, pool) as stage:
        running = stage.start(f"before {steps[0]}=kill")
        with JobLoad(running.url, folder / "load", kinds=SURE_KINDS) as load:
            for number, step in enumerate(steps):
                load.wait_for(got=50, acknowledged=50)
                here = stage.recorded()
                stage.switch_until(lambda running=running: running.process.popen.poll() is not None)
                running.stopped = True
                committed = STEPS.index(step) > STEPS.index("commit")
                assert (stage.recorded() != here) == committed, f"killed before {step}"
                later = steps[number + 1 :][:1]
                running = stage.start("".join(f"before {each}=kill" for each in later))
                assert behind(running) == stage.recorded(), f"killed before {step}: not where the record says"
                stage.made.restarts += 1
            stage.settle(load)
        stage.made.injected = len(steps)
        return stage.made


def behind(running: Shunt) -> int:
    """The port of the Redis that answers."""
    with running.talk() as talk:
        return int(talk.call("INFO", "server").split(b"tcp_port:")[1].split(b"\r\n")[0])


def the_record_cannot_be_written(folder: Path, pool: str, times: int = 10) -> Failures:
    """Nothing can be written beside the record, as on a full disk (also for root), in every second attempt."""
    with scene(folder, pool) as stage:
        through = stage.start("")
        next_one = stage.record.with_name(stage.record.name + ".next")
        with JobLoad(through.url, folder / "load") as load:
            for _ in range(times):
                load.wait_for(got=20, acknowledged=20)
                here = stage.recorded()
                next_one.mkdir(parents=True)
                stage.switch_until(lambda: bool(stage.made.aborted) and "can't be written" in stage.made.aborted[-1])
                assert stage.recorded() == here == behind(through)
                os.rmdir(next_one)
                wanted = stage.made.switched + 1
                stage.switch_until(lambda wanted=wanted: stage.made.switched >= wanted)
            stage.settle(load)
        stage.made.injected = times
        return stage.made
