"""``shunt mirror start``, ``stop``, ``status``, ``reads``, ``errors``: the console's verbs about the mirror.

Knows: how the flags become the words of MIRROR START. Refuses to know: how a console is asked (``cli.control``).
"""

from __future__ import annotations

from typing import Any

import click

from proxy.cli.control import ask, console_options, show

_SUBVERBS = {
    "stop": ("MIRROR STOP", "End the mirror, once what was copied has arrived."),
    "status": ("SHOW MIRROR", "What is mirrored where, how far behind, what was dropped and why."),
    "errors": ("SHOW MIRROR ERRORS", "What only the mirror's server refused, or did not have."),
    "reads": ("SHOW MIRROR READS", "Replies of both servers to the same reads, by command and pattern of the key."),
}


@click.group("mirror")
def mirror_group() -> None:
    """Send what clients do to another Redis too, and compare; no client waits for it (docs/mirror.md)."""


@mirror_group.command("start")
@click.argument("target", required=False)
@click.option("--writes", "what", flag_value="WRITES", help="The effects of writes.  [this one]")
@click.option("--reads", "what", flag_value="READS", help="Reads, to compare the replies.")
@click.option("--all", "what", flag_value="ALL", help="Both.")
@click.option("--sample", metavar="PERCENT", help="This share of the keys only, like 10%.")
@click.option("--class", "patterns", metavar="PATTERN", multiple=True, help="Keys like this only; may be repeated.")
@console_options
def start_command(
    target: str | None,
    what: str | None,
    sample: str | None,
    patterns: tuple[str, ...],
    console: str | None,
    as_json: bool,
) -> None:
    """Mirror to TARGET, a redis:// URL; without it, to what --mirror-target of shunt run names.

    Every user of the machine can read a password on a command line: set SHUNT_MIRROR_TARGET for shunt run instead.
    """
    words = [target] if target else []
    words += [what or "WRITES", *(["SAMPLE", sample] if sample else [])]
    for pattern in patterns:
        words += ["CLASS", pattern]
    show(ask(console, ["MIRROR", "START", *words])["answer"], as_json)


def _subverb(name: str) -> None:
    verb, help_text = _SUBVERBS[name]

    @console_options
    def run(console: str | None, as_json: bool, **_: Any) -> None:
        show(ask(console, verb.split())["answer"], as_json)

    mirror_group.command(name, help=help_text)(run)


for _name in _SUBVERBS:
    _subverb(_name)
