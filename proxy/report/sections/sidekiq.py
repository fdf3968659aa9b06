"""The section on Sidekiq and the Redis behind it: what is wrong, queues, job classes, processes, the backend.

Knows: wording. What is not known is shown as ``?``, and a note under the table says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from proxy.capture.facts import BackendFacts
from proxy.report.cells import (
    Section,
    TextTable,
    columns,
    count,
    duration,
    moment,
    more,
    name,
    plural,
    size,
    span,
    with_rows,
)
from proxy.report.document import Report
from proxy.report.printable import harmless, printable
from proxy.report.rules.sidekiq import shared_mode_needs
from proxy.report.sidekiq import ProcessLine, QueueLine, Sidekiq

TOP_QUEUES = 20
TOP_JOBS = 20
TOP_PROCESSES = 20
TOP_CALLERS = 10
UNTOLD = "?"

#: The first word of a process's state, and how such processes are counted.
_STATES = {"alive": "alive", "silent": "silent", "signed": "signed off", "one": "with one heartbeat only"}
_NEEDS_ARGUMENTS = "needs --capture-args full"


def sidekiq(report: Report) -> Section:
    """Empty where neither Sidekiq's keys nor facts of the backend are in the capture."""
    found = report.sidekiq
    if not found.namespaces and not found.facts:
        return Section("sidekiq", "Sidekiq")
    paragraphs = [*(_summary(found) if found.namespaces else ()), *_backend(found)]
    tables = [_backend_table(found)]
    if found.namespaces:
        tables = [_queues(found), _jobs(found), _processes(found), _sets(found), _callers(found), *tables]
    title = "Sidekiq" if found.namespaces else "The backend"
    return Section("sidekiq", title, tuple(paragraphs), found.advice, with_rows(tables))


def _summary(found: Sidekiq) -> Iterator[str]:
    pushed, fetched = sum(q.pushed + q.requeued for q in found.queues), sum(q.fetched for q in found.queues)
    untold = sum(q.unknown_pushes for q in found.queues)
    bulk = f" (and {plural(untold, 'command')} that pushed an unknown number)" if untold else ""
    yield (
        f"{plural(len(found.queues), 'queue')}: {plural(pushed, 'job')} pushed{bulk}, {fetched:,} fetched in "
        f"{span(found.seconds)}. {_deepest(found)} {_alive(found)}"
    ).strip()
    if found.partial:
        yield (
            "A filter has left out a part of the capture: numbers of jobs, depths and waits are of what is left, and "
            "what did not happen was not judged."
        )
    names = [f"{printable(each.namespace)!r}" for each in found.namespaces if each.namespace]
    if names:
        yield f"Namespaces: {', '.join(names)}{' and none' if len(names) < len(found.namespaces) else ''}."
    if found.jobs is None:
        yield f"Job classes, tags and versions are not in this capture: that {_NEEDS_ARGUMENTS}."
    if not found.advice:
        missing = "" if found.facts else " Those that need facts of the backend were not made."
        yield f"None of the diagnoses holds.{missing}"


def _deepest(found: Sidekiq) -> str:
    known = [queue for queue in found.queues if queue.highest is not None and queue.relative is None]
    if not known:
        return "No queue was seen empty, so no depth is known."
    deepest = max(known, key=lambda queue: queue.highest or 0)
    return f"The deepest was {_queue(deepest)}: {deepest.highest:,}." if deepest.highest else "No queue had a backlog."


def _alive(found: Sidekiq) -> str:
    if not found.processes:
        return "No heartbeat is in the capture: no process is known."
    versions = sorted({harmless(process.version) for process in found.processes if process.version})
    told = f" (Sidekiq {', '.join(versions)})" if versions else ""
    states = Counter(_state(process, found).split()[0] for process in found.processes)
    counted = [f"{states[word]:,} {words}" for word, words in _STATES.items() if states[word]]
    number = len(found.processes)
    return f"{number:,} process{'es' if number != 1 else ''}{told}: {', '.join(counted)}."


