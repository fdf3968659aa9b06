"""HAProxy in TCP mode with one thread: a byte pipe in C."""

from __future__ import annotations

from shutil import which

from peers.launch import HOST, Peer, Place, version

CONFIG = """\
global
    nbthread 1
    maxconn 9000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen redis
    bind {host}:{listen}
    server redis {host}:{backend}
"""


def _argv(place: Place) -> list[str]:
    path = place.directory / "haproxy.cfg"
    path.write_text(CONFIG.format(host=HOST, listen=place.listen_port, backend=place.backend_port))
    return ["haproxy", "-db", "-f", str(path)]


def _missing() -> str | None:
    return None if which("haproxy") else "not installed: apt-get install haproxy"


PEER = Peer(
    name="HAProxy",
    does="copies bytes, knows nothing (C, TCP mode)",
    argv=_argv,
    missing=_missing,
    version=lambda: version(["haproxy", "-v"]),
)
