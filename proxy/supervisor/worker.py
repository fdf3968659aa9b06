"""One worker process as its supervisor sees it.

Knows: starting it with its sockets and its configuration, what it last told, and how it ended. Refuses to know: what is
to be done about that (``supervise``).

A worker is a fresh process and no fork of the supervisor: it shares no event loop, thread or lock with anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxy.supervisor.messages import (
    Addresses,
    Answered,
    Ask,
    Begin,
    Failed,
    Order,
    Progress,
    Report,
    Sample,
    Told,
    packed,
    receive,
)
from proxy.supervisor.totals import Snapshot
from proxy.version import VERSION

_log = logging.getLogger(__name__)

#: The module that a worker process runs; its arguments are for who looks at a list of processes.
ENTRY = "proxy.cli.worker"
#: What a worker may take to end beyond --drain-timeout, for its capture; then it is killed, seconds.
GRACE_S = 40.0
#: A worker tells its numbers every second. So many looks of the supervisor, one a second, that find nothing new, and it
#: hangs: counted in looks and not by the clock, so that a supervisor that stood still itself accuses nobody.
HANGS_LOOKS = 5
_ROOT = str(Path(__file__).resolve().parents[2])
_INSTALLED = _ROOT in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


class WorkerSilent(Exception):
    """A worker did not answer a question: one line that says why."""


class Worker:
    """A worker process. ``changed(worker)`` is called whenever it has told something, and when it has ended.

    ``started``: it has everything it needs. ``ready``: it has a backend. ``closed``: it accepts nobody any more, for
    good. ``ended``: the process is gone.
    """

    def __init__(self, place: int, number: int, changed: Callable[[Worker], None]) -> None:
        self.place = place
        self.number = number
        self.snapshot: Snapshot | None = None
        self.refusing = False
        self.failure: str | None = None
        self.retiring = False  # it was told to end
        self.looks = 0  # of the supervisor, since it last told something
        self.started = asyncio.Event()
        self.ready = asyncio.Event()
        self.closed = asyncio.Event()
        self.ended = asyncio.Event()
        self._changed = changed
        self._began_s = time.monotonic()
        self._asked = 0
        self._answered = 0
        self._news = asyncio.Event()
        self._addresses: list[str] = []
        self._questions: dict[int, tuple[asyncio.Future[Any], Callable[[str], None]]] = {}

    async def start(self, begin: Begin, sockets: list[list[socket.socket]]) -> None:
        """Starts the process. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            descriptors = [[each.fileno() for each in group] for group in sockets]
            on_terminal = os.isatty(2)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", ENTRY, str(self.number), str(theirs.fileno()), VERSION,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                # On a terminal its lines come by way of us, above the live line; else they go where ours go.
                stderr=asyncio.subprocess.PIPE if on_terminal else None,
                pass_fds=[theirs.fileno(), *{fd for group in descriptors for fd in group}],
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the supervisor
            )  # fmt: skip
            reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._writer.write(packed(replace(begin, sockets=descriptors)))
        self._life = asyncio.create_task(self._live(reader))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._began_s

    @property
    def hangs(self) -> bool:
        """Whether it lives, but has told nothing for too long."""
        return self.looks >= HANGS_LOOKS and self.snapshot is not None and not self.ended.is_set()

    def order(self, order: Order) -> int:
        """Tells it to do something. Returns the number that the report will answer to."""
        self._asked += 1
        self.retiring = self.retiring or order in (Order.RETIRE, Order.DRAIN, Order.STOP_NOW)
        if not self._writer.is_closing():
            self._writer.write(packed(Told(order, self._asked)))
        return self._asked

    async def report(self) -> None:
        """Waits until ``snapshot`` is of now, or it has ended. Not bounded: a stopped process never answers."""
        await self._answer(self.order(Order.REPORT))

    async def addresses(self) -> list[str]:
        """Where its backend connections are. Not bounded either."""
        self._addresses = []
        await self._answer(self.order(Order.ADDRESSES))
        return self._addresses

    async def sample(self, moment: str, own: frozenset[str], why_incomplete: str) -> None:
        """Has it ask the backend for what only that knows; waits until it has. Not bounded either."""
        self._asked += 1
        if not self._writer.is_closing():
            self._writer.write(packed(Sample(moment, own, why_incomplete, self._asked)))
        await self._answer(self._asked)

    async def _answer(self, number: int) -> None:
        while self._answered < number and not self.ended.is_set():
            self._news.clear()
            await self._news.wait()

    async def ask(
        self, question: str, *arguments: Any, within_s: float, progress: Callable[[str], None] = lambda line: None
    ) -> Any:
        """The worker's answer to a question of the console. Raises WorkerSilent: it is gone, late, or can't answer."""
        if self.ended.is_set() or self._writer.is_closing():
            raise WorkerSilent(f"worker {self.number} is gone")
        self._asked += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        number = self._asked
        self._questions[number] = answer, progress
        self._writer.write(packed(Ask(number, question, arguments)))
        try:
            return await asyncio.wait_for(answer, within_s)
        except TimeoutError:
            raise WorkerSilent(f"worker {self.number} did not answer within {within_s:g} s") from None
        finally:
            self._questions.pop(number, None)

    def kill(self) -> None:
        """Ends it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def how_it_ended(self) -> str:
        """For people: ``killed by SIGKILL``, ``exit status 1``."""
        code = self._process.returncode
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit status {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"

    async def _live(self, reader: asyncio.StreamReader) -> None:
        relay = asyncio.create_task(_relay(self._process.stderr))
        try:
            while True:
                self._take(await receive(reader))
                self._changed(self)
        except (EOFError, OSError):
            pass  # it is ending
        except Exception:
            _log.exception("worker %d said what can't be understood; it is killed", self.number)
            self.kill()
        await self._process.wait()
        self._writer.close()
        await relay
        for event in (self.ended, self.closed, self._news):
            event.set()
        for answer, _ in list(self._questions.values()):
            if not answer.done():
                answer.set_exception(WorkerSilent(f"worker {self.number} died meanwhile ({self.how_it_ended()})"))
        self._changed(self)

    def _take(self, message: Report | Addresses | Failed | Answered | Progress) -> None:
        self.looks = 0
        if isinstance(message, Failed):
            self.failure = message.why
            return
        if isinstance(message, Addresses):
            self._addresses = message.found
            self._answered = max(self._answered, message.answers)
            self._news.set()
            return
        if isinstance(message, (Answered, Progress)):
            self._hear(message)
            return
        self.snapshot, self.refusing = message.snapshot, message.refusing
        self._answered = max(self._answered, message.answers)
        self._news.set()
        self.started.set()
        if message.snapshot.backend_up:
            self.ready.set()
        if message.snapshot.draining:
            self.closed.set()

    def _hear(self, message: Answered | Progress) -> None:
        answer, progress = self._questions.get(message.number, (None, None))
        if answer is None or progress is None or answer.done():
            return  # nobody waits for it any more
        if isinstance(message, Progress):
            progress(message.line)
        elif message.failure is not None:
            answer.set_exception(WorkerSilent(f"worker {self.number}: {message.failure}"))
        else:
            answer.set_result(message.answer)


async def first_of(*events: asyncio.Event, within_s: float | None = None) -> bool:
    """Wait until one of ``events`` is set. Returns whether one is; not for ever with ``within_s``."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return bool(done)


def _environment() -> dict[str, str]:
    """Ours; and a worker finds the code that we run, also where that is a source tree that is not installed."""
    if _INSTALLED:
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))}


async def _relay(lines: asyncio.StreamReader | None) -> None:
    """A worker's log lines to our stderr, which may be in the hands of the live line."""
    if lines is None:
        return
    with contextlib.suppress(OSError, ValueError):
        while line := await lines.readline():
            sys.stderr.write(line.decode(errors="replace"))
            sys.stderr.flush()
