"""shunt itself, recording key names (the default) and recording nothing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from peers.launch import HOST, REPOSITORY, Peer, Place

FLUSH_S = 1.0  # shunt's own --capture-flush default: what it records is written that much later at most


def program() -> list[str]:
    """The command beside this Python (an installed shunt), else the module in this checkout."""
    script = Path(sys.executable).parent / "shunt"
    return [str(script)] if script.exists() else [sys.executable, "-m", "proxy.cli.main"]


def _argv(place: Place) -> list[str]:
    listen, backend = (f"redis://{HOST}:{port}" for port in (place.listen_port, place.backend_port))
    return [*program(), "run", "--listen", listen, "--backend", backend, "--log-level", "warning"]


def _argv_recording(place: Place) -> list[str]:
    return [*_argv(place), "--capture", str(place.directory / "capture"), "--capture-args", "keys"]


def _missing() -> str | None:
    sys.path.append(str(REPOSITORY))
    try:
        needed = ("proxy.cli.run", "proxy.app", "protocol.resp", "protocol.keyspecs", "protocol.slots")
        absent = [name for name in needed if importlib.util.find_spec(name) is None]
    except ImportError as error:
        absent = [str(error)]
    finally:
        sys.path.remove(str(REPOSITORY))
    return f"not built: {', '.join(absent)}; run `make` first" if absent else None


def _version() -> str:
    argv = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


RECORDING = Peer(
    name="shunt",
    does="parses, slots, latency, records `keys` to disk (Python, Cython)",
    argv=_argv_recording,
    missing=_missing,
    version=_version,
    settle_s=FLUSH_S + 0.3,
)
PLAIN = Peer(
    name="shunt (no capture)",
    does="parses, slots, latency, metrics",
    argv=_argv,
    missing=_missing,
    version=_version,
)