def _backend(found: Sidekiq) -> Iterator[str]:
    if not found.facts:
        yield (
            "Nothing is known of the backend itself (its connections, memory policy, limits): this capture has no "
            "samples of it (--backend-facts was off, or shunt was older)."
        )
        return
    unsure = next((each.unsure for each in reversed(found.facts) if each.unsure), "")
    unknown = {name_: why for each in found.facts for name_, why in each.unknown.items()}
    for name_, why in sorted(unknown.items()):
        yield f"Not known of the backend: {name_} ({harmless(why)})."
    if unsure:
        yield f"Which connections are shunt's own is not certain: {harmless(unsure)}."
    yield (
        f"At least {plural(found.at_once, 'connection')} at once in this capture, {found.blocking:,} of all wait for "
        f"jobs; --pool shared would need about {shared_mode_needs(found):,} to the backend."
    )


# ---- tables ---------------------------------------------------------------------------------------------------------


def _queues(found: Sidekiq) -> TextTable:
    heads = columns(
        "queue", "pushed*", "fetched*", "a minute*", "deepest*", "at end*", "wait p50*", "p99*", "max*", "size p99*"
    )
    minutes = max(found.seconds / 60, 1e-9)
    rows = []
    for queue in found.queues[:TOP_QUEUES]:
        wait, jobs = queue.wait_ns, queue.job_bytes
        pushed = queue.pushed + queue.requeued
        rows.append(
            (
                _queue(queue), f"{pushed:,}" + (UNTOLD if queue.unknown_pushes else ""), f"{queue.fetched:,}",
                f"{pushed / minutes:,.0f}", _deep(queue), _at_end(queue),
                *((duration(wait.p50), duration(wait.p99), duration(wait.max)) if wait else (UNTOLD,) * 3),
                size(jobs.p99) if jobs else UNTOLD,
            )
        )  # fmt: skip
    return TextTable("Queues", heads, tuple(rows), _queue_notes(found) + more(len(found.queues) - TOP_QUEUES, "queue"))


def _queue_notes(found: Sidekiq) -> str:
    notes = ["wait: from push to fetch, jobs paired first in, first out."]
    if any(queue.relative is not None for queue in found.queues):
        notes.append(
            "A depth with a sign counts from the start of the capture: that queue was never seen empty, so neither its "
            "depth nor its waits are known."
        )
    if any(queue.depth is None and queue.relative is None for queue in found.queues):
        notes.append(
            "A depth of ? is not known: jobs came or went that were not counted, and it was not seen empty since."
        )
    if any(queue.unknown_pushes for queue in found.queues):
        notes.append("A number of jobs with ? leaves out pushes whose number of jobs was not recorded.")
    for queue in found.queues:
        if queue.unseen_out or queue.unseen_in:
            out = f"{plural(queue.unseen_out, 'job')} left" if queue.unseen_out else ""
            into = f"{plural(queue.unseen_in, 'job')} came" if queue.unseen_in else ""
            notes.append(f"{_queue(queue)}: {' and '.join(filter(None, (into, out)))} unseen by this capture.")
    return " ".join(notes)


def _deep(queue: QueueLine) -> str:
    if queue.highest is None:
        return UNTOLD
    return f"{queue.highest:,}" if queue.relative is None else f"{queue.highest:+,}"


def _at_end(queue: QueueLine) -> str:
    if queue.depth is not None:
        return f"{queue.depth:,}"
    return UNTOLD if queue.relative is None else f"{queue.relative:+,}"


def _queue(queue: QueueLine) -> str:
    return name(queue.key) + (f" (database {queue.db})" if queue.db else "")


def _jobs(found: Sidekiq) -> TextTable:
    heads = columns("class", "jobs*", "a minute*", "size p50*", "p99*", "max*", "retries*", "scheduled*", "dead*")
    jobs = found.jobs or ()
    rows = tuple(
        (
            name(job.name, 28) + (f" ({printable(job.namespace)})" if job.namespace else ""), f"{job.count:,}",
            f"{job.per_minute:,.1f}",
            *((size(job.bytes.p50), size(job.bytes.p99), size(job.bytes.max)) if job.bytes else ("–",) * 3),
            count(job.retries), count(job.scheduled), count(job.dead),
        )
        for job in jobs[:TOP_JOBS]
    )  # fmt: skip
    note = "jobs: pushed to a queue, so a job that was scheduled or tried again counts each time it comes back."
    return TextTable("Job classes", heads, rows, note + more(len(jobs) - TOP_JOBS, "class"))


