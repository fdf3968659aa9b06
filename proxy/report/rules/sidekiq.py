"""Advice about Sidekiq and the Redis behind it: what loses jobs, stops them, or soon will.

Knows: the nouns of ``proxy.report.sidekiq``. Refuses to know: how they are found, and how they are shown.
"""
# Over 300 lines: one small class per rule, and most of its lines are the documentation that a report prints.

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from proxy.capture.facts import BackendFacts
from proxy.report.printable import harmless, printable
from proxy.report.rules.advice import Advice, AdviceRule, Example, Level
from proxy.report.sidekiq import CallerLine, ProcessLine, QueueLine, SetLine, Sidekiq

#: A capture shorter than this says nothing of what did not happen in it, seconds.
LONG_ENOUGH_S = 5.0
#: A connection of this age is more than someone who looks in, seconds.
STAYS_S = 30


class SidekiqRule(AdviceRule[Sidekiq]):
    """Base of these rules. ``of_absence``: it judges what did not happen, which a part of a capture can't tell."""

    of_absence: ClassVar[bool] = False


class NeverFetched(SidekiqRule):
    """
    Jobs were pushed to a queue, and no fetch in the whole capture asked for that queue. The advice names the fetched
    queue that is nearest to it: the same name under another namespace or in another database.

    **Why:** nobody takes these jobs out. They are not lost, but they never run, and nothing fails: no error, no
    retry, no line in any log.

    **Instead:** give client and server the same Redis URL (its database too), the same namespace, and list the queue
    in the server's `-q` options or `sidekiq.yml`. Once a worker listens to it, the jobs that wait there run. If the
    queue's workers do not go through shunt, this advice does not hold: point them at it as well.
    """

    id = "queue-never-fetched"
    of_absence = True
    level = Level.HIGH
    title = "jobs are pushed to a queue that nobody fetches from"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        listened = [queue for queue in facts.queues if queue.listened]
        for queue in facts.queues:
            if not queue.pushes or queue.listened or queue.fetched:
                continue
            if (facts.last_ts - queue.first_push_ts) / 1e9 < LONG_ENOUGH_S:
                continue
            by = ", ".join(map(printable, queue.pushers)) or "not known"
            seen = f"{_pushes(queue)} from {by}, and no fetch asked for it; {_nearest(queue, listened)}"
            yield self.advice(
                _queue(queue), seen, level=self.level if listened else Level.MEDIUM, count=queue.pushes,
                first_ts=queue.first_push_ts, last_ts=queue.last_push_ts, examples=_examples(queue.example),
            )  # fmt: skip


class TwoNamespaces(SidekiqRule):
    """
    Sidekiq's keys were seen under more than one prefix (namespace).

    **Why:** two namespaces are two Sidekiqs that know nothing of each other: jobs pushed under one are never run by
    workers of the other, and each Web UI shows only its own.

    **Instead:** if one application is meant, set the same namespace (or better: none) in its clients and servers.
    Sidekiq 7 and later have no namespaces. If these are two applications, all is well; a database or a Redis of
    its own for each keeps them apart better.
    """

    id = "two-namespaces"
    level = Level.MEDIUM
    title = "Sidekiq's keys stand under several namespaces"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        if len(facts.namespaces) < 2:
            return
        parts = [
            f"{_namespace(each.namespace)}: {_plural(each.pushes, 'push', 'pushes')}, {_plural(each.fetches, 'job')} "
            f"fetched, {_plural(each.processes, 'process', 'processes')}"
            for each in facts.namespaces
        ]
        yield self.advice(f"{len(parts)} namespaces", "; ".join(parts), count=len(parts))


class Vanished(SidekiqRule):
    """
    A Sidekiq process sent heartbeats, then no more for longer than four of its intervals, did not sign off, and the
    capture went on without it.

    **Why:** it was killed (out of memory, `kill -9`, a lost machine) or hangs. What its threads were working on is
    lost: without Sidekiq Pro's super_fetch a job leaves Redis when it is fetched.

    **Instead:** look for the reason: the kernel's log for the OOM killer, the platform's for restarts, a stop that
    took longer than `timeout` and was ended by force. Give a stopping Sidekiq TERM and its 25 s. Make jobs safe to
    run again, and enqueue again what it had in hand.
    """

    id = "process-vanished"
    of_absence = True
    level = Level.HIGH
    title = "a Sidekiq process went away without signing off"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        for process in facts.processes:
            if process.ended_ts or process.interval_ns is None:
                continue
            silent_ns = facts.last_ts - process.last_ts
            if silent_ns <= _too_long_ns(process):
                continue
            lost = (
                f"; {process.lost_fetches} fetches from its address were cut off then" if process.lost_fetches else ""
            )
            seen = (
                f"{process.beats} heartbeats, one every {process.interval_ns / 1e9:.1f} s, then none for the last "
                f"{silent_ns / 1e9:.0f} s of the capture, and it did not sign off{lost}"
            )
            yield self.advice(_process(process), seen, first_ts=process.first_ts, last_ts=process.last_ts)


