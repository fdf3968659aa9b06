"""A script's body as a syntax tree, or the reason why there is none.

Knows: tree-sitter and its node types, the shebang line, Lua's string escapes. Refuses to know: scopes and values.
Bodies are hostile: their size is bounded, and so is how often the parser may read them. A tree that is nested too
deeply for those who walk it is unreadable too (``reading``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import tree_sitter_lua
from tree_sitter import Language, Node, Parser

#: Bytes of a body that are looked at; most scripts have a few kilobytes.
MOST_BYTES = 131_072
#: The parser reads a well-formed body about once. Hostile ones (many ``[[``) make it read the rest again and again.
MOST_READINGS = 8
_CHUNK_BYTES = 4096

_ESCAPES = {
    b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"\r\n": b"\n",
}  # fmt: skip
_ESCAPE = re.compile(rb"\\([0-9]{1,3}|\r\n|.)", re.DOTALL)


class Unreadable(Exception):
    """The body can't be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Shebang:
    """The line ``#!lua name=… flags=a,b``. ``name`` is a library's."""

    engine: bytes
    name: bytes = b""
    flags: frozenset[bytes] = frozenset()


def shebang(body: bytes) -> Shebang | None:
    """The body's first line, if it is a shebang."""
    if not body.startswith(b"#!"):
        return None
    engine, *options = body.split(b"\n", 1)[0][2:].split() or [b""]
    named = dict(option.split(b"=", 1) for option in options if b"=" in option)
    return Shebang(engine.lower(), named.get(b"name", b""), frozenset(named.get(b"flags", b"").split(b",")) - {b""})


def parse(body: bytes) -> Node:
    """The tree's root. Raises Unreadable."""
    if len(body) > MOST_BYTES:
        raise Unreadable(f"it has {len(body):,} bytes; only bodies of up to {MOST_BYTES:,} are read")
    # The parser reads UTF-8 and Lua reads bytes: each byte becomes a character, and ``text`` undoes it.
    data = body.decode("latin-1").encode()
    source = _Source(data)
    parser = Parser(_language())
    parser.parse(source.read, encoding="utf8")
    if source.exhausted:
        raise Unreadable("parsing it takes too long")
    root = parser.parse(data).root_node  # again: a tree out of chunks would ask for them at each ``text``
    if root.has_error:
        raise Unreadable(f"line {_error_line(root)} is no Lua that the parser knows")
    return root


class _Source:
    """Hands a body to the parser in chunks, and ends it early once too much was read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MOST_READINGS * (len(data) + _CHUNK_BYTES)

    @property
    def exhausted(self) -> bool:
        return self._left < 0

    def read(self, at: int, _: object) -> bytes:
        chunk = self._data[at : at + _CHUNK_BYTES]
        self._left -= len(chunk)
        return b"" if self.exhausted else chunk


@cache
def _language() -> Language:
    return Language(tree_sitter_lua.language())


def _error_line(root: Node) -> int:
    """The first line with an error in it, from 1."""
    node = root
    while not (node.is_error or node.is_missing):
        inner = next((child for child in node.children if child.has_error or child.is_missing), None)
        if inner is None:
            break
        node = inner
    return line(node)


def line(node: Node) -> int:
    """The line that ``node`` begins on, from 1."""
    return node.start_point[0] + 1


def text(node: Node) -> bytes:
    """The node's bytes as they stand in the body."""
    return (node.text or b"").decode().encode("latin-1")


def parts(node: Node | None) -> list[Node]:
    """The named children, without comments."""
    return [] if node is None else [child for child in node.named_children if child.type != "comment"]


def string_value(node: Node) -> bytes:
    """What a string literal stands for."""
    content = node.child_by_field_name("content")
    raw = b"" if content is None else text(content)
    if text(node)[:1] == b"[":
        return raw
    return _ESCAPE.sub(lambda found: _unescaped(found[1]), raw)


def _unescaped(escape: bytes) -> bytes:
    if escape.isdigit():
        return bytes([int(escape) & 0xFF])
    return _ESCAPES.get(escape, escape)
