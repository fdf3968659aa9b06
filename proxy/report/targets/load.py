"""Targets out of their TOML files: ``like`` resolved, checked, and the commands that each refuses spelled out.

Knows: the files beside it (package data), inheritance, and how a name with a star, a server's version or a list of all
that a target serves become names of commands. Refuses to know: what facts mean.

``like = "redis-cluster"``: the file says only what differs. A table of the file is laid over the parent's of the same
name, key by key, and names its own source; ``[[commands]]`` are added behind the parent's; later ones go first. The
server's version is not taken over: where a file names none, commands of Redis 7.2 and later are unverified.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import ValidationError

from protocol.commands import table
from proxy.report.targets.target import CommandKind, Commands, Confidence, Server, Target

#: What is never taken from a parent. A server's version is not: an offering promises its own or none.
_OWN = {"id", "aliases", "like", "title", "about", "parents", "server"}


class TargetError(ValueError):
    """A target's file that can't be used: one line that names file and place."""


def read_targets() -> dict[str, Target]:
    """Every target that ships with shunt, by id, in order of id."""
    documents = {
        file.name.removesuffix(".toml"): tomllib.loads(file.read_text(encoding="utf-8"))
        for file in files("proxy.report.targets").iterdir()
        if file.name.endswith(".toml")
    }
    return targets_of(documents)


def targets_of(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Target]:
    """Targets out of parsed TOML documents by id. Raises TargetError."""
    made = {name: _target(name, documents) for name in sorted(documents)}
    taken = dict.fromkeys(made, "its id")
    for target in made.values():
        for alias in target.aliases:
            if alias in taken:
                raise TargetError(f"{target.id}.toml: alias {alias!r} is taken; choose another")
            taken[alias] = target.id
    return made


def _target(name: str, documents: Mapping[str, Mapping[str, Any]]) -> Target:
    merged, parents = _merged(name, documents, ())
    try:
        target = Target(**{**merged, "id": name, "parents": parents})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise TargetError(f"{name}.toml: {place}: {first['msg']}") from None
    return target.model_copy(update={"refusals": _refusals(target)})


def _merged(
    name: str, documents: Mapping[str, Mapping[str, Any]], below: tuple[str, ...]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """One document laid over those that it is like, and their names, nearest first."""
    if name in below:
        raise TargetError(f"{below[0]}.toml: like goes in a circle: {' → '.join((*below, name))}")
    if name not in documents:
        raise TargetError(f"{below[-1]}.toml: like = {name!r}: there is no such file")
    document = documents[name]
    parent = document.get("like")
    if parent is None:
        return {key: value for key, value in document.items() if key not in {"id", "like"}}, ()
    merged, parents = _merged(parent, documents, (*below, name))
    merged = {key: value for key, value in merged.items() if key not in _OWN}
    for key, value in document.items():
        if key == "like":
            continue
        if key == "commands":
            merged[key] = [*merged.get(key, []), *value]
        elif isinstance(value, dict) and "source" not in value:
            raise TargetError(f"{name}.toml: [{key}] names no source")
        elif isinstance(value, dict):
            # What is laid over a table was not said of this target by the parent's source: notes are not taken along.
            kept = {part: each for part, each in merged.get(key, {}).items() if part != "note"}
            merged[key] = {**kept, **value}
        else:
            merged[key] = value
    return merged, (parent, *parents)


def _refusals(target: Target) -> dict[str, Commands]:
    """Full command names to what the target says of them: by its list, its version, then its own words."""
    found: dict[str, Commands] = {}
    if target.only is not None:
        served = set(_covered(target.id, target.only.names))
        fact = _fact(target.only, CommandKind.MISSING, target.only.error)
        found.update((name, fact) for name in table().commands if name not in served)
    else:
        found.update(_newer(target.server))
    for each in target.commands:
        for name in _covered(target.id, each.names):
            if each.kind is CommandKind.FINE:
                found.pop(name, None)
            else:
                found[name] = each
    return found


def _newer(server: Server | None) -> Iterable[tuple[str, Commands]]:
    """Commands that came after the server's version; without one, nobody knows of them."""
    for name, since in _since().items():
        if server is None:
            yield name, _UNVERIFIED
            continue
        own = [version for maker, version in since if maker == server.name]
        if not own or min(own) > _version(server.version):
            error = "ERR unknown command '{command}'"
            if " " in name:
                error = f"ERR unknown subcommand '{name.split()[1]}'. Try {name.split()[0]} HELP."
            yield name, _fact(server, CommandKind.MISSING, error)


_UNVERIFIED = Commands(
    names=("*",),
    kind=CommandKind.UNVERIFIED,
    source="no version is promised: a command of Redis 7.2 or later may be missing",
    confidence=Confidence.INFERRED,
)


def _fact(of: Any, kind: CommandKind, error: str) -> Commands:
    return Commands(names=("*",), kind=kind, error=error, source=of.source, confidence=of.confidence, note=of.note)


@cache
def _since() -> dict[str, tuple[tuple[str, tuple[int, ...]], ...]]:
    """Newer commands: name to (server, version) that each came with."""
    return {
        spec.name: tuple((maker, _version(version)) for maker, version in map(str.split, spec.since.split(", ")))
        for spec in table().commands.values()
        if spec.since
    }


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _covered(target: str, names: Iterable[str]) -> Iterable[str]:
    """Names spelled out: ``CONFIG *`` is CONFIG and all its subcommands."""
    known = table().commands
    for name in names:
        if name.endswith(" *"):
            container = name.removesuffix(" *")
            if container not in known:
                raise TargetError(f"{target}.toml: {name}: there is no command {container}")
            yield from (each for each in known if each == container or each.startswith(container + " "))
        elif name in known:
            yield name
        else:
            raise TargetError(f"{target}.toml: {name}: the command table has no such command")
