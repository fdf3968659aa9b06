"""What may stay on the disk: which segments go first, and how much room must be left.

Knows: bytes, ages, free space, and that an open segment is never deleted. Refuses to know: rows and frames.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from proxy.capture.segments import OPEN_SUFFIX, SegmentName, is_written

GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """How much a capture may take.

    Free disk space is kept above the larger of ``min_free_bytes`` and ``min_free_share`` of the disk; of a disk smaller
    than twice ``min_free_bytes``, half is kept free. ``writers``: workers that write into the directory side by side;
    ``max_bytes`` holds for all of them together.
    """

    segment_bytes: int = 256_000_000
    max_bytes: int = 10 * GB
    max_age_s: float | None = None
    flush_s: float = 1.0
    segment_age_s: float = 3600.0
    queue_bytes: int = 64_000_000  # between the data path and the writing thread
    frame_bytes: int = 32_000_000  # a frame holds at most so many bytes of rows before compression
    script_bytes: int = 16_000_000  # of script bodies that are remembered
    min_free_bytes: int = GB
    min_free_share: float = 0.05
    writers: int = 1

    @property
    def rotate_bytes(self) -> int:
        """A segment closes at this size: small enough that retention always has closed segments to delete."""
        return min(self.segment_bytes, max(self.max_bytes // (4 * self.writers), 1))


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of the capture on disk. ``ended_s``: when it was last written, seconds since the epoch."""

    ended_s: float
    name: SegmentName
    path: Path
    size: int
    open: bool


def kept_files(directory: Path) -> list[Kept]:
    """All segments and compacted captures of every run and worker in ``directory``, oldest first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(directory):
            name = SegmentName.of(Path(entry.name))
            if name is None:
                continue
            with contextlib.suppress(FileNotFoundError):
                stat = entry.stat(follow_symlinks=False)
                path = Path(entry.path)
                # Empty: its worker has just made it, and is about to lock it.
                live = entry.name.endswith(OPEN_SUFFIX) and (stat.st_size == 0 or _is_written(path))
                found.append(Kept(stat.st_mtime, name, path, stat.st_size, live))
    return sorted(found, key=lambda kept: (kept.ended_s, kept.name))


def _is_written(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return is_written(fd)
    finally:
        os.close(fd)


def deletable(kept: Iterable[Kept], excess_bytes: int, oldest_s: float | None) -> list[Kept]:
    """Which files go, in order: all that ended before ``oldest_s``, then the oldest closed ones until ``excess_bytes``
    are freed or none is left."""
    chosen: list[Kept] = []
    for each in kept:
        if each.open:
            continue
        if (oldest_s is not None and each.ended_s < oldest_s) or excess_bytes > 0:
            chosen.append(each)
            excess_bytes -= each.size
    return chosen


def floor_bytes(limits: CaptureLimits, disk_bytes: int) -> int:
    """Free space that must be left on a disk of this size."""
    return int(max(min(limits.min_free_bytes, disk_bytes // 2), disk_bytes * limits.min_free_share))
