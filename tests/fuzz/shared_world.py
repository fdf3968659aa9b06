"""Clients that share backend connections (``--pool shared``), and a Redis without data: a small world of orders.

Knows: what each client must hear, because a connection of the same Redis that it has to itself says it too. Refuses to
know: who gives the orders (``pooled``, ``tests/net/test_shared_world.py``).

shunt's side is the real thing: Pool, Trunk, PrivateBackend, PooledClient and their sessions; the loop and the
transports are ``fake_net``'s. What is checked at every byte that a client hears: **it is the next byte of its own
answers**. At the end: the rows are whole and each is of the client whose key it names, nothing is in flight, and if
nothing went wrong that may go wrong, every client has heard everything.
"""

# Over 300 lines: clients, backend and orders are one world, and each is a few lines.
from __future__ import annotations

import contextlib
import re
import socket
import time
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import Any, cast

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.engine import pooling
from proxy.engine.access import Access
from proxy.engine.giving_back import GiveBack
from proxy.engine.pooled import PooledSession
from proxy.engine.recorder import Recorder
from proxy.net.endpoint import ReadBuffer, Traffic, now_ns
from proxy.net.orphans import Orphans
from proxy.net.pool import Limits, Pool
from proxy.net.sharing import PooledClient
from proxy.net.upstream import BackendDown
from tests.fuzz.fake_net import Loop, NoSocket, Transport, Turn, sent
from tests.fuzz.redis_model import Connection, Frame
from tests.wire import frame_end

COMMANDS = CommandTable(table().commands)
TABLES = pooling.tables(COMMANDS)
#: Credentials, or a database, in the URLs.
ACCESS = (
    None,
    Access(prelude=((b"SELECT", b"3"),), answers=False, db=3),
    Access(prelude=((b"AUTH", b"p"),)),
    Access(user=b"u", password=b"p", prelude=((b"AUTH", b"p"), (b"SELECT", b"3")), db=3),
)
#: Bytes that a backend's socket takes at once, as the kernel counts them: little, so that writes are short.
SOCKET_BYTES = 4096
CLIENT_BUFFER = 150_000
SLOTS = 3
ALL = 1 << 20
#: Turns after which a world that is still busy never rests.
PATIENCE = 2_000
#: Who a byte belongs to: every key, channel and value holds it.
MARK = re.compile(rb"c(\d+):")
_PUSH = re.compile(rb"(>2\r\n\$10\r\ninvalidate|[*>]3\r\n\$8?7?\r\ns?message|[*>]4\r\n\$8\r\npmessage)")
_MONITOR_LINE = re.compile(rb"\+\d+\.\d+ \[")


class Wrong(AssertionError):
    """A client heard what it must not hear, or did not hear what it must."""


