"""Which keys scripts really touch, out of MONITOR: a script's call, and behind it the commands that it sent.

Knows: that a script runs alone, so that the ``lua`` lines behind a call are its own; templates, declared keys, slots.
Refuses to know: how the lines are got. Of commands nothing is kept but keys: arguments may be anybody's secret.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from protocol.commands import Kind, Trait, table
from protocol.keyspecs import Unknown, find, lookup_name
from protocol.slots import slot
from proxy.capture.format import UNKNOWN_TEXT, UnknownWhy
from proxy.report.templates import fold

#: Scripts, and templates of one script, that are told apart; the rest is counted together.
MOST_SCRIPTS = 1000
MOST_TEMPLATES = 100
_RAW_KEYS = 2000
OTHER = b"(other)"


@dataclass(frozen=True)
class TouchedKey:
    """Keys of one template. ``declared``: they were among the call's KEYS."""

    template: bytes
    declared: bool
    count: int


@dataclass(frozen=True)
class TouchedScript:
    """One script. ``script``: SHA-1, or the function's name (``function``). ``over_slots``: calls whose keys, declared
    or touched, lie in several slots. ``undeclared_calls``: calls that touched a key outside KEYS. ``unknown``: reason
    to number of commands whose keys could not be told."""

    script: bytes
    function: bool
    calls: int
    over_slots: int
    most_slots: int
    undeclared_calls: int
    keys: tuple[TouchedKey, ...]
    unknown: dict[str, int]


@dataclass(slots=True)
class _Seen:
    function: bool
    calls: int = 0
    over_slots: int = 0
    most_slots: int = 0
    undeclared_calls: int = 0
    raw: Counter[tuple[bool, bytes]] = field(default_factory=Counter)
    templates: Counter[tuple[bool, bytes]] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


class TouchedKeys:
    """Takes each command in MONITOR's order. ``unattached``: commands of scripts whose call was not seen."""

    def __init__(self) -> None:
        self.unattached = 0
        self._callers = {name.encode() for name, spec in table().commands.items() if spec.traits & Trait.SCRIPT}
        self._scripts: dict[tuple[bool, bytes], _Seen] = {}
        self._now: _Seen | None = None
        self._declared: frozenset[bytes] = frozenset()
        self._slots: set[int] = set()
        self._strayed = False

    def command(self, args: Sequence[bytes]) -> None:
        """A client's command; if it calls a script, what follows from ``inside`` is that script's."""
        if self._now is not None:
            self._end()
        if args[0].upper() not in self._callers or len(args) < 2:  # most commands end here
            return
        spec = lookup_name(args[:1])
        assert spec is not None
        function = spec.kind is Kind.FCALL
        name = hashlib.sha1(args[1], usedforsecurity=False).hexdigest().encode() if spec.kind is Kind.EVAL else args[1]
        name = name if function else name.lower()
        if (function, name) not in self._scripts and len(self._scripts) >= MOST_SCRIPTS:
            name = OTHER
        self._now = self._scripts.setdefault((function, name), _Seen(function))
        self._now.calls += 1
        keys = find(args)
        if isinstance(keys, Unknown):
            self._now.unknown[f"declared keys: {UNKNOWN_TEXT[UnknownWhy(keys.why)]}"] += 1
            self._declared = frozenset()
        else:
            self._declared = frozenset(args[at] for at in keys.indexes)
        self._slots = {slot(key) for key in self._declared}

    def inside(self, args: Sequence[bytes]) -> None:
        """A command that a script sent."""
        if self._now is None:
            self.unattached += 1
            return
        keys = find(args)
        if isinstance(keys, Unknown):
            self._now.unknown[UNKNOWN_TEXT[UnknownWhy(keys.why)]] += 1
            return
        if keys.shard_channels:
            return
        for at in keys.indexes:
            declared = args[at] in self._declared
            self._strayed = self._strayed or not declared
            self._now.raw[declared, args[at]] += 1
            self._slots.add(slot(args[at]))
        if len(self._now.raw) > _RAW_KEYS:
            _fold(self._now)

    def result(self) -> tuple[TouchedScript, ...]:
        """What was seen, scripts with undeclared keys first, then the most called."""
        self._end()
        made = [_touched(name, seen) for (_, name), seen in self._scripts.items()]
        return tuple(sorted(made, key=lambda each: (not each.undeclared_calls, -each.calls, each.script)))

    def _end(self) -> None:
        """The running script has ended."""
        if self._now is not None:
            self._now.most_slots = max(self._now.most_slots, len(self._slots))
            self._now.over_slots += len(self._slots) > 1
            self._now.undeclared_calls += self._strayed
        self._now, self._strayed = None, False


def _touched(name: bytes, seen: _Seen) -> TouchedScript:
    _fold(seen)
    keys = [TouchedKey(template, declared, n) for (declared, template), n in seen.templates.most_common()]
    return TouchedScript(
        name, seen.function, seen.calls, seen.over_slots, seen.most_slots, seen.undeclared_calls,
        tuple(sorted(keys, key=lambda key: key.declared)), dict(seen.unknown),
    )  # fmt: skip


def _fold(seen: _Seen) -> None:
    """Raw keys become templates."""
    if not seen.raw:
        return
    templates = fold(pa.array([key for _, key in seen.raw], pa.binary())).to_pylist()
    for ((declared, _), count), template in zip(seen.raw.items(), templates, strict=True):
        known = (declared, template) in seen.templates or len(seen.templates) < MOST_TEMPLATES
        seen.templates[declared, template if known else OTHER] += count
    seen.raw.clear()
