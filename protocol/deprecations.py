"""Commands that the server itself calls deprecated: since when, and what replaces them.

Knows: ``deprecated.json``, what a live server answered to COMMAND DOCS (``shunt commands --deprecated`` regenerates
it), and ``deprecated_newer.json``, what newer servers' documentation says besides, written by hand. Refuses to know:
who still sends them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Deprecation:
    """``since``: the server's version. ``instead``: the server's own words, empty where it names nothing."""

    name: str
    since: str
    instead: str


@cache
def deprecations() -> Mapping[str, Deprecation]:
    """The commands by name, upper case, a subcommand's behind its container's."""
    room = files("protocol")
    found: dict[str, Deprecation] = {}
    for name in ("deprecated_newer.json", "deprecated.json"):
        for entry in json.loads(room.joinpath(name).read_text(encoding="utf-8"))["commands"]:
            # "!GET": a mark of Redis' own documentation against making a link of it
            found[entry["name"]] = Deprecation(entry["name"], entry["since"], entry["instead"].replace("`!", "`"))
    return found


def deprecations_text(server: str, version: str, date: str, reply: Sequence[Any]) -> str:
    """The text of ``deprecated.json`` for a server's COMMAND DOCS reply (RESP2 shape, bytes).

    Raises ``ValueError`` when the reply is of another shape.
    """
    if len(reply) % 2:
        raise ValueError("its COMMAND DOCS reply is no list of names and descriptions")
    found = sorted(_deprecated(reply), key=lambda entry: entry["name"])
    lines = ",\n".join(f"  {json.dumps(entry)}" for entry in found)
    head = json.dumps({"server": server, "version": version, "date": date})[1:-1]
    return f'{{{head}, "commands": [\n{lines}\n]}}\n'


def _deprecated(reply: Sequence[Any]) -> Iterator[dict[str, str]]:
    for i in range(0, len(reply), 2):
        about = {reply[i + 1][k]: reply[i + 1][k + 1] for k in range(0, len(reply[i + 1]), 2)}
        if b"deprecated" in about.get(b"doc_flags", []):
            yield {
                "name": reply[i].decode().upper().replace("|", " "),
                "since": about.get(b"deprecated_since", b"").decode(),
                "instead": about.get(b"replaced_by", b"").decode(),
            }
        yield from _deprecated(about.get(b"subcommands", []))