class Asker:
    """One client: what it has said, what it must hear, and the end of shunt's that serves it."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self.address = b"10.0.0.%d:1" % number
        self.unsent = bytearray()
        self.unread = bytearray()
        self.heard = bytearray()
        self.due: deque[Frame] = deque()
        self.reads = True
        self.excused = self.refused = False
        self._world = world
        self._marks = 0
        self._beside = Connection(world.access)
        self.session = PooledSession(world.recorder, self.address, world.access, TABLES, pooling.FIRST_ID)
        client = PooledClient(self.session, world.buffer, world.traffic, lambda client: None, self._lost, world.pool)
        self.transport = Transport(world.loop, client, NoSocket(), self._take)

    # ---- speaking ---------------------------------------------------------------------------------------------------

    def mark(self) -> bytes:
        self._marks += 1
        return b"c%d:%d" % (self.number, self._marks)

    def send(self, size: int) -> None:
        """The next bytes of ``unsent`` reach shunt, if it reads them."""
        data = bytes(self.unsent[:size])
        if not data or not self.transport.readable:
            return
        del self.unsent[:size]
        for command in self._beside.read(data):
            self.due += self._beside.answer(command)
        self.transport.receive(data)

    def half_close(self) -> None:
        if self.transport.readable:
            self.excused = True
            self.unsent.clear()
            self.transport.receive_eof()

    def break_off(self) -> None:
        self.excused = True
        self.unsent.clear()
        self.transport.lose()

    def _lost(self, client: Any) -> bool:
        waited_for = self._world.orphans.adopt(client, self._world.pool)
        if not waited_for:
            self.session.finish(now_ns())
        client.detach()
        return waited_for

    # ---- hearing ----------------------------------------------------------------------------------------------------

    def read_again(self) -> None:
        self.reads = True
        self.transport.writable()

    def _take(self, data: bytes) -> int:
        if not self.reads:
            return 0
        if not self._world.hostile:
            self._hear(data)
        return len(data)

    def _hear(self, data: bytes) -> None:
        self.unread += data
        self.heard += data
        if any(int(owner) != self.number for owner in MARK.findall(self.unread)):
            raise Wrong(f"client {self.number} hears another's {bytes(self.unread[:200])!r}")
        while self.unread and self._goes_on():
            pass

    def _goes_on(self) -> bool:
        """Match the begin of ``unread``; False while it takes more bytes to know."""
        if self._beside.unsure or (self.session.piped and self._world.access is not None):
            self.excused = True
            self.unread.clear()  # in a plain pipe RESET and AUTH are not seen, and are Redis' own
            return False
        if self.refused:
            raise Wrong(f"client {self.number} hears {bytes(self.unread[:200])!r} after it was refused")
        want = self.due[0] if self.due else None
        if want is not None and not want.loose and want.data.startswith(self.unread[: len(want.data)]):
            if len(self.unread) < len(want.data):
                return False
            del self.unread[: len(want.data)]
            self.due.popleft()
            return True
        try:
            end = frame_end(self.unread)
        except ValueError:
            end = len(self.unread)
        if end < 0:
            return False
        frame = bytes(self.unread[:end])
        del self.unread[:end]
        if _PUSH.match(frame) or _MONITOR_LINE.match(frame):
            return True  # its own: the mark says so
        if frame == pooling.NO_CONNECTION:
            self._was_refused(want)
        elif not self._beside.state.known and frame.startswith(b"-ERR Protocol error"):
            self.refused = self.excused = True  # who is not known is turned away at the first wrong byte
        elif want is not None and want.loose:
            self.due.popleft()
        else:
            raise Wrong(f"client {self.number} hears {frame[:200]!r} and not {want}")
        return True

    def _was_refused(self, want: Frame | None) -> None:
        self._world.faults = True
        if want is not None and want.alone:
            self.due.popleft()
        else:
            self.refused = True


class Served:
    """One backend connection as Redis sees it."""

    def __init__(self, far: socket.socket) -> None:
        self.redis = Connection()
        self.answers = bytearray()
        self.blocked: bytes | None = None
        self.pushed: list[tuple[bytes, ...]] = []
        self.transport: Transport  # set when it is connected
        self._far = far
        self._commands: deque[list[bytes] | None] = deque()
        self._left = False

    def read(self) -> bool:
        """Read what has come, and run it; whether there was anything."""
        data = b""
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            data = self._far.recv(65536)
        self._commands += self.redis.read(data)
        if not data and self.transport.ended and not self._left:
            self._left = True
            if self.blocked is None:
                self.run()
            self.blocked = None
            self._commands.clear()
            return True
        return self.run() or bool(data)

    def run(self) -> bool:
        """Run what can be run; whether there was anything."""
        before = len(self._commands)
        self.answers += b"".join(self._next_answers())
        return len(self._commands) < before

    def _next_answers(self) -> list[bytes]:
        """The answers of all commands up to the next one that waits, each in one piece."""
        answers: list[bytes] = []
        while self._commands and self.blocked is None and not self.redis.ended:
            command = self._commands.popleft()
            if command and command[0] in (b"LPUSH", b"RPUSH"):
                self.pushed.append(tuple(command))
            waits = self.redis.waits(command)
            answer = b"".join(frame.data for frame in self.redis.answer(command))
            if waits:
                self.blocked = answer
            else:
                answers.append(answer)
        return answers

    def serve(self) -> bool:
        """What was waited for has come."""
        if self.blocked is None:
            return False
        self.answers += self.blocked
        self.blocked = None
        self.run()
        return True

    def unblock(self) -> None:
        """CLIENT UNBLOCK: what is waited for does not come."""
        if self.blocked is not None:
            self.answers += b"_\r\n" if self.redis.state.resp == 3 else b"*-1\r\n"
            self.blocked = None
            self.run()

    def push(self) -> None:
        """Out of band, to who asked for it."""
        state, subscribed = self.redis.state, self.redis.channels[""]
        head = b">" if state.resp == 3 else b"*"
        if subscribed:
            channel = next(iter(subscribed))
            self.answers += b"%b3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$1\r\nm\r\n" % (head, len(channel), channel)
        elif state.monitor:
            self.answers += b'+1700000000.1 [0 a] "GET" "x"\r\n'
        elif state.resp == 3:
            self.answers += b">2\r\n$10\r\ninvalidate\r\n_\r\n"

    def say(self, size: int) -> bool:
        """The next bytes of ``answers``, or the end behind them, reach shunt."""
        if not self.transport.readable:
            return False
        data = bytes(self.answers[:size])
        if data:
            del self.answers[:size]
            self.transport.receive(data)
        elif self.redis.ended or self._left:
            self.transport.receive_eof()
        else:
            return False
        return True

    def close(self) -> None:
        self._far.close()


class World:
    """``orders`` by number change it; ``settle`` lets everything happen that can."""

    def __init__(self, setup: int) -> None:
        self.loop = Loop()
        self.faults = self.hostile = self.down = False
        self.recorder = Recorder(COMMANDS, setup % 3, lambda: None, lambda sha, body: None)
        self.access = ACCESS[(setup >> 6 & 1) * 2 + (setup >> 2 & 1)]
        self.buffer, self.traffic = ReadBuffer(), Traffic()
        self.served: list[Served] = []
        self.lost_rows: list[str] = []
        most = (None, None, 1, 3)[(setup >> 3) & 3]
        self.faults = most is not None  # who waits may wait for ever
        _set_running_loop(cast(Any, self.loop))
        limits = Limits(1 + (setup >> 5 & 1), most, 0.8, CLIENT_BUFFER)
        login = () if self.access is None else self.access.prelude
        self.pool = Pool(cast(Any, self), self.recorder, self.buffer, self.traffic, limits, login)
        self.orphans = Orphans(self.recorder.counters, self._end_blocked, self._push)
        self.pushed: list[tuple[bytes, ...]] = []
        self.everybody: list[Asker] = []
        self.address = SimpleNamespace(label="the backend")
        self._number = 0
        self.askers = [self._new() for _ in range(SLOTS)]

    def _new(self) -> Asker:
        self._number += 1
        self.everybody.append(Asker(self, self._number))
        return self.everybody[-1]

    # ---- as net.unblock and net.lines -------------------------------------------------------------------------------

    async def _end_blocked(self, orphans: Collection[Any]) -> None:
        """Asked a turn later, in which a pop may be served instead."""
        while orphans:
            await Turn()
            waiting = [orphan.peer for orphan in orphans if orphan.session.blocked]
            for served in self.served:
                if served.transport.protocol in waiting:
                    served.read()
                    served.unblock()

    async def _push(self, back: GiveBack) -> list[bytes]:
        await Turn()
        self.pushed += back.commands
        return [b":1"] * len(back.commands)

    # ---- as net.upstream.Upstream -----------------------------------------------------------------------------------

    def doubt(self) -> None:
        pass

    async def connect(self, factory: Callable[[], Any]) -> Any:
        await Turn()
        if self.down:
            raise BackendDown("it is down")
        near, far = socket.socketpair()
        for sock in (near, far):
            sock.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        protocol = factory()
        served = Served(far)
        served.transport = Transport(self.loop, protocol, near, sent(near))
        self.served.append(served)
        return protocol

    # ---- orders -----------------------------------------------------------------------------------------------------

    def asker(self, slot: int) -> Asker:
        """Who sits there; a new one if the last has gone."""
        if self.askers[slot].transport.lost:
            self._check_left(self.askers[slot])
            self.askers[slot] = self._new()
        return self.askers[slot]

    def one_served(self, number: int) -> Served | None:
        here = [each for each in self.served if not each.transport.lost]
        return here[number % len(here)] if here else None

    def pass_on(self, *, serving: bool = True) -> bool:
        """One round of everything that happens by itself; whether anything did."""
        happened = bool(self.loop.soon)
        self.loop.turn()
        for served in list(self.served):
            happened |= served.read()
            if serving:
                happened |= served.serve()
            happened |= served.say(ALL)
            served.transport.writable()
        return happened

    def settle(self) -> None:
        for _ in range(PATIENCE):
            if not self.pass_on():
                return
        raise Wrong("it never rests")

    def kill(self, served: Served, *, at_once: bool) -> None:
        """A backend connection ends, after what was answered or at once."""
        self.faults = True
        if at_once:
            served.transport.lose()
        elif served.transport.readable:
            served.transport.receive_eof()

    def say_anything(self, served: Served, data: bytes) -> None:
        """The backend is no Redis: from here on nothing is foretold."""
        self.hostile = self.faults = True
        served.answers += data

    def sweep(self) -> None:
        self.pool.sweep(time.monotonic() + 100)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everybody has sent all; AssertionError unless everything is as it must be."""
        self.down = False
        for asker in self.askers:
            asker.read_again()
        while True:
            self.settle()
            before = sum(len(asker.unsent) for asker in self.askers)
            for asker in self.askers:
                asker.send(1 << 16)
            if sum(len(asker.unsent) for asker in self.askers) == before:
                break
        for asker in self.askers:
            self._check_left(asker)
            asker.break_off()
        self.settle()
        for trunk_or_private in self.pool.connections():
            trunk_or_private.abort()
        self.settle()
        while self.orphans.in_flight:
            self.loop.ring()
            self.settle()
        self._check_rows()
        self._check_pushed()

    def _check_left(self, asker: Asker) -> None:
        closed = asker.session.close_after and self.access is not None  # behind a RESET that nothing can mend
        if not (self.faults or asker.excused or closed or self.pool.overflowed) and (asker.due or asker.unread):
            raise Wrong(f"client {asker.number} has not heard {asker.due}, but {bytes(asker.unread)!r}")

    def _check_pushed(self) -> None:
        """No element is given back that its client has heard, and none twice. Only shunt pushes here."""
        pushed = [*self.pushed, *(command for served in self.served for command in served.pushed)]
        elements = [element for _, _, *elements in pushed for element in elements]
        if self.hostile:
            return
        for element in elements:
            [owner] = {int(number) for number in MARK.findall(element)}
            if element in self.everybody[owner - 1].heard:
                raise Wrong(f"client {owner} has heard {element!r}, which is given back too")
        if len(set(elements)) < len(elements):
            raise Wrong(f"given back twice: {elements}")
        assert self.recorder.counters.given_back_elements <= len(elements)

    def _check_rows(self) -> None:
        assert all(asker.session.in_flight == 0 for asker in self.askers)
        batch = self.recorder.take()
        if batch is None:
            return
        batch.validate(full=True)
        for row in batch.select(["client_addr", "keys", "latency_ns"]).to_pylist():
            assert row["latency_ns"] >= -1, row
            for key in row["keys"]:
                if mark := MARK.match(key):
                    assert row["client_addr"] == b"10.0.0.%d:1" % int(mark[1]), row

    def close(self) -> None:
        for served in self.served:
            served.transport.sock.close()
            served.close()
        self.loop.close()
        _set_running_loop(None)
