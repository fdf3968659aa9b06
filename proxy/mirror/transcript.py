"""What one connection did, exchange by exchange, out of a tap's records: transactions are held together.

Knows: that what is queued has happened only when EXEC says so, and that nothing can be told of a transaction of which a
part is missing. Refuses to know: what a command means (``effects``), and whether anything was sent anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from proxy.engine.tap import unpack
from proxy.mirror.effects import Args, Failed, NoReply, Unreadable, read_reply

#: ``engine.tap.FIELDS`` has the places by name.
Record: TypeAlias = tuple[int, str | None, bytes | None, int, int, bool, bool, bytes | None, int, int, int, int]
#: capture.format.ReplyKind, as far as it matters here.
NONE, LOST, ERROR, NULL = 0, 1, 3, 6
_ENDS = frozenset({"DISCARD", "RESET"})


@dataclass(frozen=True, slots=True)
class Exchange:
    """One command that has run. ``args`` None: not known. ``reply``: as ``effects.read_reply`` has it; ``frame``: its
    bytes, None inside a transaction or where they are not known."""

    conn: int
    name: str
    args: Args | None
    db: int
    reply: Any
    frame: bytes | None
    wall_ns: int
    latency_ns: int


@dataclass(frozen=True, slots=True)
class Missing:
    """So many commands may have run and can't be told: ``why``."""

    why: str
    commands: int = 1


Step: TypeAlias = list[Exchange] | Missing | None


class Transcript:
    """One connection's. ``take`` returns what has run: one exchange, or those of a whole transaction. ``held``: what
    the records of the open transaction cost, for whoever counts that."""

    def __init__(self) -> None:
        self.held = 0
        self._open: list[Record] | None = None
        self._broken = False
        self._silent = False

    @property
    def idle(self) -> bool:
        """Whether no transaction is under way."""
        return self._open is None and not self._broken and not self._silent

    def take(self, record: Record) -> tuple[Step, bool]:
        """What has run by now, and whether it is a transaction."""
        name, kind, queued, holed = record[1], record[4], record[5], record[6]
        if queued:
            self._broken = self._broken or holed or self._open is None
            if self._open is None:
                self._open = []
            self._open.append(record)
            return None, False
        if name == "MULTI":
            if kind != ERROR:
                self._open, self._broken, self._silent = [], False, kind == NONE
            return None, False
        if name == "EXEC":
            return self._exec(record), True
        if name in _ENDS:
            if kind != ERROR:
                self._open, self._broken, self._silent = None, False, False
            return None, False
        if name == "SELECT":
            return None, False
        if self._silent:
            return Missing("no-reply"), False
        return self._single(record), False

    @staticmethod
    def _single(record: Record) -> Step:
        conn, name, packed, db, kind, _, _, frame, _, wall_ns, latency_ns, _ = record
        if kind == LOST:
            return Missing("reply-lost")
        reply: Any = NoReply() if kind == NONE else Unreadable() if frame is None else read_reply(frame)
        if kind == ERROR and frame is None:
            reply = Failed()
        args = None if packed is None else unpack(packed)
        return [Exchange(conn, name or "", args, db, reply, frame, wall_ns, latency_ns)]

    def _exec(self, record: Record) -> Step:
        opened, broken = self._open, self._broken or record[6]
        self._open, self._broken, self._silent = None, False, False
        kind, frame = record[4], record[7]
        if kind in (ERROR, NULL):
            return None
        if kind in (LOST, NONE):
            return Missing("reply-lost" if kind == LOST else "no-reply", len(opened or ()) or 1)
        replies = None if frame is None else read_reply(frame)
        if broken or opened is None or not isinstance(replies, list) or len(replies) != len(opened):
            return Missing("transaction-cut", len(opened or ()) or 1)
        db, found = record[3], []
        for each, reply in zip(opened, replies, strict=True):
            args = None if each[2] is None else unpack(each[2])
            if each[1] == "SELECT" and args is not None and not isinstance(reply, Failed):
                db = int(args[1])
                continue
            found.append(Exchange(record[0], each[1] or "", args, db, reply, None, record[9], record[10]))
        return found
