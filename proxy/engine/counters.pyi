"""Totals per command; the story is in counters.pyx."""

from protocol.keyspecs import CommandTable
from proxy.engine.stats import EngineStats

class Counters:
    """Totals of one worker."""

    pushes: int
    rows: int
    gap_rows: int
    lost_replies: int
    open_pops: int
    undelivered: int
    given_back: int
    given_back_elements: int
    not_given_back: dict[str, int]
    plain_pipes: dict[str, int]
    rehearsal: dict[str, int]
    rehearsal_refused: dict[str, int]
    crossbackends: dict[tuple[str, str], int]
    def __init__(self, table: CommandTable) -> None: ...
    def not_given(self, why: str) -> None: ...
    def rehearsed(self, outcome: str, command: str) -> None: ...
    def crossbackend(self, outcome: str, command: str) -> None: ...
    def stats(self) -> EngineStats: ...

def bucket_index(ns: int) -> int: ...
