"""Checks of room: memory, eviction, connections, databases. Pure."""

from __future__ import annotations

from typing import Any

from proxy.cutover.checks.said import Said, fail, good, known, many, named, size, unknown, warn
from proxy.cutover.server_facts import Unknown, World

#: Of a limit: what is more is near it.
NEAR = 0.8
_NEVER = "noeviction"


def memory(world: World) -> Said:
    """The source's data, beside what the target holds, must fit into the target's limit."""
    need = known(world.source.number("used_memory"), "The source's memory is not known")
    there = known(world.target.number("used_memory"), "The target's memory is not known")
    limit = known(world.target.setting_number("maxmemory", "maxmemory"), "The target's maxmemory is not known")
    whole = need if world.follow else need + there
    data: dict[str, Any] = {"source_used": need, "target_used": there, "target_maxmemory": limit}
    if not limit:
        return _of_machine(world, whole, need, data)
    text = f"The source uses {size(need)}; the target uses {size(there)} of {size(limit)} (maxmemory)"
    if whole > limit:
        return fail(f"{text}: it does not fit.", "Raise maxmemory, or take a larger target.", **data)
    if whole > NEAR * limit:
        return warn(f"{text}: over {NEAR:.0%} of it once moved.", "Raise maxmemory, or take a larger target.", **data)
    return good(f"{text}.", **data)


def _of_machine(world: World, whole: int, need: int, data: dict[str, Any]) -> Said:
    machine = world.target.number("total_system_memory")
    if isinstance(machine, Unknown):
        return unknown(f"The source uses {size(need)}; the target has no maxmemory, and its machine", machine, **data)
    data["target_machine"] = machine
    text = f"The source uses {size(need)}; the target has no maxmemory on a machine of {size(machine)}"
    if whole > machine:
        return fail(f"{text}: it does not fit.", "Take a larger target.", **data)
    if whole > NEAR * machine:
        return warn(f"{text}: over {NEAR:.0%} of it once moved.", "Take a larger target, and set maxmemory.", **data)
    return good(f"{text}.", **data)


def eviction(world: World) -> Said:
    """Sidekiq needs noeviction: with any other policy a full Redis throws keys away, jobs among them."""
    policy = world.target.setting("maxmemory-policy", "maxmemory_policy")
    if isinstance(policy, Unknown):
        return unknown(
            "The target's eviction policy is not known", policy, "See that it is noeviction: Sidekiq's jobs are keys."
        )
    before = world.source.setting("maxmemory-policy", "maxmemory_policy")
    data: dict[str, Any] = {"target": policy, "source": None if isinstance(before, Unknown) else before}
    if policy == _NEVER:
        return good("The target evicts nothing (noeviction).", **data)
    do = "CONFIG SET maxmemory-policy noeviction on the target, or the provider's parameter group."
    text = f"The target evicts keys when it is full ({policy})"
    sidekiq = world.source.sidekiq is True or (world.use is not None and world.use.sidekiq)
    if sidekiq and policy.startswith("allkeys"):
        return fail(f"{text}: Sidekiq's jobs would be thrown away.", do, **data)
    if sidekiq:
        return warn(f"{text}: of Sidekiq's keys those with a time to live; jobs have none.", do, **data)
    if policy == before:
        return good(f"{text}, as the source does.", **data)
    now = "is not known to" if isinstance(before, Unknown) else f"({before}) does not"
    return warn(f"{text}; the source {now}.", f"Where jobs or locks are kept: {do}", **data)


def connections(world: World) -> Said:
    """As many connections as the source has now, beside the target's own."""
    now = known(world.source.number("connected_clients"), "The source's connections are not known")
    there = known(world.target.number("connected_clients"), "The target's connections are not known")
    limit = known(world.target.setting_number("maxclients", "maxclients"), "The target's maxclients is not known")
    data: dict[str, Any] = {"source": now, "target": there, "target_maxclients": limit}
    text = f"The source has {many(now, 'connection')}; the target allows {limit:,} and has {there:,}"
    do = "Raise maxclients on the target, or share connections: shunt run --pool shared (docs/pooling.md)."
    if now + there > limit:
        return fail(f"{text}: clients would be refused.", do, **data)
    if now + there > NEAR * limit:
        return warn(f"{text}: over {NEAR:.0%} of it once moved.", do, **data)
    return good(f"{text}.", **data)


def databases(world: World) -> Said:
    """Every database that is in use must be one that the target has."""
    used = databases_in_use(world)
    selects = world.target.selects
    data: dict[str, Any] = {"used": sorted(used)}
    if isinstance(selects, Unknown):
        return unknown(f"Whether the target has {_listed(used)} is not known", selects, **data)
    refused = {db: why for db, why in sorted(selects.items()) if db in used and why}
    if refused:
        return fail(
            f"The target lacks {_listed(set(refused))}, in use now or in the capture.",
            "Raise databases on the target, or bring the application to database 0 first (a cluster has no other).",
            [f"database {db}: {why}" for db, why in refused.items()], **data, missing=sorted(refused),
        )  # fmt: skip
    first, second = world.source.place.address.db or 0, world.target.place.address.db or 0
    if first != second:
        return warn(
            f"The source's URL names database {first}, the target's {second}: clients that select none change theirs.",
            "Name the same database in both, unless that is what you want.", **data,
        )  # fmt: skip
    keys = world.source.keys
    if isinstance(keys, Unknown) and world.use is None:
        return unknown("Which databases are in use is not known", keys, **data)
    return good(f"The target has {_listed(used)}, all that are in use.", **data)


def databases_in_use(world: World) -> set[int]:
    """Those with keys on the source, those of the capture, and the URL's."""
    keys = world.source.keys
    found = {world.source.place.address.db or 0, *(() if isinstance(keys, Unknown) else keys)}
    return found | set(() if world.use is None else world.use.databases)


def _listed(databases: set[int]) -> str:
    noun = "database" if len(databases) == 1 else "databases"
    return f"{noun} {named([str(db) for db in sorted(databases)])}"
