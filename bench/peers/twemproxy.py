"""twemproxy (Debian calls the package nutcracker): parses commands, all clients share one backend connection."""

from __future__ import annotations

from shutil import which

from peers.launch import HOST, Peer, Place, free_port, version

CONFIG = """\
bench:
  listen: {host}:{listen}
  redis: true
  hash: fnv1a_64
  distribution: ketama
  auto_eject_hosts: false
  preconnect: true
  backlog: 1024
  servers:
    - {host}:{backend}:1
"""


def _argv(place: Place) -> list[str]:
    path = place.directory / "nutcracker.yml"
    path.write_text(CONFIG.format(host=HOST, listen=place.listen_port, backend=place.backend_port))
    files = ["-c", str(path), "-o", str(place.directory / "log"), "-p", str(place.directory / "pid")]
    return ["nutcracker", *files, "-a", HOST, "-s", str(free_port())]


def _missing() -> str | None:
    return None if which("nutcracker") else "not installed: apt-get install nutcracker"


PEER = Peer(
    name="twemproxy",
    does="parses, shares connections (C)",
    argv=_argv,
    missing=_missing,
    version=lambda: version(["nutcracker", "-V"]),
)
