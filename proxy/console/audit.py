"""The audit log: one line for each change that was asked for, with who asked and what came of it.

Knows: what a line holds, how it is written, and the last ones. Refuses to know: verbs.

A line that can't be written does not stop the change: who works through an outage with a full disk needs the console
most. It goes to the ordinary log then, at error level, and is in SHOW HISTORY all the same.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from proxy.console.verb import Value

_log = logging.getLogger(__name__)

#: Lines that SHOW HISTORY can reach.
KEPT = 1000
#: Of a file that is there at the start, this much of the end is read, bytes.
TAIL_BYTES = 262_144
_CREDENTIALS = re.compile(r"(\w+://)([^:@/\s]*):\S*@")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: over ``unix`` a process of a user of this machine, over ``tcp`` an address, over ``http`` a token."""

    by: str
    address: str | None = None
    uid: int | None = None
    pid: int | None = None
    token: str | None = None

    def __str__(self) -> str:
        who = self.token or self.address or ("" if self.uid is None else f"uid {self.uid}")
        return f"{self.by} {who}".rstrip()

    def facts(self) -> dict[str, Value]:
        """What is known of them. The user's name is looked up, which may take a while."""
        facts: dict[str, Value] = {"by": self.by}
        for name in ("address", "uid", "pid", "token"):
            if (value := getattr(self, name)) is not None:
                facts[name] = value
        if self.uid is not None:
            try:
                facts["user"] = pwd.getpwuid(self.uid).pw_name
            except KeyError:
                facts["user"] = None  # a user of another name space has no name here
        return facts


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. ``outcome``: done or failed; ``said``: its answer in a line; ``when``: its end, UTC."""

    when: str
    who: dict[str, Value]
    verb: str
    arguments: tuple[str, ...]
    outcome: str
    said: str
    duration_ms: float

    def line(self) -> str:
        names = ("when", "who", "verb", "arguments", "outcome", "said", "duration_ms")
        return json.dumps({name: getattr(self, name) for name in names}, ensure_ascii=False)

    def row(self) -> dict[str, Value]:
        """For SHOW HISTORY."""
        who = " ".join(f"{key}:{value}" for key, value in self.who.items())
        verb = " ".join((self.verb, *self.arguments))
        return {
            "when": self.when, "verb": verb, "outcome": self.outcome, "said": self.said,
            "duration_ms": self.duration_ms, "who": who,
        }  # fmt: skip


class Audit:
    """``path`` None: each line goes to the ordinary log, at warning level."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._last: deque[Entry] = deque(maxlen=KEPT)
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Begin, or begin with the file of that name again (it may have been moved away). Raises OSError."""
        if self._path is None:
            return
        async with self._writing:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if self._descriptor is None:
                self._last.extend(_tail(self._path))
            self.close()
            self._descriptor = descriptor

    @property
    def path(self) -> Path | None:
        return self._path

    def last(self, count: int) -> list[Entry]:
        """The latest entries, oldest first."""
        return list(self._last)[-count:]

    async def write(
        self, caller: Caller, verb: str, arguments: Sequence[str], outcome: str, said: str, duration_ms: float
    ) -> None:
        """One line, on disk afterwards. Never fails."""
        when = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        async with self._writing:
            who = await asyncio.to_thread(caller.facts)
            entry = Entry(when, who, verb, tuple(map(masked, arguments)), outcome, masked(said), round(duration_ms, 3))
            self._last.append(entry)
            if self._descriptor is None:
                _log.warning("audit: %s", entry.line())
                return
            try:
                await asyncio.to_thread(_append, self._descriptor, entry.line())
            except OSError as error:
                _log.error(
                    "--audit-log %s: %s; make room there; the line: %s", self._path, error.strerror, entry.line()
                )

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def masked(text: str) -> str:
    """``text`` without the passwords of URLs in it."""
    return _CREDENTIALS.sub(r"\1\2:***@", text)


def _append(descriptor: int, line: str) -> None:
    os.write(descriptor, line.encode() + b"\n")
    os.fdatasync(descriptor)


def _tail(path: Path) -> list[Entry]:
    """The last entries of a file; lines that are none are passed over: other programs may write there too."""
    with path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - TAIL_BYTES, 0))
        lines = file.read(TAIL_BYTES).decode(errors="replace").splitlines()
    entries = []
    for line in lines:
        try:
            fields = json.loads(line)
            entries.append(Entry(**(fields | {"arguments": tuple(fields["arguments"])})))
        except (ValueError, TypeError, KeyError):
            continue
    return entries
