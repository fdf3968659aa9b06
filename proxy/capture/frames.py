"""Frames: how a segment file is cut into pieces that can be checked and salvaged one by one.

Knows: magic, lengths, checksums, and how to find the next whole frame after damage. Refuses to know: what a frame's
body means (``segments``). ``docs/capture-format.md`` describes the same byte by byte.

A frame's checksum covers its head, another one its body; the head carries the segment's random id, so that bytes of a
client that look like a frame (a value may hold a whole capture file) are never taken for one.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

MAGIC = b"\xf5shunt\r\n"
#: magic, kind, zero, version, body checksum, body length, segment id, number, rows, zero, head checksum
HEAD = struct.Struct("<8sBBHIQ8sIIII")
HEAD_BYTES = HEAD.size
ALIGN = 8
_SEARCH_BYTES = 1 << 20


class FrameKind(IntEnum):
    """What a frame's body is."""

    HEADER = 1  # JSON: whose capture this is
    SCHEMA = 2  # Arrow IPC schema message, for readers that know nothing of us
    BATCH = 3  # Arrow IPC record batch message
    SCRIPTS = 4  # a whole Arrow IPC stream with SCRIPT_SCHEMA
    END = 5  # JSON: totals; its absence tells a file that was not closed
    FACTS = 6  # JSON: samples of what only the backend knows (``facts``)


@dataclass(frozen=True, slots=True)
class Loss:
    """What could not be read: where, how many bytes, how many rows (None: not known), and why."""

    path: Path
    offset: int
    size: int
    why: str
    rows: int | None = None

    def __str__(self) -> str:
        rows = "an unknown number of rows" if self.rows is None else f"{self.rows} rows"
        return f"{self.path}: at byte {self.offset}: {self.why} ({self.size} bytes, {rows} lost)"


@dataclass(frozen=True, slots=True)
class Head:
    """The fixed part before a frame's body. ``number`` counts a segment's frames from 0."""

    kind: int
    version: int
    body_checksum: int
    length: int
    segment_id: bytes
    number: int
    rows: int

    def pack(self) -> bytes:
        """The head's HEAD_BYTES bytes."""
        head = HEAD.pack(
            MAGIC, self.kind, 0, self.version, self.body_checksum, self.length,
            self.segment_id, self.number, self.rows, 0, 0,
        )  # fmt: skip
        return head[:-4] + zlib.crc32(head[:-4]).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame whose checksums fit. ``body`` is None when the caller asked for heads only."""

    head: Head
    offset: int
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Tail:
    """The file ends within a frame: torn, or still being written."""

    offset: int
    size: int
    rows: int | None


def pack_frame(
    kind: FrameKind, version: int, segment_id: bytes, number: int, body: bytes | memoryview, rows: int = 0
) -> list[bytes | memoryview]:
    """A frame as parts to be written one after another. The body's length must be a multiple of ALIGN."""
    if len(body) % ALIGN:
        raise ValueError(f"a frame's body must be a multiple of {ALIGN} bytes, not {len(body)}")
    head = Head(kind, version, zlib.crc32(body), len(body), segment_id, number, rows)
    return [head.pack(), body]


def parse_head(data: bytes, segment_id: bytes | None) -> Head | None:
    """The head in ``data`` (HEAD_BYTES bytes), or None if it is none, is damaged, or belongs to another segment."""
    if len(data) != HEAD_BYTES or not data.startswith(MAGIC):
        return None
    _, kind, _, version, body_sum, length, owner, number, rows, _, head_sum = HEAD.unpack(data)
    if zlib.crc32(data[:-4]) != head_sum or (segment_id is not None and owner != segment_id):
        return None
    return Head(kind, version, body_sum, length, owner, number, rows)


def _find_head(fd: int, start: int, segment_id: bytes | None) -> int | None:
    """Offset of the next good head at or after ``start``; reads the file in pieces."""
    position = start
    while piece := os.pread(fd, _SEARCH_BYTES, position):
        at = piece.find(MAGIC)
        while at >= 0:
            if parse_head(os.pread(fd, HEAD_BYTES, position + at), segment_id) is not None:
                return position + at
            at = piece.find(MAGIC, at + 1)
        if len(piece) < len(MAGIC):
            break
        position += len(piece) - len(MAGIC) + 1
    return None


class Scanner:
    """Walks the frames of an open file. Iterating again continues where the last walk ended, so that a growing file can
    be followed: a Tail does not move the position."""

    def __init__(self, fd: int, path: Path, *, bodies: bool = True) -> None:
        self._fd = fd
        self._path = path
        self._bodies = bodies
        self._segment_id: bytes | None = None
        self._next_number = 0
        self.position = 0

    def __iter__(self) -> Iterator[Frame | Loss | Tail]:
        while True:
            data = os.pread(self._fd, HEAD_BYTES, self.position)
            if not data:
                return
            head = parse_head(data, self._segment_id)
            if head is None:
                found = _find_head(self._fd, self.position + 1, self._segment_id)
                if found is None and len(data) < HEAD_BYTES and MAGIC.startswith(data[: len(MAGIC)]):
                    yield Tail(self.position, len(data), None)
                    return
                yield self._damaged(found)
                continue
            end = self.position + HEAD_BYTES + head.length
            if end > os.fstat(self._fd).st_size:
                found = _find_head(self._fd, self.position + 1, self._segment_id or head.segment_id)
                if found is None:
                    yield Tail(self.position, os.fstat(self._fd).st_size - self.position, head.rows)
                    return
                yield self._skip(found, f"frame {head.number} is cut short", head.rows)
                continue
            yield from self._whole(head, end)

    def _damaged(self, found: int | None) -> Loss:
        """Steps over bytes that are no good head, up to ``found``; says which frames they held."""
        first, why = self._next_number, "bytes that are no frame"
        if found is None:
            return self._skip(None, f"from frame {first} on, no frame can be read", None)
        after = parse_head(os.pread(self._fd, HEAD_BYTES, found), self._segment_id)
        if after is not None and after.number > first:
            last = after.number - 1
            why = f"frame {first} is damaged" if first == last else f"frames {first} to {last} are damaged"
            self._next_number = after.number
            return self._skip(found, why, None)
        return self._skip(found, why, 0)

    def _skip(self, found: int | None, why: str, rows: int | None) -> Loss:
        start, end = self.position, os.fstat(self._fd).st_size if found is None else found
        self.position = end
        return Loss(self._path, start, end - start, why, rows)

    def _whole(self, head: Head, end: int) -> Iterator[Frame | Loss]:
        """The frame at the position, or what is wrong with it; moves past it."""
        start = self.position
        body = os.pread(self._fd, head.length, start + HEAD_BYTES) if self._bodies or head.rows == 0 else None
        if body is not None and zlib.crc32(body) != head.body_checksum:
            # Where the file had bytes cut out, the length leads astray: then look for the next head in between.
            follows = os.pread(self._fd, HEAD_BYTES, end)
            astray = follows and parse_head(follows, head.segment_id) is None
            found = (_find_head(self._fd, start + 1, head.segment_id) if astray else None) or end
            self._segment_id = head.segment_id
            self._next_number = head.number + 1
            yield self._skip(found, f"frame {head.number} fails its checksum", head.rows)
            return
        if head.number < self._next_number:
            yield self._skip(end, f"frame {head.number} comes again", 0)
            return
        if head.number > self._next_number:
            yield Loss(self._path, start, 0, f"frames {self._next_number} to {head.number - 1} are missing", None)
        self._segment_id = head.segment_id
        self._next_number = head.number + 1
        self.position = end
        yield Frame(head, start, body)