class HeartbeatPaused(SidekiqRule):
    """
    A process's heartbeat stopped for longer than four of its intervals, and came back.

    **Why:** the process could not run its heartbeat thread: a job that holds Ruby's global lock, swapping, a machine
    that stands still, or Redis that did not answer. After 60 s the Web UI shows it no more, and Sidekiq Pro takes its
    jobs for orphans and runs them again.

    **Instead:** look at what the process did at that time: long native calls, memory, CPU limits (throttling). Lower
    its concurrency, or give it more CPU.
    """

    id = "heartbeat-paused"
    of_absence = True
    level = Level.MEDIUM
    title = "a Sidekiq process's heartbeat paused"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        for process in facts.processes:
            if process.interval_ns is not None and process.silence_ns > _too_long_ns(process):
                seen = (
                    f"usually a heartbeat every {process.interval_ns / 1e9:.1f} s, once none for "
                    f"{process.silence_ns / 1e9:.0f} s"
                )
                level = Level.HIGH if process.silence_ns > 60e9 else self.level
                yield self.advice(_process(process), seen, level=level)


class LeftOver(SidekiqRule):
    """
    Two processes with the same tag (by default the application's directory) run side by side for at least six
    heartbeats, and the one that was started earlier has another version of Sidekiq, or other queues. Needs
    `--capture-args full`: tag, version and queues stand in the heartbeat's text.

    **Why:** a process that a deploy has left behind runs old code: it takes jobs off the queues and runs them as they
    were before, or fails on jobs that it does not know yet.

    **Instead:** look at the older process (host and process id are named), and stop it with TERM if it is a
    leftover. If both are meant to run with different queues, give them different tags (`-g`).
    """

    id = "process-left-over"
    level = Level.MEDIUM
    title = "an older Sidekiq process of the same application is still running"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        groups: dict[tuple[bytes, str], list[ProcessLine]] = defaultdict(list)
        for process in facts.processes:
            if process.told:
                groups[process.namespace, process.tag].append(process)
        for processes in groups.values():
            newest = max(processes, key=lambda process: process.started_ts)
            for process in processes:
                if process is not newest and _side_by_side(process, newest) and (what := _differs(process, newest)):
                    before = _seconds(newest.started_ts - process.started_ts)
                    seen = f"{what}; it was started {before} before {_process(newest)}"
                    level = Level.HIGH if process.version != newest.version else self.level
                    yield self.advice(
                        _process(process), f"tag '{harmless(process.tag)}': {seen}", level=level,
                        first_ts=process.first_ts, last_ts=process.last_ts,
                    )  # fmt: skip


class PastTheProxy(SidekiqRule):
    """
    The backend has connections that are not this shunt's (CLIENT LIST, without shunt's own).

    **Why:** what goes past shunt is in no capture and in no verdict. When traffic is moved to another Redis, these
    clients stay behind: their jobs are pushed where no worker looks any more.

    **Instead:** find them by address and name, and point them at shunt. Monitoring, replicas, backups and another shunt
    may rightly be there: shunt can't tell these from clients.
    """

    id = "past-the-proxy"
    level = Level.HIGH
    title = "clients are connected to the backend directly, past shunt"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        groups: dict[tuple[str, str], list[Any]] = {}
        samples = [sample for sample in facts.facts if sample.listed is not None]
        unsure = ""
        for sample in samples:
            for group in sample.others:
                found = groups.setdefault((group.address, group.name), [0, 0, group, sample.ts_ns, sample.ts_ns])
                found[0] += 1
                found[1] = max(found[1], group.count)
                found[2:] = [group, found[3], sample.ts_ns]
                unsure = sample.unsure or unsure
        for (address, name), (times, most, group, first, last) in groups.items():
            called = f"named '{harmless(name)}'" if name else "without a name"
            doing = f", last command {harmless(group.command)}" if group.command else ""
            library = f", library {harmless(group.library)}" if group.library else ""
            seen = (
                f"{_plural(most, 'connection')} {called}, in {times} of {_plural(len(samples), 'sample')}"
                f"{doing}{library}{'; not certain: ' + harmless(unsure) if unsure else ''}"
            )
            # A tool that looks in once is no client; and what is not certain does not alarm.
            stays = times > 1 or group.oldest_s >= STAYS_S
            level = Level.MEDIUM if unsure else Level.HIGH if stays else Level.LOW
            yield self.advice(harmless(address), seen, level=level, count=most, first_ts=first, last_ts=last)


