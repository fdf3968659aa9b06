"""The checks: a table of them, each a pure function of what is known of both servers.

Knows: their order. Refuses to know: how facts are learnt (``ask``). docs/preflight.md has a paragraph on each; a test
keeps the two in step.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.cutover.checks import capacity, clients, commands, connection, data, servers, timing
from proxy.cutover.checks.said import Check, Said, unknown
from proxy.cutover.finding import Finding, Side
from proxy.cutover.server_facts import World


def _way(look: Callable[[World, Side], Said], side: Side) -> Callable[[World], Said]:
    return lambda world: look(world, side)


def _reached(look: Callable[[World], Said], *needed: Side) -> Callable[[World], Said]:
    """``look``, where the servers that it needs were reached."""

    def only_then(world: World) -> Said:
        for side in needed:
            if not (world.source if side is Side.SOURCE else world.target).reached:
                return unknown("Not looked at", f"the {side} was not reached")
        return look(world)

    return only_then


_SOURCE, _TARGET, _BOTH = Side.SOURCE, Side.TARGET, Side.BOTH

CHECKS: tuple[Check, ...] = (
    Check("reach", _SOURCE, _way(connection.reach, _SOURCE), quick=True),
    Check("reach", _TARGET, _way(connection.reach, _TARGET), quick=True),
    Check("tls", _SOURCE, _way(connection.tls, _SOURCE), quick=True),
    Check("tls", _TARGET, _way(connection.tls, _TARGET), quick=True),
    Check("credentials", _SOURCE, _way(connection.credentials, _SOURCE), quick=True),
    Check("credentials", _TARGET, _way(connection.credentials, _TARGET), quick=True),
    Check("same-server", _BOTH, _reached(servers.same_server, _SOURCE, _TARGET), quick=True),
    Check("role", _SOURCE, _reached(servers.source_role, _SOURCE), quick=True),
    Check("role", _TARGET, _reached(servers.target_role, _TARGET), quick=True),
    Check("version", _BOTH, _reached(servers.version, _SOURCE, _TARGET), quick=True),
    Check("cluster", _TARGET, _reached(servers.cluster, _TARGET), quick=True),
    Check("commands", _TARGET, _reached(commands.missing, _TARGET)),
    Check("acl", _TARGET, _reached(commands.acl, _TARGET)),
    Check("functions", _TARGET, _reached(commands.functions, _SOURCE, _TARGET)),
    Check("scripts", _TARGET, _reached(commands.scripts, _TARGET)),
    Check("memory", _TARGET, _reached(capacity.memory, _SOURCE, _TARGET)),
    Check("eviction", _TARGET, _reached(capacity.eviction, _TARGET)),
    Check("connections", _TARGET, _reached(capacity.connections, _SOURCE, _TARGET)),
    Check("databases", _TARGET, _reached(capacity.databases, _SOURCE, _TARGET)),
    Check("emptiness", _TARGET, _reached(data.emptiness, _TARGET)),
    Check("persistence", _TARGET, _reached(data.persistence, _SOURCE, _TARGET)),
    Check("replicas", _TARGET, _reached(data.replicas, _SOURCE, _TARGET)),
    Check("bypass", _SOURCE, _reached(clients.bypass, _SOURCE)),
    Check("unblock", _SOURCE, _reached(clients.unblock, _SOURCE)),
    Check("follow", _BOTH, _reached(servers.replication, _SOURCE, _TARGET)),
    Check("clock", _BOTH, _reached(timing.clock, _SOURCE, _TARGET)),
    Check("round-trip", _SOURCE, _reached(lambda world: timing.round_trip(world, _SOURCE), _SOURCE)),
    Check("round-trip", _TARGET, _reached(lambda world: timing.round_trip(world, _TARGET), _TARGET)),
)


def look(world: World, *, quick: bool = False) -> tuple[Finding, ...]:
    """What every check says, or only the quick ones."""
    return tuple(check.finding(world) for check in CHECKS if check.quick or not quick)
