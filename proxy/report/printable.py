r"""Byte strings as text. Knows the one rule: UTF-8 as it is, ``\`` as ``\\``, any other byte as ``\xNN``.

Control characters are written ``\xNN`` too, so that a key can neither break a table nor drive a terminal.
"""

from __future__ import annotations

import re

# C0, DEL, C1, what reorders or hides text (line and paragraph separators, bidirectional controls, BOM), and what XML
# forbids.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff]")


def printable(value: bytes) -> str:
    """``value`` as text that can be printed anywhere and read back."""
    text = value.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return _UNSAFE.sub(lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), text)


def harmless(text: str) -> str:
    """The same for text that others chose: a client's name, a tag."""
    return printable(text.encode("utf-8", "backslashreplace"))


def exact(value: bytes) -> str:
    """``value`` as ``capture cat`` prints it, for JSON, whose encoder escapes control characters itself."""
    return value.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def shorten(text: str, width: int) -> str:
    """``text``, its middle left out where it is longer than ``width`` characters."""
    if len(text) <= width:
        return text
    head = (width - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
