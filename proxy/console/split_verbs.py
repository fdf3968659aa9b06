"""The verbs about the split.

Knows: how a split is asked for in words. Refuses to know: what splitting is (``world``).
"""

from __future__ import annotations

import re

from proxy.console.verb import Answer, BadArguments, Call, Verb
from proxy.console.world import SplitAsk, World

_WRITE = "write SPLIT TARGET PERCENT [NAME pattern] [ADDR pattern], for example SPLIT redis://new:6379 10%"


def split_verbs(world: World) -> tuple[Verb, ...]:
    """The table."""

    async def show(call: Call) -> Answer:
        facts, notes = await world.split_shown()
        return Answer(facts, tuple(notes))

    async def start(call: Call) -> Answer:
        said, notes = await world.split_start(asked(call.arguments), call.progress)
        return Answer(said, tuple(notes))

    async def end(call: Call) -> Answer:
        return Answer(await world.split_end(call.progress))

    return (
        Verb("SHOW SPLIT", "Whose reads go to another Redis, how many, who has left and why, what ended it.", show),
        Verb(
            "SPLIT",
            "Have PERCENT (10%) of the connections that are opened from now on read from TARGET, which a mirror must "
            "write to, until they do anything else; of clients with a NAME or ADDR like that.",
            start,
            "TARGET PERCENT [WORD…]",
            changes=True,
        ),
        Verb("SPLIT END", "Have all clients read from the backend again.", end, changes=True),
    )


def asked(words: tuple[str, ...]) -> SplitAsk:
    """What the words of SPLIT ask for. Raises BadArguments."""
    if len(words) < 2 or "://" not in words[0]:
        raise BadArguments(_WRITE)
    patterns: dict[str, str] = {}
    for at in range(2, len(words), 2):
        kind = words[at].lower()
        if kind not in ("name", "addr") or kind in patterns or at + 1 == len(words) or not words[at + 1]:
            raise BadArguments(_WRITE)
        patterns[kind] = words[at + 1]
    return SplitAsk(words[0], _percent(words[1]), patterns.get("name"), patterns.get("addr"))


def _percent(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%?", text)
    if found is None or not 0 < float(found[1]) <= 100:
        raise BadArguments("a share is above 0% and at most 100%; " + _WRITE)
    return float(found[1])
