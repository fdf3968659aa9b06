"""An event loop and transports that do nothing by themselves: whoever holds them says when something happens.

Knows: of asyncio what ``proxy.net`` asks of it. Refuses to know: RESP, and who is on the other side.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from proxy.net.endpoint import READ_BYTES


class Turn:
    """``await Turn()``: go on in the next turn of the loop."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Task:
    """A coroutine that runs in turns of the loop."""

    def __init__(self, loop: Loop, work: Coroutine[Any, Any, None]) -> None:
        self._loop = loop
        self._work = work
        self._callbacks: list[Callable[[Task], object]] = []
        loop.call_soon(self._step)

    def add_done_callback(self, callback: Callable[[Task], object]) -> None:
        self._callbacks.append(callback)

    def _step(self) -> None:
        try:
            self._work.send(None)
        except StopIteration:
            for callback in self._callbacks:
                callback(self)
        else:
            self._loop.call_soon(self._step)


class Timer:
    """What ``call_later`` returns."""

    def __init__(self, loop: Loop, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._loop = loop
        self.callback, self.args = callback, args
        loop.timers.append(self)

    def cancel(self) -> None:
        if self in self._loop.timers:
            self._loop.timers.remove(self)


class Loop:
    """``turn`` runs what was due when it began; ``ring`` lets every timer go off."""

    def __init__(self) -> None:
        self.soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.timers: list[Timer] = []
        self._works: list[Coroutine[Any, Any, None]] = []

    def close(self) -> None:
        for work in self._works:
            work.close()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self.soon.append((callback, args))

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Timer:
        return Timer(self, callback, args)

    def create_task(self, work: Coroutine[Any, Any, None]) -> Task:
        self._works.append(work)
        return Task(self, work)

    def turn(self) -> None:
        for _ in range(len(self.soon)):
            callback, args = self.soon.popleft()
            callback(*args)

    def ring(self) -> None:
        due, self.timers = self.timers, []
        for timer in due:
            timer.callback(*timer.args)


class NoSocket:
    """A socket without a descriptor: everything goes through its transport."""

    family = socket.AF_UNIX

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass


class Transport:
    """One connection as its protocol sees it. ``take(data)``: how many of these bytes the other side takes now."""

    def __init__(self, loop: Loop, protocol: Any, sock: Any, take: Callable[[bytes], int]) -> None:
        self.sock = sock
        self.lost = self.closing = self.reading_paused = self.eof_written = False
        self._loop = loop
        self.protocol = protocol
        self._take = take
        self._buffer = bytearray()
        self._limits = (65536, 16384)
        self._full = False
        protocol.connection_made(self)

    # ---- asked by the protocol --------------------------------------------------------------------------------------

    def get_extra_info(self, name: str) -> Any:
        return self.sock if name == "socket" else None

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self._limits = (high, low)

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False

    def write(self, data: bytes) -> None:
        assert not self.eof_written, "bytes behind the end"
        if self.closing:
            return
        self._buffer += data
        self._push()
        if len(self._buffer) > self._limits[0] and not self._full:
            self._full = True
            self.protocol.pause_writing()

    def write_eof(self) -> None:
        self.eof_written = True

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self._buffer:
                self._loop.call_soon(self.lose)

    def abort(self) -> None:
        self._buffer.clear()
        self.closing = True
        self._loop.call_soon(self.lose)

    # ---- what happens to it -----------------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the other side reads the end: all has been sent, and nothing more comes."""
        return self.lost or (self.eof_written and not self._buffer)

    def _push(self) -> None:
        if self._buffer:
            del self._buffer[: self._take(bytes(self._buffer))]

    def writable(self) -> None:
        """The other side takes bytes again."""
        if self.lost:
            return
        self._push()
        if self._full and len(self._buffer) <= self._limits[1]:
            self._full = False
            self.protocol.resume_writing()
        if self.closing and not self._buffer:
            self._loop.call_soon(self.lose)

    def receive(self, data: bytes) -> None:
        """Bytes come in, at most READ_BYTES; only while it is ``readable``."""
        assert self.readable
        assert len(data) <= READ_BYTES
        self.protocol.get_buffer(-1)[: len(data)] = data
        self.protocol.buffer_updated(len(data))

    @property
    def readable(self) -> bool:
        return not (self.lost or self.closing or self.reading_paused)

    def receive_eof(self) -> None:
        """The other side has closed."""
        if not self.lost and not self.closing and not self.protocol.eof_received():
            self.close()

    def lose(self) -> None:
        """The connection is gone."""
        if not self.lost:
            self.lost = self.closing = True
            self.protocol.connection_lost(None)
            self.sock.close()


def sent(sock: socket.socket) -> Callable[[bytes], int]:
    """A ``take`` that sends over this socket what it takes at once."""

    def take(data: bytes) -> int:
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            return sock.send(data)
        return 0

    return take
