"""A session of a client that was chosen by SPLIT; the story is in canary.pyx."""

import re
from collections.abc import Callable, Sequence

from proxy.engine.access import Access
from proxy.engine.recorder import Recorder
from proxy.engine.routed import Places, RoutedSession

class Canary:
    """What the sessions of one split share. ``ways``: canary_commands.Way of each command by its id; ``name``: of the
    clients, None: any; ``on_refusal(command, line)``: the target has answered a read with an error."""

    on: bool
    name: re.Pattern[bytes] | None
    chosen: int
    joined: int
    reads: int
    left: dict[str, int]
    def __init__(
        self, ways: bytes, name: re.Pattern[bytes] | None, on_refusal: Callable[[str, bytes], None]
    ) -> None: ...

class CanarySession(RoutedSession):
    """``accesses``, ``marks`` as for a RoutedSession: of the backend, and of the target."""

    canary: Canary
    gone: bool
    def __init__(
        self,
        recorder: Recorder,
        addr: bytes,
        accesses: Sequence[Access],
        table: Places,
        marks: Sequence[int],
        canary: Canary,
    ) -> None: ...
    @property
    def over(self) -> bool: ...
    @property
    def asked_ns(self) -> int: ...
    def joins(self) -> bool: ...
    def leave_split(self, why: str) -> None: ...
    def recall(self) -> None: ...
    def settled(self) -> None: ...
    def reclaim(self, now_ns: int) -> bool: ...
