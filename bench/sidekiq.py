"""A real Sidekiq at work, directly and through both modes: backend connections, jobs per second, CPU per job.

    python bench/sidekiq.py [--rounds 3] [--processes 4] [--threads 25] [--jobs 20000] [--update-readme]

Interleaved: in each round each peer gets a Redis, Sidekiq processes and a producer of its own, in rotated order. Every
job writes down that it ran; a job that ran twice or never is an error, whatever the numbers are.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from statistics import median

import click
import machine
import readme
from matrix import available
from peers import PEERS
from peers.launch import (
    HOST,
    REPOSITORY,
    BenchError,
    Peer,
    Running,
    end,
    end_on_sigterm,
    redis_server,
    running,
    spawn,
    version,
)
from process import cpu_s
from ratios import ordered, spread
from redis import Redis
from terminal import console, show

NAMES = ("direct", "shunt session keys", "shunt shared keys")
BOOT = REPOSITORY / "tests/system/sidekiq/boot.rb"
PRODUCE = REPOSITORY / "bench/ruby/produce.rb"
PRODUCER_THREADS = 5
QUEUES = ("critical", "default", "low")
LIMIT_S = 300.0
LOOK_S = 0.02
BUSY = (0.1, 0.9)  # connections count while this share of the jobs is done: nobody waits for work then
HEADER = ("", "backend connections: waiting", "busy, median", "busy, most", "busy, in BRPOP", "jobs/s", "CPU µs/job")
RATIO_HEADER = ("", "jobs/s", "CPU per job", "most backend connections while busy")


@dataclass(frozen=True)
class Load:
    """How much work, and by how many it is done."""

    processes: int
    threads: int
    jobs: int


@dataclass(frozen=True)
class Shift:
    """One peer's work in one round. `waiting` and `busy`: connections that Redis had, without the harness's own;
    `blocked`: how many of the busy ones were in a BRPOP."""

    round: int
    peer: str
    waiting: int
    busy: tuple[int, ...]
    blocked: tuple[int, ...]
    jobs_per_s: float
    cpu_us: float | None


class Ledger:
    """The file in which jobs write down that they ran."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("w+b")
        self.lines = 0

    def count(self) -> int:
        """How many runs there are by now: reads only what is new."""
        self.lines += self.file.read().count(b"\n")
        return self.lines

    def check(self, jobs: int) -> None:
        """BenchError unless every job ran exactly once."""
        self.file.close()
        ran = Counter(line.split(" ")[1] for line in self.path.read_text().splitlines())
        never = [tag for tag in map(str, range(jobs)) if not ran[tag]]
        twice = [tag for tag, times in ran.items() if times > 1]
        if never or twice:
            raise BenchError(f"{len(never)} of {jobs} jobs never ran {never[:5]}, {len(twice)} ran twice {twice[:5]}")


def until(holds: Callable[[], bool], what: str, log: Path) -> None:
    """Return once it holds; BenchError with the last line of `log` if it doesn't within LIMIT_S."""
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > deadline:
            lines = log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
            raise BenchError(f"{what} did not happen within {LIMIT_S:.0f} s: {lines[-1]}")
        time.sleep(LOOK_S)


def connections(backend: Redis) -> tuple[int, int]:
    """What Redis counts, without the connection that asks; how many of them are in a command that blocks."""
    clients = backend.info("clients")
    return int(clients["connected_clients"]) - 1, int(clients["blocked_clients"])


def watched(backend: Redis, ledger: Ledger, jobs: int, log: Path) -> tuple[list[tuple[int, int]], float]:
    """Connections from time to time while most are busy, and jobs per second from the first job to the last."""
    until(lambda: ledger.count() > 0, "the first job", log)
    began, at_first, seen = time.perf_counter(), ledger.lines, []

    def done() -> bool:
        if BUSY[0] * jobs <= ledger.count() <= BUSY[1] * jobs:
            seen.append(connections(backend))
        return ledger.lines >= jobs

    until(done, "the last job", log)
    return seen, (jobs - at_first) / (time.perf_counter() - began)


