"""Where a running shunt spends its time: py-spy samples it under load, this sums the samples up as text.

    python bench/hotspots.py [--peer "shunt session keys"] [--seconds 10] [--pipeline 1] [--python-only] [--top 25]
    python bench/hotspots.py --perf [...]     # perf instead: the kernel's share too, symbol by symbol

Compiled frames (Cython, uvloop, libuv) are seen too, unless --python-only. `self` is the share of samples in which a
function was running itself; `total` that in which it was anywhere on the stack.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import click
from load import Cell, arguments, fill
from peers import PEERS
from peers.launch import BenchError, end, end_on_sigterm, redis_server, running, spawn
from peers.shunt import VARIANTS
from terminal import console, show

SAMPLES_PER_S = 200
RUN_COMMANDS = 2_000_000  # then the load opens its connections anew
LINE_NUMBER = re.compile(r":\d+\)$")
SUBJECTS = (*(peer.name for peer in VARIANTS), "pipe")
HEADER = ("function", "self", "total")


def py_spy() -> str:
    """The program beside this Python, or on the path. BenchError without it."""
    beside = Path(sys.executable).with_name("py-spy")
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if not found:
        raise BenchError("py-spy is not installed: pip install 'redis-shunt[bench]'")
    return found


def record(pid: int, seconds: float, out: Path, native: bool) -> None:
    """Sample `pid` for `seconds` into `out`: one collapsed stack a line."""
    argv = [py_spy(), "record", "--pid", str(pid), "--duration", str(max(int(seconds), 1)), "--format", "raw"]
    argv += ["--rate", str(SAMPLES_PER_S), "--threads", "--output", str(out), *(["--native"] if native else [])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(f"py-spy could not sample pid {pid} (root or ptrace_scope 0 is needed): {words[-1:]}")


def perf_report(pid: int, seconds: float, directory: Path, top: int) -> str:
    """What perf counts in `pid` meanwhile, the kernel included: its own report, largest first."""
    data = directory / "perf.data"
    recorded = ["perf", "record", "-q", "-F", "999", "-o", str(data), "-p", str(pid), "--", "sleep", f"{seconds:g}"]
    reported = ["perf", "report", "-q", "--stdio", "--no-children", "-s", "dso,symbol", "-i", str(data)]
    for argv in (recorded, reported):
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise BenchError("perf is not installed: apt-get install linux-perf") from None
        if done.returncode:
            raise BenchError(f"perf failed on pid {pid}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return "\n".join([line.rstrip() for line in done.stdout.splitlines() if "%" in line][:top])


def summed(lines: Iterable[str]) -> tuple[Counter[str], Counter[str], int]:
    """Samples by function: on top of the stack, anywhere on it; and their number."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rstrip().rpartition(" ")
        # A frame is "function (file:line)": lines of one function belong together.
        frames = [LINE_NUMBER.sub(")", frame) for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    return own, total, sum(own.values())


def rows(lines: Iterable[str], top: int) -> list[list[str]]:
    own, total, samples = summed(lines)
    return [
        [name, f"{own[name] / samples:.1%}", f"{total[name] / samples:.1%}"]
        for name, _ in sorted(total.items(), key=lambda item: -own[item[0]])[:top]
    ]


@click.command()
@click.option("--peer", "name", default="shunt session keys", show_default=True, type=click.Choice(SUBJECTS))
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--pipeline", default=1, show_default=True, type=click.IntRange(1))
@click.option("--top", default=25, show_default=True, type=click.IntRange(1))
@click.option("--python-only", is_flag=True, help="Leave compiled frames out: cheaper, and readable without symbols.")
@click.option("--perf", is_flag=True, help="Count with perf instead of sampling with py-spy.")
def main(name: str, seconds: float, pipeline: int, top: int, python_only: bool, perf: bool) -> None:
    """Sample shunt under redis-benchmark and print where its time goes."""
    end_on_sigterm()
    try:
        if missing := PEERS[name].missing():
            raise BenchError(f"{name}: {missing}")
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shunt-bench-")))
            backend_port = stack.enter_context(redis_server(directory))
            fill(backend_port)
            target = stack.enter_context(running(PEERS[name], backend_port, directory))
            load = [*arguments(target.port, Cell(pipeline), "set,get"), "-n", str(RUN_COMMANDS), "-l", "-q"]
            stack.callback(end, spawn(load, directory / "load"))
            title = f"{name} at pipeline {pipeline}, {seconds:g} s"
            if perf:
                console.print(title, perf_report(target.pid or 0, seconds, directory, top), sep="\n", markup=False)
                return
            record(target.pid or 0, seconds, directory / "stacks", not python_only)
            lines = (directory / "stacks").read_text().splitlines()
    except BenchError as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    show(f"{title}, {SAMPLES_PER_S} samples/s", HEADER, rows(lines, top))


if __name__ == "__main__":
    main()
