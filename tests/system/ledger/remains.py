"""Which jobs are left in Redis, and where: queues, retry, schedule and dead of one server.

Knows: Sidekiq's keys, and that a server which follows another holds a copy and no jobs of its own. Refuses to know:
which jobs should be there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import redis

from tests.servers import RedisServer, until

SETS = ("retry", "schedule", "dead")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job is: server, key, and its index from the end that is served next, or its score."""

    server: str
    key: str
    at: float

    def __str__(self) -> str:
        return f"{self.server} {self.key}[{self.at:g}]"


@dataclass(frozen=True, slots=True)
class Remains:
    """What one server holds: (jid, place) of each job. ``follows``: the name of the server it is a copy of, or None."""

    server: str
    follows: str | None
    jobs: tuple[tuple[str, Place], ...]


def jid_of(payload: bytes) -> str:
    """The jid in a job's payload; "?" where there is none."""
    try:
        return str(json.loads(payload)["jid"])
    except (ValueError, KeyError, TypeError):
        return "?"


def remains(server: RedisServer) -> Remains:
    """What ``server`` holds now. Nobody should write meanwhile. A follower is waited for until it has all."""
    with redis.Redis.from_url(server.url, password=server.password) as client:
        follows = _leader(client, server.password)
        jobs: list[tuple[str, Place]] = []
        for key in sorted(client.scan_iter("queue:*", count=1000)):
            payloads = client.lrange(key, 0, -1)[::-1]  # BRPOP serves the last one first
            jobs += [(jid_of(each), Place(server.url, key.decode(), at)) for at, each in enumerate(payloads)]
        for name in SETS:
            scored = client.zrange(name, 0, -1, withscores=True)
            jobs += [(jid_of(each), Place(server.url, name, score)) for each, score in scored]
        return Remains(server.url, follows, tuple(jobs))


def _leader(client: redis.Redis, password: str | None) -> str | None:
    """Whom this server follows, once it has caught up; None for a server of its own. Both have the same password."""
    info = client.info("replication")
    if info["role"] != "slave":
        return None
    host, port = info["master_host"], int(info["master_port"])
    with redis.Redis(host=host, port=port, password=password) as leader:

        def caught_up() -> bool:
            mine, theirs = client.info("replication"), leader.info("replication")
            linked = mine["master_link_status"] == "up"
            return bool(linked and mine["slave_repl_offset"] >= theirs["master_repl_offset"])

        until(caught_up, within_s=20, what=f"the follower has all that {host}:{port} wrote")
    return f"redis://{host}:{port}"
