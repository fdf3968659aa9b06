"""What a proxy adds to the latency of a command at a steady 1,000 commands a second, beside direct Redis.

    python bench/latency.py [--rounds 7] [--seconds 2] [--rate 1000] [--update-readme]

Interleaved: in each round every peer gets the same open-loop load for the same time, in rotated order, and what it
adds is its quantile minus direct Redis's quantile of the same round.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import machine
import readme
from load import fill
from matrix import available, started
from openloop import OpenLoop, quantile
from peers import PEERS
from peers.launch import BenchError, Peer, Running, end_on_sigterm
from ratios import ordered, spread
from terminal import console, show

NAMES = ("direct", "pipe", "HAProxy", "shunt session keys", "shunt shared keys")
QUANTILES = {"p50": 0.5, "p99": 0.99}
HEADER = ("", "p50 µs", "p99 µs", "added p50 µs", "added p99 µs", "added p50 / HAProxy's")

Round = dict[str, dict[str, float]]  # peer → quantile's name → µs


def one_round(number: int, targets: Sequence[Running], rate: float, seconds: float) -> Round:
    """Every peer once, in this round's order."""
    found: Round = {}
    for target in ordered(targets, number):
        with OpenLoop(target.port) as client:
            client.run(rate, min(0.2, seconds))
            latencies = client.run(rate, seconds)
        found[target.name] = {name: quantile(latencies, share) for name, share in QUANTILES.items()}
    return found


def run(peers: Sequence[Peer], rounds: int, rate: float, seconds: float) -> list[Round]:
    """Start everything, measure, stop everything."""
    with started(peers) as (backend_port, targets):
        fill(backend_port)
        return [one_round(number, targets, rate, seconds) for number in range(rounds)]


def added(rounds: Sequence[Round], name: str, quantile_name: str) -> list[float]:
    """What `name` adds to direct Redis's quantile, in µs, round by round."""
    return [each[name][quantile_name] - each["direct"][quantile_name] for each in rounds]


def row(name: str, rounds: Sequence[Round]) -> list[str]:
    """One peer: its medians, what it adds to direct's, and that as a multiple of what HAProxy adds."""
    cells = [f"{value.middle:.0f}" for q in QUANTILES if (value := spread(each[name][q] for each in rounds))]
    if name == "direct":
        return [name, *cells, "–", "–", "–"]
    spreads = [value for q in QUANTILES if (value := spread(added(rounds, name, q)))]
    cells += [f"{value.middle:+.0f} ({value.low:+.0f} to {value.high:+.0f})" for value in spreads]
    if name == "HAProxy" or "HAProxy" not in rounds[0]:
        return [name, *cells, "–"]
    pairs = zip(added(rounds, name, "p50"), added(rounds, "HAProxy", "p50"), strict=True)
    return [name, *cells, str(spread(own / haproxy for own, haproxy in pairs if haproxy > 0) or "–")]


@click.command()
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=2.0, show_default=True, help="Per peer and round.")
@click.option("--rate", default=1000.0, show_default=True, help="Commands per second.")
@click.option("--update-readme", is_flag=True, help="Write the table into bench/README.md.")
def main(rounds: int, seconds: float, rate: float, update_readme: bool) -> None:
    """Measure the latency that each proxy adds at a steady rate."""
    end_on_sigterm()
    peers, gaps = available([PEERS[name] for name in NAMES])
    try:
        facts = machine.describe(peers)
        measured = run(peers, rounds, rate, seconds)
    except BenchError as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    rows = [row(peer.name, measured) for peer in peers]
    show(f"Latency at {rate:.0f} commands/s, {rounds} rounds of {seconds:g} s", HEADER, rows)
    if update_readme:
        how = f"{rate:.0f} commands/s, {rounds} rounds of {seconds:g} s each; median (least to most):"
        missing = "\n".join(f"- Not measured: {gap}" for gap in gaps)
        parts = [how, readme.table(HEADER, rows), missing, machine.sentence(facts)]
        readme.update("latency", "\n\n".join(part for part in parts if part))


if __name__ == "__main__":
    main()
