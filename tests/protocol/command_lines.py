"""Command lines to try, made from a server's own COMMAND DOCS, and spoilt on purpose.

Knows: the shape of a documented argument. Refuses to know: what the right answer for a line is; servers tell that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

Doc = dict[str, Any]

#: Words that mean something to some command, and numbers that a careless reader trips over.
SPICE = [
    *b"STORE storedist Keys STREAMS BLOCK COUNT GROUP NOACK LIMIT GET BY AUTH AUTH2 COPY DB REPLACE WEIGHTS".split(),
    *b"0 1 2 3 4 -1 00 +1 1x 2147483647 2147483648 4294967297 9223372036854775807 99999999999999999999".split(),
    b"",
    b"{a}",
    b"key with spaces",
    b"\x00\xff\r\n",
]


def documents(reply: Sequence[Any]) -> Iterator[tuple[tuple[bytes, ...], list[Doc]]]:
    """The command words and the arguments of every command and subcommand in a COMMAND DOCS reply (RESP2)."""
    for name, flat in zip(reply[::2], reply[1::2], strict=True):
        doc = _dict(flat)
        yield tuple(name.upper().split(b"|")), [_dict(each) for each in doc.get(b"arguments", [])]
        yield from documents(doc.get(b"subcommands", []))


def lines(words: Sequence[bytes], arguments: list[Doc], rng: random.Random, count: int) -> Iterator[list[bytes]]:
    """``count`` command lines, about half as documented and half spoilt, with keys that differ from each other."""
    for _ in range(count):
        made = _Line(rng)
        line = [*words, *made.siblings(arguments)]
        if rng.random() < 0.5:
            _spoil(line, len(words), rng)
        if rng.random() < 0.3:
            line[0] = line[0].lower()
        yield line


def _dict(flat: Sequence[Any]) -> Doc:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _spoil(line: list[bytes], words: int, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(words, len(line) + 1)
        action = rng.choice(("insert", "replace", "delete", "cut", "repeat"))
        if action == "insert":
            line.insert(at, rng.choice(SPICE))
        elif action == "repeat":
            line[at:at] = line[at : at + 2]
        elif at < len(line):
            line[at:] = {"replace": [rng.choice(SPICE), *line[at + 1 :]], "delete": line[at + 1 :], "cut": []}[action]


class _Line:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.names = 0

    def siblings(self, arguments: list[Doc]) -> list[bytes]:
        """The words of arguments that stand behind each other; a key count tells the keys that follow it."""
        line: list[bytes] = []
        count_at = -1
        for argument in arguments:
            words = self.argument(argument)
            if argument[b"name"] == b"numkeys":
                count_at = len(line)
            elif count_at >= 0:
                line[count_at] = b"%d" % len(words)
                count_at = -1
            line += words
        return line

    def argument(self, doc: Doc) -> list[bytes]:
        flags = doc.get(b"flags", [])
        if b"optional" in flags and self.rng.random() < 0.5:
            return []
        token = [doc[b"token"]] if b"token" in doc else []
        if doc[b"type"] == b"pure-token":
            return token
        times = self.rng.choice((1, 1, 2, 3, 8)) if b"multiple" in flags else 1
        line = [] if b"multiple_token" in flags else list(token)
        for _ in range(times):
            line += (token if b"multiple_token" in flags else []) + self.value(doc)
        return line

    def value(self, doc: Doc) -> list[bytes]:
        kind = doc[b"type"]
        inner = [_dict(each) for each in doc.get(b"arguments", [])]
        if kind == b"oneof":
            return self.argument(self.rng.choice(inner))
        if kind == b"block":
            return self.siblings(inner)
        if kind in (b"integer", b"double", b"unix-time"):
            return [b"%d" % self.rng.choice((0, 1, 2, 3, 60, 1000))]
        self.names += 1
        return [b"%s%d" % (b"k" if kind == b"key" else b"v", self.names)]
