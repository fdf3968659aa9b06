"""The command table: what each Redis command is, as its server tells it and as a proxy must know it.

Knows three layers, each a table. ``commands.json``: what a live server answered to COMMAND (``shunt commands``
regenerates it). ``commands_newer.json``: commands of newer servers, written by hand from their documentation.
``protocol.traits``: what no server tells, such as how many replies are due or which command changes a session.
Refuses to know: how keys are found in bytes (``keyspecs``) and what a session does with a kind (``engine``).

A command that is in no layer is unknown: its keys can't be told and it counts as a write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from protocol.traits import (
    FINDERS,
    KINDS,
    REPLIES,
    SERVER_FLAG_TRAITS,
    TRAITS,
    Finder,
    Kind,
    Replies,
    Trait,
)

__all__ = ["CommandSpec", "Finder", "KeySpec", "Kind", "Replies", "Table", "Trait", "document_text", "load", "table"]


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One rule for finding keys, as Redis defines key specifications.

    ``begin`` is "index" (at argument ``start``), "keyword" (behind ``keyword``, searched from argument ``start``, from
    the end if negative) or "unknown". ``find`` is "range" (to ``last`` relative to the first key, or to the end if
    negative; every ``step``-th; the first 1/``limit`` part), "keynum" (a count at ``last``, keys from ``first``, both
    relative to the begin) or "unknown".
    """

    flags: frozenset[str]
    begin: str
    start: int = 0
    keyword: str = ""
    find: str = "unknown"
    first: int = 0
    last: int = 0
    step: int = 1
    limit: int = 0


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command or subcommand. ``name`` is upper case, a subcommand's behind its container's: "CLIENT SETNAME"."""

    name: str
    arity: int  # counts the name; negative: at least that many arguments
    flags: frozenset[str]  # the server's
    categories: frozenset[str]
    tips: tuple[str, ...]
    key_specs: tuple[KeySpec, ...]
    container: bool  # has subcommands
    newer: bool  # from commands_newer.json, not from a live server
    since: str  # what it came with, where commands_newer.json says so, "Redis 8.2, Valkey 8.0"; else empty
    kind: Kind
    traits: Trait
    replies: Replies
    finder: Finder


@dataclass(frozen=True, slots=True)
class Table:
    """All commands by name, in order of name, and where the live part comes from."""

    server: str
    version: str
    date: str
    commands: Mapping[str, CommandSpec]


@cache
def table() -> Table:
    """The table that ships with shunt: the live server's commands, then the newer ones."""
    room = files("protocol")
    return load(
        json.loads(room.joinpath("commands.json").read_text(encoding="utf-8")),
        json.loads(room.joinpath("commands_newer.json").read_text(encoding="utf-8")),
    )


def load(live: Mapping[str, Any], newer: Mapping[str, Any] | None = None) -> Table:
    """A table out of a ``commands.json`` document, completed by a ``commands_newer.json`` document.

    What the live server says goes before what the newer document says. Raises ``KeyError`` or ``TypeError`` when a
    document is not of the form that :func:`document_text` writes, ``ValueError`` when ``traits`` names a command
    that is in neither.
    """
    came = {entry["name"]: entry.get("since", "") for entry in (newer["commands"] if newer else ())}
    merged = {entry["name"]: _spec(entry, came.get(entry["name"], ""), newer=False) for entry in live["commands"]}
    for entry in newer["commands"] if newer else ():
        merged.setdefault(entry["name"], _spec(entry, came[entry["name"]], newer=True))
    if newer:
        _refuse_strangers(merged)
    return Table(live["server"], live["version"], live["date"], dict(sorted(merged.items())))


def _refuse_strangers(commands: Mapping[str, CommandSpec]) -> None:
    named = {*KINDS, *REPLIES, *FINDERS}.union(*TRAITS.values())
    if strangers := sorted(named - commands.keys()):
        raise ValueError(f"traits.py names commands that no table has: {', '.join(strangers)}")


