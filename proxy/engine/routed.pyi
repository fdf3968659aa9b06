"""A session whose keys live on several backends; the story is in routed.pyx."""

from collections.abc import Sequence
from typing import Protocol

from proxy.engine.access import Access
from proxy.engine.guarded import GuardedSession
from proxy.engine.recorder import Recorder

OUTCOMES: tuple[str, ...]
SPLIT: frozenset[str]
SWEEPING: frozenset[str]
HERE: int
HELD: int

class Places(Protocol):
    """Where keys are: ``routing.table.Table``."""

    @property
    def backends(self) -> tuple[str, ...]: ...
    @property
    def places(self) -> tuple[int, ...]: ...
    def number_of(self, key: bytes) -> int: ...
    def backend_of(self, key: bytes) -> int: ...

class Gates:
    """Which classes are held, for all sessions of a worker. ``held``: a bit for each, by its number in the table."""

    held: int

class RoutedSession(GuardedSession):
    """``table``: where keys are. Of each of its backends, ``accesses``: the credentials, or nothing if there are none
    in any URL; ``marks``: the capture's number. ``gates``: what is held; None: nothing ever is.

    Sets of classes are ints, a bit for each class by its number in the table."""

    here: int
    want: int
    def __init__(
        self,
        recorder: Recorder,
        addr: bytes,
        accesses: Sequence[Access],
        table: Places,
        marks: Sequence[int],
        splits: bool = False,
        gates: Gates | None = None,
    ) -> None: ...
    @property
    def waits(self) -> bool: ...
    def busy(self, classes: int) -> bool: ...
    def half_of(self, classes: int) -> bool: ...
    def queues(self, classes: int) -> bool: ...
    def has_used(self, classes: int) -> bool: ...
    def look_again(self, now_ns: int) -> None: ...
    @property
    def stuck(self) -> str | None: ...
    def leave(self) -> bytes: ...
    def go_on(self, place: int, commands: Sequence[Sequence[bytes]], now_ns: int) -> None: ...
    def stay(self, kind: str, cause: str, now_ns: int) -> None: ...
