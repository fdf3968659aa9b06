"""What a mirror has done, as a capture keeps it: one JSON file for each worker, beside its segments.

Knows: the noun, its file (``RUN.wNNN.mirror.json``), how several workers' become one. Refuses to know: how it is found
(``mirror``) and what follows from it (``report``).

The file holds totals and is replaced as a whole, so it is not a part of the segments, and no retention deletes it. No
value stands in it, and no key but as a pattern.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUFFIX = ".mirror.json"
FORMAT = 1


@dataclass(slots=True)
class MirroredRead:
    """Replies to one command on one pattern of keys, side by side. ``again``: how often the source was asked a second
    time, ``again_differed``: answered otherwise then. ``shapes``: how replies differed. ``source_ns``, ``target_ns``:
    latencies, counts by the index of the engine's bucket (``engine.stats``)."""

    command: str
    pattern: str
    compared: int = 0
    differed: int = 0
    again: int = 0
    again_differed: int = 0
    source_bytes: int = 0
    target_bytes: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    target_errors: Counter[str] = field(default_factory=Counter)
    source_ns: Counter[int] = field(default_factory=Counter)
    target_ns: Counter[int] = field(default_factory=Counter)

    def add(self, other: MirroredRead) -> None:
        for name in ("compared", "differed", "again", "again_differed", "source_bytes", "target_bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("shapes", "target_errors", "source_ns", "target_ns"):
            getattr(self, name).update(getattr(other, name))

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> MirroredRead:
        read = cls(str(data["command"]), str(data["pattern"]))
        for name in ("compared", "differed", "again", "again_differed", "source_bytes", "target_bytes"):
            setattr(read, name, int(data[name]))
        read.shapes, read.target_errors = Counter(data["shapes"]), Counter(data["target_errors"])
        read.source_ns = Counter({int(bucket): int(n) for bucket, n in data["source_ns"].items()})
        read.target_ns = Counter({int(bucket): int(n) for bucket, n in data["target_ns"].items()})
        return read


@dataclass(slots=True)
class Mirrored:
    """One mirror, from its start to its end or until the file was last written. ``target``: without credentials.
    ``dropped``: by reason; ``missed``: by command, what was not on the target although the source had it; ``errors``:
    (command, the error's first word, count)."""

    target: str
    what: str
    percent: int
    patterns: tuple[str, ...]
    started_s: float
    exchanges: int = 0
    effects: int = 0
    answered: int = 0
    unverifiable: int = 0
    outside: int = 0
    late: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[str, str, int]] = field(default_factory=list)
    reads: list[MirroredRead] = field(default_factory=list)

    @property
    def asked(self) -> tuple[object, ...]:
        """What was asked for: mirrors alike in it are one."""
        return self.target, self.what, self.percent, self.patterns

    def add(self, other: Mirrored) -> None:
        self.started_s = min(self.started_s, other.started_s)
        for name in ("exchanges", "effects", "answered", "unverifiable", "outside", "late"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.missed.update(other.missed)
        self.dropped.update(other.dropped)
        errors: Counter[tuple[str, str]] = Counter()
        for command, word, count in (*self.errors, *other.errors):
            errors[command, word] += count
        self.errors = [(command, word, count) for (command, word), count in errors.most_common()]
        reads = {(read.command, read.pattern): read for read in self.reads}
        for read in other.reads:
            mine = reads.setdefault((read.command, read.pattern), MirroredRead(read.command, read.pattern))
            mine.add(read)
        self.reads = list(reads.values())

    def as_json(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "reads": [each.as_json() for each in self.reads],
        }

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Mirrored:
        """Raises KeyError, TypeError or ValueError. Fields that a newer shunt added are left out."""
        numbers = ("exchanges", "effects", "answered", "unverifiable", "outside", "late")
        return cls(
            str(data["target"]), str(data["what"]), int(data["percent"]), tuple(data["patterns"]),
            float(data["started_s"]), **{name: int(data[name]) for name in numbers},
            missed=Counter(data["missed"]), dropped=Counter(data["dropped"]),
            errors=[(str(command), str(word), int(count)) for command, word, count in data["errors"]],
            reads=[MirroredRead.of_json(each) for each in data["reads"]],
        )  # fmt: skip


def write(path: Path, mirrors: Sequence[Mirrored]) -> None:
    """Replace the file at ``path``. Raises OSError."""
    beside = path.with_name(path.name + ".new")
    document = {"format": FORMAT, "mirrors": [each.as_json() for each in mirrors]}
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(document, file)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def together(mirrors: Iterable[Mirrored]) -> list[Mirrored]:
    """Those to the same target with the same wishes as one, of all workers and times."""
    found: dict[tuple[object, ...], Mirrored] = {}
    for each in mirrors:
        if each.asked in found:
            found[each.asked].add(each)
        else:
            found[each.asked] = each
    return list(found.values())


def read(paths: Iterable[Path]) -> tuple[list[Mirrored], list[str]]:
    """All that the files at ``paths`` hold, and a line for each that can't be read."""
    found, bad = [], []
    for path in sorted(set(paths)):
        try:
            document = json.loads(path.read_text())
            if document["format"] != FORMAT:
                raise ValueError(f"it has format {document['format']}, this shunt knows {FORMAT}")
            found += [Mirrored.of_json(each) for each in document["mirrors"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            bad.append(f"{path.name}: can't be read: {error}")
    return together(found), bad