class ConnectionsShort(SidekiqRule):
    """
    The backend's connections came close to its `maxclients`: 70 % of it and more.

    **Why:** at `maxclients` Redis answers a new connection with an error and closes it. Sidekiq's pushes raise in the
    application then; a scheduled job that its poller has just taken is lost.

    **Instead:** run shunt with `--pool shared`: connections that wait for jobs keep one each, all others share a few.
    Or lower concurrency and pools, or take a plan with more connections.
    """

    id = "connections-short"
    level = Level.MEDIUM
    title = "the backend is running out of connections"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        pairs = [(_number(each, "connected_clients"), _number(each, "maxclients"), each) for each in facts.facts]
        counted = [(used, most, each) for used, most, each in pairs if used is not None and most]
        if not counted:
            return
        used, most, sample = max(counted, key=lambda each: each[0] / each[1])
        if used < 0.7 * most:
            return
        rooms = shared_mode_needs(facts)
        seen = (
            f"{used:,} of {most:,} connections in use; {_biggest(facts.callers)}; shared mode would need "
            f"about {rooms:,} for this capture's {facts.at_once:,}"
        )
        level = Level.HIGH if used >= 0.9 * most else self.level
        yield self.advice(sample.backend, seen, level=level, count=used, first_ts=sample.ts_ns, last_ts=sample.ts_ns)


class Churn(SidekiqRule):
    """
    A client opens at least one connection a second, over at least a minute's worth of them, and most of them end after
    a few commands (at most 5).

    **Why:** each connection costs a hand-shake (with TLS several round trips) and CPU on Redis, and at peaks
    connections pile up to `maxclients`.

    **Instead:** keep connections: one pool for each process, made after forking, not one for each job or request.
    Look for `Redis.new` within jobs, and for scripts that start for every event.
    """

    id = "connection-churn"
    level = Level.MEDIUM
    title = "a client opens connections again and again"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        seconds = max(facts.seconds, 1.0)
        for caller in facts.callers:
            if caller.opened >= 60 and caller.opened / seconds >= 1 and caller.short >= 0.5 * caller.opened:
                seen = (
                    f"{caller.opened:,} connections opened in {_seconds(int(seconds * 1e9))}, {caller.short:,} of "
                    "them for at most 5 commands"
                )
                yield self.advice(_caller(caller), seen, count=caller.opened)


class BigPayloads(SidekiqRule):
    """
    Jobs larger than 64 KB were pushed.

    **Why:** a job's whole payload lies in Redis' memory while it waits, goes over the wire twice (and again with each
    retry), and while it does, everybody else waits. A backlog of such jobs fills Redis, and then pushes fail.

    **Instead:** pass an id, and let the job read what it needs from the database or from object storage.
    """

    id = "big-payloads"
    level = Level.MEDIUM
    title = "jobs with big payloads"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        for queue in facts.queues:
            if queue.big_jobs and queue.job_bytes is not None:
                size = queue.job_bytes
                seen = (
                    f"{_plural(queue.big_jobs, 'job')} of {size.count:,} over 64 KB, the largest {_kb(size.max)}, "
                    f"half of all under {_kb(size.p50)}"
                )
                yield self.advice(_queue(queue), seen, count=queue.big_jobs)


class LostFetch(SidekiqRule):
    """
    A fetch's reply came when its client had gone (*undelivered*: the job is lost, unless shunt pushed it back), or a
    client's connection ended while its fetch waited (*cut off*: a job is lost only if Redis had just handed one out).

    **Why:** Sidekiq's basic fetch takes a job out of Redis and keeps it in the worker's memory. If the worker dies
    before it has read the reply, nobody has the job, and nothing tells.

    **Instead:** stop workers with TERM, not KILL, and let them finish (25 s). Where a job must not be lost, make its
    enqueuing repeatable, or use Sidekiq Pro's super_fetch.
    """

    id = "fetch-lost"
    level = Level.HIGH
    title = "clients went away while a fetch was under way"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        for caller in facts.callers:
            if not caller.lost_fetches and not caller.undelivered:
                continue
            lost = (
                f"{_plural(caller.undelivered, 'job')} lost for certain: fetched, and the client had gone"
                if caller.undelivered
                else "no job is known to be lost"
            )
            seen = f"{_plural(caller.lost_fetches, 'waiting fetch', 'waiting fetches')} cut off; {lost}"
            yield self.advice(
                _caller(caller), seen, level=Level.HIGH if caller.undelivered else Level.LOW,
                count=caller.lost_fetches + caller.undelivered,
            )  # fmt: skip


