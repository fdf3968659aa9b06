"""shunt itself: a backend connection for each client or shared ones, recording nothing, key names or everything."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import partial
from pathlib import Path

from peers.launch import HOST, REPOSITORY, Peer, Place

POOLS = ("session", "shared")
RECORDINGS = ("off", "keys", "full")
FLUSH_S = 1.0  # shunt's own --capture-flush default: what it records is written that much later at most


def program() -> list[str]:
    """The command beside this Python (an installed shunt), else the module in this checkout."""
    script = Path(sys.executable).parent / "shunt"
    return [str(script)] if script.exists() else [sys.executable, "-m", "proxy.cli.main"]


def _argv(pool: str, recording: str, workers: int, place: Place) -> list[str]:
    listen, backend = (f"redis://{HOST}:{port}" for port in (place.listen_port, place.backend_port))
    argv = [*program(), "run", "--listen", listen, "--backend", backend, "--log-level", "warning", "--pool", pool]
    if workers > 1:
        argv += ["--workers", str(workers)]
    if recording != "off":
        argv += ["--capture", str(place.directory / "capture"), "--capture-args", recording]
    return argv


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


def variant(pool: str, recording: str, workers: int = 1) -> Peer:
    """shunt with `--pool`, `--capture-args` (off: no capture) and `--workers`; its name says which."""
    return Peer(
        name=f"shunt {pool} {recording}" + (f" × {workers}" if workers > 1 else ""),
        does="parses, slots, latency, metrics" + ("" if recording == "off" else f", records `{recording}` to disk"),
        argv=partial(_argv, pool, recording, workers),
        missing=_missing,
        version=_version,
        settle_s=0.1 if recording == "off" else FLUSH_S + 0.3,
    )


VARIANTS = tuple(variant(pool, recording) for pool in POOLS for recording in RECORDINGS)
