"""What one process and its children have cost so far: CPU time and resident memory, as the kernel counts them.

Knows: /proc and process clocks (Linux). Refuses to know: what the process is.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Living children of `pid`, of whichever thread."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def _reaped_s(pid: int) -> float:
    """CPU seconds of the children that ended and were waited for (cutime + cstime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / TICKS_PER_S


def cpu_s(pid: int) -> float:
    """User and system time of `pid`, all its threads (ended ones too) and all its children, in seconds.

    The process clock is the same sum that /proc/PID/stat shows, in nanoseconds where stat counts ticks of 10 ms:
    100,000 pipelined commands are about 100 ms of CPU, and a tenth of that must not be rounding."""
    own = time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of a whole thread group, see clock_getcpuclockid(3)
    return own + _reaped_s(pid) + sum(cpu_s(child) for child in children(pid))


def resident_bytes(pid: int) -> int:
    """VmRSS of `pid` and all its children."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    own = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
    return own + sum(resident_bytes(child) for child in children(pid))


def raise_open_files() -> int:
    """Raise RLIMIT_NOFILE to its hard limit, for us and for every child started later; return the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