class Eviction(SidekiqRule):
    """
    The backend's `maxmemory-policy` is another than `noeviction`.

    **Why:** when its memory is full, such a Redis deletes keys by itself: queues, schedules and retries among them.
    Jobs vanish, and nothing tells.

    **Instead:** set `maxmemory-policy noeviction`, and keep caches in another Redis. With noeviction a full Redis
    refuses pushes: the application sees that at once.
    """

    id = "unsafe-eviction"
    level = Level.HIGH
    title = "the backend may delete jobs when its memory is full"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        for sample in reversed(facts.facts):
            policy = harmless(str(sample.info.get("maxmemory_policy") or ""))
            if not policy:
                continue
            if policy != "noeviction":
                most, used = _number(sample, "maxmemory"), _number(sample, "used_memory")
                evicted = _number(sample, "evicted_keys") or 0
                room = f"{_kb(used or 0)} of {_kb(most)} in use" if most else "no limit of its own (maxmemory 0)"
                seen = f"maxmemory-policy {policy}; {room}; {_plural(evicted, 'key')} evicted since it started"
                level = Level.HIGH if most or evicted else Level.MEDIUM
                yield self.advice(sample.backend, seen, level=level, count=max(evicted, 1))
            return


class Retries(SidekiqRule):
    """
    Of 100 fetched jobs at least 10 were set aside to be tried again (at least 20 in all), or the retry set grew by
    100 jobs or more: so many more were put into it than were taken out to be run.

    **Why:** each retry is work done in vain, and a growing set comes back later as load, with backoff up to days.

    **Instead:** look at the errors of the commonest job classes in it (Web UI, Retries). Have errors that never go
    away (a record that is gone) end the job instead of failing it.
    """

    id = "retries-growing"
    of_absence = True
    level = Level.MEDIUM
    title = "many jobs fail and wait for another try"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        fetched = {each.namespace: each.fetches for each in facts.namespaces}
        for each in facts.sets:
            jobs = fetched.get(each.namespace, 0)
            added = each.added + each.unknown_adds
            grown = added - each.taken
            if each.role == "retry" and (added >= max(20, 0.1 * jobs) or grown >= 100):
                seen = f"{added:,} jobs set aside, {each.taken:,} taken up again, {jobs:,} fetched in the same time"
                seen += f": the set grew by {grown:,}" if grown > 0 else ""
                yield self.advice(_set(each), seen, count=added)


class DeadGrowing(SidekiqRule):
    """
    Jobs went to the dead set.

    **Why:** Sidekiq has given them up after their last retry. They run again only if somebody starts them by hand, and
    after six months, or beyond 10,000, they are deleted.

    **Instead:** look at them in the Web UI (Dead), mend the reason, and retry them there; report deaths with a
    `death_handler`.
    """

    id = "dead-set-growing"
    level = Level.MEDIUM
    title = "jobs are given up"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        for each in facts.sets:
            added = each.added + each.unknown_adds
            if each.role == "dead" and added:
                yield self.advice(_set(each), f"{_plural(added, 'job')} given up", count=added)


class SlowRoundTrip(SidekiqRule):
    """
    The round trip from shunt to the backend is over 50 ms for half of all commands, or so long that fetching alone
    keeps more than half of the fetching connections busy at the busiest second.

    **Why:** a worker thread fetches one job for each round trip, so the round trip bounds the throughput, whatever the
    concurrency of Redis. Sidekiq itself warns at 50 ms.

    **Instead:** put Redis into the same zone as the workers. If that can't be, raise concurrency (more threads wait at
    the same time). What lies between the workers and shunt comes on top, and is not measured here.
    """

    id = "round-trip-long"
    level = Level.MEDIUM
    title = "the round trip to Redis is long for this rate of fetches"

    def judge(self, facts: Sidekiq) -> Iterator[Advice]:
        trip = facts.round_trip
        if trip is None or not facts.fetches:
            return
        peak = sum(queue.peak_fetched_per_s for queue in facts.queues)
        share = peak * trip.p50_ns / 1e9 / max(facts.blocking, 1)
        if trip.p50_ns > 50e6 or (share > 0.5 and trip.p50_ns > 1e6):
            seen = (
                f"half of all round trips take more than {trip.p50_ns / 1e6:.1f} ms, 1 % more than "
                f"{trip.p99_ns / 1e6:.1f} ms; at {peak:,} fetches a second that is {min(share, 1):.0%} of the time of "
                f"{facts.blocking} fetching connections"
            )
            yield self.advice("shunt to the backend", seen)