def _spec(entry: Mapping[str, Any], since: str, *, newer: bool) -> CommandSpec:
    name = entry["name"]
    flags = frozenset(entry["flags"])
    key_specs = tuple(_key_spec(each) for each in entry["key_specs"])
    traits = Trait(0)
    for flag, trait in SERVER_FLAG_TRAITS.items():
        if flag in flags:
            traits |= trait
    for trait, names in TRAITS.items():
        if name in names:
            traits |= trait
    if key_specs and all("not_key" in spec.flags for spec in key_specs):
        traits |= Trait.SHARD_CHANNEL
    return CommandSpec(
        name=name,
        arity=entry["arity"],
        flags=flags,
        categories=frozenset(entry["categories"]),
        tips=tuple(entry["tips"]),
        key_specs=key_specs,
        container=bool(entry.get("container", False)),
        newer=newer,
        since=since,
        kind=KINDS.get(name, Kind.PLAIN),
        traits=traits,
        replies=REPLIES.get(name, Replies.ONE),
        finder=FINDERS.get(name, Finder.SPECS),
    )


def _key_spec(entry: Mapping[str, Any]) -> KeySpec:
    begin, find = entry["begin_search"], entry["find_keys"]
    where: dict[str, Any] = {"begin": begin["type"], "find": find["type"], "flags": frozenset(entry["flags"])}
    match begin:
        case {"type": "index", "index": int(start)}:
            where |= {"start": start}
        case {"type": "keyword", "keyword": str(word), "startfrom": int(start)}:
            where |= {"keyword": word.upper(), "start": start}
    match find:
        case {"type": "range", "lastkey": int(last), "keystep": int(step), "limit": int(limit)}:
            where |= {"last": last, "step": step, "limit": limit}
        case {"type": "keynum", "keynumidx": int(last), "firstkey": int(first), "keystep": int(step)}:
            where |= {"last": last, "first": first, "step": step}
    return KeySpec(**where)


# ---- writing commands.json


def document_text(server: str, version: str, date: str, reply: Sequence[Any]) -> str:
    """The text of ``commands.json`` for a server's COMMAND reply (RESP2 shape, bytes), the same for the same server.

    Raises ``ValueError`` when the reply is not of Redis 7's shape: older servers tell no key specifications.
    """
    entries = sorted((entry for each in reply for entry in _entries(each)), key=lambda entry: entry["name"])
    lines = ",\n".join(f"  {json.dumps(entry, sort_keys=True)}" for entry in entries)
    head = json.dumps({"server": server, "version": version, "date": date})[1:-1]
    return f'{{{head}, "commands": [\n{lines}\n]}}\n'


def _entries(reply: Sequence[Any]) -> Iterator[dict[str, Any]]:
    if len(reply) < 10:
        raise ValueError("its COMMAND reply has no key specifications; a server of version 7.0 or later is needed")
    name, arity, flags, _, _, _, categories, tips, key_specs, subcommands = reply[:10]
    yield {
        "name": name.decode().upper().replace("|", " "),
        "arity": arity,
        "flags": sorted(flag.decode() for flag in flags),
        "categories": sorted(category.decode() for category in categories),
        "tips": [tip.decode() for tip in tips],
        "key_specs": [_key_spec_entry(_pairs(spec)) for spec in key_specs],
        "container": bool(subcommands),
    }
    for each in subcommands:
        yield from _entries(each)


def _pairs(flat: Sequence[Any]) -> dict[str, Any]:
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def _key_spec_entry(spec: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"flags": sorted(flag.decode() for flag in spec["flags"])}
    for part in ("begin_search", "find_keys"):
        outer = _pairs(spec[part])
        entry[part] = {"type": outer["type"].decode()} | {
            name: value.decode() if isinstance(value, bytes) else value for name, value in _pairs(outer["spec"]).items()
        }
    return entry
