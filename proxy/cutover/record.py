"""The route record: the one durable word on where traffic goes.

Knows: writing it so that it is either the old or the new one after any crash, and reading it back. Refuses to know:
when it is written (``switching``), and what else a route changes.

A file of JSON: the route, and those before it. ``prepare`` writes the next one beside it and syncs it, as long as that
may take; ``commit`` renames it into place and syncs the folder. What is not committed is never read. The record wins
over ``--backend``: a shunt that had switched never comes back pointing at the source. It holds no credentials.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from proxy.routing.route import Backend, Fence, Route

FORMAT = 1
#: Of a record with classes: a shunt that knows none of them must not read it.
FORMAT_CLASSES = 2
#: Earlier routes that are kept.
HISTORY = 100
_SUFFIX_NEXT = ".next"
_SUFFIX_LOCK = ".lock"


class RecordError(Exception):
    """The record can't be read or written: one line, with what to do."""


class Disk(Protocol):
    """What the record asks of a disk; tests put a failing one here."""

    def write(self, path: Path, data: bytes) -> None:
        """A new file, on the disk when this returns. Raises OSError."""

    def rename(self, path: Path, to: Path) -> None:
        """Raises OSError: nothing has changed."""

    def sync(self, folder: Path) -> None:
        """Have a rename in this folder survive a crash. Raises OSError."""


class RealDisk:
    """The disk."""

    def write(self, path: Path, data: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while data:
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, path: Path, to: Path) -> None:
        path.rename(to)

    def sync(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the file says: the route in force, and those before it, newest first."""

    route: Route
    history: tuple[Route, ...] = ()

    def then(self, route: Route) -> Recorded:
        """With the next route in force, or with the same one told anew."""
        if route.epoch == self.route.epoch:
            return Recorded(route, self.history)
        return Recorded(route, (self.route, *self.history)[:HISTORY])


class RouteFile:
    """The record at ``path``. One process has it at a time (``lock``)."""

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path = path
        self._disk = disk or RealDisk()
        self._next = path.with_name(path.name + _SUFFIX_NEXT)
        self._lock: int | None = None

    def lock(self) -> None:
        """Be the one who writes it, until the process ends. Raises RecordError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(
                self.path.with_name(self.path.name + _SUFFIX_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise RecordError(self._cannot("written", error)) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise RecordError(
                f"--route-file {self.path}: another shunt has it; give each its own, or end the other"
            ) from None
        self._lock = lock

    def unlock(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self) -> Recorded | None:
        """What is in force; None: there is no record yet. Raises RecordError."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordError(self._cannot("read", error)) from None
        try:
            return _recorded(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(
                f"--route-file {self.path}: is no route record ({error}); look where traffic belongs, then remove it"
            ) from None

    def prepare(self, recorded: Recorded) -> None:
        """Have the next record on the disk, beside the one in force. Raises RecordError."""
        try:
            self._disk.write(self._next, _bytes(recorded))
        except OSError as error:
            raise RecordError(self._cannot("written", error)) from None

    def commit(self) -> None:
        """Have the prepared record in force. Raises RecordError: the old one is.

        Where the folder can't be synced the rename may or may not outlive a crash of the machine: it is taken back.
        """
        before = self.path.read_bytes() if self.path.exists() else None
        try:
            self._disk.rename(self._next, self.path)
        except OSError as error:
            raise RecordError(self._cannot("renamed into place", error)) from None
        try:
            self._disk.sync(self.path.parent)
        except OSError as error:
            self._take_back(before)
            raise RecordError(self._cannot("synced", error)) from None

    def discard(self) -> None:
        """Forget what was prepared."""
        with contextlib.suppress(OSError):
            self._next.unlink(missing_ok=True)

    def _take_back(self, before: bytes | None) -> None:
        try:
            if before is None:
                self.path.unlink(missing_ok=True)
            else:
                self._disk.write(self._next, before)
                self._disk.rename(self._next, self.path)
        except OSError as error:
            raise RecordError(
                f"{self._cannot('synced', error)}; IT MAY NAME THE TARGET although traffic stays at the source: "
                "correct it before this shunt is started again (shunt route set)"
            ) from None

    def _cannot(self, what: str, error: OSError) -> str:
        return f"--route-file {self.path}: can't be {what}: {error.strerror or error}"


def _bytes(recorded: Recorded) -> bytes:
    routes = (recorded.route, *recorded.history)
    written = FORMAT_CLASSES if any(route.classes for route in routes) else FORMAT
    data = {"format": written, "route": asdict(recorded.route), "history": [asdict(each) for each in recorded.history]}
    return json.dumps(data, indent=1).encode() + b"\n"


def _recorded(data: Mapping[str, Any]) -> Recorded:
    if data["format"] not in (FORMAT, FORMAT_CLASSES):
        raise ValueError(f"format {data['format']}, this shunt reads {FORMAT} and {FORMAT_CLASSES}")
    return Recorded(_route(data["route"]), tuple(_route(each) for each in data["history"]))


def _route(data: Mapping[str, Any]) -> Route:
    previous = data["previous"]
    return Route(
        int(data["epoch"]), _backend(data["backend"]), None if previous is None else _backend(previous),
        Fence(data["fence"]), str(data["at"]), str(data["by"]),
        tuple((str(name), _backend(backend)) for name, backend in data.get("classes", ())),
    )  # fmt: skip


def _backend(data: Mapping[str, Any]) -> Backend:
    return Backend(str(data["name"]), str(data["url"]))
