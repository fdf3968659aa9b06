"""How cost grows with the number of connections: memory, CPU per command, and an active client's latency.

    python bench/growth.py [--sizes 10,100,1000,8000] [--rounds 5] [--seconds 2] [--in-flight 100] [--update-readme]

In each round each peer stands before a Redis of its own, in rotated order, and its crowd of connections grows from one
size to the next: once in a fresh process, for its memory with all of them idle; once for its work, which is the latency
of ten further connections at a steady 1,000 commands/s beside the idle ones, and CPU per command while a fixed number
of commands in flight walks round over all of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import growth_plot
import growth_tables
import machine
import readme
from crowd import Crowd
from load import Cell, benchmark, calls, fill
from matrix import available
from openloop import OpenLoop, quantile
from peers import PEERS
from peers.launch import HOST, BenchError, Peer, Running, end_on_sigterm, redis_server, running
from process import cpu_s, raise_open_files, resident_bytes
from ratios import ordered
from redis import Redis
from terminal import console, show

NAMES = ("pipe", "shunt session keys", "shunt shared keys")
RESULTS = Path(__file__).with_name("results") / "growth.json"
PICTURE = "![CPU per command and resident memory over the number of connections](results/growth.svg)"
RATE = 1000.0
WARM_REQUESTS = 100_000


@dataclass(frozen=True)
class Step:
    """One peer at one size: resident bytes before any client, with all of them idle, and after they were busy."""

    round: int
    peer: str
    clients: int
    empty_bytes: int
    idle_bytes: int
    busy_bytes: int
    p50_us: float
    p99_us: float
    cpu_us: float
    rps: float


def cost(target: Running, backend_port: int, crowd: Crowd, seconds: float, in_flight: int) -> tuple[float, float]:
    """CPU µs per command and commands/s with the whole crowd at work. Redis counts the commands."""
    with Redis(host=HOST, port=backend_port) as backend:
        before, cpu_before, began = calls(backend, "GET"), cpu_s(target.pid or 0), time.perf_counter()
        answered = crowd.drive(seconds, in_flight)
        took = time.perf_counter() - began
        time.sleep(target.settle_s)
        cpu, ran = cpu_s(target.pid or 0) - cpu_before, calls(backend, "GET") - before
    if ran != answered:
        raise BenchError(f"{target.name}: {answered} commands were answered, Redis ran {ran}")
    return cpu / ran * 1e6, ran / took


def latency(active: OpenLoop, seconds: float) -> tuple[float, float]:
    """Median and 99th percentile of the active clients, in µs."""
    active.run(RATE, 0.2)
    latencies = active.run(RATE, seconds)
    return quantile(latencies, 0.5), quantile(latencies, 0.99)


def memory(target: Running, sizes: Sequence[int]) -> tuple[int, dict[int, int]]:
    """Resident bytes of a process that has just been started, and with each size of idle crowd.

    Nothing else has gone through it: a heap that was once larger takes in clients for nothing."""
    empty, found = resident_bytes(target.pid or 0), {}
    with Crowd(target.port) as crowd:
        for size in sizes:
            crowd.grow(size)
            time.sleep(target.settle_s)
            found[size] = resident_bytes(target.pid or 0)
    return empty, found


def work(
    target: Running, backend_port: int, sizes: Sequence[int], seconds: float, in_flight: int
) -> Iterator[dict[str, float]]:
    """At each size, from the smallest: latency beside the idle crowd, and what the crowd's commands cost."""
    benchmark(target, Cell(16, min(sizes)), "GET", WARM_REQUESTS)
    # The active clients come first: select() takes no descriptor above 1023.
    with OpenLoop(target.port) as active, Crowd(target.port) as crowd:
        latency(active, 0.5)
        for size in sizes:
            crowd.grow(size)
            time.sleep(target.settle_s)
            p50_us, p99_us = latency(active, seconds)
            cpu_us, rps = cost(target, backend_port, crowd, seconds, in_flight)
            busy_bytes = resident_bytes(target.pid or 0)
            yield dict(p50_us=p50_us, p99_us=p99_us, cpu_us=round(cpu_us, 3), rps=rps, busy_bytes=busy_bytes)


