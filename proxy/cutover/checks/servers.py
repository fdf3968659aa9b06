"""Checks of what the servers are: the same one, primary or replica, version, cluster, replication. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from proxy.cutover.checks.said import Said, fail, good, known, named, unknown, warn
from proxy.cutover.server_facts import Judged, Right, ServerFacts, Unknown, World

#: What one server tells the same about itself to everybody: where two differ, they are two.
_ITS_OWN = (
    "run_id",
    "master_replid",
    "process_id",
    "redis_build_id",
    "redis_version",
    "executable",
    "config_file",
    "os",
)
_ALL_SLOTS = "16384"


def same_server(world: World) -> Said:
    """Refuses to move a server onto itself; run_id tells, else what else a server tells of itself."""
    source, target = world.source, world.target
    if source.label == target.label:
        return fail(f"Source and target are both {source.label}.", "Name the other server.")
    first, second = source.text("run_id"), target.text("run_id")
    if isinstance(first, str) and isinstance(second, str):
        if first != second:
            return good("Source and target are two servers.", run_ids=[first, second])
        return fail(
            f"Source and target are one server: {source.label} and {target.label} have the same run_id.",
            "Name the other server; a DNS name or a proxy leads both URLs to this one.", run_id=first,
        )  # fmt: skip
    for name in _ITS_OWN:
        one, two = source.text(name), target.text(name)
        if isinstance(one, str) and isinstance(two, str) and one != two:
            return good(f"Source and target are two servers: their {name} differ (run_id is hidden).", differ=name)
    hidden = first if isinstance(first, Unknown) else second
    why = hidden if isinstance(hidden, Unknown) else Unknown("run_id is hidden")
    return unknown(
        "Whether source and target are two servers is not known", why,
        "Compare the two addresses with what the provider's console shows.",
    )  # fmt: skip


def target_role(world: World) -> Said:
    """The target must take writes."""
    target = world.target
    role = known(target.text("role"), "Whether the target takes writes is not known")
    if role != "master":
        return _replica(world)
    if target.text("loading") == "1":
        return fail("The target is loading its data and refuses commands.", "Wait until it has: INFO persistence.")
    wanted, there = target.setting_number("min-replicas-to-write"), target.number("min_slaves_good_slaves")
    if isinstance(wanted, int) and wanted and isinstance(there, int) and there < wanted:
        return fail(
            f"The target refuses writes with NOREPLICAS: it wants {wanted} replicas and has {there}.",
            "Bring its replicas back, or lower min-replicas-to-write.",
        )
    return _writes(target)


def _replica(world: World) -> Said:
    target = world.target
    primary = f"{target.text('master_host')}:{target.text('master_port')}"
    if world.follow and target.text("master_link_status") == "up" and _of_source(world):
        return good("The target is a replica of the source, and up to date enough to follow it.", primary=primary)
    if world.follow and primary == _address_of(world.source):
        return warn(
            "The target is a replica of the source, and its link to it is not up.",
            "A switch waits for the link before clients wait. If it does not come up, the target's log says why.",
            primary=primary,
        )  # fmt: skip
    return fail(
        f"The target is a replica of {primary}: it refuses writes.",
        f"Name {primary} as the target, or promote this one with REPLICAOF NO ONE once it has caught up.",
        primary=primary,
    )


def _address_of(server: ServerFacts) -> str:
    address = server.place.address
    return f"{address.host}:{address.port}"


def _of_source(world: World) -> bool:
    one, two = world.source.text("master_replid"), world.target.text("master_replid")
    return isinstance(one, str) and one == two


def _writes(target: ServerFacts) -> Said:
    if target.text("aof_last_write_status") == "err":
        return fail(
            "The target could not write its append-only file and refuses writes (MISCONF).",
            "Look at its disk and its log.",
        )
    if target.text("rdb_last_bgsave_status") == "err":
        text = "The target's last snapshot (BGSAVE) failed"
        do = "Look at its disk, memory and log; then BGSAVE again."
        stops = target.setting("stop-writes-on-bgsave-error")
        if stops == "no":
            return warn(f"{text}.", do)
        if stops == "yes":
            return fail(f"{text}: it refuses writes (MISCONF).", do)
        return warn(f"{text}: unless it is configured otherwise it refuses writes (MISCONF).", do)
    return good("The target is a primary and takes writes.")


def source_role(world: World) -> Said:
    """Whoever writes to the source's own primary is not moved."""
    role = known(world.source.text("role"), "Whether the source is a primary is not known")
    if role == "master":
        return good("The source is a primary.")
    primary = f"{world.source.text('master_host')}:{world.source.text('master_port')}"
    return warn(
        f"The source is a replica of {primary}: what is written there still reaches it, and is not moved.",
        f"Name {primary} as the source, if clients write there.", primary=primary,
    )  # fmt: skip


def kind(server: ServerFacts) -> tuple[str, tuple[int, ...]] | Unknown:
    """What it is and its version: ("Redis", (7, 0, 15))."""
    for name, field in (("Valkey", "valkey_version"), ("Dragonfly", "dragonfly_version")):
        text = server.text(field)
        if isinstance(text, str):
            return name, _version(text)
    text = server.text("redis_version")
    return text if isinstance(text, Unknown) else ("Redis", _version(text))


