"""What Redis did with each job, from its append-only file: the witness that neither Sidekiq nor a proxy can fool.

Knows: the file's commands (effects: a BRPOP stands there as the RPOP that it became) on Sidekiq's lists and sets, and
which job each of them moved. Refuses to know: what anybody was told about it.

The server must have run with ``APPENDONLY`` from an empty start; a rewrite of the file would take the history away.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hiredis

from .remains import jid_of

#: Arguments of a redis-server that keeps its history; and when it writes to the disk.
APPENDONLY = ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--appendfsync")
SETS = {b"retry", b"schedule"}


@dataclass(frozen=True, slots=True)
class Event:
    """A job came into a list or set, or left it. ``kind``: pushed or popped."""

    jid: str
    kind: str
    place: str


def commands(directory: Path) -> Iterator[list[bytes]]:
    """The commands of the append-only file in a server's folder. ValueError: it is not all of its history."""
    files = sorted((directory / "appendonlydir").glob("*.incr.aof"))
    if [file.name for file in files] != ["appendonly.aof.1.incr.aof"]:
        raise ValueError(f"{directory} holds no whole history: {[file.name for file in files]}")
    reader = hiredis.Reader()
    reader.feed(files[0].read_bytes())
    while (command := reader.gets()) is not False:
        yield command


class _Stage:
    """Lists and sets, as the commands fill and empty them."""

    def __init__(self) -> None:
        self.lists: dict[bytes, deque[bytes]] = defaultdict(deque)
        self.sets: dict[bytes, set[bytes]] = defaultdict(set)

    def play(self, command: list[bytes]) -> Iterator[tuple[bytes, str, bytes]]:
        """(payload, kind, key) of each job that the command moves. ValueError: a command that is not understood."""
        name = command[0].upper()
        key = command[1] if len(command) > 1 else b""
        if not (key.startswith(b"queue:") or key in SETS):
            return
        if name in (b"LPUSH", b"RPUSH"):
            for payload in command[2:]:
                self.lists[key].appendleft(payload) if name == b"LPUSH" else self.lists[key].append(payload)
                yield payload, "pushed", key
        elif name in (b"RPOP", b"LPOP"):
            for _ in range(int(command[2]) if len(command) > 2 else 1):
                yield self.lists[key].pop() if name == b"RPOP" else self.lists[key].popleft(), "popped", key
        elif name == b"ZADD" and len(command) % 2 == 0:
            for payload in command[3::2]:
                if payload not in self.sets[key]:  # the same member again is no second job
                    self.sets[key].add(payload)
                    yield payload, "pushed", key
        elif name == b"ZREM":
            for payload in command[2:]:
                self.sets[key].discard(payload)
                yield payload, "popped", key
        else:
            raise ValueError(f"the history of jobs does not know {name!r} on {key!r}")


def events(played: Iterable[list[bytes]]) -> list[Event]:
    """What happened to jobs, in the order in which Redis did it."""
    stage = _Stage()
    return [
        Event(jid_of(payload), kind, key.decode())
        for command in played
        for payload, kind, key in stage.play([bytes(word) for word in command])
    ]
