"""The picture of growth.py's results: CPU per command and memory over the number of connections.

python bench/growth_plot.py [results/growth.json [results/growth.svg]]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.launch import BenchError
from ratios import spread

RESULTS = Path(__file__).with_name("results") / "growth.json"
COLOURS = {"pipe": "#767676", "shunt session keys": "#1f5fa8", "shunt shared keys": "#c4570a"}
MARKS = {"pipe": "s", "shunt session keys": "o", "shunt shared keys": "^"}
STYLE = {"font.size": 11, "svg.hashsalt": "growth", "axes.spines.top": False, "axes.spines.right": False}


def series(steps: Sequence[dict[str, Any]], peer: str, field: str, unit: float) -> list[tuple[float, ...]]:
    """(connections, median, least, most), sorted."""
    points = []
    for clients in sorted({step["clients"] for step in steps}):
        of = (step[field] / unit for step in steps if step["peer"] == peer and step["clients"] == clients)
        if found := spread(of):
            points.append((clients, found.middle, found.low, found.high))
    return points


def panel(axes: Any, steps: Sequence[dict[str, Any]], field: str, unit: float, label: str) -> None:
    """One line with its band for each peer, on a logarithmic axis of connections."""
    for peer in COLOURS:
        points = series(steps, peer, field, unit)
        if not points:
            continue
        clients, middle, low, high = zip(*points, strict=True)
        axes.fill_between(clients, low, high, color=COLOURS[peer], alpha=0.15, linewidth=0)
        axes.plot(clients, middle, color=COLOURS[peer], marker=MARKS[peer], linewidth=2, label=peer)
    sizes = sorted({step["clients"] for step in steps})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("connections")
    axes.set_title(label, loc="left")
    axes.grid(axis="y", color="#dddddd")


def draw(source: Path, target: Path) -> None:
    """Draw `source` into `target`; the kind of picture is its suffix. BenchError without matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise BenchError("no plot: matplotlib is not installed: pip install 'redis-shunt[bench]'") from None
    steps = json.loads(source.read_text())["steps"]
    with pyplot.rc_context(STYLE):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), facecolor="white", layout="constrained")
        panel(left, steps, "cpu_us", 1, "CPU per command, µs")
        panel(right, steps, "idle_bytes", 1e6, "Resident memory, all clients idle, MB")
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=len(COLOURS), frameon=False)
        figure.savefig(target, dpi=120, metadata={"Date": None} if target.suffix == ".svg" else None)
        pyplot.close(figure)


if __name__ == "__main__":
    chosen = [Path(word) for word in sys.argv[1:3]] or [RESULTS]
    draw(chosen[0], chosen[1] if len(chosen) > 1 else chosen[0].with_suffix(".svg"))
