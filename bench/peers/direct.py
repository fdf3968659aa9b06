"""Direct Redis: no proxy, the number that every proxy is a loss against."""

from __future__ import annotations

from shutil import which

from peers.launch import Peer, version


def _missing() -> str | None:
    return None if which("redis-server") else "not installed: apt-get install redis-server"


PEER = Peer(
    name="direct",
    does="no proxy",
    argv=lambda place: [],
    missing=_missing,
    version=lambda: version(["redis-server", "--version"]),
)
