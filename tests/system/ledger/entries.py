"""The lines of the ledger, and what they say of pushes, pops and runs.

Knows: the words that ruby/ledger.rb writes, and which belong together. Refuses to know: what is in Redis, and what is
right or wrong. All times are seconds of CLOCK_MONOTONIC, one clock for all processes of the machine (as
``time.monotonic()``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

NOBODY = "-"

#: How a line ends what another one began, and what that says: a producer's push, and a worker's own (the poller's
#: pushes, retries, jobs that are given back).
ENDINGS = {
    "acknowledged": ("intent", "acknowledged"),
    "unknown": ("intent", "unknown"),
    "moved": ("moving", "acknowledged"),
    "unmoved": ("moving", "unknown"),
}
BEGINNINGS = {"intent", "moving"}
POPS = {"popped", "empty", "broken"}
RUNS = {"got", "failed"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: ``word jid at who place more...``"""

    word: str
    jid: str
    at: float
    who: str
    rest: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return self.rest[0] if self.rest else ""


def parse(line: str) -> Entry:
    """ValueError: no line of a ledger."""
    word, jid, at, who, *rest = line.split(" ")
    if word not in BEGINNINGS | ENDINGS.keys() | POPS | RUNS:
        raise ValueError(f"no word of the ledger: {line!r}")
    return Entry(word, jid, float(at), who, tuple(rest))


@dataclass(slots=True)
class Push:
    """Putting a job into Redis. ``outcome``: acknowledged, unknown, or "" while nobody has answered (then ``ended`` is
    infinite). ``by_producer``: the job's first push; else Sidekiq moves it."""

    jid: str
    began: float
    who: str
    place: str
    by_producer: bool
    ended: float = float("inf")
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Pop:
    """Asking Redis for a job. ``jid`` is None where none came; ``error`` names what came instead."""

    jid: str | None
    began: float
    ended: float
    who: str
    place: str
    error: str = ""


@dataclass(slots=True)
class Book:
    """Everything that was written down. ``torn``: files whose last line is not whole (their process was killed)."""

    pushes: dict[str, list[Push]] = field(default_factory=lambda: defaultdict(list))
    pops: list[Pop] = field(default_factory=list)
    got: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    failed: Counter[str] = field(default_factory=Counter)
    torn: list[str] = field(default_factory=list)

    @property
    def intended(self) -> list[str]:
        return [jid for jid, pushes in self.pushes.items() if any(push.by_producer for push in pushes)]

    def outcome(self, jid: str) -> str:
        """What the producer knows of a job: acknowledged, unknown, or "" if it got no answer."""
        return next((push.outcome for push in self.pushes.get(jid, ()) if push.by_producer), "")


def book(entries: Iterable[Entry]) -> Book:
    """The entries of one process in the order in which they were written, processes in any order.

    ValueError: an ending without a beginning."""
    made = Book()
    begun: dict[tuple[str, str, str], Push] = {}
    for entry in entries:
        if entry.word in BEGINNINGS:
            push = Push(entry.jid, entry.at, entry.who, entry.place, entry.word == "intent")
            made.pushes[entry.jid].append(push)
            begun[entry.word, entry.jid, entry.who] = push
        elif entry.word in ENDINGS:
            beginning, outcome = ENDINGS[entry.word]
            ended = begun.pop((beginning, entry.jid, entry.who), None)
            if ended is None:
                raise ValueError(f"{entry.word} {entry.jid} by {entry.who}, who never wrote {beginning}")
            ended.ended, ended.outcome = entry.at, outcome
        elif entry.word in POPS:
            jid = entry.jid if entry.word == "popped" else None
            error = entry.rest[2] if entry.word == "broken" else ""
            made.pops.append(Pop(jid, float(entry.rest[1]), entry.at, entry.who, entry.place, error))
        elif entry.word == "got":
            made.got[entry.jid].append(entry)
        else:
            made.failed[entry.jid] += 1
    return made


class Ledger:
    """The folder with one file per process, read on from where the last reading ended."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.entries: list[Entry] = []
        self.counts: Counter[str] = Counter()
        self._read: dict[Path, int] = {}

    def look(self) -> Counter[str]:
        """How often each word stands in the ledger by now."""
        for path in sorted(self.directory.iterdir()):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                whole, _, _ = file.read().rpartition(b"\n")
            if whole:
                self._read[path] = self._read.get(path, 0) + len(whole) + 1
                new = [parse(line) for line in whole.decode().split("\n")]
                self.entries += new
                self.counts.update(entry.word for entry in new)
        return self.counts

    def book(self) -> Book:
        self.look()
        made = book(self.entries)
        made.torn = [path.name for path in self._read if path.stat().st_size > self._read[path]]
        return made
