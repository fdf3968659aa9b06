r"""A line of MONITOR: ``1700000000.123456 [0 127.0.0.1:50000] "SET" "a" "\x00b"``.

Knows: the line's form, and Redis' quoting (sdscatrepr), which it undoes exactly. Refuses to know: what a command means.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: What stands for the client in the line of a command that a script sent.
LUA = b"lua"
#: Unix clients are not told apart: each has the socket's path.
UNIX = b"unix:"

_LINE = re.compile(rb'([0-9]{1,12})\.([0-9]{6}) \[([0-9]{1,9}) (.+?)\] (".*")')
_ARGUMENT = rb'"((?:[^"\\]|\\(?:["\\nrtab]|x[0-9a-f]{2}))*)"'
_ARGUMENTS = re.compile(rb"%b(?: %b)*" % (_ARGUMENT, _ARGUMENT))
_EACH = re.compile(_ARGUMENT)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|(.))")
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b'"': b'"', b"\\": b"\\"}


class MonitorLine(NamedTuple):
    """``ts_ns``: since the epoch, to the microsecond. ``db``: after the command (SELECT shows the new one). ``source``:
    the client's address, ``lua``, or ``unix:`` and the socket's path. ``args``: the command's name first."""

    ts_ns: int
    db: int
    source: bytes
    args: list[bytes]


def parse_line(raw: bytes) -> MonitorLine | None:
    """The line's parts; None: it is no line of MONITOR, or a part of one."""
    found = _LINE.fullmatch(raw.rstrip(b"\r\n"))
    if found is None:
        return None
    seconds, micros, db, source, quoted = found.groups()
    args = _arguments(quoted)
    if args is None:
        return None
    return MonitorLine(int(seconds) * 1_000_000_000 + int(micros) * 1000, int(db), source, args)


def _arguments(quoted: bytes) -> list[bytes] | None:
    if b"\\" not in quoted:  # then a quote is a mark and nothing else
        args = quoted[1:-1].split(b'" "')
        return args if quoted.count(b'"') == 2 * len(args) else None
    if _ARGUMENTS.fullmatch(quoted) is None:
        return None
    return [_ESCAPE.sub(_unescaped, arg) if b"\\" in arg else arg for arg in _EACH.findall(quoted)]


def _unescaped(found: re.Match[bytes]) -> bytes:
    digits, letter = found.groups()
    return bytes([int(digits, 16)]) if digits else _LETTERS[letter]
