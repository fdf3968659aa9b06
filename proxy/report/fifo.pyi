from typing import Final

PUSH: Final[int]
REQUEUE: Final[int]
POP: Final[int]
POP_LEFT: Final[int]
EMPTY: Final[int]
CLEARED: Final[int]
DISTURBED: Final[int]
STEPS: Final[int]
BUCKETS: Final[int]

class Fifo:
    """The queues of one capture, numbered from 0."""

    def __init__(
        self, queues: int, start_ns: int, step_ns: int, points: int, guard_ns: int = ..., keep: int = ...
    ) -> None: ...
    def feed(self, times: memoryview, queues: memoryview, kinds: memoryview, amounts: memoryview) -> None:
        """Events in order of time: int64, int32, int8, int32. Queue -1: all of them."""

    def finish(self) -> None:
        """There are no more events."""

    def totals(self, queue: int) -> dict[str, int | None]:
        """One queue's numbers by name."""

    def waits(self, queue: int) -> list[tuple[int, int]]:
        """(bucket, count) of the elements' waits."""

    def line(self, queue: int) -> list[tuple[int, int, int | None, int | None, bool]]:
        """One tuple for each point: pushed, popped, highest and last depth, whether it is relative."""
