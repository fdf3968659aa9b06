"""What a mirror costs the clients of the shunt that has one: four shunts, as ratios to the one without.

    python bench/mirror.py [--rounds 7] [--seconds 2] [--rate 1000] [--requests 40000]

Interleaved, in rotated order: no mirror, no mirror again (the noise), a mirror that keeps up, a mirror that takes
connections and then never reads. Mirrored are writes and reads (`--all`), the dearest. Latency is of an open loop of
GETs at a steady rate; throughput and CPU are redis-benchmark's SETs, one in flight per connection and sixteen. CPU is
that of the whole worker, the mirror's part included: it is taken from the same core, in turns between the clients'.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from load import Cell, Sample, fill, measure
from openloop import OpenLoop, quantile
from peers.launch import HOST, BenchError, Peer, Place, Running, end_on_sigterm, redis_server, running
from peers.shunt import variant
from ratios import ordered, spread
from redis import Redis, RedisError
from terminal import console, show

OFF, AGAIN, UP, STALLED = "no mirror", "no mirror again", "mirror up", "mirror stalled"
DEPTHS = (1, 16)
HEADER = ("", "p50", "p99", "SET/s", "SET/s × 16", "CPU/SET", "CPU/SET × 16")

#: peer → what was measured → its value
Round = dict[str, dict[str, float]]


def peer(name: str) -> Peer:
    """A shunt in session mode that captures nothing, with a console in its own directory."""
    plain = variant("session", "off")

    def argv(place: Place) -> list[str]:
        return [*plain.argv(place), "--console", f"unix://{place.directory}/console"]

    return replace(plain, name=name, argv=argv)


@contextmanager
def never_reading() -> Iterator[int]:
    """A server that says it is some Redis, answers the first words of a connection, and then reads no more."""
    with socket.create_server((HOST, 0)) as listening:
        kept: list[socket.socket] = []

        def serve(sock: socket.socket) -> None:
            with suppress(OSError):
                while b"ECHO" not in (words := sock.recv(4096)).upper() and words:
                    body = b"run_id:none\r\nrole:master\r\nmaster_replid:none\r\n"
                    sock.sendall(b"$%d\r\n%b\r\n" % (len(body), body) if b"INFO" in words.upper() else b"+OK\r\n")
                sock.sendall(b"$5\r\nshunt\r\n")

        def accept() -> None:
            with suppress(OSError):
                while True:
                    kept.append(listening.accept()[0])
                    threading.Thread(target=serve, args=(kept[-1],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]
        for each in kept:
            each.close()


def mirror(directory: Path, name: str, port: int) -> None:
    """Have this peer mirror everything to ``port``."""
    path = directory / name.replace(" ", "-") / "console"
    try:
        with Redis(unix_socket_path=str(path), protocol=2) as asked:
            asked.execute_command("MIRROR", "START", f"redis://{HOST}:{port}", "ALL")
    except RedisError as error:
        raise BenchError(f"{name}: {error}") from None


def one_round(
    number: int, targets: Sequence[Running], backend: int, rate: float, seconds: float, requests: int
) -> Round:
    """Every peer once, in this round's order."""
    found: Round = {}
    for target in ordered(targets, number):
        with OpenLoop(target.port) as client:
            client.run(rate, min(0.2, seconds))
            latencies = client.run(rate, seconds)
        values = {"p50": quantile(latencies, 0.5), "p99": quantile(latencies, 0.99)}
        for depth in DEPTHS:
            sample: Sample = measure(
                target, backend, number, Cell(depth), "SET", requests * (5 if depth > 1 else 1), 0.0
            )
            values |= {f"rps {depth}": sample.rps, f"cpu {depth}": sample.cpu_us or 0.0}
        found[target.name] = values
    return found


def run(rounds: int, rate: float, seconds: float, requests: int) -> list[Round]:
    """Start everything, measure, stop everything."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shunt-bench-")))
        backend = stack.enter_context(redis_server(directory))
        other = directory / "target"
        other.mkdir()
        target = stack.enter_context(redis_server(other))
        stalled = stack.enter_context(never_reading())
        peers = [peer(name) for name in (OFF, AGAIN, UP, STALLED)]
        started = [stack.enter_context(running(each, backend, directory)) for each in peers]
        fill(backend)
        fill(target)
        mirror(directory, UP, target)
        mirror(directory, STALLED, stalled)
        once = partial(one_round, targets=started, backend=backend, rate=rate, seconds=seconds, requests=requests)
        return [once(number) for number in range(rounds)]


def row(name: str, rounds: Sequence[Round]) -> list[str]:
    """This peer to the one without a mirror: the median of the rounds' ratios, with the least and the most."""
    words = ("p50", "p99", *(f"{what} {depth}" for what in ("rps", "cpu") for depth in DEPTHS))
    return [name, *(str(spread(each[name][word] / each[OFF][word] for each in rounds) or "–") for word in words)]


@click.command()
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=2.0, show_default=True, help="Of the open loop, per peer and round.")
@click.option("--rate", default=1000.0, show_default=True, help="GETs a second.")
@click.option("--requests", default=40_000, show_default=True, type=click.IntRange(1000), help="SETs; deep: × 5.")
def main(rounds: int, seconds: float, rate: float, requests: int) -> None:
    """Measure what a mirror costs."""
    end_on_sigterm()
    os.environ.pop("SHUNT_CONSOLE", None)
    try:
        found = run(rounds, rate, seconds, requests)
    except BenchError as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    show(f"to the same shunt without a mirror, {rounds} rounds", HEADER, [row(n, found) for n in (AGAIN, UP, STALLED)])


if __name__ == "__main__":
    main()
