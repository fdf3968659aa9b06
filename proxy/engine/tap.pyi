"""Copies of commands and their replies for whoever wants them whole; the story is in tap.pyx."""

from collections.abc import Callable, Collection, Iterable

from protocol.keyspecs import CommandTable

DROPS: tuple[str, ...]
FIELDS: tuple[str, ...]

#: FIELDS has the places by name.
_Record = tuple[int, str | None, bytes | None, int, int, bool, bool, bytes | None, int, int, int, int]

def unpack(packed: bytes) -> tuple[bytes, ...]:
    """The arguments out of a record's."""

class TapQueue:
    """What all taps of a worker put in, and one consumer takes out."""

    records: Collection[_Record]
    drops: dict[str, int]
    bytes: int
    def __init__(
        self,
        table: CommandTable,
        names: Iterable[str],
        limit: int,
        value_limit: int,
        on_first: Callable[[], None],
    ) -> None: ...
    def close(self) -> None: ...
    def take(self, most: int) -> list[_Record]: ...
    def release(self, cost: int) -> None: ...
