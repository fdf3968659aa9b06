"""What is noted of a command and of its reply; the story is in recorder.pyx."""

from collections.abc import Callable

import pyarrow as pa

from protocol.keyspecs import CommandTable
from proxy.engine.counters import Counters

class Recorder:
    """The recording side of one worker."""

    counters: Counters
    recording: bool
    wall_offset_ns: int
    max_frame: int
    epoch: int
    def script_bodies(self) -> list[bytes]: ...
    backend: int
    conns: int
    def __init__(
        self,
        table: CommandTable,
        mode: int,
        on_full: Callable[[], None],
        on_script: Callable[[bytes, bytes], None],
        hand_over_rows: int = 65536,
        hand_over_bytes: int = ...,
    ) -> None: ...
    table: CommandTable
    def script(self, sha: bytes) -> bytes | None: ...
    def take(self) -> pa.RecordBatch | None: ...
