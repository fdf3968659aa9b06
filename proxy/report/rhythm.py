"""Whether something comes by the clock: moments in, a schedule out, or None. Pure.

Knows: hours and days in UTC. Refuses to know: what it is that comes.

Moments close together are one *occurrence*, at its first moment: a job sends many commands. For hours, then for
days, the occurrences' places within the period are put into clusters (on a circle: 59 minutes and 1 minute are
neighbours). It is a schedule if a few narrow clusters hold nearly all occurrences, and if each of these clusters was
hit in nearly every period that the capture covers. Nearly: a job may be skipped or started by hand once in a while.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

MINUTE_NS = 60 * 10**9
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS

#: Moments that follow each other within this are one occurrence.
BURST_NS = 5 * MINUTE_NS
#: Occurrences of one cluster lie within this; schedulers and queues delay a job by as much.
CLUSTER_NS = 4 * MINUTE_NS
#: More clusters than this in one period are no schedule that a person has set.
MOST_CLUSTERS = 4
#: So many periods must have been hit. By chance, three occurrences fall into one cluster of an hour in 1 of 220 cases,
#: two into one cluster of a day in 1 of 360.
LEAST_HITS = {HOUR_NS: 3, DAY_NS: 2}
#: Of the covered periods this share must have been hit, and of the occurrences this share must lie in clusters.
MOST_OF = 0.8


@dataclass(frozen=True)
class Schedule:
    """``period``: "hourly" or "daily". ``at``: minutes after the period's begin, UTC. ``seen`` of ``covered``
    periods were hit: of several ``at`` the one that was hit the least."""

    period: str
    at: tuple[int, ...]
    seen: int
    covered: int

    @property
    def words(self) -> str:
        """As people say it: "daily, 04:15 UTC, 1 a day (3 of 3 days)"."""
        if self.period == "hourly":
            places, unit = "at minute " + ", ".join(str(at) for at in self.at), "hour"
        else:
            places, unit = ", ".join(f"{at // 60:02}:{at % 60:02}" for at in self.at) + " UTC", "day"
        each = "an hour" if unit == "hour" else "a day"
        return f"{self.period}, {places}, {len(self.at)} {each} ({self.seen} of {self.covered} {unit}s)"


def schedule(moments: Sequence[int], first_ns: int, last_ns: int) -> Schedule | None:
    """The schedule of ``moments`` (ns since the epoch, UTC) in a capture from ``first_ns`` to ``last_ns``, if they
    have one. A capture shorter than two periods says nothing of that period."""
    starts = occurrences(moments)
    return _by(HOUR_NS, "hourly", starts, first_ns, last_ns) or _by(DAY_NS, "daily", starts, first_ns, last_ns)


def occurrences(moments: Sequence[int]) -> list[int]:
    """The first moment of each burst."""
    starts: list[int] = []
    previous: int | None = None
    for moment in sorted(moments):
        if previous is None or moment - previous > BURST_NS:
            starts.append(moment)
        previous = moment
    return starts


def _by(period_ns: int, name: str, starts: Sequence[int], first_ns: int, last_ns: int) -> Schedule | None:
    if last_ns - first_ns < 2 * period_ns or len(starts) < LEAST_HITS[period_ns]:
        return None
    found = [each for each in _clusters(starts, period_ns) if len(each) > 1]
    kept = sum(len(cluster) for cluster in found)
    if not found or len(found) > MOST_CLUSTERS or kept < MOST_OF * len(starts):
        return None
    at, hits = [], []
    for cluster in found:
        if max(offset for offset, _ in cluster) - min(offset for offset, _ in cluster) > CLUSTER_NS:
            return None
        place = median_low(offset for offset, _ in cluster) % period_ns
        seen = len({(start - place + period_ns // 2) // period_ns for _, start in cluster})
        covered = max(seen, _covered(place, period_ns, first_ns, last_ns))
        if seen < LEAST_HITS[period_ns] or seen < MOST_OF * covered:
            return None
        at.append(place // MINUTE_NS)
        hits.append((seen / covered, seen, covered))
    _, seen, covered = min(hits)
    return Schedule(name, tuple(sorted(at)), seen, covered)


def _clusters(starts: Sequence[int], period_ns: int) -> list[list[tuple[int, int]]]:
    """(place in the period, start), cut where neighbours lie further apart than a cluster is wide. Places of a
    cluster that goes over the period's end count on behind it."""
    placed = sorted((start % period_ns, start) for start in starts)
    clusters: list[list[tuple[int, int]]] = []
    for offset, start in placed:
        if clusters and offset - clusters[-1][-1][0] <= CLUSTER_NS:
            clusters[-1].append((offset, start))
        else:
            clusters.append([(offset, start)])
    if len(clusters) > 1 and clusters[0][0][0] + period_ns - clusters[-1][-1][0] <= CLUSTER_NS:
        clusters[-1] += [(offset + period_ns, start) for offset, start in clusters.pop(0)]
    return clusters


def _covered(place: int, period_ns: int, first_ns: int, last_ns: int) -> int:
    """How often the clock passed ``place`` between the two."""
    return (last_ns - place) // period_ns - (first_ns - place - 1) // period_ns
