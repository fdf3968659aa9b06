"""The RESP grammar once more, plain and slow: what the frame scanner is held against.

Knows: how Redis reads a client's bytes (whole in memory, from the start) and how a client reads replies, nested as
they are. Refuses to know: pieces, limits and speed; it shares no code with ``protocol.resp``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,17}")
INLINE_MAX = 65536


class Incomplete(Exception):
    """The bytes end in the middle."""


class Bad(Exception):
    """This is no RESP."""


@dataclass
class Commands:
    """What a client's bytes hold: commands as (arguments, inline), and whether a protocol error ends them."""

    commands: list[tuple[list[bytes], bool]] = field(default_factory=list)
    bad: bool = False


def commands(data: bytes) -> Commands:
    """Every whole command in ``data``."""
    out = Commands()
    at = 0
    try:
        while at < len(data):
            args, inline, at = _multibulk(data, at) if data[at : at + 1] == b"*" else _inline(data, at)
            if args:
                out.commands.append((args, inline))
    except Incomplete:
        pass
    except Bad:
        out.bad = True
    return out


def _header(data: bytes, at: int) -> tuple[int, int]:
    """The number behind a mark at ``at``, and the position after its line: CR and any one byte end it."""
    end = data.find(b"\r", at + 1)
    if end < 0 or end > at + 32:
        raise Bad if len(data) > at + 32 else Incomplete
    if end + 2 > len(data):
        raise Incomplete
    if not NUMBER.fullmatch(data, at + 1, end):
        raise Bad
    return int(data[at + 1 : end]), end + 2


def _multibulk(data: bytes, at: int) -> tuple[list[bytes], bool, int]:
    count, at = _header(data, at)
    if count > 2**31 - 1:
        raise Bad
    args = []
    for _ in range(max(count, 0)):
        if at >= len(data):
            raise Incomplete
        if data[at : at + 1] != b"$":
            raise Bad
        length, at = _header(data, at)
        if length < 0:
            raise Bad
        if at + length + 2 > len(data):
            raise Incomplete
        args.append(data[at : at + length])
        at += length + 2
    return args, False, at


def _inline(data: bytes, at: int) -> tuple[list[bytes], bool, int]:
    end = data.find(b"\n", at)
    nul = data.find(b"\0", at, end if end >= 0 else len(data))
    if end < 0 or end - at >= INLINE_MAX:
        raise Bad if nul >= 0 or len(data) - at > INLINE_MAX else Incomplete
    if nul >= 0:
        raise Bad
    line = data[at:end]
    if b'"' in line or b"'" in line or b"\\" in line or b"\v" in line or b"\f" in line:
        raise NotImplementedError("quoting is held against a live server")
    return line.split(), True, end + 1


# ---- replies


def replies(data: bytes) -> tuple[list[tuple[str, bool, int]], bool]:
    """Every whole frame in ``data`` as (first byte, null, bytes), and whether bytes that are no RESP end them."""
    out = []
    at = 0
    try:
        while at < len(data):
            begin = at
            mark, null, at = _value(data, at, 0)
            out.append((mark, null, at - begin))
    except Incomplete:
        return out, False
    except Bad:
        return out, True
    return out, False


def _value(data: bytes, at: int, depth: int) -> tuple[str, bool, int]:
    """The value at ``at``, attributes before it passed over: its mark, whether it is a RESP2 null, where it ends."""
    end = data.find(b"\r\n", at)
    if end < 0:
        raise Incomplete
    mark, text, at = data[at : at + 1], data[at + 1 : end], end + 2
    if mark in (b"+", b"-", b":", b"_", b",", b"#", b"("):
        return mark.decode(), False, at
    if mark not in (b"$", b"=", b"!", b"*", b"~", b">", b"%", b"|") or not NUMBER.fullmatch(text):
        raise Bad
    number = int(text)
    if number < (0 if mark == b"|" else -1):
        raise Bad
    if number < 0:
        return mark.decode(), True, at
    if mark in (b"$", b"=", b"!"):
        if at + number + 2 > len(data):
            raise Incomplete
        return mark.decode(), False, at + number + 2
    if number > 2**58:
        raise Bad
    for _ in range(number * (2 if mark in (b"%", b"|") else 1)):
        _, _, at = _value(data, at, depth + 1)
    return _value(data, at, depth) if mark == b"|" else (mark.decode(), False, at)
