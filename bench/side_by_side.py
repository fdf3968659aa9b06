"""shunt beside its peers, in one run: interleaved rounds of redis-benchmark, and the ratios between them.

    python bench/side_by_side.py [--quick] [--rounds 7] [--minutes 25] [--requests 40000] [--groups main,many,large]
                                 [--only "pipe,shunt session keys"] [--update-readme]

Every peer runs the whole time; in each round each is measured once, and the order is rotated from round to round.
What is missing is said and left out, never passed over in silence.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import machine
import readme
from aims import AIMS, verdict
from load import Sample
from matrix import GROUPS, Group, available, named, run
from peers import PEERS
from peers.launch import BenchError, Peer, end_on_sigterm
from process import raise_open_files
from tables import (
    ABSOLUTE_HEADER,
    RATIO_HEADER,
    RECORDING_HEADER,
    SPENT_HEADER,
    absolute_rows,
    compared,
    ratio_rows,
    recording_rows,
    spent_rows,
)
from terminal import console, show

RESULTS = Path(__file__).with_name("results") / "side_by_side.json"
QUICK = {"rounds": 2, "requests": 8000, "minutes": 4.0}


@dataclass(frozen=True)
class Outcome:
    """One finished run: its samples, who and what was in it, and where."""

    samples: list[Sample]
    peers: Sequence[Peer]
    groups: Sequence[Group]
    gaps: list[str]
    facts: dict[str, str]
    how: str

    def names(self, group: Group) -> list[str]:
        return [peer.name for peer in self.peers if peer.name in group.names]


def details(summary: str, body: str) -> str:
    """A part of the page that is folded up until somebody wants it."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def section(outcome: Outcome, group: Group) -> list[str]:
    """One group's ratios, and its medians folded up."""
    names, cells, samples = outcome.names(group), group.cells(), outcome.samples
    medians = readme.table(ABSOLUTE_HEADER, absolute_rows(samples, names, cells))
    parts = [f"### {group.title}", readme.table(RATIO_HEADER, ratio_rows(samples, compared(names), cells))]
    if group is GROUPS["main"]:
        parts += ["What recording adds:", readme.table(RECORDING_HEADER, recording_rows(samples, cells))]
        parts += ["Who spends what:", readme.table(SPENT_HEADER, spent_rows(samples, names, cells))]
    return [*parts, details("Medians: this machine's, on that day; here to make the ratios readable", medians)]


def markdown(outcome: Outcome) -> str:
    """The section of the README: verdicts, ratios, medians, missing peers, machine and versions."""
    parts = [
        "\n".join(f"- {verdict(outcome.samples, aim)}" for aim in AIMS),
        f"Ratios, {outcome.how}; median of the rounds' ratios (least–most):",
        *(part for group in outcome.groups for part in section(outcome, group)),
        "\n".join(f"- Not measured: {gap}" for gap in outcome.gaps),
        machine.sentence(outcome.facts),
    ]
    return "\n\n".join(part for part in parts if part)


def terminal(outcome: Outcome) -> None:
    """The same on the terminal."""
    for group in outcome.groups:
        names, cells = outcome.names(group), group.cells()
        show(f"{group.title}: ratios", RATIO_HEADER, ratio_rows(outcome.samples, compared(names), cells))
        show(f"{group.title}: medians", ABSOLUTE_HEADER, absolute_rows(outcome.samples, names, cells))
        if group is GROUPS["main"]:
            show("What recording adds", RECORDING_HEADER, recording_rows(outcome.samples, cells))
            show("Who spends what", SPENT_HEADER, spent_rows(outcome.samples, names, cells))
    for aim in AIMS:
        console.print(verdict(outcome.samples, aim))


def save(path: Path, outcome: Outcome) -> None:
    """Raw rounds, one a line: small enough to be kept beside the table that was made of them."""
    head = {"machine": outcome.facts, "how": outcome.how, "missing": outcome.gaps}
    lines = ",\n".join(json.dumps(sample.as_json()) for sample in outcome.samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{json.dumps(head, ensure_ascii=False)[:-1]}, "rounds": [\n{lines}\n]}}\n')


def measured(rounds: int, minutes: float, requests: int, groups: str, only: str | None) -> Outcome:
    """Choose, start, measure. BenchError when something can't be."""
    chosen = [GROUPS[name] for name in named(groups, GROUPS, "--groups")]
    names = named(only, PEERS, "--only") if only else list(PEERS)
    wanted = [PEERS[name] for name in names if any(name in group.names for group in chosen)]
    peers, gaps = available(wanted)
    facts = machine.describe(peers)
    samples, done = run(peers, chosen, rounds, requests, minutes)
    how = f"{done} rounds of SET and GET, {requests:,} commands a run without pipelining"
    return Outcome(samples, peers, chosen, gaps, facts, how)


@click.command()
@click.option("--quick", is_flag=True, help="A first look in about 3 minutes: few rounds of short runs.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option("--minutes", default=25.0, show_default=True, help="Begin no round that would end later.")
@click.option("--requests", default=40_000, show_default=True, type=click.IntRange(1000), help="Per run; deep: × 5.")
@click.option("--groups", default=",".join(GROUPS), show_default=True, help="Which loads.")
@click.option("--only", help=f"Peers, separated by commas: {'; '.join(PEERS)}.")
@click.option("--json", "path", default=RESULTS, type=click.Path(path_type=Path), help="Raw rounds go here.")
@click.option("--update-readme", is_flag=True, help="Write the tables into bench/README.md.")
def main(
    quick: bool,
    rounds: int,
    minutes: float,
    requests: int,
    groups: str,
    only: str | None,
    path: Path,
    update_readme: bool,
) -> None:
    """Measure shunt beside direct Redis, a byte pipe, HAProxy, twemproxy and Envoy."""
    end_on_sigterm()
    raise_open_files()
    if quick:
        rounds, requests, minutes = QUICK["rounds"], QUICK["requests"], QUICK["minutes"]
    try:
        outcome = measured(rounds, minutes, requests, groups, only)
    except BenchError as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    save(path, outcome)
    terminal(outcome)
    if update_readme:
        readme.update("side-by-side", markdown(outcome))


if __name__ == "__main__":
    main()
