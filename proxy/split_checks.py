"""What must be so for reads to go to another server: before a split begins, and as long as it lasts.

Knows: that all writes must go there too, and none may be missing, and the words for what is not so. Refuses to know:
clients, and what becomes of them (``splitting``).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any

from redis.exceptions import RedisError

from proxy.address import Address, AddressError
from proxy.config import RunConfig
from proxy.console.verb import VerbError
from proxy.console.world import SplitAsk
from proxy.mirror.feed import Feed
from proxy.mirroring import Mirroring
from proxy.net.reception import Reception
from proxy.net.upstream import Upstream
from proxy.split_shown import ENDED

#: What waits for the mirror for longer ends a split, seconds: its clients read what is at most so old.
LATE_S = 1.0
#: A mirror that has just begun gets so long to connect, seconds, and is looked at so often.
CONNECT_S = 2.0
LOOK_S = 0.05
#: Counting keys may take so long, seconds.
CHECK_S = 3.0

_TO_DO = "MIRROR STOP, then start it anew on a whole copy: HOLD, MIRROR START, RELEASE (docs/split.md)"


def address(ask: SplitAsk) -> Address:
    """Where reads are to go. Raises VerbError."""
    try:
        return Address.parse(ask.target)
    except AddressError as error:
        raise VerbError(f"the target: {error}") from None


def possible(config: RunConfig, reception: Reception) -> None:
    """Raises VerbError: not beside these options, or not now."""
    for is_so, why in (
        (config.pool != "session", "with --pool shared there is no split: clients share backend connections"),
        (config.classes, "with --classes there is no split: the mirror is one backend's, and keys live on several"),
        (config.rehearse is not None, "with --rehearse there is no split; start shunt without it"),
        (config.ride_through is not None, "with --ride-through there is no split; start shunt without it"),
        (reception.holds, "traffic is held; RELEASE first"),
    ):
        if is_so:
            raise VerbError(why)


async def mirror(mirroring: Mirroring, target: Address) -> tuple[Feed, Address]:
    """The mirror that makes a split possible, and where it goes. Raises VerbError."""
    running = mirroring.running
    if running is None:
        raise VerbError(
            f"no mirror runs: a split needs all writes at the target too; MIRROR START {target.bare} WRITES first"
        )
    feed, selection, to = running
    if (to.scheme, to.label) != (target.scheme, target.label):
        raise VerbError(f"the mirror goes to {to.label}, not to {target.label}; a split must have the same target")
    if not selection.wish.writes:
        raise VerbError("the mirror sends reads only; a split needs one of all writes: MIRROR STOP, MIRROR START")
    if not selection.wish.whole:
        raise VerbError("the mirror sends a part of the keys only; a split needs one without SAMPLE and CLASS")
    until_s = time.monotonic() + CONNECT_S
    while (found := trouble(feed)) is not None:
        if found[0] != "mirror-down" or time.monotonic() > until_s:
            raise VerbError(f"{ENDED[found[0]]}: {found[1]}; {_TO_DO}")
        await asyncio.sleep(LOOK_S)
    return feed, to


def trouble(feed: Feed) -> tuple[str, str] | None:
    """Why the mirror is not the same as the backend, or may not be: one of ENDED, and words. None: it is."""
    shown, waits_s = feed.shown(), feed.waits_s
    counts = shown.counts
    dropped = ", ".join(f"{why} {count}" for why, count in counts.dropped.items() if count)
    missed = ", ".join(f"{command} {count}" for command, count in counts.missed.items())
    errors = ", ".join(f"{command} {word} {count}" for (command, word), count in counts.errors.items())
    if dropped:
        return "mirror-dropped", dropped
    if missed:
        return "mirror-missed", missed
    if errors:
        return "mirror-refused", errors
    if shown.lanes_up < shown.lanes:
        return "mirror-down", shown.why_down
    return ("mirror-late", f"{waits_s:.1f} s") if waits_s > LATE_S else None


async def compared(here: Upstream, there: Upstream, to: Address) -> list[str]:
    """A note if the target has not as many keys as the backend. Raises VerbError: one of them does not say."""
    ours, theirs = await _keys(here, "the backend"), await _keys(there, f"the target {to.label}")
    if ours == theirs:
        return []
    return [
        f"the target has {theirs} keys, the backend {ours}: what was there before the mirror began is not copied by "
        "it, and reads of what is missing answer as if it were gone"
    ]


async def _keys(upstream: Upstream, who: str) -> int:
    """How many keys it has, in all databases. Raises VerbError."""
    control = upstream.control()
    try:
        async with asyncio.timeout(CHECK_S):
            found: dict[str, Any] = await control.info("keyspace")
    except (RedisError, OSError, TimeoutError, ssl.SSLError) as error:
        why = (str(error).splitlines() or [""])[0] or f"no answer within {CHECK_S:g} s"
        raise VerbError(f"{who} can't be asked how many keys it has (INFO keyspace): {why}") from None
    finally:
        await control.aclose()
    return sum(each["keys"] for each in found.values() if isinstance(each, dict))
