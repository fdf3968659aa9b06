"""A mirror as the console shows it, of one worker or of several.

Knows: which of its parts stand in which answer. Refuses to know: workers, and the words (``mirror.shown``).
"""

from __future__ import annotations

from collections.abc import Sequence

from proxy.console.world import MirrorShown
from proxy.mirror import shown
from proxy.mirror.feed import Shown


def mirror_shown(parts: Sequence[Shown | None], notes: Sequence[str] = ()) -> MirrorShown:
    """What several workers' mirrors have done, as one. None stands for a worker that does not mirror."""
    running = [part for part in parts if part is not None]
    said = list(notes)
    if running and len(running) < len(parts):
        said.append(f"{len(parts) - len(running)} workers that started later don't mirror; the same MIRROR START again")
    return MirrorShown(shown.facts(running), shown.errors(running), shown.compared(running), tuple(said))
