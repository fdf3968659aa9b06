"""Dialogues of a client and a backend, played to a Session without sockets, clocks or sleeps.

Knows: how to read a script of what is said and which rows must come of it, and how to cut what is said into pieces.
Refuses to know: what a session makes of it.

A script's lines::

    >> SET a "b c"            the client sends a command, as an array of bulk strings
    >: PING\\r\\n               the client sends these bytes (escapes are read)
    << +OK                    the backend sends these bytes and a line end (escapes are read)
    --                        the connection ends
    == SET reply=simple       the next row: its command, and what must stand in the columns that are named
    =! protocol-error rows=2  the next row is a gap, with this reason

Each line is a microsecond after the one before. A script is played whole and then cut: at each byte, in one-byte
pieces, and with all that one side says in a row in one piece; the rows must always be the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.capture.format import ArgsMode, Flag, ReplyKind
from proxy.engine import guarded
from proxy.engine.access import Access
from proxy.engine.recorder import Recorder

TABLE = CommandTable(table().commands)
STEP_NS = 1000
ADDRESS = b"1.2.3.4:5"

Row = dict[str, Any]
Line = tuple[str, bytes, int]  # the mark, the bytes, when


def encode(*args: bytes | str) -> bytes:
    """One command as an array of bulk strings."""
    words = [arg if isinstance(arg, bytes) else arg.encode() for arg in args]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Talk:
    """A session with a recorder of its own. ``sent``, ``said``: what has reached the backend and the client."""

    def __init__(self, *, mode: ArgsMode = ArgsMode.KEYS, access: Access | None = None, max_frame: int = 0) -> None:
        self.scripts: dict[bytes, bytes] = {}
        self.recorder = Recorder(TABLE, mode, lambda: None, self.scripts.__setitem__)
        self.recorder.max_frame = max_frame
        self.session = guarded.session(self.recorder, ADDRESS, access)
        self.now_ns = STEP_NS
        self.sent = self.said = b""

    def client(self, data: bytes) -> None:
        """The client sends ``data``."""
        if self.session.client_bytes(data, self.now_ns):
            self.sent += data
        else:
            self._edited()

    def backend(self, data: bytes) -> None:
        """The backend sends ``data``."""
        if self.session.backend_bytes(data, self.now_ns):
            self.said += data
        else:
            self.said += b"".join(self.session.to_client)

    def _edited(self) -> None:
        self.sent += b"".join(self.session.to_backend)
        self.said += b"".join(self.session.to_client)

    def finish(self) -> None:
        self.session.finish(self.now_ns)

    def rows(self) -> list[Row]:
        """The rows since the last call; flags and reply as their names."""
        batch = self.recorder.take()
        if batch is None:
            return []
        batch.validate(full=True)
        return [_named(row) for row in batch.to_pylist()]


def _named(row: Row) -> Row:
    flags = ",".join(str(flag.name).lower() for flag in Flag if row["flags"] & flag)
    return row | {"flags": flags, "reply": ReplyKind(row["reply"]).name.lower()}


def play(script: str, *, mode: ArgsMode = ArgsMode.KEYS, wall_ns: int = 0) -> Talk:
    """Play a script in every way; AssertionError where a row is not as the script says. The last talk is returned."""
    said, expected = _read(script)
    longest = max(len(data) for _, data, _ in said)
    ways: list[Callable[[bytes], list[bytes]]] = [lambda data: [data], _bytewise]
    ways += [_cut_at(at) for at in range(1, min(longest, 200))]
    for number, way in enumerate(ways):
        talk = _perform(said, way, mode, wall_ns)
        _compare(talk.rows(), expected, f"way {number}")
    joined = list(_joined(said))
    talk = _perform(joined, ways[0], mode, wall_ns)
    _compare(talk.rows(), expected, "joined", but=("latency_ns", "ts"))
    return talk


def _bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def _cut_at(at: int) -> Callable[[bytes], list[bytes]]:
    return lambda data: [piece for piece in (data[:at], data[at:]) if piece]


def _joined(said: Sequence[Line]) -> Iterator[Line]:
    for mark, lines in groupby(said, key=lambda line: line[0]):
        group = list(lines)
        yield mark, b"".join(data for _, data, _ in group), group[-1][2]


def _perform(said: Sequence[Line], way: Callable[[bytes], list[bytes]], mode: ArgsMode, wall_ns: int) -> Talk:
    talk = Talk(mode=mode)
    talk.recorder.wall_offset_ns = wall_ns
    ins, outs = b"", b""
    for mark, data, talk.now_ns in said:
        for piece in way(data) if data else []:
            (talk.client if mark == ">" else talk.backend)(piece)
        ins += data if mark == ">" else b""
        outs += data if mark == "<" else b""
        if mark == "-":
            talk.finish()
    assert (talk.sent, talk.said) == (ins, outs), "bytes were changed on their way"
    return talk


def _read(script: str) -> tuple[list[Line], list[Row]]:
    said: list[Line] = []
    expected: list[Row] = []
    for line in filter(None, (line.strip() for line in script.splitlines())):
        mark, text, now_ns = line[:2], line[2:].strip(), STEP_NS * (len(said) + 1)
        if mark == ">>":
            said.append((">", encode(*shlex.split(text)), now_ns))
        elif mark == ">:":
            said.append((">", _unescaped(text), now_ns))
        elif mark == "<<":
            said.append(("<", _unescaped(text) + b"\r\n", now_ns))
        elif mark == "--":
            said.append(("-", b"", now_ns))
        else:
            expected.append(_row(mark, text))
    return said, expected


def _unescaped(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def _row(mark: str, text: str) -> Row:
    words = shlex.split(text)
    named = [word.split("=", 1) for word in words if "=" in word]
    name = " ".join(word for word in words if "=" not in word)
    row: Row = {("gap" if mark == "=!" else "command"): name.encode()}
    return row | {("gap_rows" if column == "rows" else column): _value(column, text) for column, text in named}


def _value(column: str, text: str) -> object:
    if column in ("flags", "reply"):
        return text
    if column in ("keys", "args"):
        return [word.encode() for word in text.split(",")] if text else []
    if column in ("client_name", "error", "served_key", "script"):
        return text.encode()
    return int(text)


def _compare(rows: Sequence[Row], expected: Sequence[Row], where: str, but: tuple[str, ...] = ()) -> None:
    pairs = zip(rows, expected, strict=False)
    seen = [{column: row[column] for column in want if column not in but} for row, want in pairs]
    wanted = [{column: want[column] for column in want if column not in but} for want in expected]
    assert seen == wanted, f"{where}:\n{seen}\nis not what was expected:\n{wanted}"
    assert [(row["command"], row["gap"]) for row in rows[len(expected) :]] == [], where
