"""Real servers for tests: Redis, a Redis Cluster, shunt, a recording of MONITOR. All on loopback, all bounded.

Knows: how to start a process, how to tell that it is ready, how to end it by its own process id. Refuses to know:
what is tested with it.

``SHUNT_COMMAND`` in the environment replaces ``python -m proxy.cli.main`` (an installed ``shunt``, a stand-in).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.wire import Talk, encode

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
T = TypeVar("T")

# Below the ephemeral range, so that no outgoing connection sits on a port that was found free; processes of one test
# run have a part each.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER")
_FIRST = 20_000 if _WORKER is None else 20_000 + 1_000 * (int(_WORKER.removeprefix("gw")) % 10)
_RANGE = range(_FIRST, 30_000 if _WORKER is None else _FIRST + 1_000)
_PORTS = itertools.cycle(random.Random(os.getpid()).sample(_RANGE, len(_RANGE)))


def until(
    check: Callable[[], T], *, within_s: float = 15.0, what: str = "the expected state", every_s: float = 0.01
) -> T:
    """The first true value of ``check()``; AssertionError naming ``what`` after ``within_s``."""
    end = time.monotonic() + within_s
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s} s: {what} (last seen: {value!r})")
        time.sleep(every_s)


def free_port(*, also: int = 0, host: str = HOST) -> int:
    """A port nobody listens on; with ``also``, port + also is free too (a cluster's bus)."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as two:
            one.bind((host, port))
            if also:
                two.bind((host, port + also))
            return port
    raise AssertionError("no free port")


@dataclass
class Process:
    """A child process with its output in a file. Ended by its process id and by nothing else."""

    popen: subprocess.Popen[bytes]
    log_path: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, within_s: float = 15.0) -> int:
        """The exit code. AssertionError if it still runs after ``within_s``."""
        try:
            return self.popen.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.popen.args!r} still runs after {within_s} s:\n{self.log}") from None

    def kill(self) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                self.popen.send_signal(signal.SIGCONT)  # a stopped process does not die of SIGTERM
            self.popen.kill()
        self.popen.wait()

    def rss(self) -> int:
        """Resident memory in bytes."""
        return self._status_bytes("VmRSS")

    def peak_rss(self) -> int:
        """Highest resident memory in bytes since the start or the last ``forget_peak_rss``."""
        return self._status_bytes("VmHWM")

    def forget_peak_rss(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_s(self) -> float:
        """User and system time used so far, in seconds."""
        words = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _status_bytes(self, name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.M)
        assert found, f"no {name} of process {self.pid}"
        return int(found[1]) * 1024


def start(
    args: Sequence[str], log_path: Path, *, env: dict[str, str] | None = None, cwd: Path | None = None
) -> Process:
    """Start ``args`` with its output in ``log_path``."""
    with log_path.open("ab") as log:
        popen = subprocess.Popen(
            list(args),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
    return Process(popen, log_path)


# ---------------------------------------------------------------------------------------------- Redis


@dataclass
class RedisServer:
    """A redis-server in a directory of its own, without persistence."""

    port: int
    directory: Path
    args: tuple[str, ...] = ()
    host: str = HOST
    password: str | None = None
    process: Process = field(init=False)

    @property
    def address(self) -> tuple[str, int]:
        return (self.host, self.port)

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def start(self, *, wait: bool = True) -> RedisServer:
        base = f"--port {self.port} --bind {self.host} --appendonly no --daemonize no --dir {self.directory}"
        debug = ("--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0", "--save", "")
        args = ["redis-server", *base.split(), *debug, *self.args]
        self.process = start(args, self.directory / "redis.log")
        if wait:
            until(self.answers, what=f"redis-server on port {self.port} answers PING:\n{self.process.log}")
        return self

    def answers(self) -> bool:
        assert self.process.alive(), f"redis-server ended:\n{self.process.log}"
        try:
            with Talk(self.address, patience_s=2) as talk:
                return talk.call("PING")[:1] == b"+" or b"NOAUTH" in talk.call("PING")
        except (OSError, EOFError):
            return False

    def talk(self) -> Talk:
        """A connection of its own, with the password where there is one."""
        talk = Talk(self.address)
        if self.password:
            assert talk.call("AUTH", self.password) == b"+OK\r\n"
        return talk

    def call(self, *args: bytes | str | int | float) -> bytes:
        """One command on a new connection: its reply's bytes."""
        with self.talk() as talk:
            return talk.call(*args)

    def clients(self) -> list[dict[str, str]]:
        """CLIENT LIST without the connection that asks."""
        with self.talk() as talk:
            own = talk.call("CLIENT", "ID")[1:-2].decode()
            body = talk.call("CLIENT", "LIST").split(b"\r\n", 1)[1].decode(errors="replace")
        listed = [dict(w.split("=", 1) for w in line.split(" ")) for line in body.strip().split("\n") if line]
        return [client for client in listed if client["id"] != own]

    def held(self) -> list[dict[str, str]]:
        """CLIENT LIST without the connection that asks and, in shared mode, without those kept for the next client."""
        shared = os.environ.get("SHUNT_POOL") == "shared"
        return [client for client in self.clients() if not (shared and neutral(client))]

    def blocked(self) -> list[dict[str, str]]:
        return [client for client in self.clients() if "b" in client["flags"]]

    def kill(self) -> None:
        self.process.kill()


def neutral(client: dict[str, str]) -> bool:
    """Whether a line of CLIENT LIST blocks, watches, monitors, subscribes and queues nothing."""
    counts = {"sub": "0", "psub": "0", "ssub": "0", "multi": "-1", "watch": "0"}
    return client["flags"] == "N" and all(client.get(name, none) == none for name, none in counts.items())


@contextlib.contextmanager
def redis_server(
    *args: str, port: int | None = None, host: str = HOST, password: str | None = None
) -> Iterator[RedisServer]:
    """A redis-server for the time of the block."""
    more = ("--requirepass", password) if password else ()
    with tempfile.TemporaryDirectory(prefix="shunt-redis-") as directory:
        server = RedisServer(port or free_port(host=host), Path(directory), (*args, *more), host, password)
        try:
            yield server.start()
        finally:
            server.kill()


@dataclass
class Cluster:
    nodes: list[RedisServer]

    def owner(self, slot: int) -> RedisServer:
        """The node that serves ``slot``."""
        return self.nodes[next(i for i, top in enumerate(self.tops()) if slot <= top)]

    def tops(self) -> list[int]:
        """The last slot of each node, in order."""
        share = 16384 / len(self.nodes)
        return [round(share * (index + 1)) - 1 for index in range(len(self.nodes))]

    def keyslot(self, key: bytes) -> int:
        return int(self.nodes[0].call("CLUSTER", "KEYSLOT", key)[1:-2])


@contextlib.contextmanager
def cluster(size: int = 3) -> Iterator[Cluster]:
    """A Redis Cluster of ``size`` masters without replicas, all slots served."""
    with contextlib.ExitStack() as stack:
        args = ("--cluster-enabled", "yes", "--cluster-node-timeout", "5000")
        nodes = [stack.enter_context(redis_server(*args, port=free_port(also=10_000))) for _ in range(size)]
        made = Cluster(nodes)
        bottom = 0
        for epoch, (node, top) in enumerate(zip(nodes, made.tops(), strict=True), 1):
            assert node.call("CLUSTER", "SET-CONFIG-EPOCH", epoch) == b"+OK\r\n"
            assert node.call("CLUSTER", "ADDSLOTSRANGE", bottom, top) == b"+OK\r\n"
            assert nodes[0].call("CLUSTER", "MEET", HOST, node.port) == b"+OK\r\n"
            bottom = top + 1
        for node in nodes:
            until(lambda node=node: _cluster_ok(node, size), within_s=30, what="cluster_state:ok on all")
        yield made


def _cluster_ok(node: RedisServer, size: int) -> bool:
    info = node.call("CLUSTER", "INFO")
    known = b"cluster_known_nodes:%d\r\n" % size in info and b"cluster_size:%d\r\n" % size in info
    return known and b"cluster_state:ok" in info


# ---------------------------------------------------------------------------------------------- shunt


def shunt_command() -> list[str]:
    given = os.environ.get("SHUNT_COMMAND")
    return shlex.split(given) if given else [sys.executable, "-m", "proxy.cli.main"]


def shunt_cli(*args: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end. The caller looks at ``returncode``."""
    return subprocess.run(
        [*shunt_command(), *args],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


@dataclass
class Shunt:
    """A running ``shunt run``."""

    process: Process
    address: tuple[str, int] | str
    http: tuple[str, int]
    capture: Path | None
    stopped: bool = False

    @property
    def url(self) -> str:
        return self.address if isinstance(self.address, str) else f"redis://{self.address[0]}:{self.address[1]}"

    @property
    def log(self) -> str:
        return self.process.log

    def talk(self, **kwargs: Any) -> Talk:
        return Talk(self.address, **kwargs)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of an HTTP path; status 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://{self.http[0]}:{self.http[1]}{path}", timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        assert self.process.alive(), f"shunt ended with {self.process.popen.returncode}:\n{self.log}"
        return self.get("/readyz")[0] == 200

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples whose labels include ``labels``; 0.0 where there are none."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            found = re.fullmatch(r"([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)(?: \d+)?", line)
            if found and found[1] == name:
                have = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or ""))
                if labels.items() <= have.items():
                    total += float(found[3])
        return total

    def terminate(self) -> None:
        self.process.signal(signal.SIGTERM)

    def stop(self, within_s: float = 20.0) -> None:
        """SIGTERM, and the exit code must be 0 and the log without a traceback."""
        if not self.stopped:
            self.stopped = True
            self.terminate()
            code = self.process.wait(within_s)
            assert code == 0, f"shunt ended with {code}:\n{self.log}"
            assert "Traceback" not in self.log, self.log

    def crash(self) -> None:
        self.stopped = True
        self.process.kill()


@contextlib.contextmanager
def shunt(
    backend: str,
    *args: str,
    capture: Path | None = None,
    capture_args: str = "full",
    listen: str | None = None,
    address: tuple[str, int] | str | None = None,
    env: dict[str, str] | None = None,
    wait: bool = True,
) -> Iterator[Shunt]:
    """``shunt run`` in front of ``backend`` (a URL) for the time of the block; stopped by SIGTERM at its end."""
    with tempfile.TemporaryDirectory(prefix="shunt-run-") as directory:
        where = address or (HOST, free_port())
        http = (HOST, free_port())
        plain = f"unix://{where}" if isinstance(where, str) else f"redis://{where[0]}:{where[1]}"
        command = [*shunt_command(), "run", "--listen", listen or plain, "--backend", backend]
        command += ["--http", f"{http[0]}:{http[1]}", *args]
        if capture is not None:
            command += ["--capture", str(capture), "--capture-args", capture_args]
        environ = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "SHUNT_CONSOLE": "off", **(env or {})}
        process = start(command, Path(directory) / "shunt.log", env=environ, cwd=Path(directory))
        running = Shunt(process, where, http, capture)
        try:
            if wait:
                until(running.ready, within_s=20, what=f"shunt is ready ({shlex.join(command)})")
            yield running
            running.stop()
        finally:
            process.kill()


def captured(*paths: Path) -> list[dict[str, Any]]:
    """All rows of a capture by the project's own reader, gaps included, in connection and command order."""
    from proxy.capture.reader import Capture

    rows = [row for batch in Capture(list(paths)).batches() for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: (row["run"], row["conn"], row["seq"]))


def printed(*paths: Path) -> list[dict[str, Any]]:
    """All rows of a capture as ``shunt capture cat`` prints them."""
    done = shunt_cli("capture", "cat", *map(str, paths))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def findings(*paths: Path, code: int | None = None) -> list[dict[str, Any]]:
    """What ``shunt report --format jsonl`` prints about a capture; ``code`` is the exit code that it must have."""
    done = shunt_cli("report", *map(str, paths), "--target", "redis-cluster", "--format", "jsonl")
    assert done.returncode in ((0, 1, 3) if code is None else (code,)), (done.returncode, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


# ---------------------------------------------------------------------------------------------- MONITOR


@dataclass(frozen=True)
class Seen:
    """One line of MONITOR: who (address, or "lua"), in which database, what."""

    who: str
    db: int
    args: tuple[bytes, ...]


_LINE = re.compile(rb"^\+\d+\.\d+ \[(\d+) (\S+)\] (.*)$", re.S)
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)", re.S)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def parse_monitor(line: bytes) -> Seen:
    found = _LINE.match(line)
    assert found, f"no line of MONITOR: {line!r}"
    return Seen(found[2].decode(), int(found[1]), tuple(_unescape(w) for w in _WORD.findall(found[3])))


def _unescape(word: bytes) -> bytes:
    def one(found: re.Match[bytes]) -> bytes:
        code = found[1]
        return bytes([int(code[1:], 16)]) if len(code) == 3 else _ESCAPED.get(code, code)

    return _ESCAPE.sub(one, word)


class Monitor:
    """A recording of a server's MONITOR; ``stop`` returns only when a fence of its own has come by."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._talk = server.talk()
        assert self._talk.call("MONITOR") == b"+OK\r\n"
        self._talk.sock.settimeout(60)
        self._fence = b"fence-%d-%d" % (os.getpid(), random.getrandbits(64))
        self._lines: list[Seen] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def _record(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                seen = parse_monitor(self._talk.frame()[:-2])
                if seen.args == (b"ECHO", self._fence):
                    break
                self._lines.append(seen)
        self._done.set()

    def stop(self) -> list[Seen]:
        """Every line before now."""
        with self._server.talk() as talk:
            talk.send(encode("ECHO", self._fence)).frame()
            assert self._done.wait(30), "MONITOR never showed the fence"
        self._talk.close()
        return self._lines


@contextlib.contextmanager
def monitor(server: RedisServer) -> Iterator[Monitor]:
    recording = Monitor(server)
    try:
        yield recording
    finally:
        recording._talk.close()


# ---------------------------------------------------------------------------------------------- certificates


def certificates(directory: Path) -> dict[str, Path]:
    """A CA, and a certificate for localhost and 127.0.0.1 signed by it, made with openssl: ca, cert, key."""
    paths = {name: directory / f"{name}.pem" for name in ("ca", "ca-key", "cert", "key", "request")}
    names = directory / "names"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for line in (
        f"req -x509 {key} -keyout {paths['ca-key']} -out {paths['ca']} -days 2 -subj /CN=test-ca",
        f"req {key} -keyout {paths['key']} -out {paths['request']} -subj /CN=localhost",
        f"x509 -req -in {paths['request']} -CA {paths['ca']} -CAkey {paths['ca-key']} -CAcreateserial "
        f"-out {paths['cert']} -days 2 -extfile {names}",
    ):
        subprocess.run(["openssl", *line.split()], check=True, capture_output=True)
    return paths
