"""Raw RESP for tests: one command's bytes, one frame's end, and a socket that speaks in exact bytes.

Knows: where a frame ends and how to send bytes exactly as given. Refuses to know: what a reply means; it is an
independent reading of the protocol, so it shares nothing with ``protocol.resp``.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from types import TracebackType

Address = tuple[str, int] | str

_LINES = b"+-:,#_("
_BULKS = b"$=!"
_ARRAYS = {b"*"[0]: 1, b"~"[0]: 1, b">"[0]: 1, b"%"[0]: 2, b"|"[0]: 2}


def encode(*args: bytes | str | int | float) -> bytes:
    """One command as a RESP array of bulk strings."""
    words = [a if isinstance(a, bytes) else str(a).encode() for a in args]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def frame_end(data: bytes | bytearray, start: int = 0) -> int:
    """The index after the frame that begins at ``start``, or -1 while it is not whole. ValueError: no frame."""
    waiting, at = 1, start
    while waiting:
        line = data.find(b"\r\n", at)
        if line < 0:
            return -1
        kind, head = data[at], bytes(data[at + 1 : line])
        at = line + 2
        waiting -= 1
        if kind in _LINES:
            continue
        if kind in _BULKS:
            if int(head) >= 0:
                at += int(head) + 2
                if at > len(data):
                    return -1
        elif kind in _ARRAYS:
            waiting += max(int(head), 0) * _ARRAYS[kind]
            waiting += kind == b"|"[0]  # an attribute precedes the value that it describes
        else:
            raise ValueError(f"not a RESP frame at byte {at}: {bytes(data[at - 20 : at + 20])!r}")
    return at


class Talk:
    """A socket that sends exactly what it is told and reads whole frames, each wait bounded by ``patience_s``."""

    def __init__(self, address: Address, *, tls: ssl.SSLContext | None = None, patience_s: float = 20.0) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(patience_s)
        try:
            self.sock.connect(address)
            if family == socket.AF_INET:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        except BaseException:
            self.sock.close()
            raise
        self.unread = bytearray()

    def send(self, data: bytes) -> Talk:
        self.sock.sendall(data)
        return self

    def call(self, *args: bytes | str | int | float) -> bytes:
        """Send one command and return its one reply, as the bytes that came."""
        return self.send(encode(*args)).frame()

    def frame(self) -> bytes:
        """The next whole frame. EOFError: the peer closed first."""
        while (end := frame_end(self.unread) if self.unread else -1) < 0:
            if not self._more():
                raise EOFError(f"closed, left over: {bytes(self.unread[:200])!r}")
        frame = bytes(self.unread[:end])
        del self.unread[:end]
        return frame

    def frames(self, count: int) -> list[bytes]:
        return [self.frame() for _ in range(count)]

    def until(self, mark: bytes) -> bytes:
        """Everything up to and including ``mark``, which need not be in frames."""
        while (at := self.unread.find(mark)) < 0:
            if not self._more():
                raise EOFError(f"closed before {mark!r}: {bytes(self.unread[:200])!r}")
        return self.take(at + len(mark))

    def take(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        while len(self.unread) < count:
            if not self._more():
                raise EOFError(f"closed {count - len(self.unread)} bytes early")
        taken = bytes(self.unread[:count])
        del self.unread[:count]
        return taken

    def to_eof(self) -> bytes:
        """Everything until the peer closes; a reset is written as ``<reset>``."""
        try:
            while self._more():
                pass
        except ConnectionResetError:
            self.unread += b"<reset>"
        rest = bytes(self.unread)
        self.unread.clear()
        return rest

    def is_silent(self, for_s: float = 0.2) -> bool:
        """True if nothing arrives and nobody closes within ``for_s``: for saying that something did *not* happen."""
        before, patience = len(self.unread), self.sock.gettimeout()
        self.sock.settimeout(for_s)
        try:
            return not self._more() and False
        except TimeoutError:
            return len(self.unread) == before
        finally:
            self.sock.settimeout(patience)

    def half_close(self) -> Talk:
        with contextlib.suppress(OSError):  # the peer was quicker: there is no connection any more
            self.sock.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def _more(self) -> bool:
        data = self.sock.recv(1 << 16)
        self.unread += data
        return bool(data)

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self.sock.close()


def dribble(talk: Talk, data: bytes, at: int) -> None:
    """Send ``data`` in two writes cut at ``at``, with a breath between them so that the peer can see both."""
    talk.send(data[:at])
    time.sleep(0.001)
    talk.send(data[at:])
