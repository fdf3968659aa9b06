"""What a kill -9 explains: for each lost or doubled job, what was under way when the process died.

Knows: when processes were killed, what Sidekiq had in flight then, and what Redis did. Refuses to know: how many losses
are acceptable. Pure.

The time of a pop whose reply nobody got stands nowhere. But Redis' history gives its place among pushes and pops that
somebody did hear of, and those have times: it happened after every earlier one was begun and before every later one
was answered. A kill explains it if somebody had asked by then and was still waiting at the kill: the reply was on its
way. Each call explains one pop.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .auditor import Audit
from .entries import Book, Pop, Push
from .history import Event

INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class Kill:
    """``began``: just before the signal; ``over``: the process is dead and Redis has closed its connections, so that
    nothing of it can happen any more; ``back``: its successor answers."""

    began: float
    over: float
    back: float

    def meets(self, began: float, ended: float) -> bool:
        """Whether something was under way between the signal and the end of the last connection."""
        return began <= self.over and ended >= self.began

    def hinders(self, began: float, ended: float) -> bool:
        """Whether something was under way before the successor answered."""
        return began <= self.back and ended >= self.began


@dataclass(slots=True)
class Toll:
    """What one kill cost, and the most that it could have cost.

    ``popping``: calls that asked for a job and were under way; each can cost one. ``pushing``: jobs of pushes under
    way; each can be doubled. ``pops``: jobs whose pop nobody heard of. ``oldest_s``: for how long the oldest of these
    replies had been on its way, at least. ``pushes``: jobs whose push was done unheard, and then again.
    ``hands``: jobs that a worker had and could not put back while nobody answered (Sidekiq loses them by itself).
    ``forgotten``: acknowledged pushes that Redis did not keep; ``revived``: pops that it did not keep.
    """

    popping: int
    pushing: int
    oldest_s: float = 0.0
    pops: list[str] = field(default_factory=list)
    pushes: list[str] = field(default_factory=list)
    hands: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Explained:
    """One toll for each kill, and what none of them explains: (jid, why not)."""

    tolls: list[Toll]
    unexplained: dict[str, str] = field(default_factory=dict)


def explain(book: Book, audit: Audit, kills: Sequence[Kill], history: Sequence[Event]) -> Explained:
    """Each lost and each doubled job of the audit, put to one kill or called unexplained."""
    return _Inquest(book, kills, history).hear(audit)


class _Inquest:
    def __init__(self, book: Book, kills: Sequence[Kill], history: Sequence[Event]) -> None:
        self.book, self.kills = book, kills
        self.events: dict[str, list[tuple[int, Event]]] = defaultdict(list)
        for index, event in enumerate(history):
            self.events[event.jid].append((index, event))
        self.earliest, self.latest = _brackets(book, history)
        self.delivered = Counter(pop.jid for pop in book.pops if pop.jid is not None)
        #: Per kill: calls for a job that were under way and have not explained a loss yet.
        self.waiting = [[pop for pop in book.pops if kill.meets(pop.began, pop.ended)] for kill in kills]
        pushes = [push for pushes in book.pushes.values() for push in pushes]
        pushing = [sum(kill.meets(push.began, push.ended) for push in pushes) for kill in kills]
        self.made = Explained([Toll(len(calls), jobs) for calls, jobs in zip(self.waiting, pushing, strict=True)])

    def hear(self, audit: Audit) -> Explained:
        # A call that fits an early pop fits a later one of the same kill too; so the early ones choose first.
        for jid in sorted(audit.lost, key=lambda jid: self._bracket(jid)[1]):
            self._lost(jid)
        for jid in audit.doubled:
            self._doubled(jid)
        return self.made

    def _bracket(self, jid: str) -> tuple[float, float]:
        """When the job's last event happened: not before, not after."""
        if jid not in self.events:
            return -INFINITE, INFINITE
        index = self.events[jid][-1][0]
        return self.earliest[index], self.latest[index]

    def _lost(self, jid: str) -> None:
        mine = [event for _, event in self.events[jid]]
        pops = sum(event.kind == "popped" for event in mine)
        if not mine:
            self._put(jid, "forgotten", "Redis never wrote it, though it was acknowledged", self._after_push(jid))
        elif mine[-1].kind == "pushed":
            self.made.unexplained[jid] = f"Redis has it in {mine[-1].place} and does not show it"
        elif pops > self.delivered[jid]:
            earliest, latest = self._bracket(jid)
            why = f"popped from {mine[-1].place} between {earliest:.4f} and {latest:.4f}, and nobody got it"
            self._put(jid, "pops", why, self._popping(mine[-1].place, earliest, latest))
        else:
            self._put(jid, "hands", "a worker had it and did not run it", self._moving(jid))

    def _doubled(self, jid: str) -> None:
        mine = [event for _, event in self.events[jid]]
        pushes, pops = (sum(event.kind == kind for event in mine) for kind in ("pushed", "popped"))
        answered = sum(push.outcome == "acknowledged" for push in self.book.pushes[jid])
        if pushes > answered:
            why = f"pushed {pushes} times in Redis, of which clients know {answered}"
            self._put(jid, "pushes", why, self._pushing(jid))
        elif self.delivered[jid] > pops:
            self._put(jid, "revived", "popped once in Redis and delivered twice", self._after_pop(jid))
        else:
            self.made.unexplained[jid] = f"pushed {pushes} and popped {pops} times in Redis"

    def _put(self, jid: str, what: str, why: str, fits: Callable[[Kill, Toll], bool]) -> None:
        for kill, toll in zip(self.kills, self.made.tolls, strict=True):
            if fits(kill, toll):
                getattr(toll, what).append(jid)
                return
        when = ", ".join(f"{kill.began:.4f} to {kill.over:.4f}, back at {kill.back:.4f}" for kill in self.kills)
        self.made.unexplained[jid] = f"{why}; no kill explains it ({when or 'there was none'})"

    # ---- which kill -------------------------------------------------------------------------------------------------

    def _popping(self, place: str, earliest: float, latest: float) -> Callable[[Kill, Toll], bool]:
        """Takes the call that explains the pop, so that it explains no other."""

        def take(kill: Kill, toll: Toll) -> bool:
            calls = self.waiting[self.kills.index(kill)]
            for call in calls if earliest <= kill.over else ():
                if asks(call, place) and call.began <= latest and call.ended >= earliest:
                    calls.remove(call)
                    toll.oldest_s = max(toll.oldest_s, kill.began - latest)
                    return True
            return False

        return take

    def _pushing(self, jid: str) -> Callable[[Kill, Toll], bool]:
        pushes = self.book.pushes[jid]
        return lambda kill, toll: (
            any(kill.meets(push.began, push.ended) for push in pushes) and len(toll.pushes) < toll.pushing
        )

    def _moving(self, jid: str) -> Callable[[Kill, Toll], bool]:
        failed = [push for push in self.book.pushes[jid] if push.outcome == "unknown" and not push.by_producer]
        return lambda kill, toll: any(kill.hinders(push.began, push.ended) for push in failed)

    def _after_push(self, jid: str) -> Callable[[Kill, Toll], bool]:
        ended = self.book.pushes[jid][0].ended
        return lambda kill, toll: ended <= kill.back

    def _after_pop(self, jid: str) -> Callable[[Kill, Toll], bool]:
        ended = min(pop.ended for pop in self.book.pops if pop.jid == jid)
        return lambda kill, toll: ended <= kill.back


