"""Two servers that are fit for a switch, and what differs from them, without any server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxy.address import Address
from proxy.capture.facts import BackendFacts, ClientGroup
from proxy.capture.use import CaptureUse, UsedCommand
from proxy.cutover.server_facts import (
    Answer,
    Certificate,
    Jobs,
    Offset,
    Place,
    Reach,
    Right,
    Rights,
    Running,
    ServerFacts,
    World,
)  # fmt: skip

COMMANDS = {name: frozenset({"fast"}) for name in ("GET", "SET", "LPUSH", "BRPOP", "REPLICAOF", "CLIENT", "FUNCTION")}
INFO = {
    "redis_version": "7.0.15", "role": "master", "loading": 0, "cluster_enabled": 0, "used_memory": 100_000_000,
    "maxmemory": 1_000_000_000, "maxmemory_policy": "noeviction", "maxclients": 1000, "connected_clients": 50,
    "aof_enabled": 1, "aof_last_write_status": "ok", "rdb_last_bgsave_status": "ok", "connected_slaves": 1,
    "total_system_memory": 2_000_000_000,
}  # fmt: skip
ALLOWED = dict.fromkeys(
    ("REPLICAOF", "CLIENT UNBLOCK", "CLIENT LIST", "FUNCTION DUMP", "FUNCTION RESTORE", "SCRIPT LOAD"), Right.ALLOWED
)
USED = UsedCommand("LPUSH", b"queue:default", 7, (b"queue:default",), 1, 3)
USE = CaptureUse(7, (USED,), 0, (0,), frozenset({"a" * 40}), True)


def server(url: str, run_id: str, **changes: Any) -> ServerFacts:
    facts = ServerFacts(
        Place(Address.parse(url)), Reach(connect_s=0.001), None, "default", {**INFO, "run_id": run_id},
        {"save": "3600 1", "stop-writes-on-bgsave-error": "yes"}, None, COMMANDS, {"GET": 10}, frozenset(), (),
        Offset(0.001, 0.0005), (0.0002,) * 100, {}, {0: ""}, Jobs({}), False, ALLOWED,
        Rights("default", "ACL DRYRUN", (Answer(USED, Right.ALLOWED),)),
    )  # fmt: skip
    return replace(facts, **changes)


SOURCE = server("redis://10.0.0.5:6379", "a" * 40, keys={0: 10}, sidekiq=True)
TARGET = server("redis://10.0.0.9:6379", "b" * 40)
NOBODY = BackendFacts(1, "preflight", "source", listed=3, own=3)
WORLD = World(
    SOURCE,
    TARGET,
    USE,
    None,
    NOBODY,
    Running("redis://10.0.0.5:6379", frozenset({"10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3"})),
)


def source(info: dict[str, Any] | None = None, **changes: Any) -> World:
    return replace(WORLD, source=_with(SOURCE, info, changes))


def target(info: dict[str, Any] | None = None, **changes: Any) -> World:
    return replace(WORLD, target=_with(TARGET, info, changes))


def world(**changes: Any) -> World:
    return replace(WORLD, **changes)


def _with(facts: ServerFacts, info: dict[str, Any] | None, changes: dict[str, Any]) -> ServerFacts:
    """``info``'s None: INFO does not tell it."""
    told = {name: value for name, value in {**dict(facts.info), **(info or {})}.items() if value is not None}  # type: ignore[arg-type]
    return replace(facts, info=told, **changes)


def past(*groups: tuple[str, int, str], unsure: str = "") -> BackendFacts:
    """A sample with these clients that are not shunt's: name, how many, last command."""
    others = tuple(ClientGroup("10.0.0.7", name, count, command) for name, count, command in groups)
    return BackendFacts(1, "sample", "source", listed=9, own=3, others=others, unsure=unsure)


def certificate(days: float) -> Certificate:
    return Certificate(0.0, days)