SIDEKIQ_RULES: tuple[SidekiqRule, ...] = (
    NeverFetched(),
    TwoNamespaces(),
    Vanished(),
    HeartbeatPaused(),
    LeftOver(),
    PastTheProxy(),
    ConnectionsShort(),
    Churn(),
    BigPayloads(),
    LostFetch(),
    Eviction(),
    Retries(),
    DeadGrowing(),
    SlowRoundTrip(),
)

#: Shared connections for each user, database and protocol (--pool-size), and room for transactions under way.
_TRUNKS = 2
_TRANSACTIONS = 2


def shared_mode_needs(facts: Sidekiq) -> int:
    """Backend connections that shared mode would need: about so many."""
    return min(facts.blocking + _TRUNKS + _TRANSACTIONS, max(facts.at_once, 1))


def _too_long_ns(process: ProcessLine) -> float:
    return 4 * max(process.interval_ns or 0, 1e9)


def _side_by_side(older: ProcessLine, newest: ProcessLine) -> bool:
    interval = max(older.interval_ns or 0, newest.interval_ns or 0, 1_000_000_000)
    return min(older.last_ts, newest.last_ts) - max(older.first_ts, newest.first_ts) >= 6 * interval


def _differs(older: ProcessLine, newest: ProcessLine) -> str:
    """What is other about the older process; empty: nothing."""
    parts = []
    if older.version != newest.version:
        parts.append(
            f"Sidekiq {harmless(older.version) or 'of a version that it does not tell'} beside "
            f"{harmless(newest.version) or 'one that does not tell'}"
        )
    if older.queues != newest.queues:
        parts.append(f"queues {harmless(', '.join(older.queues))} beside {harmless(', '.join(newest.queues))}")
    return " and ".join(parts)


def _nearest(queue: QueueLine, listened: Sequence[QueueLine]) -> str:
    """The fetched queue that was perhaps meant."""
    same = [other for other in listened if other.name == queue.name]
    if same:
        return f"fetched is {_queue(same[0])}: the same name under another namespace or database"
    alike = [other for other in listened if other.name.lower().rstrip(b"s") == queue.name.lower().rstrip(b"s")]
    if alike:
        return f"fetched is {_queue(alike[0])}, which is spelt nearly the same"
    if listened:
        names = ", ".join(_queue(other) for other in listened[:5])
        return f"fetched are {names}"
    return "no fetch at all is in this capture: the workers may not go through shunt"


def _biggest(callers: Sequence[CallerLine]) -> str:
    shown = sorted(callers, key=lambda caller: -caller.at_once)[:3]
    return "most at once: " + ", ".join(f"{_caller(caller)} {caller.at_once:,}" for caller in shown) if shown else ""


def _number(sample: BackendFacts, name: str) -> int | None:
    value = sample.info.get(name)
    return value if isinstance(value, int) else None


def _queue(queue: QueueLine) -> str:
    return printable(queue.key) + (f" in database {queue.db}" if queue.db else "")


def _set(line: SetLine) -> str:
    return (printable(line.namespace) + ":" if line.namespace else "") + line.role


def _process(process: ProcessLine) -> str:
    where = f"{_namespace(process.namespace)}, " if process.namespace else ""
    return f"{printable(process.identity)} ({where}{printable(process.address)})"


def _caller(caller: CallerLine) -> str:
    return printable(caller.address) + (f" '{printable(caller.name)}'" if caller.name else "")


def _namespace(namespace: bytes) -> str:
    return f"namespace {printable(namespace)}" if namespace else "no namespace"


def _pushes(queue: QueueLine) -> str:
    jobs = f"{_plural(queue.pushed, 'job')} in " if queue.pushed and not queue.unknown_pushes else ""
    return f"{jobs}{_plural(queue.pushes, 'push', 'pushes')}"


def _plural(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _seconds(ns: int) -> str:
    seconds = ns / 1e9
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )


def _kb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def _examples(example: Example | None) -> tuple[Example, ...]:
    return () if example is None else (example,)
