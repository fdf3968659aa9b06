"""Asks both servers, looks at what they say, and says whether traffic may be moved. It writes nothing.

Knows: which questions are asked of which server, and in what order. Refuses to know: the questions (``ask``,
``rights``), what the answers mean (``checks``), where a capture and a running shunt's console are (``cli``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis

from proxy.capture.facts import BackendFacts
from proxy.capture.use import CaptureUse, UsedCommand
from proxy.cutover import ask, rights
from proxy.cutover.ask import Asker
from proxy.cutover.checks import look
from proxy.cutover.checks.capacity import databases_in_use
from proxy.cutover.checks.servers import kind
from proxy.cutover.finding import Preflight
from proxy.cutover.reach import control, reach
from proxy.cutover.server_facts import (
    OWN_QUESTIONS,
    Answer,
    Judged,
    Place,
    Right,
    Rights,
    Running,
    ServerFacts,
    Unknown,
    World,
)

#: Takes a connection and closes it: who is connected to the source (``net.backend_facts``).
Sample = Callable[[Redis], Awaitable[BackendFacts]]
#: Judges the capture on a kind of Redis, by its name among the report's targets.
Judge = Callable[[str], Awaitable[Judged | Unknown]]


_NO_CONSOLE = Unknown("no console of a running shunt was asked")


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known beside the two servers. ``use`` and ``judge``: of a capture; ``sample``: who asks for the clients;
    ``running``: a shunt on this machine; ``user``: of the target, whose rights count; empty: the URL's."""

    use: CaptureUse | None = None
    capture: str = ""
    judge: Judge | None = None
    sample: Sample | None = None
    running: Running | Unknown = _NO_CONSOLE
    user: str = ""


NOTHING = Beside()


async def preflight(
    source: Place, target: Place, beside: Beside = NOTHING, *, follow: bool = False, quick: bool = False
) -> Preflight:
    """All checks, or the ``quick`` ones. Never raises but for cancellation: what can't be asked is in the findings."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    first, second = await asyncio.gather(reach(source), reach(target))
    world = World(first, second, beside.use, running=beside.running, follow=follow)
    if beside.sample is not None and first.reached and not quick:
        world = replace(world, clients=await beside.sample(control(source)))
    async with _Connections() as connections:
        world = await _identity(world, connections)
        if not quick:
            world = await _rest(world, connections, beside)
    return Preflight(str(source.address), str(target.address), at, look(world, quick=quick), beside.capture)


class _Connections:
    """A connection to each server that is asked."""

    def __init__(self) -> None:
        self._open: list[Redis] = []

    async def __aenter__(self) -> _Connections:
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self._open:
            await each.aclose()

    def asker(self, server: ServerFacts) -> Asker:
        made = control(server.place)
        self._open.append(made)
        return Asker(made, "" if server.reached else "it was not reached")


async def _identity(world: World, connections: _Connections) -> World:
    """INFO and the cluster's state: all that the quick checks need."""

    async def of(server: ServerFacts) -> ServerFacts:
        asker = connections.asker(server)
        server = replace(server, info=await asker.ask("INFO", ask.info))
        config = {name: await asker.ask("CONFIG GET", ask.setting(name)) for name in ask.SETTINGS}
        server = replace(server, config=config, keys=ask.keys(server.info))
        if server.clustered is True:
            server = replace(server, cluster=await asker.ask("CLUSTER INFO", ask.cluster))
        return server

    source, target = await asyncio.gather(of(world.source), of(world.target))
    return replace(world, source=source, target=target)


async def _rest(world: World, connections: _Connections, beside: Beside) -> World:
    """Times first, one server after the other while nothing else is asked; then everything else."""
    asking = connections.asker(world.source), connections.asker(world.target)
    source = await _timed(world.source, asking[0])
    target = await _timed(world.target, asking[1])
    source, target = await asyncio.gather(_either(source, asking[0]), _either(target, asking[1]))
    source = await _source(source, asking[0])
    world = replace(world, source=source, target=target)
    target = await _target(world, asking[1], beside)
    judged = await _judged(target, beside)
    return replace(world, target=target, judged=judged)


async def _timed(server: ServerFacts, asker: Asker) -> ServerFacts:
    pings = await asker.ask("PING", ask.pings)
    return replace(server, pings_s=pings, clock=await asker.ask("TIME", ask.clock))


