"""``shunt split TARGET 10%``, ``shunt split status``, ``shunt split end``: the console's verbs about the split.

Knows: how arguments become the words of SPLIT. Refuses to know: how a console is asked (``cli.control``).
"""

from __future__ import annotations

import click

from proxy.cli.control import ask, console_options, show

_SUBVERBS = {"status": "SHOW SPLIT", "end": "SPLIT END"}


@click.command("split")
@click.argument("target", metavar="TARGET|status|end")
@click.argument("percent", required=False)
@click.option("--name", metavar="PATTERN", help="Only clients that call themselves so (CLIENT SETNAME); as for KEYS.")
@click.option("--addr", metavar="PATTERN", help="Only clients from there: a network, 10.0.0.0/8, or a pattern.")
@console_options
def split_command(
    target: str, percent: str | None, name: str | None, addr: str | None, console: str | None, as_json: bool
) -> None:
    """Have PERCENT (like 10%) of the connections that are opened from now on read from TARGET, a redis:// URL.

    A mirror must send all writes there (shunt mirror start). A connection goes back to the backend, for good, with its
    first command that is not known to be a read; all of them do when anything is wrong with the mirror or the target.
    status: what it does. end: all read from the backend again. More in docs/split.md.
    """
    if target in _SUBVERBS:
        if percent or name or addr:
            raise click.UsageError(f"nothing may follow 'shunt split {target}' but --console and --json")
        words = _SUBVERBS[target].split()
    elif percent is None:
        raise click.UsageError("write shunt split TARGET PERCENT, for example shunt split redis://new:6379 10%")
    else:
        words = ["SPLIT", target, percent, *(["NAME", name] if name else []), *(["ADDR", addr] if addr else [])]
    show(ask(console, words)["answer"], as_json)
