"""The verbs about the mirror.

Knows: how a mirror is asked for in words. Refuses to know: what mirroring is (``world``).
"""

from __future__ import annotations

import re

from proxy.console.verb import Answer, BadArguments, Call, Verb
from proxy.console.world import MirrorAsk, World

WHAT = ("writes", "reads", "all")
_WRITE = "write MIRROR START [TARGET] [WRITES|READS|ALL] [SAMPLE n%] [CLASS pattern …]"


def mirror_verbs(world: World) -> tuple[Verb, ...]:
    """The table."""

    async def show(call: Call) -> Answer:
        shown = await world.mirror_shown()
        return Answer(shown.facts, shown.notes)

    async def compared(call: Call) -> Answer:
        shown = await world.mirror_shown()
        return Answer(shown.compared, shown.notes)

    async def errors(call: Call) -> Answer:
        shown = await world.mirror_shown()
        return Answer(shown.errors, shown.notes)

    async def start(call: Call) -> Answer:
        return Answer(await world.mirror_start(asked(call.arguments), call.progress))

    async def stop(call: Call) -> Answer:
        return Answer(await world.mirror_stop(call.progress))

    return (
        Verb("SHOW MIRROR", "What is mirrored where, how far behind, what was dropped and why.", show),
        Verb("SHOW MIRROR ERRORS", "What only the mirror's server refused, or did not have, by command.", errors),
        Verb("SHOW MIRROR READS", "Replies of both servers to the same reads, by command and pattern.", compared),
        Verb(
            "MIRROR START",
            "Send the effects of writes to another Redis (WRITES), compare its replies to reads (READS), or both "
            "(ALL); of SAMPLE 10% of the keys, of keys like CLASS pattern. Without TARGET, to --mirror-target.",
            start,
            "[TARGET] [WORD…]",
            changes=True,
        ),
        Verb("MIRROR STOP", "End that, once what was copied has arrived.", stop, changes=True),
    )


def asked(words: tuple[str, ...]) -> MirrorAsk:
    """What the words of MIRROR START ask for. Raises BadArguments."""
    target, what, percent, patterns = None, "writes", 100, list[str]()
    at = 0
    while at < len(words):
        word = words[at].lower()
        if at == 0 and "://" in word:
            target = words[at]
        elif word in WHAT:
            what = word
        elif word == "sample" and at + 1 < len(words):
            at += 1
            percent = _percent(words[at])
        elif word == "class" and at + 1 < len(words):
            at += 1
            patterns.append(words[at])
        else:
            raise BadArguments(_WRITE)
        at += 1
    return MirrorAsk(target, what, percent, tuple(patterns))


def _percent(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,3})%?", text)
    if found is None or not 1 <= int(found[1]) <= 100:
        raise BadArguments("a sample is 1% to 100%; " + _WRITE)
    return int(found[1])
