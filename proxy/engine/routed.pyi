"""A session whose keys live on several backends; the story is in routed.pyx."""

from collections.abc import Sequence
from typing import Protocol

from proxy.engine.access import Access
from proxy.engine.guarded import GuardedSession
from proxy.engine.recorder import Recorder

OUTCOMES: tuple[str, ...]
SPLIT: frozenset[str]

class Places(Protocol):
    """Where keys are: ``routing.table.Table``."""

    @property
    def backends(self) -> tuple[str, ...]: ...
    def backend_of(self, key: bytes) -> int: ...

class RoutedSession(GuardedSession):
    """``table``: where keys are. Of each of its backends, ``accesses``: the credentials, or nothing if there are none
    in any URL; ``marks``: the capture's number."""

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
    ) -> None: ...
    @property
    def stuck(self) -> str | None: ...
    def leave(self) -> bytes: ...
    def go_on(self, place: int, commands: Sequence[Sequence[bytes]], now_ns: int) -> None: ...
    def stay(self, kind: str, cause: str, now_ns: int) -> None: ...
