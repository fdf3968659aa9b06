"""The generated parts of bench/README.md: text between a pair of markers, and Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from peers.launch import BenchError

README = Path(__file__).with_name("README.md")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the rest are numbers and stand right."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def replaced(text: str, name: str, body: str) -> str:
    """`text` with what stands between the markers of `name` replaced. BenchError without both markers."""
    begin, finish = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(finish)
    if not (found and closed):
        raise BenchError(f"bench/README.md has no markers {begin} … {finish}: put them back")
    return f"{before}{begin}\n\n{body.strip()}\n\n{finish}{after}"


def update(name: str, body: str, path: Path = README) -> None:
    """Write `body` into the section `name` of the README."""
    path.write_text(replaced(path.read_text(), name, body))