async def _either(server: ServerFacts, asker: Asker) -> ServerFacts:
    """What is asked of both."""
    user = await asker.ask("ACL WHOAMI", ask.user)
    commands = await asker.ask("COMMAND", ask.commands)
    libraries = await asker.ask("FUNCTION LIST", ask.libraries)
    may = {
        "REPLICAOF": await _may(server, asker, user, "REPLICAOF", "127.0.0.1", "1"),
        "CONFIG SET": await _may(server, asker, user, "CONFIG", "SET", "masterauth", "none"),
    }
    keys = server.keys
    if isinstance(keys, Unknown):
        keys = await asker.ask("DBSIZE", ask.dbsize(server.place.address.db or 0))
    return replace(server, user=user, commands=commands, libraries=libraries, keys=keys, may=may)


async def _may(server: ServerFacts, asker: Asker, user: str | Unknown, *words: str) -> Right | Unknown:
    """Whether the user may run this; before Redis 6, whoever has the password may run everything."""
    return Right.ALLOWED if older_than_acl(server) else await rights.may(asker, user, words)


def older_than_acl(server: ServerFacts) -> bool:
    """Whether it is known to have no users and rights."""
    known = kind(server)
    return not isinstance(known, Unknown) and known[0] == "Redis" and known[1] < (6,)


async def _source(source: ServerFacts, asker: Asker) -> ServerFacts:
    used = await asker.ask("INFO commandstats", ask.used)
    sidekiq = await asker.ask("EXISTS", ask.has_sidekiq)
    may = {
        "CLIENT UNBLOCK": await _may(source, asker, source.user, "CLIENT", "UNBLOCK", "1", "TIMEOUT"),
        "CLIENT LIST": await _may(source, asker, source.user, "CLIENT", "LIST"),
        "FUNCTION DUMP": await _may(source, asker, source.user, "FUNCTION", "DUMP"),
    }
    return replace(source, used=used, sidekiq=sidekiq, may={**source.may, **may})


async def _target(world: World, asker: Asker, beside: Beside) -> ServerFacts:
    target, use = world.target, world.use
    db = target.place.address.db or 0
    selects = await asker.ask("SELECT", ask.selects(databases_in_use(world), db))
    there = {db} if isinstance(target.keys, Unknown) else {each for each, count in target.keys.items() if count}
    jobs = await asker.ask("SCAN", ask.jobs(there, db))
    lacking = await asker.ask("SCRIPT EXISTS", ask.scripts_missing(use.scripts if use is not None else ()))
    may = {
        "FUNCTION RESTORE": await _may(target, asker, target.user, "FUNCTION", "RESTORE", "dump"),
        "SCRIPT LOAD": await _may(target, asker, target.user, "SCRIPT", "LOAD", "return 1"),
    }
    return replace(
        target,
        may={**target.may, **may},
        selects=selects,
        jobs=jobs,
        scripts_missing=lacking,
        rights=await _rights(world, asker, beside.user),
    )


async def _rights(world: World, asker: Asker, user: str) -> Rights | Unknown:
    ran = world.source.used
    if world.use is not None:
        used = list(world.use.commands)
    elif isinstance(ran, Unknown):
        return Unknown(f"there is no capture, and {ran.why}")
    else:
        used = [UsedCommand(name, count=count) for name, count in ran.items() if name not in OWN_QUESTIONS]
    if older_than_acl(world.target):
        return Rights("default", "no ACL before Redis 6", tuple(Answer(each, Right.ALLOWED) for each in used))
    who = user or world.target.user
    return who if isinstance(who, Unknown) else await rights.rights(asker, who, used, world.target.commands)


async def _judged(target: ServerFacts, beside: Beside) -> Judged | Unknown | None:
    """The capture's verdict, where the target is a cluster."""
    if target.clustered is not True or beside.judge is None:
        return None
    return await beside.judge(judged_as(target))


def judged_as(target: ServerFacts) -> str:
    """The report's target that a clustered server is."""
    found: Any = kind(target)
    name, version = ("Redis", ()) if isinstance(found, Unknown) else found
    if name == "Valkey":
        return "valkey-cluster-9" if version >= (9,) else "valkey-cluster"
    if name == "Dragonfly":
        return "dragonfly-cluster"
    return "redis-cluster-8" if version >= (8,) else "redis-cluster"
