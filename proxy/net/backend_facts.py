"""A sample of what only the backend knows, asked on a connection of shunt's own.

Knows: which questions, and which of the backend's connections are shunt's. Refuses to know: when a sample is due
(``app``), and where it is kept (``capture.facts``). redis-py speaks and parses; nothing of this is on a client's path,
and long answers are parsed a piece per turn of the event loop.

A connection is shunt's if the backend sees it at one of the addresses that shunt's sockets have. That can be told only
where the backend sees shunt at its own address: behind address translation, and through a unix socket, connections
are only counted. Another shunt's connections can't be told from clients.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from proxy.capture.facts import BackendFacts, ClientGroup

#: One sample takes no longer than this, seconds.
LONGEST_S = 3.0
#: A backend with more connections is not asked to list them: that would hold it up for tens of milliseconds.
LISTED_MOST = 5_000
#: Younger connections may be shunt's since its own were looked up: they wait for the next sample, seconds.
YOUNG_S = 2
#: Groups of other clients that a sample keeps.
GROUPS = 30
#: Lines of CLIENT LIST that are parsed in one turn of the event loop.
LINES_AT_ONCE = 40

#: Fields of INFO that a sample keeps.
INFO_FIELDS = (
    "run_id", "redis_version", "valkey_version", "server_name", "redis_mode", "role", "uptime_in_seconds",
    "connected_clients", "blocked_clients", "maxclients", "maxmemory", "maxmemory_policy", "used_memory",
    "evicted_keys", "rejected_connections", "total_connections_received", "master_link_status", "connected_slaves",
)  # fmt: skip

_FAILURES = (RedisError, OSError, TimeoutError, ssl.SSLError)


async def sample(
    control: Redis, backend: str, own: Collection[str], moment: str, why_incomplete: str = ""
) -> BackendFacts:
    """One sample. ``control``: a connection of shunt's own, closed afterwards. ``own``: addresses of shunt's
    connections as its sockets have them; ``why_incomplete``: why some may be missing there.
    Never raises but for cancellation."""
    facts = BackendFacts(time.time_ns(), moment, backend)
    try:
        async with asyncio.timeout(LONGEST_S):
            return await _ask(control, facts, own, why_incomplete)
    except _FAILURES as error:
        facts.unknown["everything"] = _line(error)
        return facts
    finally:
        await control.aclose()


async def _ask(control: Redis, facts: BackendFacts, own: Collection[str], why_incomplete: str) -> BackendFacts:
    try:
        told = await control.info("default")
        facts.info.update({name: told[name] for name in INFO_FIELDS if isinstance(told.get(name), str | int)})
    except ResponseError as error:
        facts.unknown["INFO"] = _line(error)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        facts.unknown["INFO"] = f"an answer that can't be read ({type(error).__name__})"
    if "maxclients" not in facts.info:
        try:
            facts.info["maxclients"] = int((await control.config_get("maxclients"))["maxclients"] or "")
        except (ResponseError, LookupError, ValueError, TypeError) as error:
            facts.unknown["maxclients"] = _line(error)
    try:
        return await _list(control, facts, own, why_incomplete)
    except ResponseError as error:
        facts.unknown["CLIENT LIST"] = _line(error)
    except (LookupError, ValueError, TypeError, AttributeError) as error:  # an answer that Redis would not give
        facts.unknown["CLIENT LIST"] = f"an answer that can't be read ({type(error).__name__})"
    return facts


async def _list(control: Redis, facts: BackendFacts, own: Collection[str], why_incomplete: str) -> BackendFacts:
    connected = facts.info.get("connected_clients")
    if isinstance(connected, int) and connected > LISTED_MOST:
        why = f"{connected:,} connections: to list more than {LISTED_MOST:,} would hold Redis up"
        facts.unknown["CLIENT LIST"] = why
        return facts
    mine = str(await control.client_id())
    # By its two words, so that redis-py leaves the answer as it is: parsed whole it would hold up the event loop.
    asking: Any = control  # without types in redis-py
    text: bytes = await asking.execute_command("CLIENT", "LIST")
    rows = await _parsed(text, asking.response_callbacks["CLIENT LIST"])
    seen = next((row.get("addr", "") for row in rows if row.get("id") == mine), "")
    rows = [row for row in rows if row.get("id") != mine and int(row.get("age", 0)) >= YOUNG_S and _is_client(row)]
    return told_apart(facts, rows, own, seen, why_incomplete)


async def _parsed(text: bytes, parse: Callable[[bytes], list[dict[str, str]]]) -> list[dict[str, str]]:
    lines = text.splitlines()
    rows: list[dict[str, str]] = []
    for start in range(0, len(lines), LINES_AT_ONCE):
        rows += parse(b"\n".join(lines[start : start + LINES_AT_ONCE]))
        await asyncio.sleep(0)
    return rows


def _is_client(row: dict[str, str]) -> bool:
    """Not a replica's connection, nor the one to a primary, nor someone who looks on by MONITOR."""
    return not set(row.get("flags", "")) & set("SMO")


def told_apart(
    facts: BackendFacts,
    rows: Sequence[dict[str, str]],
    own: Collection[str],
    seen: str,
    why_incomplete: str = "",
) -> BackendFacts:
    """``facts`` with the connections in ``rows`` (as CLIENT LIST has them) that are not shunt's. ``seen``: where the
    backend sees shunt's own asking connection: elsewhere than shunt's sockets are, addresses are translated."""
    data: dict[str, Any] = {"listed": len(rows)}
    if not own or host(seen) in {host(each) for each in own}:
        others = [row for row in rows if row.get("addr") not in own]
        data |= {"own": len(rows) - len(others), "unsure": why_incomplete}
    else:
        there = host(seen)
        others = [row for row in rows if host(row.get("addr", "")) != there]
        alike = len(rows) - len(others)
        where = "on a unix socket" if there.startswith("/") else f"at {there}"
        data["unsure"] = (
            f"the backend sees this shunt {where}, not at its socket's address, so connections there can only be "
            f"counted: {alike:,} listed, shunt has {len(own):,}"
        )
        if alike > len(own):
            others += [row for row in rows if host(row.get("addr", "")) == there][len(own) :]
    groups = _groups(others)
    data |= {"others": groups[:GROUPS], "others_more": sum(group.count for group in groups[GROUPS:])}
    return BackendFacts(facts.ts_ns, facts.moment, facts.backend, facts.info, unknown=facts.unknown, **data)


def _groups(rows: Sequence[dict[str, str]]) -> tuple[ClientGroup, ...]:
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault((host(row.get("addr", "")), row.get("name", "")), []).append(row)
    groups = []
    for (address, name), alike in found.items():
        youngest = min(alike, key=lambda row: int(row.get("idle", 0)))
        library = " ".join(filter(None, (youngest.get("lib-name"), youngest.get("lib-ver"))))
        oldest = max(int(row.get("age", 0)) for row in alike)
        groups.append(ClientGroup(address, name, len(alike), youngest.get("cmd", ""), library, oldest))
    return tuple(sorted(groups, key=lambda group: (-group.count, group.address, group.name)))


def host(address: str) -> str:
    """An address as CLIENT LIST has it, without its port."""
    return address.rpartition(":")[0]


def address(sockname: object) -> str:
    """A socket's own address as CLIENT LIST would have it; a unix socket, which has none, is like no other."""
    if not isinstance(sockname, tuple) or len(sockname) < 2:
        return "unix socket"
    ip, port = str(sockname[0]).removeprefix("::ffff:"), sockname[1]
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _line(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
