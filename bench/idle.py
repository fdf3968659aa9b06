"""What idle clients cost: memory per idle client, and whether an active client notices them.

    python bench/idle.py [--clients 5000] [--rounds 6] [--seconds 2] [--peer shunt] [--update-readme]

Two instances of the proxy stand before one Redis. One carries the idle clients, the other none; an active open-loop
client is measured through both in turn, and after half of the rounds they change places. Redis carries the idle
connections in both cases, so the ratio is the proxy's own.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
import machine
import readme
from load import fill
from openloop import OpenLoop, quantile
from peers import PEERS
from peers.launch import HOST, BenchError, Peer, Running, end_on_sigterm, redis_server, running
from process import raise_open_files, resident_bytes
from ratios import spread
from terminal import console, show

PING = b"*1\r\n$4\r\nPING\r\n"
CLIENTS_PER_SOURCE = 1000  # a source address has 28,000 ports; several addresses also look more like several hosts
CLIENTS_AT_ONCE = 200
RATE = 1000.0
HEADER = ("", "p50 µs", "p99 µs", "p50 ratio", "p99 ratio")


@dataclass(frozen=True)
class Pair:
    """One measurement without and with idle clients: µs by quantile."""

    without: dict[str, float]
    beside: dict[str, float]


def connect(port: int, number: int) -> socket.socket:
    """Idle client `number`, from a loopback address of its own group, its PING sent."""
    client = socket.socket()
    client.settimeout(10.0)
    client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: the port is chosen by connect
    client.bind((f"127.0.1.{1 + number // CLIENTS_PER_SOURCE}", 0))
    client.connect((HOST, port))
    client.sendall(PING)
    return client


def idle_clients(port: int, count: int) -> list[socket.socket]:
    """`count` connected clients that were answered once and say nothing more."""
    clients: list[socket.socket] = []
    for start in range(0, count, CLIENTS_AT_ONCE):
        group = [connect(port, number) for number in range(start, min(start + CLIENTS_AT_ONCE, count))]
        clients += group
        for client in group:
            if client.recv(64) != b"+PONG\r\n":
                raise BenchError(f"idle client {len(clients)} of {count} on port {port} wasn't answered PONG")
    return clients


def measure(client: OpenLoop, seconds: float) -> dict[str, float]:
    """Quantiles of an active client's latency."""
    client.run(RATE, 0.2)
    latencies = client.run(RATE, seconds)
    return {"p50": quantile(latencies, 0.5), "p99": quantile(latencies, 0.99)}


def pairs_beside(loaded: OpenLoop, empty: OpenLoop, rounds: int, seconds: float) -> list[Pair]:
    """The same load through both, first through one, then the other, then the other way round."""
    pairs = []
    for number in range(rounds):
        order = (loaded, empty) if number % 2 else (empty, loaded)
        found = {id(client): measure(client, seconds) for client in order}
        pairs.append(Pair(without=found[id(empty)], beside=found[id(loaded)]))
    return pairs


def half(loaded: Running, empty: Running, count: int, rounds: int, seconds: float) -> tuple[list[Pair], float]:
    """`rounds` pairs with `count` idle clients on `loaded`, and what one of them costs in bytes of memory."""
    if loaded.pid is None:
        raise BenchError("direct Redis has no proxy whose memory could be measured: choose another --peer")
    # The active clients come first: select() takes no descriptor above 1023.
    with OpenLoop(loaded.port) as through_loaded, OpenLoop(empty.port) as through_empty:
        measure(through_loaded, 0.5)
        before = resident_bytes(loaded.pid)
        clients = idle_clients(loaded.port, count)
        try:
            each = (resident_bytes(loaded.pid) - before) / count
            return pairs_beside(through_loaded, through_empty, rounds, seconds), each
        finally:
            for client in clients:
                client.close()


def run(peer: Peer, count: int, rounds: int, seconds: float) -> tuple[list[Pair], list[float]]:
    """All pairs, and the memory per idle client of both halves."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shunt-bench-")))
        backend_port = stack.enter_context(redis_server(directory, max_clients=count + 200))
        fill(backend_port)
        first = stack.enter_context(running(peer, backend_port, directory / "first"))
        second = stack.enter_context(running(peer, backend_port, directory / "second"))
        pairs, each = half(first, second, count, rounds // 2, seconds)
        more, again = half(second, first, count, rounds - rounds // 2, seconds)
        return [*pairs, *more], [each, again]


def rows(pairs: list[Pair], count: int) -> list[list[str]]:
    """Medians without and with idle clients, and the ratio of each pair."""
    table = []
    for name, side in (("no idle clients", "without"), (f"{count:,} idle clients", "beside")):
        medians = [spread(getattr(pair, side)[q] for pair in pairs) for q in ("p50", "p99")]
        cells = [f"{value.middle:.0f}" for value in medians if value]
        ratios = [str(spread(pair.beside[q] / pair.without[q] for pair in pairs)) for q in ("p50", "p99")]
        table.append([name, *cells, *(ratios if side == "beside" else ["–", "–"])])
    return table


@click.command()
@click.option("--clients", default=5000, show_default=True, type=click.IntRange(1))
@click.option("--rounds", default=6, show_default=True, type=click.IntRange(2))
@click.option("--seconds", default=2.0, show_default=True, help="Per measurement.")
@click.option("--peer", "name", default="shunt", show_default=True, type=click.Choice(list(PEERS)))
@click.option("--update-readme", is_flag=True, help="Write the result into bench/README.md.")
def main(clients: int, rounds: int, seconds: float, name: str, update_readme: bool) -> None:
    """Measure memory per idle client, and an active client's latency beside them."""
    end_on_sigterm()
    try:
        limit = raise_open_files()
        if limit < 2 * clients + 100:
            raise BenchError(f"{clients} clients need {2 * clients + 100} open files, the hard limit is {limit}")
        if missing := PEERS[name].missing():
            raise BenchError(f"{name}: {missing}")
        facts = machine.describe([PEERS[name]])
        pairs, each = run(PEERS[name], clients, rounds, seconds)
    except (BenchError, OSError) as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    table = rows(pairs, clients)
    sizes = " and ".join(f"{value / 1024:.1f}" for value in each)
    memory = f"{name}: {sizes} KiB of memory per idle client (two instances)"
    show(f"An active client at {RATE:.0f} commands/s through {name}", HEADER, table)
    console.print(memory)
    if update_readme:
        readme.update("idle", "\n\n".join([f"{memory}.", readme.table(HEADER, table), machine.sentence(facts)]))


if __name__ == "__main__":
    main()
