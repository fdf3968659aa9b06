"""``make run``: ``shunt run``, with a Redis of its own when none is named.

Knows: how to start a redis-server that disturbs nobody (a free port of 127.0.0.1, a temporary directory, nothing
saved) and how to stop that one again. Refuses to know: how shunt runs (``cli.run``).

The backend comes from the environment variable BACKEND, where other users of the machine can't read its password.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic, sleep

import redis

from proxy.cli.main import fail, main

#: A port that was free may be taken before redis-server listens on it: then another one is tried.
TRIES = 5
START_S = 10.0
STOP_S = 10.0


def trial(arguments: list[str]) -> None:
    """Runs ``shunt run`` with ``arguments`` in front of $BACKEND, or of a redis-server of its own."""
    with ExitStack() as stack:
        backend = os.environ.get("BACKEND") or stack.enter_context(own_redis())
        os.environ["SHUNT_BACKEND"] = backend
        stack.callback(os.environ.pop, "SHUNT_BACKEND", None)
        main(["run", *arguments])


@contextmanager
def own_redis() -> Iterator[str]:
    """The URL of a redis-server that lives as long as the context, or as this process."""
    program = shutil.which("redis-server")
    if program is None:
        fail("no redis-server here; run: sudo apt-get install redis-server, or: make run BACKEND=redis://host:6379", 2)
    with tempfile.TemporaryDirectory(prefix="shunt-redis-") as directory:
        process, port = _start(program, directory)
        try:
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _start(program: str, directory: str) -> tuple[subprocess.Popen[bytes], int]:
    # A session of its own keeps Ctrl-C away from it: shunt's clients are drained before it goes. If shunt is killed,
    # the kernel ends it (setpriv is part of every Debian).
    guard = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
    for _ in range(TRIES):
        port = _free_port()
        options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", directory, "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(
            [*guard, program, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if _answers(process, port):
            return process, port
        process.kill()
        process.wait()
    fail(f"{program} does not start; name a Redis that runs: make run BACKEND=redis://host:6379", 2)


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Waits until the server's own process answers on ``port``; False when it ended or takes too long."""
    until = monotonic() + START_S
    while process.poll() is None and monotonic() < until:
        try:
            with redis.Redis(port=port, socket_timeout=1) as client:
                return int(client.info("server")["process_id"]) == process.pid
        except redis.RedisError:
            sleep(0.02)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))  # a closed terminal ends the Redis too
    trial(sys.argv[1:])
