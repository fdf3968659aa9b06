"""shunt beside its peers, in one run: interleaved rounds of redis-benchmark, and the ratios between them.

    python bench/side_by_side.py [--rounds 7] [--requests 100000] [--pipelines 1,16] [--only shunt,pipe]
                                 [--update-readme]

Every peer runs the whole time; in each round each is measured once, and the order is rotated from round to round.
What is missing is said and left out, never passed over in silence.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import machine
import readme
from load import CLIENTS, KEYS, VALUE_BYTES, Sample, benchmark, fill, measure
from peers import PEERS
from peers.launch import BenchError, Peer, Running, end_on_sigterm, redis_server, running
from process import raise_open_files
from ratios import AIMS, METRICS, absolute, ordered, ratio, verdict
from terminal import console, show

TESTS = ("SET", "GET")
SUBJECTS = ("shunt", "shunt (no capture)")
CONTROL = "pipe again"
RESULTS = Path(__file__).with_name("results") / "side_by_side.json"
DEEP_FACTOR = 5  # a pipelined run has this many times the commands, so that it lasts about as long
ABSOLUTE_HEADER = ("", "pipeline", "CPU µs/command", "commands/s", "p50 ms", "p99 ms")
RATIO_HEADER = ("", "pipeline", "CPU per command", "throughput", "p50", "p99")


def chosen(only: str | None) -> tuple[list[Peer], list[str]]:
    """The peers to measure, and one line for each that can't be."""
    names = list(PEERS) if only is None else [name.strip() for name in only.split(",")]
    if unknown := [name for name in names if name not in PEERS]:
        raise BenchError(f"--only: no peer is called {unknown[0]!r}; there are: {'; '.join(PEERS)}")
    gaps = {name: text for name in names if (text := PEERS[name].missing())}
    return [PEERS[name] for name in names if name not in gaps], [f"{name}: {text}" for name, text in gaps.items()]


def requests_for(pipeline: int, requests: int) -> int:
    return requests if pipeline == 1 else requests * DEEP_FACTOR