def visit(number: int, peer: Peer, sizes: Sequence[int], seconds: float, in_flight: int) -> list[Step]:
    """One peer before a Redis of its own: started once for its memory, and again for its work."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shunt-bench-")))
        backend_port = stack.enter_context(redis_server(directory, max_clients=max(sizes) + 200))
        fill(backend_port)
        with running(peer, backend_port, directory / "memory") as target:
            empty, idle = memory(target, sizes)
        with running(peer, backend_port, directory / "work") as target:
            found = list(work(target, backend_port, sizes, seconds, in_flight))
    return [
        Step(round=number, peer=peer.name, clients=size, empty_bytes=empty, idle_bytes=idle[size], **each)
        for size, each in zip(sizes, found, strict=True)
    ]


def run(peers: Sequence[Peer], sizes: Sequence[int], rounds: int, seconds: float, in_flight: int) -> list[Step]:
    """All rounds; in each every peer once."""
    steps: list[Step] = []
    for number in range(rounds):
        for peer in ordered(peers, number):
            steps += visit(number, peer, sizes, seconds, in_flight)
        console.print(f"round {number + 1} of {rounds}", style="dim")
    return steps


def save(path: Path, how: str, facts: dict[str, str], steps: Sequence[Step]) -> None:
    """Raw steps, one a line."""
    head = json.dumps({"machine": facts, "how": how}, ensure_ascii=False)[:-1]
    lines = ",\n".join(json.dumps(asdict(step)) for step in steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head}, "steps": [\n{lines}\n]}}\n')


def check_limit(most: int) -> None:
    """BenchError unless a proxy may have a client and a backend connection for each of `most`."""
    needed = 2 * most + 200
    if (limit := raise_open_files()) < needed:
        raise BenchError(f"{most} connections need {needed} open files, the hard limit (ulimit -Hn) is {limit}")


@click.command()
@click.option("--sizes", default="10,100,1000,8000", show_default=True, help="Connections, growing.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=2.0, show_default=True, help="Per measurement.")
@click.option("--in-flight", default=100, show_default=True, type=click.IntRange(1), help="Commands under way at once.")
@click.option("--json", "path", default=RESULTS, type=click.Path(path_type=Path), help="Raw steps go here.")
@click.option("--update-readme", is_flag=True, help="Write the table into bench/README.md, and draw the plot.")
def main(sizes: str, rounds: int, seconds: float, in_flight: int, path: Path, update_readme: bool) -> None:
    """Measure how cost grows with connections."""
    end_on_sigterm()
    try:
        counts = sorted({int(word) for word in sizes.split(",")})
        check_limit(counts[-1])
        peers, gaps = available([PEERS[name] for name in NAMES])
        facts = machine.describe(peers)
        steps = run(peers, counts, rounds, seconds, in_flight)
    except (BenchError, OSError, ValueError) as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    how = f"{rounds} rounds, {seconds:g} s per measurement, at most {in_flight} commands in flight"
    save(path, how, facts, steps)
    growth_plot.draw(path, path.with_suffix(".svg"))
    show("Growth with connections", growth_tables.HEADER, growth_tables.rows(steps))
    verdicts = growth_tables.verdicts(steps)
    console.print("\n".join(verdicts))
    if update_readme:
        missing = "\n".join(f"- Not measured: {gap}" for gap in gaps)
        body = [PICTURE, "\n".join(f"- {line}" for line in verdicts), f"{how}; medians:"]
        body += [readme.table(growth_tables.HEADER, growth_tables.rows(steps)), missing, machine.sentence(facts)]
        readme.update("growth", "\n\n".join(part for part in body if part))


if __name__ == "__main__":
    main()