def version(world: World) -> Said:
    """An older target lacks commands and can't read what a newer one dumps."""
    source = known(kind(world.source), "The source's version is not known")
    target = known(kind(world.target), "The target's version is not known")
    data: dict[str, Any] = {"source": _shown(source), "target": _shown(target)}
    if source[0] != target[0]:
        text = f"The source is {_shown(source)}, the target {_shown(target)}: another kind of server."
        if world.follow and (source[0], target[0]) != ("Redis", "Valkey"):
            return fail(text, "--follow needs two servers of one kind; leave it out.", **data)
        if world.follow and source[1] >= (7, 4):
            return fail(text, "Valkey can't load what Redis 7.4 and later sends a replica; leave --follow out.", **data)
        return warn(text, "Rehearse before you switch: shunt run --rehearse, and shunt report --target.", **data)
    if target[1][:2] < source[1][:2]:
        text = f"The target, {_shown(target)}, is older than the source, {_shown(source)}."
        if world.follow:
            return fail(
                text, "A replica must not be older than its primary: upgrade it, or leave --follow out.", **data
            )
        return warn(text, "Upgrade it, or see that the check of commands finds all that you use.", **data)
    if source == target:
        return good(f"Both are {_shown(source)}.", **data)
    return good(f"The source is {_shown(source)}, the target {_shown(target)}.", **data)


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:3]))


def _shown(server: tuple[str, tuple[int, ...]]) -> str:
    return f"{server[0]} {'.'.join(map(str, server[1]))}"


def cluster(world: World) -> Said:
    """A clustered target refuses keys of other nodes, and commands over several slots."""
    target = world.target
    if not known(target.clustered, "Whether the target is a cluster's node is not known"):
        if world.source.clustered is True:
            return good("The source is a cluster's node, the target is not: nothing is refused for its slot.")
        return good("The target is not a cluster's node.")
    if isinstance(target.cluster, Unknown):
        return unknown("The target is a cluster's node; the state of the cluster is not known", target.cluster)
    return _clustered(world, target.cluster or {})


def _clustered(world: World, facts: Mapping[str, str]) -> Said:
    data: dict[str, Any] = {"state": facts.get("cluster_state"), "primaries": facts.get("cluster_size"),
            "slots": facts.get("cluster_slots_assigned")}  # fmt: skip
    if facts.get("cluster_state") != "ok" or facts.get("cluster_slots_assigned") != _ALL_SLOTS:
        return fail(
            f"The target's cluster is not up: state {facts.get('cluster_state')}, "
            f"{facts.get('cluster_slots_assigned')} of {_ALL_SLOTS} slots assigned.",
            "Repair it first: redis-cli --cluster check, and --cluster fix.", **data,
        )  # fmt: skip
    if facts.get("cluster_size") != "1":
        return fail(
            f"The target is one of {facts.get('cluster_size')} primaries of a cluster. shunt forwards to one address: "
            "most keys would be answered with MOVED.",
            "Name a server that holds all keys, or a cluster with one shard.", _verdict(world.judged), **data,
        )  # fmt: skip
    text = "The target is a cluster with one shard, which still refuses commands over several slots."
    judged = world.judged
    if judged is None or isinstance(judged, Unknown):
        why = Unknown("there is no capture (--capture DIR)") if judged is None else judged
        do = "Record the traffic with shunt run --capture DIR, and give --capture DIR here."
        return unknown(f"{text} What of your traffic it refuses is not known", why, do, **data)
    data |= {"judged_as": judged.target, "verdict": judged.words}
    do = f"Read which commands: shunt report CAPTURE --target {judged.target}"
    if judged.compatible:
        return good(f"{text} The capture has none of them.", _verdict(judged), **data)
    if judged.unsure:
        return unknown(f"{text} The capture's verdict is", judged.words, do, _verdict(judged), **data)
    return fail(f"{text} The capture's verdict: {judged.words}.", do, _verdict(judged), **data)


def _verdict(judged: Judged | Unknown | None) -> list[str]:
    if not isinstance(judged, Judged):
        return []
    return [f"the capture on {judged.target}: {judged.words}: {judged.reason}"]


def replication(world: World) -> Said:
    """Whether the target can follow the source, and the source the target on the way back. Nothing is tried."""
    source, target = world.source, world.target
    hindered = _hindrances(target, "target", source) + _hindrances(source, "source", target)
    if hindered:
        text = f"The exact switch (--follow) is not possible: {named(hindered)}."
        if world.follow:
            return fail(text, "Leave --follow out, or have REPLICAOF allowed to these users.", hindered)
        return good(f"{text} A switch without it is.", hindered if len(hindered) > 1 else ())
    for side, server in (("source", world.source), ("target", world.target)):
        may = server.may.get("REPLICAOF", Unknown("it was not asked"))
        if isinstance(may, Unknown):
            return unknown(f"Whether REPLICAOF is allowed on the {side} is not known", may)
    return good("REPLICAOF is allowed on both: the target can follow the source, and the source the target.")


def _hindrances(server: ServerFacts, side: str, leader: ServerFacts) -> list[str]:
    """Why this server can't follow the other, as far as is known."""
    found: list[str] = []
    if leader.place.address.scheme == "unix":
        found.append(f"the {side} can't reach {leader.label}, a unix socket")
    if leader.place.address.has_credentials and server.may.get("CONFIG SET") is Right.NO_COMMAND:
        found.append(f"the {side}'s user may not run CONFIG SET, which gives it the other's password")
    if isinstance(server.commands, Unknown):
        return found
    if "REPLICAOF" not in server.commands and "SLAVEOF" not in server.commands:
        found.append(f"the {side} has no REPLICAOF")
    elif server.may.get("REPLICAOF") is Right.NO_COMMAND:
        found.append(f"the {side}'s user may not run REPLICAOF")
    if server.clustered is True:
        found.append(f"the {side} is a cluster's node")
    return found
