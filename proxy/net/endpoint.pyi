"""What the two ends of a connection have in common; the story is in endpoint.pyx."""

import asyncio
from typing import Any

from proxy.engine.session import Session

HIGH_WATER: int
LOW_WATER: int
READ_BYTES: int
HOLD_PEER_FULL: int
HOLD_DRAIN: int
HOLD_GATE: int
HOLD_RIDE: int
HOLD_FETCH: int
HOLD_ROUTE: int
HOLD_CLASS: int

def now_ns() -> int:
    """The clock of all latencies: monotonic, nanoseconds."""

class Traffic:
    """Bytes read from and written to clients, of one worker."""

    client_rx: int
    client_tx: int

class ReadBuffer:
    """One buffer for all reads of a worker."""

    data: bytearray
    def __init__(self, size: int = ...) -> None: ...

class Endpoint(asyncio.BufferedProtocol):
    """One end: an ``asyncio.BufferedProtocol`` by its methods."""

    transport: Any
    session: Session
    peer: Endpoint | None
    lost: bool
    closing: bool
    eof_received_: bool
    eof_sent: bool
    secure: bool
    last_ns: int
    rider: Any
    @property
    def reading_held(self) -> bool: ...
    def attach(self, peer: Endpoint) -> None: ...
    def detach(self) -> None: ...
    def write(self, data: bytes) -> None: ...
    def send_eof(self) -> None: ...
    def hold_reading(self, reason: int) -> None: ...
    def release_reading(self, reason: int) -> None: ...
    def mark_lost(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
