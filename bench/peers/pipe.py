"""The uvloop byte pipe of bench/pipe.py, run by the same Python as shunt."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from dataclasses import replace

from peers.launch import REPOSITORY, Peer, Place


def _argv(place: Place) -> list[str]:
    return [sys.executable, str(REPOSITORY / "bench/pipe.py"), str(place.listen_port), str(place.backend_port)]


def _missing() -> str | None:
    return None if importlib.util.find_spec("uvloop") else "uvloop is not installed: pip install uvloop"


PEER = Peer(
    name="pipe",
    does="copies bytes, knows nothing (Python, uvloop)",
    argv=_argv,
    missing=_missing,
    version=lambda: f"uvloop {importlib.metadata.version('uvloop')}",
)
# The same program a second time: how far two runs of one thing differ is how far a ratio can be trusted.
AGAIN = replace(PEER, name="pipe again")
