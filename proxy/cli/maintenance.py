"""``shunt maintenance``: the console's MAINTENANCE for people, a line for each step, aborted by Ctrl-C.

Knows: how the walk is shown and ended from a terminal. Refuses to know: the walk (``cutover.maintenance``), and how a
console is found and asked (``control``).
"""

from __future__ import annotations

import click

from proxy.cli.control import ask, console_options, show
from proxy.cli.main import VERBS
from proxy.console.verb import printable


@click.command("maintenance", help=f"{VERBS['maintenance'].help} The console's MAINTENANCE. Ctrl-C aborts it.")
@click.option("--limit", metavar="DURATION", help="Longest time that traffic is held.  [60s]")
@click.option("--to", "target", metavar="TARGET", help="Where traffic goes afterwards: a name of --backends, or a URL.")
@click.option("--done", is_flag=True, help="Say to the one under way that the backend is back.")
@click.option("--abort", is_flag=True, help="End the one under way; traffic goes on.")
@console_options
def maintenance_command(
    limit: str | None, target: str | None, done: bool, abort: bool, console: str | None, as_json: bool
) -> None:
    if done or abort:
        show(ask(console, ["MAINTENANCE", "DONE" if done else "ABORT"])["answer"], as_json)
        return
    words = ["MAINTENANCE", *([limit] if limit else []), *([target] if target else [])]
    try:
        said = ask(console, words, _Lines())
    except KeyboardInterrupt:
        show(ask(console, ["MAINTENANCE", "ABORT"])["answer"], as_json)
        raise click.exceptions.Exit(1) from None
    show(said["answer"], as_json)


class _Lines:
    """Writes each new line of progress to stderr."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, line: str) -> None:
        if line != self._last:
            self._last = line
            click.echo(printable(line), err=True)
