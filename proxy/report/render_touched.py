"""The keys that scripts touched, as text. Knows: wording and columns. Refuses to know: how they were found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.report.printable import printable, shorten
from proxy.report.touched import TouchedScript

_TEMPLATE_WIDTH = 80
_SHOWN = 20


def render_touched(scripts: Sequence[TouchedScript], unattached: int) -> str:
    """A paragraph for each script, and what could not be told."""
    if not scripts and not unattached:
        return "No script or function was called.\n"
    lines = [line for script in scripts for line in _script(script)]
    if unattached:
        lines.append(f"{unattached:,} commands of scripts whose call was not seen: unknown whose they are.")
    return "\n".join(lines) + "\n"


def _script(script: TouchedScript) -> Iterator[str]:
    kind = "function" if script.function else "script"
    slots = f"{script.over_slots:,} over several slots (up to {script.most_slots})" if script.over_slots else "one slot"
    yield f"{kind} {shorten(printable(script.script), 60)}: {_many(script.calls, 'call')}, {slots}"
    for key in script.keys[:_SHOWN]:
        word = "declared" if key.declared else "UNDECLARED"
        yield f"  {word:<10} {key.count:>9,}×  {shorten(printable(key.template), _TEMPLATE_WIDTH)}"
    if len(script.keys) > _SHOWN:
        yield f"  (and {len(script.keys) - _SHOWN} more templates)"
    for why, count in script.unknown.items():
        yield f"  unknown    {count:>9,}×  {why}"
    if not script.keys and not script.unknown:
        yield "  no key was touched"
    yield ""


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
