"""Interleaved rounds of redis-benchmark: every peer is up the whole time and measured once per round, test and cell.

Knows: who is measured in which cell, how many commands a run has, when to stop. Refuses to know: what it shows.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from load import CLIENTS, VALUE_BYTES, Cell, Sample, benchmark, fill, measure, setup_s
from peers import PEERS
from peers.launch import BenchError, Peer, Running, redis_server, running
from ratios import ordered
from terminal import console

TESTS = ("SET", "GET")
DEPTHS = (1, 16)
DEEP_FACTOR = 5  # a pipelined run has this many times the commands, so that it lasts about as long
FEW = ("pipe", "HAProxy", "twemproxy", "Envoy", "shunt session keys", "shunt shared keys")


@dataclass(frozen=True)
class Group:
    """Cells that differ only in their pipeline, and the peers measured in them."""

    title: str
    connections: int
    value_bytes: int
    names: tuple[str, ...]
    share: float  # of the commands that a run has in the main group

    def cells(self) -> list[Cell]:
        return [Cell(depth, self.connections, self.value_bytes) for depth in DEPTHS]

    def requests(self, cell: Cell, requests: int) -> int:
        return int(requests * self.share) * (1 if cell.pipeline == 1 else DEEP_FACTOR)


GROUPS = {
    "main": Group("50 connections, 100-byte values", CLIENTS, VALUE_BYTES, tuple(PEERS), 1.0),
    "many": Group("500 connections, 100-byte values", 500, VALUE_BYTES, FEW, 2.0),
    "large": Group("50 connections, 10 KB values", CLIENTS, 10240, FEW, 0.5),
    "both": Group("500 connections, 10 KB values", 500, 10240, FEW, 0.5),
}

Setup = Mapping[tuple[str, int], float]  # peer and connections → CPU seconds for opening and closing them


@contextmanager
def started(peers: Sequence[Peer]) -> Iterator[tuple[int, list[Running]]]:
    """A Redis and all peers before it; its port and theirs."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shunt-bench-")))
        backend_port = stack.enter_context(redis_server(directory))
        yield backend_port, [stack.enter_context(running(peer, backend_port, directory)) for peer in peers]


def members(group: Group, targets: Sequence[Running]) -> list[Running]:
    """Those of the running peers that this group measures."""
    return [target for target in targets if target.name in group.names]


def warm(targets: Sequence[Running], groups: Sequence[Group], requests: int) -> dict[tuple[str, int], float]:
    """One short run of each kind that isn't counted; then what each peer's connections cost."""
    for target in targets:
        for cell in (Cell(depth) for depth in DEPTHS):
            for test in TESTS:
                benchmark(target, cell, test, max(requests // 10, 1000))
    wanted = {(target, group.connections) for group in groups for target in members(group, targets)}
    return {(target.name, count): setup_s(target, count) for target, count in wanted}


def one_group(
    number: int, group: Group, targets: Sequence[Running], backend_port: int, requests: int, setup: Setup
) -> list[Sample]:
    """Every peer once for each cell and test, in an order that is this round's."""
    fill(backend_port, group.cells()[0])
    samples = []
    for cell in group.cells():
        for test in TESTS:
            for target in ordered(members(group, targets), number):
                cost = setup[target.name, group.connections]
                count = group.requests(cell, requests)
                samples.append(measure(target, backend_port, number, cell, test, count, cost))
    return samples


def run(
    peers: Sequence[Peer], groups: Sequence[Group], rounds: int, requests: int, minutes: float
) -> tuple[list[Sample], int]:
    """Start everything, measure, stop everything. The samples, and how many rounds there was time for."""
    samples: list[Sample] = []
    deadline = time.monotonic() + minutes * 60
    longest = 0.0
    with started(peers) as (backend_port, targets):
        fill(backend_port)
        setup = warm(targets, groups, requests)
        for number in range(rounds):
            began = time.monotonic()
            if number and began + longest > deadline:
                console.print(f"{minutes:g} minutes are over after {number} of {rounds} rounds", style="yellow")
                return samples, number
            for group in groups:
                samples += one_group(number, group, targets, backend_port, requests, setup)
            longest = max(longest, time.monotonic() - began)
            console.print(f"round {number + 1} of {rounds}: {longest:.0f} s at most", style="dim")
    return samples, rounds


def available(peers: Sequence[Peer]) -> tuple[list[Peer], list[str]]:
    """The peers that can be measured, and one line for each that can't be: said, never passed over in silence."""
    gaps = {peer.name: text for peer in peers if (text := peer.missing())}
    for name, text in gaps.items():
        console.print(f"not measured: {name}: {text}", style="yellow")
    return [peer for peer in peers if peer.name not in gaps], [f"{name}: {text}" for name, text in gaps.items()]


def named(words: str, known: Mapping[str, object], option: str) -> list[str]:
    """The names in a list separated by commas. BenchError for one that isn't known."""
    names = [name.strip() for name in words.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise BenchError(f"{option}: there is no {unknown[0]!r}; there are: {'; '.join(known)}")
    return names
