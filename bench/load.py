"""One run of redis-benchmark against one port: what came out, and what the measured process spent on it.

Knows: redis-benchmark's options and its CSV. Refuses to know: which peer it is, and what the numbers are compared with.
"""

from __future__ import annotations

import csv
import io
import subprocess
import time
from dataclasses import asdict, dataclass

from peers.launch import HOST, BenchError, Running
from process import cpu_s
from redis import Redis

CLIENTS = 50
VALUE_BYTES = 100
KEYS = 100_000
RUN_LIMIT_S = 300


@dataclass(frozen=True)
class Sample:
    """One run: `commands` of kind `test` sent `pipeline` at a time. cpu_us: microseconds of the proxy process per
    command, None where there is no proxy. Latencies are the client's, for a whole pipeline."""

    round: int
    peer: str
    pipeline: int
    test: str
    commands: int
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float | None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def fill(backend_port: int) -> None:
    """Give every key that redis-benchmark may ask for a value, so that each GET is answered with one."""
    with Redis(host=HOST, port=backend_port) as redis:
        for start in range(0, KEYS, 1000):
            redis.mset({f"key:{number:012d}": b"x" * VALUE_BYTES for number in range(start, start + 1000)})


def calls(backend: Redis, test: str) -> int:
    """How many commands of this kind Redis has run since it started."""
    stats = backend.info("commandstats")
    return int(stats.get(f"cmdstat_{test.lower()}", {}).get("calls", 0))


def benchmark(target: Running, pipeline: int, test: str, requests: int) -> dict[str, str]:
    """Run redis-benchmark to its end; its one CSV row. BenchError when it fails."""
    argv = ["redis-benchmark", "-h", HOST, "-p", str(target.port), "-c", str(CLIENTS), "-n", str(requests)]
    argv += ["-d", str(VALUE_BYTES), "-r", str(KEYS), "-P", str(pipeline), "-t", test.lower(), "--csv"]
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


def measure(target: Running, backend_port: int, number: int, pipeline: int, test: str, requests: int) -> Sample:
    """One sample. Commands are counted by Redis itself, so a proxy that loses or invents some can't look cheap."""
    with Redis(host=HOST, port=backend_port) as backend:
        calls_before = calls(backend, test)
        cpu_before = cpu_s(target.pid) if target.pid else 0.0
        row = benchmark(target, pipeline, test, requests)
        time.sleep(target.settle_s)
        cpu = cpu_s(target.pid) - cpu_before if target.pid else None
        commands = calls(backend, test) - calls_before
    if commands < requests:
        raise BenchError(f"{target.name} passed on {commands} of {requests} {test} commands")
    return Sample(
        round=number,
        peer=target.name,
        pipeline=pipeline,
        test=test,
        commands=commands,
        rps=float(row["rps"]),
        p50_ms=float(row["p50_latency_ms"]),
        p99_ms=float(row["p99_latency_ms"]),
        cpu_us=None if cpu is None else round(cpu / commands * 1e6, 4),
    )
