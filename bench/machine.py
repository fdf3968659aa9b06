"""Where and with what something was measured: machine, date, versions. Everything that a number needs to be read."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from peers.launch import Peer, version

LIBRARIES = ("uvloop", "cython", "pyarrow")


def _field(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")


def _library(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed here"


def describe(peers: Iterable[Peer]) -> dict[str, str]:
    """Name → value, in the order in which a reader wants them."""
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "CPU": f"{os.cpu_count()} × {_field('/proc/cpuinfo', 'model name')}",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.1f} GiB",
        "kernel": platform.release(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": platform.python_version(),
        **{name: _library(name) for name in LIBRARIES},
        "redis": version(["redis-server", "--version"]),
    }
    # "pipe again" and every form of shunt are the same program: its name is the first word.
    for peer in peers:
        program = peer.name.split()[0]
        if program not in ("direct", *facts):
            facts[program] = peer.version()
    return facts


def sentence(facts: dict[str, str]) -> str:
    """The facts as one Markdown paragraph."""
    return " · ".join(f"{name}: {value}" for name, value in facts.items())