def asks(call: Pop, place: str) -> bool:
    """Whether a call can have popped something from ``place``: fetches ask several queues, the poller one set."""
    asked, popped = (where.startswith("queue:") for where in (call.place, place))
    return (asked and popped) or call.place == place


def _brackets(book: Book, history: Sequence[Event]) -> tuple[list[float], list[float]]:
    """For each event: the earliest and the latest time at which it can have happened."""
    known = _known(book, history)
    earliest, latest = [began for began, _ in known], [ended for _, ended in known]
    for index in range(1, len(known)):
        earliest[index] = max(earliest[index], earliest[index - 1])
    for index in range(len(known) - 2, -1, -1):
        latest[index] = min(latest[index], latest[index + 1])
    return earliest, latest


def _known(book: Book, history: Sequence[Event]) -> list[tuple[float, float]]:
    """For each event (began, ended) of the call that made it; infinite where that can't be told."""
    calls: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for jid, pushes in book.pushes.items():
        calls[jid, "pushed"] = [_time_of(push) for push in pushes]
    for pop in book.pops:
        if pop.jid is not None:
            calls[pop.jid, "popped"].append((pop.began, pop.ended))
    times = Counter((event.jid, event.kind) for event in history)
    seen: Counter[tuple[str, str]] = Counter()
    known = []
    for event in history:
        key = event.jid, event.kind
        own = sorted(calls[key])
        known.append(own[seen[key]] if len(own) == times[key] else (-INFINITE, INFINITE))
        seen[key] += 1
    return known


def _time_of(push: Push) -> tuple[float, float]:
    """A push without an answer may be done later, by what was still in a socket."""
    return push.began, push.ended if push.outcome == "acknowledged" else INFINITE