def warm(targets: Sequence[Running], pipelines: Sequence[int], requests: int) -> None:
    """One short run of each kind that isn't counted."""
    for target in targets:
        for pipeline in pipelines:
            for test in TESTS:
                benchmark(target, pipeline, test, max(requests // 10, 1000))


def one_round(
    number: int, targets: Sequence[Running], backend_port: int, pipelines: Sequence[int], requests: int
) -> list[Sample]:
    """Every peer once for each pipeline and test, in an order that is this round's."""
    order = ordered(targets, number)
    samples: list[Sample] = []
    for pipeline in pipelines:
        for test in TESTS:
            for target in order:
                count = requests_for(pipeline, requests)
                samples.append(measure(target, backend_port, number, pipeline, test, count))
    return samples


def run(peers: Sequence[Peer], pipelines: Sequence[int], rounds: int, requests: int) -> list[Sample]:
    """Start everything, measure all rounds, stop everything."""
    samples: list[Sample] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shunt-bench-")))
        backend_port = stack.enter_context(redis_server(directory))
        fill(backend_port)
        targets = [stack.enter_context(running(peer, backend_port, directory)) for peer in peers]
        warm(targets, pipelines, requests)
        for number in range(rounds):
            console.print(f"round {number + 1} of {rounds}", style="dim")
            samples += one_round(number, targets, backend_port, pipelines, requests)
    return samples


def absolute_rows(samples: list[Sample], peers: Sequence[Peer], pipelines: Sequence[int]) -> list[list[str]]:
    """Medians: one row for each peer and pipeline."""
    forms = {"cpu_us": "{:.2f}", "rps": "{:,.0f}", "p50_ms": "{:.3f}", "p99_ms": "{:.3f}"}
    rows = []
    for pipeline in pipelines:
        for peer in peers:
            values = {metric: absolute(samples, peer.name, pipeline, metric) for metric in METRICS}
            cells = [forms[metric].format(value.middle) if value else "–" for metric, value in values.items()]
            rows.append([peer.name, str(pipeline), *cells])
    return rows


def compared(names: Sequence[str]) -> list[tuple[str, str]]:
    """Which is set over which: the pipe over itself first, then each form of shunt over each other peer."""
    others = [name for name in names if name not in (*SUBJECTS, CONTROL)]
    pairs = [(CONTROL, "pipe")] if {CONTROL, "pipe"} <= set(names) else []
    subjects = [name for name in SUBJECTS if name in names] or ["pipe"]
    return pairs + [(subject, other) for subject in subjects for other in others if other != subject]


def ratio_rows(samples: list[Sample], peers: Sequence[Peer], pipelines: Sequence[int]) -> list[list[str]]:
    """One row for each pipeline and pair: median (least–most) of the rounds' ratios."""
    rows = []
    for pipeline in pipelines:
        for subject, other in compared([peer.name for peer in peers]):
            values = [ratio(samples, subject, other, pipeline, metric) for metric in METRICS]
            rows.append([f"{subject} / {other}", str(pipeline), *(str(value) if value else "–" for value in values)])
    return rows


def markdown(
    samples: list[Sample],
    peers: Sequence[Peer],
    gaps: list[str],
    pipelines: Sequence[int],
    facts: dict[str, str],
    how: str,
) -> str:
    """The section of the README: verdicts, ratios, medians, missing peers, machine and versions."""
    parts = [
        "\n".join(f"- {verdict(samples, 'shunt', aim)}" for aim in AIMS),
        f"Ratios, {how}; median of the rounds' ratios (least–most):",
        readme.table(RATIO_HEADER, ratio_rows(samples, peers, pipelines)),
        "Medians of the same runs. They are this machine's, on that day, and are here to make the ratios readable:",
        readme.table(ABSOLUTE_HEADER, absolute_rows(samples, peers, pipelines)),
        "\n".join(f"- Not measured: {gap}" for gap in gaps),
        machine.sentence(facts),
    ]
    return "\n\n".join(part for part in parts if part)


def save(path: Path, facts: dict[str, str], how: str, gaps: list[str], samples: list[Sample]) -> None:
    """Raw rounds, one a line: small enough to be kept beside the table that was made of them."""
    head = json.dumps({"machine": facts, "how": how, "missing": gaps}, ensure_ascii=False)[:-1]
    lines = ",\n".join(json.dumps(sample.as_json()) for sample in samples)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{head}, "rounds": [\n{lines}\n]}}\n')


@click.command()
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@click.option(
    "--requests", default=100_000, show_default=True, type=click.IntRange(1000), help="Per run; pipelined: × 5."
)
@click.option("--pipelines", default="1,16", show_default=True, help="Commands in flight per connection.")
@click.option("--only", help=f"Peers, separated by commas: {'; '.join(PEERS)}.")
@click.option("--json", "path", default=RESULTS, type=click.Path(path_type=Path), help="Raw rounds go here.")
@click.option("--update-readme", is_flag=True, help="Write the tables into bench/README.md.")
def main(rounds: int, requests: int, pipelines: str, only: str | None, path: Path, update_readme: bool) -> None:
    """Measure shunt beside direct Redis, a byte pipe, HAProxy, twemproxy and Envoy."""
    end_on_sigterm()
    raise_open_files()
    try:
        depths = [int(word) for word in pipelines.split(",")]
        peers, gaps = chosen(only)
        for gap in gaps:
            console.print(f"not measured: {gap}", style="yellow")
        facts = machine.describe(peers)
        samples = run(peers, depths, rounds, requests)
    except (BenchError, ValueError) as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    how = f"{rounds} rounds of SET and GET, {CLIENTS} connections, {VALUE_BYTES}-byte values, {KEYS:,} keys"
    save(path, facts, how, gaps, samples)
    show("Ratios: median (least–most)", RATIO_HEADER, ratio_rows(samples, peers, depths))
    show("Medians", ABSOLUTE_HEADER, absolute_rows(samples, peers, depths))
    for aim in AIMS:
        console.print(verdict(samples, "shunt", aim))
    if update_readme:
        readme.update("side-by-side", markdown(samples, peers, gaps, depths, facts, how))


if __name__ == "__main__":
    main()
