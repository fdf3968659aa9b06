"""Checks of clocks and of the way's length. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from proxy.cutover.checks.said import Said, good, known, time, warn
from proxy.cutover.finding import Side
from proxy.cutover.server_facts import Unknown, World

#: From here on a difference of clocks is worth a sentence, seconds: times to live are copied by the clock.
SKEW_S = 1.0
#: Round trips: the target's median may be so much longer, in parts and seconds; and the longest p99, seconds.
SLOWER = 2.0
SLOWER_S = 0.0005
LONG_P99_S = 0.05


def clock(world: World) -> Said:
    """Scheduled jobs and times to live mean a moment by the server's clock."""
    first = known(world.source.clock, "The source's clock is not known")
    second = known(world.target.clock, "The target's clock is not known")
    skew_s, error_s = second.seconds - first.seconds, first.error_s + second.error_s
    data: dict[str, Any] = {"skew_s": skew_s, "error_s": error_s}
    if abs(skew_s) <= error_s:
        return good(f"The clocks agree (within {time(error_s)}, which is as exactly as can be told).", **data)
    way = "ahead of" if skew_s > 0 else "behind"
    text = f"The target's clock is {time(abs(skew_s))} (± {time(error_s)}) {way} the source's."
    if abs(skew_s) - error_s > SKEW_S:
        return warn(text, "Set the clocks (NTP): keys with a time to live would end at another moment.", **data)
    return good(text, **data)


def round_trip(world: World, side: Side) -> Said:
    """Every command waits for it. The target is compared with the source."""
    server = world.target if side is Side.TARGET else world.source
    pings_s = known(server.pings_s, f"The {side}'s round trip is not known")
    middle, p99, count = median(pings_s), quantile(pings_s, 0.99), len(pings_s)
    data: dict[str, Any] = {"median_s": middle, "p99_s": p99, "pings": count}
    text = f"Round trip to the {side}: median {time(middle)}, p99 {time(p99)} ({count} PINGs)."
    if p99 > LONG_P99_S:
        return warn(
            text, "Measure from where shunt runs. A switch holds traffic for several round trips within 300 ms.", **data
        )
    before = world.source.pings_s
    if side is Side.TARGET and not isinstance(before, Unknown):
        least = median(before)
        if middle > SLOWER * least and middle - least > SLOWER_S:
            return warn(
                f"{text} That is {middle / least:.1f} times the source's.",
                "Each command takes that much longer: shunt report says how many a client sends one after another.",
                **data,
            )
    return good(text, **data)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of ``values`` do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
