"""A capture out of MONITOR's lines, where no proxy may stand.

Knows: what MONITOR shows of clients, transactions and databases. Refuses to know: keys, slots and flags: each line is
played to a session of the engine, as if a client had sent it, so that a row has what the recorder would have written.

MONITOR shows no replies. The engine is told what a good reply would be, because only replies move a session on; the
rows say then that there was none (``reply`` none, ``latency_ns`` -1). What MONITOR does not show at all, nobody can
import: refused commands, administrators' commands, the commands of a transaction that was discarded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from protocol.keyspecs import CommandTable
from proxy.capture.format import SCHEMA, ArgsMode, ReplyKind
from proxy.capture.gaps import gap_batch
from proxy.capture.monitor_lines import LUA, UNIX, MonitorLine, parse_line
from proxy.engine import guarded
from proxy.engine.access import Access, encode
from proxy.engine.recorder import Recorder
from proxy.engine.session import Session

#: Rows that are handed on together.
BATCH_ROWS = 8192
#: Clients that are remembered; the one that was silent longest is forgotten, and counts as a new one when it is back.
MOST_CLIENTS = 10_000

NO_LINE = "monitor-line-unreadable"
START_MISSING = "monitor-transaction-begun-before-the-log"
NOT_SHOWN = "monitor-transaction-without-commands"
MIXED = "monitor-unix-clients-not-told-apart"

#: The replies that move a session on as the line says; every other command is answered +OK. A SUBSCRIBE must not leave
#: the session listening: MONITOR shows no messages.
_REPLIES = {
    b"EXEC": b"*0\r\n", b"HELLO": b"*0\r\n", b"SUBSCRIBE": b"-\r\n", b"PSUBSCRIBE": b"-\r\n", b"SSUBSCRIBE": b"-\r\n",
    b"UNSUBSCRIBE": b"-\r\n", b"PUNSUBSCRIBE": b"-\r\n", b"SUNSUBSCRIBE": b"-\r\n",
}  # fmt: skip
#: What MONITOR tells of replies: columns and values.
_NO_REPLY: tuple[tuple[str, int | bytes], ...] = (
    ("latency_ns", -1), ("reply_bytes", 0), ("reply", int(ReplyKind.NONE)), ("error", b""), ("reply_items", -1),
)  # fmt: skip
_NOT_QUEUED = (b"EXEC", b"DISCARD", b"RESET", b"QUIT")


@dataclass(slots=True)
class _Client:
    """A client's session, the database it is in by its last line, and how many commands its transaction has.

    ``home_db``: where the session takes RESET to lead; Redis goes to 0.
    """

    session: Session
    db: int
    home_db: int
    queued: int = 0


@dataclass(slots=True)
class ImportCounts:
    """Totals so far. ``lines`` includes what is no command: MONITOR's OK, lines of scripts, unreadable lines."""

    lines: int = 0
    commands: int = 0
    script_lines: int = 0
    unreadable: int = 0
    gaps: int = 0


class MonitorImport:
    """Takes lines, hands on batches with SCHEMA in the order of the lines.

    ``consume(batch)`` and ``add_script(sha, body)`` are called from within ``take`` and ``finish``. A gap row stands
    behind the rows of its batch.
    """

    def __init__(
        self,
        table: CommandTable,
        mode: ArgsMode,
        consume: Callable[[pa.RecordBatch], None],
        add_script: Callable[[bytes, bytes], None],
    ) -> None:
        self.counts = ImportCounts()
        self._consume = consume
        self._recorder = Recorder(table, mode, lambda: None, add_script)
        self._clients: OrderedDict[bytes, _Client] = OrderedDict()
        self._missing: dict[str, tuple[int, int]] = {}  # reason -> (first ts, lines)
        self._rows = 0
        self._ts_ns = 0

    def take(self, raw: bytes) -> MonitorLine | None:
        """One line, with or without its end. Returns its parts, None if it is no command."""
        self.counts.lines += 1
        line = parse_line(raw)
        if line is None:
            if raw.strip() != b"OK":
                self.counts.unreadable += 1
                self._miss(NO_LINE, 1)
        elif line.source == LUA:
            self.counts.script_lines += 1
        else:
            self.counts.commands += 1
            self._ts_ns = line.ts_ns
            self._play(line)
            self._rows += 1
        if self._rows >= BATCH_ROWS or len(self._missing) > BATCH_ROWS:
            self._hand_over()
        return line

    def finish(self) -> None:
        """Hands on what is left."""
        self._hand_over()

    # -- sessions ------------------------------------------------------------------------------------------------

    def _play(self, line: MonitorLine) -> None:
        name = line.args[0].upper()
        client = self._client(line, name)
        session = client.session
        queued = session.in_transaction and name not in _NOT_QUEUED
        self._note_transaction(line, name, client, queued)
        session.client_bytes(encode(line.args), line.ts_ns)
        if session.in_flight:
            refused = name == b"SELECT" and line.args[1:] != [b"%d" % line.db]
            reply = b"+QUEUED\r\n" if queued else b"-\r\n" if refused else _REPLIES.get(name, b"+OK\r\n")
            session.backend_bytes(reply, line.ts_ns)
        client.db = line.db
        if session.piped or name == b"QUIT" or (name == b"RESET" and client.home_db):
            session.finish(line.ts_ns)
            del self._clients[line.source]

    def _client(self, line: MonitorLine, name: bytes) -> _Client:
        """The line's client. One whose database changed unseen counts as another client of the same address."""
        client = self._clients.get(line.source)
        moves = name in (b"SELECT", b"RESET")
        if client is None or (client.db != line.db and not moves):
            db = 0 if moves else line.db
            access = Access(db=db, answers=False) if db else None
            client = self._clients[line.source] = _Client(guarded.session(self._recorder, line.source, access), db, db)
        self._clients.move_to_end(line.source)
        if len(self._clients) > MOST_CLIENTS:
            self._clients.popitem(last=False)
        return client

    def _note_transaction(self, line: MonitorLine, name: bytes, client: _Client, queued: bool) -> None:
        """MONITOR shows a transaction's commands when EXEC runs them: between its MULTI and its EXEC."""
        if queued:
            client.queued += 1
        elif name == b"EXEC":
            if not client.session.in_transaction:
                self._miss(START_MISSING, 0)
            elif not client.queued:
                self._miss(NOT_SHOWN, 0)
        elif name == b"MULTI":
            client.queued = 0
            if line.source.startswith(UNIX):
                self._miss(MIXED, 0)

    # -- rows ----------------------------------------------------------------------------------------------------

    def _miss(self, why: str, rows: int) -> None:
        first, before = self._missing.get(why, (self._ts_ns, 0))
        self._missing[why] = (first, before + rows)

    def _hand_over(self) -> None:
        self._rows = 0
        batch = self._recorder.take()
        if batch is not None:
            self._consume(_without_replies(batch))
        for why, (ts_ns, rows) in self._missing.items():
            self.counts.gaps += 1
            self._consume(gap_batch(ts_ns, why, rows))
        self._missing.clear()


def _without_replies(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with what MONITOR tells of replies: nothing."""
    rows = batch.num_rows
    for name, value in _NO_REPLY:
        at = SCHEMA.get_field_index(name)
        field = SCHEMA.field(at)
        batch = batch.set_column(at, field, pa.repeat(pa.scalar(value, field.type), rows))
    return batch
