"""Commands that wait in Redis, and how long they may in a replay.

Knows: where each of them has its timeout, and the bound. Refuses to know: what they do.

A captured ``BRPOP q 0`` waited for as long as its producer took, at the captured pace. A replay must end, also where
the target has nothing to give, so the timeout that is sent is the captured wait at the replay's pace: at least
NOTHING_S for a wait that ended with nothing, SERVED_S more for one that was served (its producer may be late), and
never more than the client itself had asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from proxy.capture.format import ReplyKind

NOTHING_S = 0.01
SERVED_S = 1.0

#: Where the timeout is, and how many of its units are a second.
_PLACES: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("BLPOP", "BRPOP", "BZPOPMIN", "BZPOPMAX", "BLMOVE", "BRPOPLPUSH"), (-1, 1)),
    **dict.fromkeys(("BLMPOP", "BZMPOP"), (1, 1)),
    **dict.fromkeys(("WAIT", "WAITAOF"), (-1, 1000)),
}
_BY_WORD = frozenset({"XREAD", "XREADGROUP"})


def bounded(name: str, args: Sequence[bytes], reply: int, waited_s: float) -> tuple[Sequence[bytes], float]:
    """The arguments with the timeout that is sent, and that timeout in seconds. ``waited_s``: how long the captured
    command took, at the replay's pace. What has no readable timeout stays as it is: Redis refuses it at once."""
    place = _place(name, args)
    if place is None:
        return args, 0.0
    index, per_s = place
    try:
        asked_s = float(args[index]) / per_s
    except (ValueError, IndexError):
        return args, 0.0
    if not 0 <= asked_s < math.inf:
        return args, 0.0
    allowed_s = max(waited_s, NOTHING_S) if reply in (ReplyKind.NULL, ReplyKind.LOST) else waited_s + SERVED_S
    allowed_s = min(allowed_s, asked_s or math.inf)
    text = b"%d" % max(1, math.ceil(allowed_s * per_s)) if per_s > 1 else b"%.3f" % max(allowed_s, 0.001)
    sent = list(args)
    sent[index] = text
    return sent, allowed_s


def _place(name: str, args: Sequence[bytes]) -> tuple[int, int] | None:
    if name in _BY_WORD:
        words = [word.upper() for word in args]
        end = words.index(b"STREAMS") if b"STREAMS" in words else len(words)
        return (words.index(b"BLOCK", 0, end) + 1, 1000) if b"BLOCK" in words[:end] else None
    return _PLACES.get(name)
