"""TCP connections of this machine as the kernel lists them: whose they are, and what has not been read of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Connection:
    """One end of an IPv4 connection. ``unread``: bytes that came and that its process has not taken yet."""

    port: int
    peer: int
    unread: int
    inode: str


def connections() -> Iterator[Connection]:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        port, peer = (int(word.split(":")[1], 16) for word in words[1:3])
        yield Connection(port, peer, int(words[4].split(":")[1], 16), words[9])


def ports_of(pid: int, peer: int) -> set[int]:
    """The own ports of a process' connections to port ``peer``."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return {each.port for each in connections() if each.peer == peer and f"socket:[{each.inode}]" in inodes}


def unread_from(ports: set[int], at: int) -> int:
    """How many connections of these ports to port ``at`` have bytes that the process there has not taken yet."""
    return sum(each.port == at and each.peer in ports and each.unread > 0 for each in connections())
