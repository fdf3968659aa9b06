"""Planned outages: the server is killed and started again while ``shunt maintenance`` holds traffic.

Knows: the walk of ``shunt maintenance``, and how long traffic stood still by its own rows. Refuses to know: what came
of the jobs.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.servers import ROOT, RedisServer, shunt_command, start, until

from .load import JobLoad

#: Steps of the walk during which clients wait.
HELD = ("hold traffic", "wait until the backend is back", "release")


def maintain(server: RedisServer, folder: Path, number: int) -> list[dict[str, object]]:
    """One planned outage of a shunt whose console is ``folder``/s; the steps and what they took."""
    words = [*shunt_command(), "maintenance", "--limit", "20s", "--json", "--console", f"unix://{folder}/s"]
    walk = start(words, folder / f"walk-{number}.log", env={"PYTHONPATH": str(ROOT)})
    until(lambda: "do the work now" in walk.log, within_s=30, what=f"traffic is held: {walk.log}", every_s=0.002)
    server.kill()
    server.start(wait=False)
    assert walk.wait(30) == 0, walk.log
    rows: list[dict[str, object]] = json.loads(walk.log[walk.log.index("[\n") :])
    return rows


def held_ms(rows: list[dict[str, object]]) -> float:
    """For how long clients waited."""
    return 1000 * sum(float(str(row["took_s"])) for row in rows if row["step"] in HELD)


def maintain_often(server: RedisServer, folder: Path, load: JobLoad, times: int) -> list[float]:
    """So many planned outages, some jobs after each; for how long clients waited, ms."""
    waited = []
    for number in range(times):
        waited.append(held_ms(maintain(server, folder, number)))
        load.wait_for(acknowledged=30, got=30)
    return waited
