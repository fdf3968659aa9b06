"""Places where a test has a switch go wrong: ``SHUNT_FAILPOINTS="before commit=kill"``.

Knows: the name of a place, and what is to happen there once. Refuses to know: what is under way. Without the variable,
which nobody sets in earnest, nothing happens anywhere.

A place is ``before`` or ``after``, and the name of a step (``Step.name`` in lower case). What can happen: ``kill``
(this process dies as by kill -9), ``error`` (the step fails), ``hang`` (for HANG_S), ``hook=COMMAND`` (a shell command,
for what a test does to servers). Several are separated by ``;``.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping

VARIABLE = "SHUNT_FAILPOINTS"
#: Longer than any budget, shorter than a test.
HANG_S = 2.0


class Injected(Exception):
    """A step failed because a test wanted it to."""


class Failpoints:
    """What is to happen, by place; each once."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._actions: dict[str, str] = {}
        for entry in filter(None, environment.get(VARIABLE, "").split(";")):
            place, _, action = entry.partition("=")
            self._actions[place.strip().lower()] = action.strip()

    async def reach(self, place: str) -> None:
        """The switch has come to this place. Raises Injected."""
        action = self._actions.pop(place, None)
        if action is None:
            return
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "hang":
            await asyncio.sleep(HANG_S)
        elif action.startswith("hook="):
            process = await asyncio.create_subprocess_shell(action.removeprefix("hook="))
            await process.wait()
        else:
            raise Injected(f"a failpoint at {place}")
