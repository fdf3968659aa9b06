"""Whether a client that waits to be taken in has given up meanwhile.

Knows: what the kernel says of a connection that nobody has read yet. Refuses to know: why it had to wait (a hold, a
slow backend, a worker that died and left its listening socket to its successor).

Who gave up will try again, and what it sent before must not run too. A client that sends all it has and then closes its
side at once, as ``printf … | nc`` does, may have its answers: it has left only if what it sent is old as well.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time

#: A client that closed its side has given up if it sent its last byte longer ago than this, seconds. No Sidekiq gives
#: up before one second.
PATIENCE_S = 0.5

#: Linux' struct tcp_info begins with 8 bytes, then 32-bit words; this one says how many ms ago data came last.
_LAST_DATA_RECV = slice(52, 56)


def has_departed(sock: socket.socket, since_s: float) -> bool:
    """``since_s``: when it was accepted, by ``time.monotonic()``; in the listening socket it may have waited longer."""
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0)) and max(time.monotonic() - since_s, _silent_s(sock)) >= PATIENCE_S


def _silent_s(sock: socket.socket) -> float:
    """Seconds since the last data came; 0.0 where the kernel does not say."""
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError, AttributeError):
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECV.stop)
            return int.from_bytes(info[_LAST_DATA_RECV], "little") / 1000
    return 0.0
