"""The scripts of a capture, as a report shows them: which lines touch keys, and whether these are declared.

Knows: how a reading becomes a line of the table. Refuses to know: Lua (``lua``), and how often a script was called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.report.lua import Call, read_script
from proxy.report.rules.scripts import ScriptFact, facts_of


@dataclass(frozen=True)
class ScriptLine:
    """One script or function library. ``name`` and ``functions`` are a library's. ``untold``: why reading it does not
    show every key, one reason each; empty: it does. ``flagged``: calls with keys outside KEYS, in the order of
    lines."""

    sha: bytes
    size: int  # bytes of the body
    name: bytes
    functions: tuple[bytes, ...]
    facts: ScriptFact
    calls: tuple[Call, ...]
    untold: tuple[str, ...]

    @property
    def flagged(self) -> tuple[Call, ...]:
        return tuple(call for call in self.calls if call.undeclared)

    @property
    def lines(self) -> tuple[int, ...]:
        """The lines of the body that touch keys outside KEYS, from 1."""
        return tuple(sorted({call.line for call in self.flagged}))


def script_lines(bodies: Mapping[bytes, bytes]) -> tuple[ScriptLine, ...]:
    """One line for each body by SHA-1: those with something to say first, then by SHA-1."""
    made = [script_line(sha, body) for sha, body in bodies.items()]
    return tuple(sorted(made, key=lambda line: (not line.flagged, not line.untold, line.sha)))


def script_line(sha: bytes, body: bytes) -> ScriptLine:
    """What reading one body tells. It never fails: a body that can't be read says so in ``untold``."""
    reading = read_script(body)
    untold = [why for why in (reading.unread, reading.opaque) if why]
    untold += [f"line {call.line}: {call.unknown}" for call in reading.calls if call.unknown]
    return ScriptLine(
        sha=sha,
        size=len(body),
        name=b"" if reading.shebang is None else reading.shebang.name,
        functions=reading.functions,
        facts=facts_of(reading),
        calls=reading.calls,
        untold=tuple(untold),
    )
