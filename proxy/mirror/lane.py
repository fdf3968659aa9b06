"""One connection to the mirror: pipelined, connected again when it breaks, and never waited for by a client.

Knows: sending in order, matching replies, how much may be under way, giving up on a server that does not answer.
Refuses to know: what is sent and what the replies mean (``feed``), and how a connection is made (it is handed in).

What was under way when a connection broke may have run or not: it is not sent again, and is counted as lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from hiredis import HiredisError, Reader, pack_command

_log = logging.getLogger(__name__)

#: Commands, and bytes, that may be under way to the mirror on one connection.
UNDER_WAY = 256
UNDER_WAY_BYTES = 1_048_576
#: Commands that wait here beyond that; the rest waits, as it came, in the tap's queue.
AHEAD = 512
#: A server that has answered nothing for so long is given up, and connected to again, seconds.
ANSWER_S = 5.0
LOOK_S = 0.5
#: Between two attempts to connect, seconds: the first, and the longest.
AGAIN_FIRST_S = 0.1
AGAIN_LONGEST_S = 5.0
#: Replies that are read in one turn of the event loop.
REPLIES_AT_ONCE = 50

Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[asyncio.Protocol]]
Words = tuple[bytes, ...]
_packed: Callable[[Words], bytes] = pack_command  # type: ignore[assignment]  # hiredis' types allow for one word only


@dataclass(slots=True)
class Sent:
    """Commands that belong together, a transaction or one, and the database that they run in; ``leaves_db`` if they end
    in another. ``on_replies`` is called once: with a reply for each as hiredis reads it, errors too, or with None: the
    connection broke before the last came. ``sent_ns``: when they went, monotonic."""

    commands: Sequence[Words]
    db: int | None
    on_replies: Callable[[list[Any] | None], None]
    leaves_db: int | None = None
    size: int = 0
    sent_ns: int = 0
    replies: list[Any] = field(default_factory=list)


class Lane(asyncio.Protocol):
    """``login``: what a new connection is told first; it is in ``home_db`` then. ``changed()`` is called when there is
    room again, and when nothing is left to do."""

    def __init__(self, connect: Connect, login: Sequence[Words], home_db: int, changed: Callable[[], None]) -> None:
        self.up = False
        self.connected = 0
        self.why_down = "not connected yet"
        self._connect = connect
        self._login = login
        self._home_db = self._db = home_db
        self._changed = changed
        self._transport: asyncio.Transport | None = None
        self._reader = Reader()
        self._ahead: deque[Sent] = deque()
        self._under_way: deque[Sent] = deque()
        self._under_way_bytes = 0
        self._reading = False
        self._paused = False
        self._ended = asyncio.Event()
        self._answered_s = 0.0
        self._out: list[bytes] = []

    # ---- for the feed -----------------------------------------------------------------------------------------------

    @property
    def room(self) -> bool:
        return len(self._ahead) < AHEAD

    @property
    def busy(self) -> bool:
        return bool(self._ahead or self._under_way)

    @property
    def waiting(self) -> int:
        """Commands, or transactions, that are not answered yet."""
        return len(self._ahead) + len(self._under_way)

    @property
    def waits_s(self) -> float:
        """How long the oldest of what was sent has waited for its answer; 0: nothing waits."""
        return (time.monotonic_ns() - self._under_way[0].sent_ns) / 1e9 if self._under_way else 0.0

    def send(self, sent: Sent) -> None:
        """Take it; it goes with the next ``flush``."""
        self._ahead.append(sent)

    def flush(self) -> None:
        """Send what may go now."""
        if not self.up or self._transport is None or self._paused:
            return
        while self._ahead and len(self._under_way) < UNDER_WAY and self._under_way_bytes < UNDER_WAY_BYTES:
            sent = self._ahead.popleft()
            if sent.db is not None and sent.db != self._db:
                self._go(Sent([(b"SELECT", b"%d" % sent.db)], None, _nothing))
            self._go(sent)
            if sent.db is not None:
                self._db = sent.db if sent.leaves_db is None else sent.leaves_db
        self._write()

    def _go(self, sent: Sent) -> None:
        data = b"".join(_packed(words) for words in sent.commands)
        if not self._under_way:
            self._answered_s = time.monotonic()
        sent.size = len(data)
        sent.sent_ns = time.monotonic_ns()
        self._under_way_bytes += sent.size
        self._under_way.append(sent)
        self._out.append(data)

    def _write(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    # ---- its life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Be connected until cancelled."""
        delay_s = AGAIN_FIRST_S
        while True:
            connected = self.connected
            try:
                self._ended.clear()
                await self._connect(lambda: self)
                await self._stay()
            except (OSError, TimeoutError) as error:
                self.why_down = str(error) or type(error).__name__
            except Exception as error:  # whatever it is: it must not end the lane for good
                self.why_down = f"{type(error).__name__}; the log says where"
                _log.exception("mirror: a connection failed; clients are not affected")
            if self.connected > connected:
                delay_s = AGAIN_FIRST_S
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, AGAIN_LONGEST_S)

    async def _stay(self) -> None:
        """Until the connection ends, or has not been answered for too long."""
        self._begin()
        while not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), LOOK_S)
            except TimeoutError:
                if self._under_way and time.monotonic() - self._answered_s > ANSWER_S:
                    self._break(f"no answer within {ANSWER_S:g} s")

    def _begin(self) -> None:
        """Log in; ECHO's answer shows that the server is there and takes commands."""
        words = [*self._login, (b"ECHO", b"shunt")]
        self._go(Sent(words, None, self._logged_in))
        self._write()

    def _logged_in(self, replies: list[Any] | None) -> None:
        for reply in replies or ():
            if isinstance(reply, HiredisError):
                self._break(f"it refuses a new connection: {reply}")
                return
        if replies is not None:
            self.up = True
            self.connected += 1
            self.why_down = ""
            self._db = self._home_db
            self.flush()
            self._changed()

    def _break(self, why: str) -> None:
        self.why_down = why
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        self._break("stopped")
        self._lose(self._ahead)
        self._lose(self._under_way)

    @staticmethod
    def _lose(waiting: deque[Sent]) -> None:
        while waiting:
            waiting.popleft().on_replies(None)

    # ---- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._reader = Reader()
        self._paused = self._reading = False
        self._out.clear()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        if not self._reading:
            self._read()

    def _read(self) -> None:
        """Some of the replies that have come; the others in the next turn of the event loop."""
        self._reading = False
        if self._transport is None:
            return
        had_room = self.room
        for _ in range(REPLIES_AT_ONCE):
            try:
                reply = self._reader.gets()
            except HiredisError as error:
                self._break(f"it answers in no RESP: {error}")
                return
            if reply is False:
                break
            if not self._under_way:
                self._break("it answers what was not asked")
                return
            self._heard(reply)
        else:
            self._reading = True
            asyncio.get_running_loop().call_soon(self._read)
        self.flush()
        if self.room and (not had_room or not self.busy):
            self._changed()

    def _heard(self, reply: Any) -> None:
        sent = self._under_way[0]
        sent.replies.append(reply)
        self._answered_s = time.monotonic()
        if len(sent.replies) == len(sent.commands):
            self._under_way.popleft()
            self._under_way_bytes -= sent.size
            sent.on_replies(sent.replies)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self.up or not self.why_down:
            self.why_down = self.why_down or "it closed the connection"
        self.up = False
        self._under_way_bytes = 0
        self._lose(self._under_way)
        self._ended.set()


def _nothing(replies: list[Any] | None) -> None:
    """What SELECT answers: the commands behind it say the same."""
