"""Two workers against one: CPU per command and throughput of `--workers 2`, as a ratio to the same without it.

    python bench/workers.py [--rounds 7] [--requests 40000] [--minutes 10] [--update-readme]

Both modes, recording keys, interleaved as in side_by_side.py. CPU is that of all of a proxy's processes together.
"""

from __future__ import annotations

import sys

import click
import machine
import readme
from load import CLIENTS, VALUE_BYTES
from matrix import Group, available, run
from peers.launch import BenchError, end_on_sigterm
from peers.shunt import POOLS, variant
from process import raise_open_files
from tables import ABSOLUTE_HEADER, RATIO_HEADER, absolute_rows, ratio_rows
from terminal import console, show

ONE = {pool: variant(pool, "keys") for pool in POOLS}
TWO = {pool: variant(pool, "keys", workers=2) for pool in POOLS}
PEERS = [peer for pool in POOLS for peer in (ONE[pool], TWO[pool])]
PAIRS = [(TWO[pool].name, ONE[pool].name) for pool in POOLS]
GROUPS = [
    Group("50 connections", CLIENTS, VALUE_BYTES, tuple(peer.name for peer in PEERS), 1.0),
    Group("500 connections", 500, VALUE_BYTES, tuple(peer.name for peer in PEERS), 2.0),
]


@click.command()
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option("--minutes", default=10.0, show_default=True, help="Begin no round that would end later.")
@click.option("--requests", default=40_000, show_default=True, type=click.IntRange(1000), help="Per run; deep: × 5.")
@click.option("--update-readme", is_flag=True, help="Write the tables into bench/README.md.")
def main(rounds: int, minutes: float, requests: int, update_readme: bool) -> None:
    """Measure two workers beside one."""
    end_on_sigterm()
    raise_open_files()
    try:
        peers, gaps = available(PEERS)
        if gaps:
            raise BenchError(gaps[0])
        facts = machine.describe(peers)
        samples, done = run(peers, GROUPS, rounds, requests, minutes)
    except BenchError as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    names, parts = [peer.name for peer in peers], []
    for group in GROUPS:
        ratios, medians = ratio_rows(samples, PAIRS, group.cells()), absolute_rows(samples, names, group.cells())
        show(f"{group.title}: ratios", RATIO_HEADER, ratios)
        show(f"{group.title}: medians", ABSOLUTE_HEADER, medians)
        parts += [f"{group.title}:", readme.table(RATIO_HEADER, ratios), readme.table(ABSOLUTE_HEADER, medians)]
    if update_readme:
        how = f"{done} rounds of SET and GET, 100-byte values; median of the rounds' ratios (least–most), then medians."
        readme.update("workers", "\n\n".join([how, *parts, machine.sentence(facts)]))


if __name__ == "__main__":
    main()
