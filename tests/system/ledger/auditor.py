"""The audit: what the ledger says of each job, beside what is left in Redis.

Knows: when a job is lost, doubled or ambiguous, and when a queue was not served in order. Refuses to know: why. Pure.

Each job that was pushed must be in exactly one place: run (as often as it failed on purpose, it comes back), or
waiting in Redis. A push that the producer has no answer to is ambiguous: it may be there or not, but not twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from .entries import Book, Pop, Push
from .remains import Place, Remains


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A job that was popped after one that came behind it: ``jid`` was in its queue (``place``) before ``by`` was
    pushed, and ``by`` had been delivered before ``jid`` was asked for."""

    place: str
    jid: str
    by: str


@dataclass(slots=True)
class Audit:
    """What became of the jobs.

    ``lost``: acknowledged, never (completely) run, in no place. ``doubled``: there more than once; each with all its
    runs and places in words. ``ambiguous``: pushes without an answer, and what became of each. ``remaining``: where
    each job that waits is. ``strangers``: jobs that nobody pushed. ``overtaken``: see there. ``copies_differ``: jobs
    that a follower has and its leader has not, or the other way round.
    """

    intended: int = 0
    acknowledged: int = 0
    ran: int = 0
    lost: dict[str, str] = field(default_factory=dict)
    doubled: dict[str, str] = field(default_factory=dict)
    ambiguous: dict[str, str] = field(default_factory=dict)
    remaining: dict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))
    strangers: dict[str, str] = field(default_factory=dict)
    overtaken: list[Overtaken] = field(default_factory=list)
    copies_differ: dict[str, str] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, object]:
        """Everything that a run without trouble must not have; empty if all is well. Ambiguous pushes are not in it."""
        found = {
            "lost": self.lost,
            "doubled": self.doubled,
            "strangers": self.strangers,
            "overtaken": self.overtaken,
            "copies differ": self.copies_differ,
            "torn": self.torn,
        }
        return {name: what for name, what in found.items() if what}

    def __str__(self) -> str:
        return (
            f"{self.intended} pushed, {self.acknowledged} acknowledged, {self.ran} run, {len(self.remaining)} wait; "
            f"lost {len(self.lost)}, doubled {len(self.doubled)}, ambiguous {len(self.ambiguous)}, "
            f"out of order {len(self.overtaken)}"
        )


def audit(book: Book, servers: Sequence[Remains]) -> Audit:
    """Every job of the ledger, and every job in the servers, judged."""
    made = Audit(torn=list(book.torn))
    for server in servers:
        for jid, place in server.jobs if server.follows is None else ():
            made.remaining[jid].append(place)
    known = set(book.intended)
    made.intended, made.ran = len(known), sum(jid in known for jid in book.got)
    for jid in book.intended:
        _judge(made, book, jid)
    for jid in {*made.remaining, *book.got} - known:
        made.strangers[jid] = where(book, made, jid)
    made.overtaken = overtaken(book)
    made.copies_differ = _copies(servers)
    return made


def _judge(made: Audit, book: Book, jid: str) -> None:
    runs = len(book.got.get(jid, ())) - book.failed[jid]
    copies = runs + len(made.remaining.get(jid, ()))
    acknowledged = book.outcome(jid) == "acknowledged"
    made.acknowledged += acknowledged
    if copies > 1:
        made.doubled[jid] = where(book, made, jid)
    elif copies < 1 and acknowledged:
        made.lost[jid] = where(book, made, jid)
    if not acknowledged:
        made.ambiguous[jid] = where(book, made, jid)


def where(book: Book, made: Audit, jid: str) -> str:
    """All that is known of a job, in words."""
    pushes = [f"{push.outcome or 'unanswered'} push to {push.place}" for push in book.pushes.get(jid, ())]
    pops = [f"delivered from {pop.place} to {pop.who} at {pop.ended:.3f}" for pop in book.pops if pop.jid == jid]
    runs = [f"run by {entry.who} at {entry.at:.3f}" for entry in book.got.get(jid, ())]
    places = [f"waits in {place}" for place in made.remaining.get(jid, ())]
    return ", ".join([*pushes, *pops, *runs, *places]) or "never seen"


def overtaken(book: Book) -> list[Overtaken]:
    """Queues that were not first in, first out, as far as it can be told for sure.

    Two threads that ask at once may get their answers in any order, and so may two pushes. So one job has overtaken
    another only if its push began after the other's was acknowledged, and it was delivered before the other was asked
    for. Jobs that were moved, pushed twice or popped twice have no one place in the order and are left out.
    """
    served: dict[str, list[tuple[Push, Pop]]] = defaultdict(list)
    pops: dict[str, list[Pop]] = defaultdict(list)
    for pop in book.pops:
        if pop.jid is not None:
            pops[pop.jid].append(pop)
    for jid, pushes in book.pushes.items():
        mine = pops.get(jid, [])
        if len(pushes) == len(mine) == 1 and pushes[0].outcome == "acknowledged" and pushes[0].place == mine[0].place:
            served[mine[0].place].append((pushes[0], mine[0]))
    return [found for place in sorted(served) for found in _overtaken_in(place, served[place])]


def _overtaken_in(place: str, served: list[tuple[Push, Pop]]) -> list[Overtaken]:
    """One queue, O(n log n): of all that were delivered before a job was asked for, the one that came last."""
    asked = sorted(served, key=lambda each: each[1].began)
    delivered = sorted(served, key=lambda each: each[1].ended)
    found: list[Overtaken] = []
    last: Push | None = None
    upto = 0
    for push, pop in asked:
        while upto < len(delivered) and delivered[upto][1].ended < pop.began:
            candidate = delivered[upto][0]
            last = candidate if last is None or candidate.began > last.began else last
            upto += 1
        if last is not None and last.began > push.ended:
            found.append(Overtaken(place, push.jid, last.jid))
    return found


def _copies(servers: Sequence[Remains]) -> dict[str, str]:
    """Jobs by which a follower differs from its leader, where that is among the servers."""
    leaders = {server.server: server for server in servers}
    found = {}
    for copy in servers:
        leader = leaders.get(copy.follows or "")
        if leader is not None:
            mine = sorted((jid, place.key, place.at) for jid, place in copy.jobs)
            theirs = sorted((jid, place.key, place.at) for jid, place in leader.jobs)
            for jid, key, _ in set(mine) ^ set(theirs):
                found[jid] = f"{key} of {copy.server} and of its leader {leader.server} differ"
    return found
