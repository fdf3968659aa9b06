"""Inline commands: a line of words, quoted as redis-cli quotes them.

Knows: how Redis splits such a line (its ``sdssplitargs``). Refuses to know: where the line came from.
"""

from __future__ import annotations

_ESCAPES = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
_SPACE = b" \t\n\v\f\r\0"
_HEX = b"0123456789abcdefABCDEF"


def split_inline(line: bytes) -> list[bytes] | None:
    """The arguments in ``line`` (without its line end), or None where Redis answers "unbalanced quotes".

    Inside double quotes ``\\xNN``, ``\\n \\r \\t \\b \\a`` and ``\\`` before any other byte are escapes; inside
    single quotes only ``\\'``. A closing quote must be followed by a space or the end.
    """
    arguments: list[bytes] = []
    position, end = 0, len(line)
    while True:
        while position < end and line[position] in _SPACE:
            position += 1
        if position >= end:
            return arguments
        word = _word(line, position)
        if word is None:
            return None
        argument, position = word
        arguments.append(argument)


def _word(line: bytes, position: int) -> tuple[bytes, int] | None:
    """One argument from ``position`` on, and where it ends; None: unbalanced."""
    out = bytearray()
    end = len(line)
    while position < end:
        byte = line[position]
        if byte in b" \n\r\t\0":
            break
        if byte in b"\"'":
            quoted = _quoted(line, position + 1, byte, out)
            if quoted is None:
                return None
            return bytes(out), quoted
        out.append(byte)
        position += 1
    return bytes(out), position


def _quoted(line: bytes, position: int, quote: int, out: bytearray) -> int | None:
    """Append what stands between the quotes to ``out``; the position after the closing one; None: unbalanced."""
    end = len(line)
    while position < end:
        byte = line[position]
        if byte == quote:
            after = position + 1
            return after if after >= end or line[after] in _SPACE else None
        if byte == 0x5C and quote == 0x22 and position + 1 < end:
            position = _escape(line, position, out)
            continue
        if byte == 0x5C and quote == 0x27 and line[position + 1 : position + 2] == b"'":
            out.append(0x27)
            position += 2
            continue
        out.append(byte)
        position += 1
    return None


def _escape(line: bytes, position: int, out: bytearray) -> int:
    """Append what the escape at ``position`` stands for; the position after it."""
    digits = line[position + 2 : position + 4]
    if line[position + 1] == ord("x") and len(digits) == 2 and digits[0] in _HEX and digits[1] in _HEX:
        out.append(int(digits, 16))
        return position + 4
    byte = line[position + 1]
    out.append(_ESCAPES.get(byte, byte))
    return position + 2
