"""kill -9 under load: of shunt, started again at once on its port, of one of its workers, or of redis-server alone.

Knows: how each is killed and started again, and when nothing of the killed process can happen any more. Refuses to
know: what came of the jobs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.servers import RedisServer, Shunt, redis_server, shunt, until

from ..test_workers import all_serve, is_alive, several, workers
from . import history
from .auditor import Audit
from .crash import Explained, Kill, explain
from .load import JobLoad
from .sockets import ports_of


class Subject(Protocol):
    """What is killed: where clients find it, the Redis that has the jobs, and the kill itself."""

    url: str
    server: RedisServer

    def kill(self) -> Kill: ...


class KilledRedis:
    """redis-server alone, with its append-only file. ``appendfsync``: always or everysec."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.url = server.url

    def kill(self) -> Kill:
        began = time.monotonic()
        self.server.kill()
        over = time.monotonic()
        self.server.start()
        return Kill(began, over, time.monotonic())


class KilledShunt:
    """shunt in front of a redis-server that stays."""

    def __init__(self, server: RedisServer, stack: contextlib.ExitStack, *args: str) -> None:
        self.server, self._stack, self._args = server, stack, args
        self.running = self._start(None)
        self.url = self.running.url

    def _start(self, before: Shunt | None) -> Shunt:
        address = before.address if before else None
        return self._stack.enter_context(shunt(self.server.url, *self._args, address=address, wait=before is None))

    def kill(self) -> Kill:
        began = time.monotonic()
        self.running.crash()
        with self.server.talk() as talk:
            later = int(talk.call("CLIENT", "ID")[1:-2])  # ids grow: the killed process' connections have lower ones
        self.running = self._start(self.running)
        until(lambda: self._gone(later), what="Redis has closed the killed process' connections", every_s=0.002)
        over = time.monotonic()
        until(self.running.ready, what="the next shunt is ready")
        return Kill(began, over, time.monotonic())

    def _gone(self, later: int) -> bool:
        return all(int(client["id"]) > later for client in self.server.clients())


class KilledWorker:
    """One worker of several: the one that has most connections. The others serve on, so clients are back at once."""

    COUNT = 2

    def __init__(self, server: RedisServer, running: Shunt) -> None:
        self.server, self.running = server, running
        self.url = running.url

    def busiest(self) -> tuple[int, set[int]]:
        """Its process id, and the ports of its connections to Redis."""
        ports = {pid: ports_of(pid, self.server.port) for pid in workers(self.running).values()}
        pid = max(ports, key=lambda pid: len(ports[pid]))
        return pid, ports[pid]

    def kill(self, pid: int | None = None) -> Kill:
        pid = pid or self.busiest()[0]
        began = time.monotonic()
        os.kill(pid, signal.SIGSTOP)  # so that its connections can be noted down
        ports = ports_of(pid, self.server.port)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid), what="the worker is dead", every_s=0.001)
        until(lambda: not self._held(ports), what="Redis has closed the worker's connections", every_s=0.002)
        over = time.monotonic()
        until(lambda: all_serve(self.running, self.COUNT), within_s=30, what="all workers serve again")
        return Kill(began, over, time.monotonic())

    def _held(self, ports: set[int]) -> set[int]:
        return {int(client["addr"].rpartition(":")[2]) for client in self.server.clients()} & ports


@contextlib.contextmanager
def killed_redis(appendfsync: str) -> Iterator[KilledRedis]:
    with redis_server(*history.APPENDONLY, appendfsync) as server:
        yield KilledRedis(server)


@contextlib.contextmanager
def killed_shunt(*args: str) -> Iterator[KilledShunt]:
    with redis_server(*history.APPENDONLY, "everysec") as server, contextlib.ExitStack() as stack:
        yield KilledShunt(server, stack, *args)


@contextlib.contextmanager
def killed_worker(*args: str) -> Iterator[KilledWorker]:
    with (
        redis_server(*history.APPENDONLY, "everysec") as server,
        several(server.url, *args, count=KilledWorker.COUNT) as running,
    ):
        yield KilledWorker(server, running)


@dataclass(frozen=True)
class Outcome:
    """What came of a load during which something was killed."""

    audit: Audit
    explained: Explained
    kills: tuple[Kill, ...]


def killed_under_load(subject: Subject, directory: Path, *, kills: int, jobs_between: int = 150) -> Outcome:
    """Run a load, kill ``subject`` that often in it, each time when ``jobs_between`` more jobs have run, and audit."""
    seen: list[Kill] = []
    with JobLoad(subject.url, directory) as load:
        for _ in range(kills):
            load.wait_for(got=jobs_between, acknowledged=jobs_between)
            seen.append(subject.kill())
        load.wait_for(got=jobs_between, acknowledged=jobs_between)
        load.stop()
        audit = load.audit([subject.server])
        events = history.events(history.commands(subject.server.directory))
        explained = explain(load.ledger.book(), audit, seen, events)
    return Outcome(audit, explained, tuple(seen))
