"""Starting and stopping one program: a free loopback port, a bounded wait until it answers, an end by its pid.

Knows: processes and ports. Refuses to know: which proxy it starts (each peer's own file says that) and how fast it is.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
REPOSITORY = Path(__file__).resolve().parents[2]
START_LIMIT_S = 15.0
STOP_LIMIT_S = 15.0
PROBE = b"*2\r\n$3\r\nGET\r\n$17\r\nshunt:bench:probe\r\n"


class BenchError(Exception):
    """One line: what failed, where, what to do now."""


@dataclass(frozen=True)
class Place:
    """Where a peer listens, which Redis is behind it, and its own directory for configuration, logs and capture."""

    listen_port: int
    backend_port: int
    directory: Path


@dataclass(frozen=True)
class Peer:
    """One thing to measure. `argv(place)` writes its configuration and returns its command line (empty: no process
    of its own, the client speaks to Redis). `missing()` is None, or one line that says what to install. `settle_s`: how
    long work that a command caused may be put off, so that it is still counted in that command's CPU time."""

    name: str
    does: str
    argv: Callable[[Place], list[str]]
    missing: Callable[[], str | None]
    version: Callable[[], str]
    settle_s: float = 0.1


@dataclass(frozen=True)
class Running:
    """A started peer: the port to speak to, and the process whose CPU time is counted (None for direct Redis)."""

    name: str
    port: int
    pid: int | None
    settle_s: float


def free_port() -> int:
    """A loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def version(argv: list[str]) -> str:
    """The first thing like 1.2.3 that a `--version` prints, on either stream; "unknown" when there is none."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = re.search(r"\d+\.\d+\.\d+[^\s/,]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def answers(port: int) -> bool:
    """Whether a GET through `port` is answered with a null. A GET and not a PING: twemproxy and Envoy answer PING
    by themselves, before their backend stands."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as client:
            client.sendall(PROBE)
            return client.recv(64).startswith(b"$-1")
    except OSError:
        return False


def spawn(argv: list[str], log: Path, more: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A child with its output in `log`, in its own session: Ctrl-C reaches the harness, which then stops it. `more`
    is added to its environment."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), **(more or {})}
    with log.open("wb") as out:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
        )


def wait_until_answering(name: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the port answers. BenchError, with the last line of its log, if it ends first or never answers."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if answers(port):
            return
        time.sleep(0.05)
    ended = "ended" if process.poll() is not None else f"didn't answer within {START_LIMIT_S:.0f} s"
    lines = log.read_text(errors="replace").strip().splitlines()
    raise BenchError(f"{name} {ended} on port {port}: {lines[-1] if lines else 'it printed nothing'}")


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL after STOP_LIMIT_S; returns when it is gone."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running(peer: Peer, backend_port: int, directory: Path) -> Iterator[Running]:
    """`peer` in front of the Redis on `backend_port`, answering, until the block ends."""
    own = directory / re.sub(r"\W+", "-", peer.name)
    own.mkdir(parents=True, exist_ok=True)
    place = Place(free_port(), backend_port, own)
    argv = peer.argv(place)
    if not argv:
        yield Running(peer.name, backend_port, None, peer.settle_s)
        return
    log = own / "log"
    process = spawn(argv, log)
    try:
        wait_until_answering(peer.name, place.listen_port, process, log)
        yield Running(peer.name, place.listen_port, process.pid, peer.settle_s)
    finally:
        end(process)


@contextmanager
def redis_server(directory: Path, max_clients: int = 10_000) -> Iterator[int]:
    """A redis-server of our own that writes nothing to disk; yields its port."""
    port, log = free_port(), directory / "redis.log"
    argv = ["redis-server", "--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    argv += ["--dir", str(directory), "--maxclients", str(max_clients), "--tcp-backlog", "1024"]
    try:
        process = spawn(argv, log)
    except FileNotFoundError:
        raise BenchError("redis-server is not installed: apt-get install redis-server") from None
    try:
        wait_until_answering("redis-server", port, process, log)
        yield port
    finally:
        end(process)


def end_on_sigterm() -> None:
    """Make SIGTERM unwind the stack, so that every child is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
