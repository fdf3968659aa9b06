"""This checkout against another one: has a change made shunt dearer?

    git worktree add --detach ../before COMMIT && make -C ../before build
    python bench/against.py ../before [--rounds 8] [--requests 40000] [--more "--console unix:///tmp/{pool}"]

Both modes, recording keys, interleaved as in side_by_side.py. The other checkout runs twice: read the row of it against
itself first, it is the noise. ``--more`` are options of this checkout's shunt alone, for what the other does not have.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import click
from load import CLIENTS, VALUE_BYTES
from matrix import Group, available, run
from peers.launch import BenchError, Peer, Place, end_on_sigterm
from peers.shunt import POOLS, variant
from process import raise_open_files
from tables import ABSOLUTE_HEADER, RATIO_HEADER, absolute_rows, ratio_rows
from terminal import console, show


def peers(pool: str, other: Path, more: list[str]) -> tuple[Peer, Peer, Peer]:
    """This checkout's shunt, the other's, and the other's again."""
    here = variant(pool, "keys")

    def elsewhere(place: Place) -> list[str]:
        # Without PYTHONPATH, in which this checkout stands first.
        return ["env", "-u", "PYTHONPATH", str(other / ".venv/bin/shunt"), *here.argv(place)[1:]]

    there = replace(here, name=f"before, {pool}", argv=elsewhere)
    now = replace(
        here,
        name=f"now, {pool}",
        argv=lambda place: [*here.argv(place), *(word.replace("{pool}", pool) for word in more)],
    )
    return now, there, replace(there, name=f"before again, {pool}")


@click.command()
@click.argument("other", type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path))
@click.option("--rounds", default=8, show_default=True, type=click.IntRange(1))
@click.option("--minutes", default=15.0, show_default=True, help="Begin no round that would end later.")
@click.option("--requests", default=40_000, show_default=True, type=click.IntRange(1000), help="Per run; deep: × 5.")
@click.option("--more", default="", help="Options of this checkout's shunt alone; {pool} is replaced.")
def main(other: Path, rounds: int, minutes: float, requests: int, more: str) -> None:
    """Measure this checkout's shunt beside OTHER's, a built checkout."""
    end_on_sigterm()
    raise_open_files()
    try:
        if not (other / ".venv/bin/shunt").exists():
            raise BenchError(f"{other}: is not built; run make build there")
        found = [peers(pool, other, shlex.split(more)) for pool in POOLS]
        everybody, _ = available([peer for three in found for peer in three])
        group = Group("", CLIENTS, VALUE_BYTES, tuple(peer.name for peer in everybody), 1.0)
        samples, done = run(everybody, [group], rounds, requests, minutes)
    except BenchError as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    pairs = [(one.name, before.name) for now, before, again in found for one in (again, now)]
    show(f"{done} rounds: this checkout / the other", RATIO_HEADER, ratio_rows(samples, pairs, group.cells()))
    show("Medians", ABSOLUTE_HEADER, absolute_rows(samples, group.names, group.cells()))


if __name__ == "__main__":
    main()
