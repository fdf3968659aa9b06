"""A load of real Sidekiq: worker processes and producers that write the ledger, started, watched, stopped, audited.

Knows: how Sidekiq 6.4 is started and stopped, and when it is at rest. Refuses to know: what is done to Redis or shunt
meanwhile.

    with JobLoad(through.url, tmp_path) as load:
        load.wait_for(got=500)
        …  # what is tested
        load.stop()
        audit = load.audit([redis])  # or of two servers: [source, target]; a follower is told by its role
    assert not audit.faults, audit.faults
    assert not load.complaints()
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import redis

from tests.servers import Process, RedisServer, start, until

from .auditor import Audit, audit
from .direct import NO_RETRY
from .entries import Ledger
from .remains import remains

RUBY = Path(__file__).parent / "ruby"
QUEUES = ("critical", "default", "low")
KINDS = ("plain", "bulk", "scheduled", "failing")
#: What a job that fails on purpose leaves in Sidekiq's log.
DELIBERATE = re.compile(r"FailsOnce|Ledger::Deliberate|Job raised exception|/ruby/ledger\.rb:|^/\S+\.rb:\d+:in ")


@dataclass
class JobLoad:
    """Sidekiq at work against one URL. Entered when every process is at work.

    ``rate``: pushes per second of all producers together (a bulk push is one, of five jobs), at most: each waits
    for its answer. ``kinds``: of twenty pushes sixteen are plain jobs, the others are of these kinds in turn.
    """

    url: str
    directory: Path
    workers: int = 2
    threads: int = 5
    producers: int = 1
    producer_threads: int = 4
    rate: float = 300.0
    kinds: Sequence[str] = KINDS
    ledger: Ledger = field(init=False)
    sidekiqs: list[Process] = field(default_factory=list)
    pushers: list[Process] = field(default_factory=list)

    def __enter__(self) -> JobLoad:
        lines = self.directory / "ledger"
        lines.mkdir(parents=True)
        self.ledger = Ledger(lines)
        try:
            for _ in range(self.workers):
                self.sidekiqs.append(self._worker())
            for _ in range(self.producers):
                self.pushers.append(self._producer())
            until(self._all_at_work, within_s=60, what=f"every process of the load is at work at {self.url}")
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._kill()

    def _worker(self) -> Process:
        args = ["sidekiq", "-r", str(RUBY / "work.rb"), "-c", str(self.threads)]
        args += [word for queue in QUEUES for word in ("-q", queue)]
        return self._start(args, f"sidekiq-{len(self.sidekiqs)}.log", "worker")

    def _producer(self) -> Process:
        share = str(self.rate / self.producers)
        args = ["ruby", str(RUBY / "produce.rb"), str(self.producer_threads), share, ",".join(self.kinds)]
        return self._start(args, f"producer-{len(self.pushers)}.log", "producer")

    def _start(self, args: list[str], log: str, role: str) -> Process:
        env = {"REDIS_URL": self.url, "LEDGER": str(self.ledger.directory), "LEDGER_ROLE": role, "LANG": "C.UTF-8"}
        return start(args, self.directory / log, env=env, cwd=self.directory)

    def _kill(self) -> None:
        for process in (*self.pushers, *self.sidekiqs):
            process.kill()

    def _all_at_work(self) -> bool:
        """Whether every process has written something. A Sidekiq that meets no Redis while it starts gives up."""
        self.counts()
        at_work = {entry.who.partition("/")[0] for entry in self.ledger.entries}
        wanted = {f"worker-{process.pid}" for process in self.sidekiqs}
        return at_work >= wanted | {f"producer-{process.pid}" for process in self.pushers}

    # ---- watching ---------------------------------------------------------------------------------------------------

    def counts(self) -> Counter[str]:
        """How often each word stands in the ledger by now (entries.py has the words)."""
        for process in (*self.pushers, *self.sidekiqs):
            assert process.alive(), f"{process.popen.args!r} ended:\n{process.log[-2000:]}"
        return self.ledger.look()

    def wait_for(self, *, within_s: float = 30.0, **more: int) -> None:
        """Until that many more lines of each word are written: ``wait_for(got=100, acknowledged=100)``."""
        before = self.counts().copy()
        until(
            lambda: all(self.counts()[word] - before[word] >= count for word, count in more.items()),
            within_s=within_s,
            what=f"{more} more in the ledger of {self.url} (before: {dict(before)})",
        )

    def under_way(self) -> int:
        """Pushes of producers that nobody has answered yet."""
        counts = self.counts()
        return counts["intent"] - counts["acknowledged"] - counts["unknown"]

    def complaints(self) -> list[str]:
        """Lines of Sidekiq's and the producers' logs that are about something else than jobs that fail on purpose."""
        lines = [line for process in (*self.sidekiqs, *self.pushers) for line in process.log.splitlines()]
        return [line for line in lines if line.strip() and not DELIBERATE.search(line)]

    # ---- the end ----------------------------------------------------------------------------------------------------

    def stop(self, *, drain: bool = True, within_s: float = 30.0) -> None:
        """No more pushes; with ``drain`` the workers do what there is; then all processes end, with exit code 0."""
        for process in self.pushers:
            process.signal(signal.SIGTERM)
        for process in self.pushers:
            assert process.wait(within_s) == 0, process.log[-2000:]
        if drain and self.sidekiqs:
            until(self._at_rest, within_s=within_s, what=f"no job waits at {self.url}", every_s=0.1)
        for process in self.sidekiqs:
            process.signal(signal.SIGTERM)
        for process in self.sidekiqs:
            assert process.wait(within_s) == 0, process.log[-2000:]

    def _at_rest(self) -> bool:
        """Whether nothing waits in Redis, and every job that was delivered has been run."""
        try:
            with redis.Redis.from_url(self.url, retry=NO_RETRY) as client:
                waiting = sum(client.llen(f"queue:{queue}") for queue in QUEUES)
                waiting += client.zcard("retry") + client.zcard("schedule")
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        book = self.ledger.book()
        in_hand = sum(pop.jid is not None and pop.place.startswith("queue:") for pop in book.pops)
        return not waiting and in_hand == sum(map(len, book.got.values()))

    def audit(self, servers: Sequence[RedisServer]) -> Audit:
        """What became of every job, with all servers that may hold one. Call ``stop`` first."""
        return audit(self.ledger.book(), [remains(server) for server in servers])
