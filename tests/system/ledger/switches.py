"""Switches under load, forth and back between two servers.

Knows: the console's SWITCH, and how long traffic stood still by its answer. Refuses to know: what came of the jobs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.servers import RedisServer, Shunt, redis_server, shunt

from .direct import NO_RETRY
from .load import JobLoad

TARGETS = ("new", "main")


@dataclass
class Switched:
    """``held_ms``: of each switch, how long traffic stood still. ``aborted``: what was said of those that were not done
    (traffic went on where it was)."""

    held_ms: list[float] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)


@contextlib.contextmanager
def switchable(folder: Path, *args: str) -> Iterator[tuple[Shunt, RedisServer, RedisServer]]:
    """A shunt, the server that it begins with, and the one that it can be switched to."""
    with redis_server() as source, redis_server() as target:
        places = ("--console", f"unix://{folder}/console", "--route-file", f"{folder}/route/record.json")
        with shunt(source.url, "--backends", f"new={target.url}", *places, *args) as running:
            yield running, source, target


def switch_often(folder: Path, load: JobLoad, count: int) -> Switched:
    """So many switches with FOLLOW, some jobs after each. Stops early when as many were not done."""
    made = Switched()
    with redis.Redis(unix_socket_path=f"{folder}/console", retry=NO_RETRY) as console:
        while len(made.held_ms) < count and len(made.aborted) < count:
            try:
                said = console.execute_command("JSON", "SWITCH", TARGETS[len(made.held_ms) % 2], "FOLLOW")
            except redis.ResponseError as error:
                made.aborted.append(str(error))
                continue
            made.held_ms.append(json.loads(said)["answer"]["held_ms"])
            load.wait_for(acknowledged=10, got=10)
    return made
