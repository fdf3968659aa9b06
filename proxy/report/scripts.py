"""The scripts of a capture, as a report shows them: which lines touch keys, and whether these are declared.

Knows: how a reading becomes a line of the table. Refuses to know: Lua (``lua``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.report.lua import Call, ScriptReading, read_script
from proxy.report.rules.scripts import ScriptFact

#: Commands that have no key and mean the same on every node.
_HARMLESS = frozenset({b"TIME", b"PING", b"ECHO", b"PUBLISH"})


def script_facts(body: bytes) -> ScriptFact:
    """The facts of one script body."""
    return facts_of(read_script(body))


def facts_of(reading: ScriptReading) -> ScriptFact:
    """The facts of a body that has been read."""
    facts = ScriptFact(0)
    if reading.shebang is not None:
        facts |= ScriptFact.SHEBANG
        facts |= ScriptFact.NO_CLUSTER if b"no-cluster" in reading.shebang.flags else facts
        facts |= ScriptFact.CROSS_SLOT if b"allow-cross-slot-keys" in reading.shebang.flags else facts
    if reading.unread or reading.opaque or any(call.unknown for call in reading.calls):
        facts |= ScriptFact.HIDDEN
    elif all(call.command in _HARMLESS for call in reading.calls):
        facts |= ScriptFact.NO_KEYS
    if any(call.undeclared for call in reading.calls):
        facts |= ScriptFact.UNDECLARED
    return facts


@dataclass(frozen=True)
class ScriptLine:
    """One script or function library. ``count``: calls by its SHA-1 or body; None: calls of functions don't name their
    library. ``name`` and ``functions`` are a library's. ``untold``: why reading it does not
    show every key, one reason each; empty: it does. ``flagged``: calls with keys outside KEYS, in the order of
    lines."""

    sha: bytes
    count: int | None
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


def script_lines(bodies: Mapping[bytes, bytes], calls: Mapping[bytes, int]) -> tuple[ScriptLine, ...]:
    """One line for each body by SHA-1: those with something to say first, the most called of them first. ``calls``: how
    often each SHA-1 was called."""
    made = [script_line(sha, body, calls.get(sha, 0)) for sha, body in bodies.items()]
    return tuple(sorted(made, key=lambda line: (not line.flagged, not line.untold, -(line.count or 0), line.sha)))


def script_line(sha: bytes, body: bytes, count: int) -> ScriptLine:
    """What reading one body tells. It never fails: a body that can't be read says so in ``untold``."""
    reading = read_script(body)
    untold = [why for why in (reading.unread, reading.opaque) if why]
    untold += [f"line {call.line}: {call.unknown}" for call in reading.calls if call.unknown]
    return ScriptLine(
        sha=sha,
        count=None if reading.functions else count,
        size=len(body),
        name=b"" if reading.shebang is None else reading.shebang.name,
        functions=reading.functions,
        facts=facts_of(reading),
        calls=reading.calls,
        untold=tuple(untold),
    )
