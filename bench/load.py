"""One run of redis-benchmark against one port: what came out, and what the measured process spent on it.

Knows: redis-benchmark's options and its CSV. Refuses to know: which peer it is, and what the numbers are compared with.
"""

from __future__ import annotations

import csv
import io
import resource
import subprocess
import time
from dataclasses import asdict, dataclass

from peers.launch import HOST, BenchError, Running
from process import cpu_s
from redis import Redis

CLIENTS = 50
VALUE_BYTES = 100
KEYS = 100_000
LARGE_KEYS = 10_000  # 100 MB of 10 KB values
RUN_LIMIT_S = 300
SETUP_RUNS = 3


@dataclass(frozen=True)
class Cell:
    """What is sent: commands in flight per connection, connections, and how large a value is."""

    pipeline: int
    connections: int = CLIENTS
    value_bytes: int = VALUE_BYTES

    @property
    def keys(self) -> int:
        return KEYS if self.value_bytes <= 1000 else LARGE_KEYS

    def __str__(self) -> str:
        return f"pipeline {self.pipeline}, {self.connections} connections, {self.value_bytes:,}-byte values"


@dataclass(frozen=True)
class Sample:
    """One run: `commands` of kind `test` in the manner of `cell`. cpu_us: microseconds of the proxy process per
    command, None where there is no proxy; `setup_ms` is what was taken off it for opening and closing the run's
    connections. redis_us and client_us: the same of Redis (as it counts itself) and of redis-benchmark, with opening
    and closing. Latencies are the client's, for a whole pipeline."""

    round: int
    peer: str
    cell: Cell
    test: str
    commands: int
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float | None
    setup_ms: float | None
    redis_us: float
    client_us: float

    @property
    def busiest_us(self) -> float:
        """What the busiest of client, proxy and Redis spends on a command: with a core for each, none of which waits
        for another, they could do one command in this time and no more."""
        return max(self.cpu_us or 0.0, self.redis_us, self.client_us)

    def as_json(self) -> dict[str, object]:
        fields = asdict(self)
        return {"round": fields.pop("round"), "peer": fields.pop("peer"), **fields.pop("cell"), **fields}


def fill(backend_port: int, cell: Cell = Cell(1)) -> None:
    """Give every key that redis-benchmark may ask for a value, so that each GET is answered with one."""
    value = b"x" * cell.value_bytes
    with Redis(host=HOST, port=backend_port) as redis:
        for start in range(0, cell.keys, 1000):
            redis.mset({f"key:{number:012d}": value for number in range(start, start + 1000)})


def calls(backend: Redis, test: str) -> int:
    """How many commands of this kind Redis has run since it started."""
    stats = backend.info("commandstats")
    return int(stats.get(f"cmdstat_{test.lower()}", {}).get("calls", 0))


def redis_cpu_s(backend: Redis) -> float:
    """User and system time of Redis and all its threads since it started, by its own account, in seconds."""
    facts = backend.info("cpu")
    return float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"])


def ended_children_s() -> float:
    """CPU seconds of all children of this process that have ended, redis-benchmark's runs among them."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def arguments(port: int, cell: Cell, tests: str) -> list[str]:
    """The command line of redis-benchmark, without how long it runs."""
    argv = ["redis-benchmark", "-h", HOST, "-p", str(port), "-c", str(cell.connections), "-P", str(cell.pipeline)]
    return [*argv, "-d", str(cell.value_bytes), "-r", str(cell.keys), "-t", tests.lower()]


def benchmark(target: Running, cell: Cell, test: str, requests: int) -> dict[str, str]:
    """Run redis-benchmark to its end; its one CSV row. BenchError when it fails."""
    argv = [*arguments(target.port, cell, test), "-n", str(requests), "--csv"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False)
    except FileNotFoundError:
        raise BenchError("redis-benchmark is not installed: apt-get install redis-tools") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"redis-benchmark through {target.name} didn't end within {RUN_LIMIT_S} s") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if done.returncode or len(lines) < 2:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(f"redis-benchmark through {target.name} failed: {words[-1] if words else 'no output'}")
    return next(csv.DictReader(io.StringIO("\n".join(lines))))


def setup_s(target: Running, connections: int) -> float:
    """CPU seconds of the proxy for opening and closing so many connections: runs of one command each."""
    if not target.pid:
        return 0.0
    before = cpu_s(target.pid)
    for _ in range(SETUP_RUNS):
        benchmark(target, Cell(1, connections), "GET", connections)
    time.sleep(target.settle_s)
    return (cpu_s(target.pid) - before) / SETUP_RUNS


def measure(
    target: Running, backend_port: int, number: int, cell: Cell, test: str, requests: int, setup: float
) -> Sample:
    """One sample. Commands are counted by Redis itself, so a proxy that loses or invents some can't look cheap.

    `setup` seconds are taken off: at 500 connections they would be a fifth of what is to be measured."""
    with Redis(host=HOST, port=backend_port) as backend:
        calls_before, redis_before, client_before = calls(backend, test), redis_cpu_s(backend), ended_children_s()
        cpu_before = cpu_s(target.pid) if target.pid else 0.0
        row = benchmark(target, cell, test, requests)
        redis, client = redis_cpu_s(backend) - redis_before, ended_children_s() - client_before
        time.sleep(target.settle_s)
        cpu = cpu_s(target.pid) - cpu_before - setup if target.pid else None
        commands = calls(backend, test) - calls_before
    if commands < requests:
        raise BenchError(f"{target.name} passed on {commands} of {requests} {test} commands")
    return Sample(
        round=number,
        peer=target.name,
        cell=cell,
        test=test,
        commands=commands,
        rps=float(row["rps"]),
        p50_ms=float(row["p50_latency_ms"]),
        p99_ms=float(row["p99_latency_ms"]),
        cpu_us=None if cpu is None else round(cpu / commands * 1e6, 4),
        setup_ms=None if cpu is None else round(setup * 1e3, 2),
        redis_us=round(redis / commands * 1e6, 4),
        client_us=round(client / commands * 1e6, 4),
    )
