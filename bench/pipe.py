"""The fair baseline: a byte pipe under uvloop, as fast as plain Python gets, that knows nothing of what it copies.

Knows: two sockets and who waits for whom. Refuses to know: frames, commands, time. What shunt costs above this
program is the price of knowing; both use the same tricks (one read buffer for all connections, one write per read
event), so the ratio of the two compares the work and not the plumbing.

    python bench/pipe.py LISTEN_PORT BACKEND_PORT
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import cast

import uvloop

HOST = "127.0.0.1"
READ_BYTES = 256 * 1024
SHARED = memoryview(bytearray(READ_BYTES))


class Side(asyncio.BufferedProtocol):
    """One end of a pair. Bytes that arrive here are written to `other`; `other` pauses us when it can't keep up."""

    def __init__(self, other: Side | None = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return SHARED

    def buffer_updated(self, nbytes: int) -> None:
        # A copy: the transport keeps what a short write leaves over by reference, and SHARED is everybody's.
        self.other.transport.write(bytes(SHARED[:nbytes]))  # type: ignore[union-attr]

    def eof_received(self) -> bool:
        if self.other and self.other.transport and not self.other.transport.is_closing():
            self.other.transport.write_eof()
            return True
        return False

    def pause_writing(self) -> None:
        if self.other and self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other and self.other.transport and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        other = self.other.transport if self.other else None
        if other is None or other.is_closing():
            return
        if exc is None:
            other.close()
        else:
            other.abort()


class Early:
    """Stands in for the backend's transport until it is there: keeps the client's first bytes and pauses it.

    Pausing in connection_made isn't enough: uvloop starts to read after it, whatever it asked for."""

    def __init__(self, client: asyncio.Transport) -> None:
        self.client = client
        self.kept: list[bytes] = []
        self.ended = False

    def write(self, data: bytes) -> None:
        self.kept.append(data)
        self.client.pause_reading()

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """The client left; ClientSide.connect sees that by itself."""

    abort = close

    def hand_over(self, backend: asyncio.Transport) -> None:
        """Pass on what was kept, in order, and the end if there was one."""
        for data in self.kept:
            backend.write(data)
        if self.ended:
            backend.write_eof()


class ClientSide(Side):
    """The accepted end, which opens its backend connection."""

    def __init__(self, backend_port: int, tasks: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self.backend_port = backend_port
        self.tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        early = Early(cast(asyncio.Transport, transport))
        self.other = Side()
        self.other.transport = cast(asyncio.Transport, early)
        task = asyncio.get_running_loop().create_task(self.connect(early))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(self, early: Early) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, backend = await loop.create_connection(lambda: Side(self), HOST, self.backend_port)
        except OSError:
            early.client.abort()
            return
        transport = cast(asyncio.Transport, backend.transport)
        if early.client.is_closing():
            transport.abort()
            return
        self.other = backend
        early.hand_over(transport)
        early.client.resume_reading()


async def serve(listen_port: int, backend_port: int) -> None:
    """Copy bytes between HOST:listen_port and HOST:backend_port until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(lambda: ClientSide(backend_port, tasks), HOST, listen_port, backlog=1024)
    await stop.wait()
    server.close()


def main() -> int:
    if len(sys.argv) != 3 or not all(word.isdigit() for word in sys.argv[1:]):
        print("usage: python bench/pipe.py LISTEN_PORT BACKEND_PORT", file=sys.stderr)
        return 2
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
