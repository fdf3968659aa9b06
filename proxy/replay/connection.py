"""One connection to the target: units written in their order, answers matched in theirs.

Knows: RESP's outside, what a new connection is told first, and when each command was written. Refuses to know: which
unit may be written (``order``), and what answers mean (``tally``).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import NamedTuple, Protocol, cast

from hiredis import pack_command

from protocol.resp import ReplyReader
from proxy.capture.format import ReplyKind
from proxy.replay.unit import Sent, Unit

#: Of an error reply that comes in pieces.
_HEAD_BYTES = 200
_KINDS = {
    "+": ReplyKind.SIMPLE, "-": ReplyKind.ERROR, ":": ReplyKind.INTEGER, "$": ReplyKind.BULK, "*": ReplyKind.ARRAY,
    "%": ReplyKind.MAP, "~": ReplyKind.SET, ",": ReplyKind.DOUBLE, "#": ReplyKind.BOOLEAN, "(": ReplyKind.BIGNUM,
    "=": ReplyKind.VERBATIM, "!": ReplyKind.ERROR, "_": ReplyKind.NULL,
}  # fmt: skip


class Waiting(NamedTuple):
    """A command whose answer is due. ``last``: its unit is answered with it."""

    sent: Sent
    unit: Unit | None
    at_ns: int
    last: bool


class Answers(Protocol):
    """Who is told."""

    def on_answer(self, waiting: Waiting, kind: ReplyKind, error: str, latency_ns: int) -> None: ...
    def on_unasked(self) -> None: ...
    def on_end(self, connection: Connection, units: list[Unit], commands: int, why: str) -> None: ...


def _packed(sent: Sent) -> bytes:
    packed: bytes = pack_command(tuple(sent.args))  # type: ignore[arg-type]  # hiredis declares a tuple of one element
    return packed


def _prelude(*words: bytes) -> Sent:
    return Sent(words, words[0].decode(), ReplyKind.NONE, b"", -1, False)


class Connection(asyncio.Protocol):
    """``conn``: whose place it takes. Units may be sent before it is connected. ``on_end`` is called once, whatever
    ends it, with the units that will not be answered, how many captured commands of theirs that is, and why."""

    def __init__(self, conn: int, answers: Answers, credentials: tuple[bytes, ...]) -> None:
        self.conn = conn
        self._answers = answers
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader()
        self._waiting: deque[Waiting] = deque()
        self._early: list[Unit] = []
        self._begun = 0  # bytes of an unfinished reply, and its head
        self._head = b""
        self._protocol = 2
        self._db: int | None = 0
        self._why = ""
        self._over = False
        self._credentials = credentials

    def send(self, unit: Unit) -> None:
        """Write the unit, or keep it until there is a connection."""
        if self._transport is None:
            self._early.append(unit)
            return
        now_ns = time.perf_counter_ns()
        out: list[bytes] = []
        if unit.protocol != self._protocol:
            self._protocol = unit.protocol
            self._tell(out, _prelude(b"HELLO", b"%d" % unit.protocol), now_ns)
        if unit.db != self._db:
            self._tell(out, _prelude(b"SELECT", b"%d" % unit.db), now_ns)
        self._db = None if unit.moves_db else unit.db
        last = len(unit.commands) - 1
        for index, sent in enumerate(unit.commands):
            out.append(_packed(sent))
            self._waiting.append(Waiting(sent, unit, now_ns, index == last))
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _tell(self, out: list[bytes], sent: Sent, now_ns: int) -> None:
        out.append(_packed(sent))
        self._waiting.append(Waiting(sent, None, now_ns, False))

    def overdue(self, now_ns: int, patience_ns: int) -> bool:
        """Whether the oldest answer is due for longer than ``patience_ns``, and than its command may wait."""
        if not self._waiting:
            return False
        first = self._waiting[0]
        extra_ns = int(first.unit.patience_s * 1e9) if first.unit else 0
        return now_ns - first.at_ns > patience_ns + extra_ns

    def end(self, why: str = "") -> None:
        """Close it. ``why``: for the units that are still unanswered."""
        self._why = self._why or why
        if self._transport is None:
            self._finish(why)
        elif why:
            self._transport.abort()
        else:
            self._transport.close()

    def failed(self, why: str) -> None:
        """It could not be connected."""
        self._finish(why)

    # ---- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writing = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        if self._over:
            writing.abort()
            return
        self._transport = writing
        if self._credentials:
            out: list[bytes] = []
            self._tell(out, Sent(self._credentials, "AUTH", ReplyKind.NONE, b"", -1, False), time.perf_counter_ns())
            writing.write(out[0])
        early, self._early = self._early, []
        for unit in early:
            self.send(unit)

    def data_received(self, data: bytes) -> None:
        now_ns = time.perf_counter_ns()
        begun, head, at = self._begun, self._head, 0
        for mark, null, size in self._reader.feed(data):
            end = at + size - begun
            if mark == ">":
                pass  # a push is no answer
            elif not self._waiting:
                self._answers.on_unasked()
            else:
                error = (head + data[at : min(end, at + _HEAD_BYTES)]) if mark in "-!" else b""
                self._answer(ReplyKind.NULL if null else _KINDS[mark], error, now_ns)
            begun, head, at = 0, b"", end
        self._begun = begun + len(data) - at
        self._head = head + data[at : at + _HEAD_BYTES - len(head)] if len(head) < _HEAD_BYTES else head
        if self._reader.bad:
            self.end("an answer that can't be read")

    def _answer(self, kind: ReplyKind, error: bytes, now_ns: int) -> None:
        waiting = self._waiting.popleft()
        text = error.split(b"\r\n", 2)[1 if error[:1] == b"!" else 0].lstrip(b"-").decode("utf-8", "replace")
        self._answers.on_answer(waiting, kind, text, now_ns - waiting.at_ns)

    def connection_lost(self, error: Exception | None) -> None:
        self._finish(self._why or "the target closed the connection")

    def _finish(self, why: str) -> None:
        if self._over:
            return
        self._over = True
        waiting = [each.unit for each in self._waiting if each.unit is not None]
        commands = sum(not unit.own for unit in waiting) + sum(len(u.commands) for u in self._early if not u.own)
        left = [*dict.fromkeys(waiting), *self._early]
        self._waiting.clear()
        self._early.clear()
        self._answers.on_end(self, left, commands, why)