def _processes(found: Sidekiq) -> TextTable:
    heads = columns("process", "state", "version", "threads*", "tag", "queues")
    rows = tuple(
        (
            _identity(process), _state(process, found), harmless(process.version) or UNTOLD,
            str(process.concurrency or UNTOLD), (harmless(process.tag) or "–") if process.told else UNTOLD,
            harmless(", ".join(process.queues)) or UNTOLD,
        )
        for process in found.processes[:TOP_PROCESSES]
    )  # fmt: skip
    notes = []
    if any(not process.told for process in found.processes):
        notes.append(f"{UNTOLD} is not told: that {_NEEDS_ARGUMENTS}.")
    if any(process.told and not process.version for process in found.processes):
        notes.append(f"A version of {UNTOLD} is not told: Sidekiq tells it from 7 on.")
    left = more(len(found.processes) - TOP_PROCESSES, "process")
    return TextTable("Processes", heads, rows, " ".join(notes) + left)


def _identity(process: ProcessLine) -> str:
    return name((process.namespace + b":" if process.namespace else b"") + process.identity, 30)


def _state(process: ProcessLine, found: Sidekiq) -> str:
    if process.ended_ts:
        return f"signed off {moment(process.ended_ts, found.first_ts)}"
    silent = (found.last_ts - process.last_ts) / 1e9
    if process.interval_ns is None:
        return "one heartbeat only"
    return "alive" if silent <= 4 * max(process.interval_ns / 1e9, 1) else f"silent for {silent:.0f} s"


def _sets(found: Sidekiq) -> TextTable:
    heads = columns("set", "jobs added*", "taken to be run*", "looks at it*")
    rows = tuple(
        (
            (printable(each.namespace) + ":" if each.namespace else "") + each.role,
            f"{each.added:,}" + (f" and {each.unknown_adds:,} × {UNTOLD}" if each.unknown_adds else ""),
            count(each.taken) if each.role != "dead" else "–", count(each.polls),
        )
        for each in found.sets
    )  # fmt: skip
    return TextTable("Scheduled, retried, dead", heads, rows)


def _callers(found: Sidekiq) -> TextTable:
    heads = columns(
        "address", "name", "connections*", "at once*", "opened*", "waiting*", "fetched*", "pushes*", "cut off*"
    )
    rows = tuple(
        (
            printable(each.address), name(each.name, 24) or "–", f"{each.connections:,}", f"{each.at_once:,}",
            count(each.opened), count(each.blocking), count(each.fetched), count(each.pushes),
            count(each.lost_fetches + each.undelivered),
        )
        for each in found.callers[:TOP_CALLERS]
    )  # fmt: skip
    note = "waiting: connections that wait for jobs; cut off: fetches whose client went away before the reply."
    return TextTable("Connections", heads, rows, note + more(len(found.callers) - TOP_CALLERS, "client"))


_FACTS = (
    ("redis_version", "version"), ("role", "role"), ("connected_clients", "clients"), ("maxclients", "maxclients"),
    ("maxmemory_policy", "policy"), ("used_memory", "memory"), ("maxmemory", "maxmemory"), ("evicted_keys", "evicted"),
)  # fmt: skip
_IN_BYTES = {"used_memory", "maxmemory"}


def _backend_table(found: Sidekiq) -> TextTable:
    if not found.facts:
        return TextTable("The backend", (), ())
    first, last = found.facts[0], found.facts[-1]
    shown = [first] if last == first else [first, last]
    heads = columns("", *(f"{moment(each.ts_ns, found.first_ts)}*" for each in shown))
    rows = [(title, *(_fact(sample, field) for sample in shown)) for field, title in _FACTS]
    rows += [
        ("connections listed", *(UNTOLD if each.listed is None else f"{each.listed:,}" for each in shown)),
        ("of these shunt's own", *(UNTOLD if each.own is None else f"{each.own:,}" for each in shown)),
        ("others", *(UNTOLD if each.listed is None else f"{_others(each):,}" for each in shown)),
    ]
    note = f"{plural(len(found.facts), 'sample')}. Listed are connections that are at least 2 s old."
    return TextTable("The backend", heads, tuple(rows), note)


def _fact(sample: BackendFacts, field: str) -> str:
    value = sample.info.get(field)
    if value is None:
        return UNTOLD
    if not isinstance(value, int):
        return harmless(value)
    if field == "maxmemory" and value == 0:
        return "no limit"
    return size(value) if field in _IN_BYTES else f"{value:,}"


def _others(sample: BackendFacts) -> int:
    return sum(group.count for group in sample.others) + sample.others_more
