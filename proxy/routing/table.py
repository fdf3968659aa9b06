"""Which Redis a key lives on: classes of keys, each on one backend. Frozen, and numbered by the epoch of its route.

Knows: patterns, and which class and backend a key belongs to. Refuses to know: commands, connections, and how classes
got where they are.

A pattern is ``prefix*`` or a whole key. The longest one wins, and a whole key wins over every prefix. A key that no
pattern fits is of the class ``default``, which is on ``main``. A backslash takes the meaning from ``*``, ``|`` and
``\\``: Sidekiq's ``queue:sq|…`` is written ``queue:sq\\|*``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from proxy.routing.route import MAIN

#: The class of every key that no pattern fits.
DEFAULT_CLASS = "default"
#: There may be so many beside it: a set of classes is a machine word with a bit for each.
MOST_CLASSES = 62
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_PIECE = re.compile(r"\\(.)|([|*])|([^\\|*]+)", re.DOTALL)
_SHAPE = "write NAME=BACKEND:PATTERN|PATTERN, for example queues=new:queue:*|queues"


@dataclass(frozen=True, slots=True)
class Pattern:
    """``text``: a whole key, or (``prefix``) what keys begin with."""

    text: bytes
    prefix: bool

    def __str__(self) -> str:
        text = re.sub(r"([\\|*])", r"\\\1", self.text.decode(errors="surrogateescape"))
        return text + "*" * self.prefix


@dataclass(frozen=True, slots=True)
class KeyClass:
    """A class of keys, and the name of the backend that it is on."""

    name: str
    backend: str
    patterns: tuple[Pattern, ...]

    @classmethod
    def parse(cls, text: str) -> KeyClass:
        """``NAME=BACKEND:PATTERN|PATTERN…``. Raises ValueError, with one line."""
        name, equals, rest = text.strip().partition("=")
        backend, colon, patterns = rest.partition(":")
        if not equals or not colon or not _NAME.fullmatch(name) or not _NAME.fullmatch(backend):
            raise ValueError(f"not NAME=BACKEND:PATTERN; {_SHAPE}")
        return cls(name, backend, tuple(_patterns(patterns)))

    def __str__(self) -> str:
        return f"{self.name}={self.backend}:{self.written}"

    @property
    def written(self) -> str:
        """Its patterns, as people write them."""
        return "|".join(map(str, self.patterns))


def _patterns(text: str) -> Iterator[Pattern]:
    """Raises ValueError."""
    key, prefix = "", False
    for match in (*_PIECE.finditer(text), None):
        if match is None or match[2] == "|":
            if not key:
                raise ValueError(f"an empty pattern, or one for every key, which --backend's Redis has; {_SHAPE}")
            yield Pattern(key.encode(errors="surrogateescape"), prefix)
            key, prefix = "", False
        elif prefix:
            raise ValueError(f"{key}*: a * may only end a pattern; write \\* for the character itself")
        elif match[2] == "*":
            prefix = True
        else:
            key += match[1] or match[3]
    if len(re.findall(r"\\*$", text)[0]) % 2:
        raise ValueError("a backslash at the end means nothing; write \\\\ for the character itself")


@dataclass(frozen=True, slots=True)
class Table:
    """``backends``: names; the first is ``main``, where the class ``default`` is. ``names`` of the classes by their
    numbers, ``default`` last; ``places``: number of a class -> index of its backend. Made once for an epoch."""

    epoch: int
    classes: tuple[KeyClass, ...]
    backends: tuple[str, ...] = field(init=False)
    names: tuple[str, ...] = field(init=False)
    places: tuple[int, ...] = field(init=False, repr=False, compare=False)
    #: Whole key -> index of its class.
    _keys: dict[bytes, int] = field(init=False, repr=False, compare=False)
    #: (length, prefix -> index of its class), the longest first.
    _prefixes: tuple[tuple[int, dict[bytes, int]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = tuple(dict.fromkeys([MAIN, *(each.backend for each in self.classes)]))
        keys: dict[bytes, int] = {}
        prefixes: dict[int, dict[bytes, int]] = {}
        for number, each in enumerate(self.classes):
            for pattern in each.patterns:
                into = prefixes.setdefault(len(pattern.text), {}) if pattern.prefix else keys
                into[pattern.text] = number
        object.__setattr__(self, "backends", names)
        object.__setattr__(self, "names", (*(each.name for each in self.classes), DEFAULT_CLASS))
        object.__setattr__(self, "_keys", keys)
        object.__setattr__(self, "_prefixes", tuple(sorted(prefixes.items(), reverse=True)))
        object.__setattr__(self, "places", (*(names.index(each.backend) for each in self.classes), 0))

    def backend_of(self, key: bytes) -> int:
        """Index into ``backends``."""
        return self.places[self.number_of(key)]

    def class_of(self, key: bytes) -> str:
        """The name of its class."""
        return self.names[self.number_of(key)]

    def number_of(self, key: bytes) -> int:
        """The number of its class: index into ``names``."""
        number = self._keys.get(key)
        if number is not None:
            return number
        for length, of in self._prefixes:
            number = of.get(key[:length])
            if number is not None:
                return number
        return len(self.classes)


def chosen(classes: Sequence[KeyClass], names: Sequence[str]) -> tuple[str, ...]:
    """These names, each once. Raises ValueError, with one line: there is no such class."""
    if names and not classes:
        raise ValueError("there are no classes: start with --classes")
    there = [*(each.name for each in classes), DEFAULT_CLASS]
    for name in names:
        if name not in there:
            raise ValueError(f"there is no class {name[:40]}; there are {', '.join(there)}")
    return tuple(dict.fromkeys(names))


def doubled(classes: Sequence[KeyClass]) -> str | None:
    """What stands there twice, in words; None: nothing."""
    names: set[str] = {DEFAULT_CLASS}
    patterns: dict[Pattern, str] = {}
    for each in classes:
        if each.name in names:
            return f"the class {each.name} is there twice (default has what fits no pattern); choose another name"
        names.add(each.name)
        for pattern in each.patterns:
            if pattern in patterns:
                return f"the pattern {pattern} is there twice, in {patterns[pattern]} and {each.name}; keep one"
            patterns[pattern] = each.name
    return None
