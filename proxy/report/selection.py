"""What a filter does to a verdict, in words. Pure.

Knows: that a verdict on a part is about that part, and is no "compatible" where the filter itself was in doubt. Refuses
to know: filters (``capture.filters``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from proxy.report.document import Selection, TargetReport, Verdict


def qualified(target: TargetReport, selection: Selection, *, commands: int) -> TargetReport:
    """The target's verdict on the exchanges that passed the filter; ``commands``: how many those are."""
    verdict = qualified_verdict(target.verdict, selection)
    if not commands and not target.findings:
        return replace(target, reason="no exchange passes the filter.")
    if doubt := "; ".join(doubts(selection)):
        if target.verdict is Verdict.COMPATIBLE:
            return replace(target, verdict=verdict, reason=f"nothing seen would be refused, but {doubt}.")
        return replace(target, reason=f"{target.reason} Besides, {doubt}.")
    return target


def qualified_verdict(verdict: Verdict, selection: Selection) -> Verdict:
    """The verdict, never green where the filter was in doubt."""
    in_doubt = selection.doubtful or selection.torn
    return Verdict.CANNOT_TELL if in_doubt and verdict is Verdict.COMPATIBLE else verdict


def headline(selection: Selection) -> str:
    """The sentence at the top of a report."""
    gaps = f" and {_many(selection.gaps, 'gap')}" if selection.gaps else ""
    return f"Only exchanges where {selection.where}: {_many(selection.exchanges, 'other')}{gaps} left out, not judged."


def doubts(selection: Selection | None) -> Iterator[str]:
    """What the filter was in doubt of; nothing without a filter."""
    if selection is None:
        return
    if selection.doubtful:
        yield f"{_many(selection.doubtful, 'exchange')} may be wanted too: not all of their keys are known"
    if selection.torn:
        yield f"the filter leaves the EXEC out of {_many(selection.torn, 'transaction')} of which it lets commands pass"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
