"""What is mirrored of all that passes.

Knows: writes or reads, patterns of keys, a share of the keys. Refuses to know: connections. A key is in the share or
out of it for good, by a hash of its name: so what is mirrored of it is whole, and its reads can be compared.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from protocol import keyspecs
from protocol.commands import Trait, table
from proxy.mirror.compare import NEVER_EQUAL
from proxy.mirror.effects import EFFECTS, Args


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. ``percent``: of the keys. ``patterns``: as for KEYS; none: all."""

    writes: bool = True
    reads: bool = False
    percent: int = 100
    patterns: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        return "all" if self.writes and self.reads else "reads" if self.reads else "writes"

    @property
    def whole(self) -> bool:
        """Whether every key is meant."""
        return self.percent == 100 and not self.patterns


class Selection:
    """``regexes``: the wish's patterns; one must match a whole key."""

    def __init__(self, wish: Wish, regexes: Sequence[re.Pattern[bytes]] = ()) -> None:
        self.wish = wish
        self._regexes = regexes

    def names(self) -> set[str]:
        """The commands that are looked at."""
        found = set(EFFECTS) if self.wish.writes else set()
        return found | compared() if self.wish.reads else found

    def takes(self, args: Args) -> bool:
        """Whether this command is about chosen keys only. One that names none is about all keys."""
        if self.wish.whole:
            return True
        keys = keyspecs.find(args)
        if not isinstance(keys, keyspecs.Keys) or not keys.indexes:
            return False
        return all(self._chosen(args[index]) for index in keys.indexes)

    def _chosen(self, key: bytes) -> bool:
        if self.wish.percent < 100 and zlib.crc32(key) % 100 >= self.wish.percent:
            return False
        return not self._regexes or any(regex.fullmatch(key) for regex in self._regexes)


def compared() -> set[str]:
    """The commands whose replies are compared."""
    return {name for name, spec in table().commands.items() if spec.traits & Trait.READONLY} - set(NEVER_EQUAL)
