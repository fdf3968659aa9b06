"""``shunt targets``: what commands can be moved to, and what is known of each.

Knows: how a list and an explanation look on a terminal. Refuses to know: any target (``proxy.report.targets``).
"""

from __future__ import annotations

import os
import sys

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.report.targets import TARGETS, Confidence, Target, TargetError, find
from proxy.report.targets.explain import explain

WIDTH = 100
_FOOT = "shunt targets NAME explains one; shunt report --target NAME judges by it, --target all by each."
_STYLES = {
    Confidence.MEASURED: "green",
    Confidence.DOCUMENTED: "green",
    Confidence.INFERRED: "yellow",
    Confidence.MEMORY: "yellow",
}


@click.command("targets")
@click.argument("name", required=False)
def targets_command(name: str | None) -> None:
    """List the targets that a capture can be judged against, or explain one of them.

    Every statement says how it is known (measured, documented, inferred, from memory) and where from.
    """
    terminal = sys.stdout.isatty()
    console = Console(
        file=sys.stdout, width=None if terminal else WIDTH, no_color=not terminal or "NO_COLOR" in os.environ,
        highlight=False, emoji=False, markup=False,
    )  # fmt: skip
    if name is None:
        _list(console)
        return
    try:
        _explain(console, find(name))
    except TargetError as error:
        raise click.UsageError(str(error)) from None


def _list(console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for heading in ("target", "what it is", "client"):
        table.add_column(heading, overflow="fold")
    for target in TARGETS.values():
        client = "cluster" if target.client.needs == "cluster" else "any"
        table.add_row(target.id, target.title, client + (", TLS" if target.client.tls == "required" else ""))
    console.print(table)
    console.print(
        Text("shunt targets NAME explains one; shunt report --target NAME judges by it, --target all by each.")
    )


def _explain(console: Console, target: Target) -> None:
    console.print(Text(target.id, style="bold") + Text(f": {target.title}"))
    console.print(Text(" ".join(target.about.split())))
    if target.aliases:
        console.print(Text(f"also called {', '.join(target.aliases)}", style="dim"))
    for each in explain(target):
        console.print()
        console.print(Text(f"{each.topic}: ", style="bold") + Text(each.text))
        known = Text(f"  {each.confidence}", style=_STYLES[each.confidence])
        console.print(known + Text(f": {each.source}", style="dim"))