def shift(number: int, target: Running, backend: Redis, load: Load, directory: Path) -> Shift:
    """Start Sidekiq, wait until all processes wait for work, let the producer loose, stop Sidekiq, check the ledger."""
    ledger, log = Ledger(directory / "ledger"), directory / "sidekiq-0.log"
    place = {"REDIS_URL": f"redis://{HOST}:{target.port}/0", "LEDGER": str(ledger.path), "LANG": "C.UTF-8"}
    argv = ["sidekiq", "-r", str(BOOT), "-c", str(load.threads), *(word for queue in QUEUES for word in ("-q", queue))]
    with ExitStack() as stack:
        for process in range(load.processes):
            stack.callback(end, spawn(argv, directory / f"sidekiq-{process}.log", place))
        until(lambda: backend.scard("processes") == load.processes, "a heartbeat of every Sidekiq process", log)
        threads = load.processes * load.threads
        until(lambda: connections(backend)[1] >= threads, "every thread waiting for work", log)
        waiting, cpu = connections(backend)[0], cpu_s(target.pid) if target.pid else 0.0
        producer = ["ruby", str(PRODUCE), str(load.jobs), str(PRODUCER_THREADS)]
        stack.callback(end, spawn(producer, directory / "producer.log", place))
        seen, rate = watched(backend, ledger, load.jobs, directory / "producer.log")
        time.sleep(target.settle_s)
        cpu_us = (cpu_s(target.pid) - cpu) / load.jobs * 1e6 if target.pid else None
    ledger.check(load.jobs)
    busy, blocked = zip(*seen or [(waiting, threads)], strict=True)
    return Shift(number, target.name, waiting, busy, blocked, rate, cpu_us)


def run(peers: Sequence[Peer], load: Load, rounds: int) -> list[Shift]:
    """All rounds; in each every peer once."""
    shifts = []
    for number in range(rounds):
        for peer in ordered(peers, number):
            with ExitStack() as stack:
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shunt-bench-")))
                backend_port = stack.enter_context(redis_server(directory))
                target = stack.enter_context(running(peer, backend_port, directory))
                backend = stack.enter_context(Redis(host=HOST, port=backend_port))
                shifts.append(shift(number, target, backend, load, directory))
        console.print(f"round {number + 1} of {rounds}", style="dim")
    return shifts


def rows(shifts: Sequence[Shift]) -> list[list[str]]:
    """Medians over the rounds; of the most connections, the most."""
    table = []
    for name in NAMES:
        if not (own := [each for each in shifts if each.peer == name]):
            continue
        cpu = spread(each.cpu_us for each in own if each.cpu_us is not None)
        counts = [count for each in own for count in each.busy]
        cells = [f"{median(each.waiting for each in own):.0f}", f"{median(counts):.0f}", str(max(counts))]
        cells += [f"{median(count for each in own for count in each.blocked):.0f}"]
        cells += [f"{median(each.jobs_per_s for each in own):,.0f}", f"{cpu.middle:.0f}" if cpu else "–"]
        table.append([name, *cells])
    return table


def ratio_rows(shifts: Sequence[Shift]) -> list[list[str]]:
    """Ratios between the peers of the same round: median (least–most)."""
    by = {(each.round, each.peer): each for each in shifts}
    values: list[Callable[[Shift], float]] = [
        lambda each: each.jobs_per_s,
        lambda each: each.cpu_us or 0.0,
        lambda each: max(each.busy),
    ]
    table = []
    for name, other in ((NAMES[1], NAMES[0]), (NAMES[2], NAMES[0]), (NAMES[2], NAMES[1])):
        pairs = [(each, by[each.round, other]) for each in shifts if each.peer == name and (each.round, other) in by]
        found = [spread(value(own) / value(than) for own, than in pairs if value(than)) for value in values]
        table.append([f"{name} / {other}", *(str(each or "–") for each in found)])
    return table


@click.command()
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--processes", default=4, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=25, show_default=True, type=click.IntRange(1), help="Of each process.")
@click.option("--jobs", default=20_000, show_default=True, type=click.IntRange(10), help="Per peer and round.")
@click.option("--update-readme", is_flag=True, help="Write the tables into bench/README.md.")
def main(rounds: int, processes: int, threads: int, jobs: int, update_readme: bool) -> None:
    """Measure a Sidekiq at work through both modes of shunt."""
    end_on_sigterm()
    load = Load(processes, threads, jobs)
    try:
        if absent := [name for name in ("sidekiq", "ruby") if not which(name)]:
            raise BenchError(f"{absent[0]} is not installed: apt-get install ruby-sidekiq")
        peers, gaps = available([PEERS[name] for name in NAMES])
        facts = {**machine.describe(peers), "Sidekiq": version(["sidekiq", "--version"])}
        shifts = run(peers, load, rounds)
    except BenchError as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    how = f"{processes} processes × {threads} threads, {rounds} rounds of {jobs:,} jobs; every job ran exactly once"
    show(how, HEADER, rows(shifts))
    show("Ratios: median (least–most)", RATIO_HEADER, ratio_rows(shifts))
    if update_readme:
        tables = [readme.table(HEADER, rows(shifts)), readme.table(RATIO_HEADER, ratio_rows(shifts))]
        missing = "\n".join(f"- Not measured: {gap}" for gap in gaps)
        parts = [f"{how}.", *tables, missing, machine.sentence(facts)]
        readme.update("sidekiq", "\n\n".join(part for part in parts if part))


if __name__ == "__main__":
    main()
