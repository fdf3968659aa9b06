"""Which files make up a capture, and in what order they are read.

Knows: names, directories, and that a compacted file takes the place of its segments. Refuses to know: frames and rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from proxy.capture.compacted import read_about
from proxy.capture.segments import OPEN_SUFFIX, PARQUET_SUFFIX, SUFFIX, SegmentName


class CaptureError(Exception):
    """A capture that can't be read at all. One line."""


@dataclass(frozen=True, slots=True, order=True)
class CaptureFile:
    """One file of a capture; sorts in the order of reading."""

    name: SegmentName
    path: Path

    @property
    def compacted(self) -> bool:
        """Whether it is a Parquet file."""
        return self.path.name.endswith(PARQUET_SUFFIX)

    def open(self) -> int:
        """A descriptor for reading. An open segment may have been closed, and so renamed, since. Raises OSError."""
        try:
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not self.path.name.endswith(OPEN_SUFFIX):
                raise
            return os.open(self.path.with_name(self.name.file(SUFFIX)), os.O_RDONLY | os.O_CLOEXEC)


def capture_files(paths: Sequence[Path]) -> list[CaptureFile]:
    """All files under ``paths`` (directories are not entered deeper), each once, in the order of reading. Raises
    CaptureError if a path is missing, is no file of a capture, or a directory without any."""
    found: dict[Path, CaptureFile] = {}
    for path in paths:
        for file in _files_at(path):
            found.setdefault(file.path.resolve(), file)
    return sorted(_without_compacted(found.values()))


def _files_at(path: Path) -> Iterator[CaptureFile]:
    if not path.exists():
        raise CaptureError(f"{path}: no such file or directory")
    if not path.is_dir():
        name = SegmentName.of(path)
        if name is None:
            raise CaptureError(f"{path}: not named like a file of a capture (RUN.wNNN.NNNNNN{SUFFIX})")
        yield CaptureFile(name, path)
        return
    for each in path.iterdir():
        name = SegmentName.of(each)
        if name is not None:
            yield CaptureFile(name, each)


def _without_compacted(files: Iterable[CaptureFile]) -> list[CaptureFile]:
    """Leaves out segments whose rows a compacted file among ``files`` holds too: compaction was cut off before it had
    deleted them."""
    files = list(files)
    covered: set[tuple[Path, SegmentName]] = set()
    for file in files:
        if file.compacted:
            try:
                about = read_about(file.path)
            except (OSError, ValueError, KeyError, pa.ArrowException):
                continue  # the reader will say what is wrong with it
            folder = file.path.parent
            covered |= {(folder, SegmentName(about.header.run, about.header.worker, n)) for n in about.numbers}
    return [file for file in files if file.compacted or (file.path.parent, file.name) not in covered]
