"""What a worker process runs: one ``app.App`` in the seat that the supervisor gives it.

Knows: how the supervisor's orders reach the worker, and how its numbers go back. Refuses to know: other workers.

Not a verb for people: ``supervisor.worker`` starts it as ``python -m proxy.cli.worker NUMBER DESCRIPTOR VERSION``.
The descriptor is a socket to the supervisor. When that ends, the supervisor is gone, and the worker drains and ends.
The version is the supervisor's: what is on the disk may have been replaced since it was started.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys

import uvloop

from proxy.app import App
from proxy.cli import logs
from proxy.config import ConfigError
from proxy.console.verb import VerbError
from proxy.control import QUESTIONS
from proxy.cutover.maintenance import MaintenanceFailed
from proxy.engine.columns import keep_memory
from proxy.net.moving import CantMove
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
    receive_first,
)
from proxy.supervisor.totals import Snapshot
from proxy.supervisor.worker import GRACE_S
from proxy.version import VERSION
from proxy.wiring import Seat

#: The supervisor gets numbers at least this often, seconds: what a worker that is killed has counted since is lost.
REPORT_S = 1.0

_log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the supervisor's business
    control = socket.socket(fileno=int(arguments[1]))
    if arguments[2] != VERSION:
        control.sendall(packed(Failed(f"shunt {VERSION} is installed, but {arguments[2]} is running; restart shunt")))
        return 1
    try:
        begin = receive_first(control)
    except (EOFError, OSError):
        return 1  # the supervisor is gone already
    assert isinstance(begin, Begin)
    logs.setup(begin.config.log_format, begin.config.log_level, begin.number)
    control.setblocking(False)
    return int(uvloop.run(_work(begin, control)))


async def _work(begin: Begin, control: socket.socket) -> int:
    reader, writer = await asyncio.open_unix_connection(sock=control)
    link = Link(reader, writer, begin.config.drain_timeout + GRACE_S)
    keep_memory()
    try:
        app = App(begin.config, _seat(begin, link))
    except ConfigError as error:
        return await link.fail(str(error))
    try:
        await app.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, app.end)
        link.serve(app)
        await app.run()
    except ConfigError as error:
        return await link.fail(str(error))
    finally:
        await app.stop()
        await link.close()
    return 0


def _seat(begin: Begin, link: Link) -> Seat:
    sockets = [[socket.socket(fileno=fd) for fd in group] for group in begin.sockets]
    for group in sockets:
        for each in group:
            each.setblocking(False)
    return Seat(begin.number, begin.run, begin.started_ns, begin.owns, begin.watched, begin.epoch, sockets,
                link.tell)  # fmt: skip


class Link:
    """The line to the supervisor."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, alone_s: float) -> None:
        """``alone_s``: without a supervisor, which would end it, the worker ends itself no later than after this."""
        self._alone_s = alone_s
        self._reader = reader
        self._writer = writer
        self._app: App | None = None
        self._known = False  # whether the backend is up
        self._chores: list[asyncio.Task[None]] = []
        self._answering: set[asyncio.Task[None]] = set()

    def serve(self, app: App) -> None:
        """Reports on ``app`` from now on, and hands it its orders."""
        self._app = app
        self._report()
        self._chores = [asyncio.create_task(self._heed(app)), asyncio.create_task(self._report_often())]

    def tell(self) -> None:
        """Something has changed that the supervisor must know at once."""
        self._known = True
        self._report()

    async def fail(self, why: str) -> int:
        """The worker can't start. Returns its exit code."""
        self._writer.write(packed(Failed(why)))
        await self.close()
        return 1

    async def close(self) -> None:
        """Says the last numbers, and ends the line."""
        chores = [*self._chores, *self._answering]
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)
        self._report()
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)

    def _report(self, answers: int = 0) -> None:
        app = self._app
        if app is not None and not self._writer.is_closing():
            refusing = self._known and not (app.backend_up() or app.riding.lets_in or app.draining())
            self._writer.write(packed(Report(_snapshot(app), refusing, answers)))

    async def _report_often(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            if self._writer.transport.get_write_buffer_size() == 0:  # else nobody reads just now
                self._report()

    async def _sample(self, app: App, told: Sample) -> None:
        """Beside the other orders: the backend may take seconds to answer."""
        if app.sampler is not None:
            await app.sampler.sample(told.moment, told.own, told.why_incomplete)
        self._report(told.number)
        self._chores = [chore for chore in self._chores if not chore.done()]

    async def _heed(self, app: App) -> None:
        """Orders, one after another."""
        try:
            while True:
                told = await receive(self._reader)
                if isinstance(told, Sample):
                    self._chores.append(asyncio.create_task(self._sample(app, told)))
                    continue
                if isinstance(told, Ask):
                    answering = asyncio.create_task(self._answer(app, told))
                    self._answering.add(answering)
                    answering.add_done_callback(self._answering.discard)
                    continue
                assert isinstance(told, Told)
                if told.order is Order.REPORT:
                    self._report(told.number)
                elif told.order is Order.ADDRESSES:
                    found = [] if app.sampler is None else await app.sampler.addresses()
                    self._writer.write(packed(Addresses(found, told.number)))
                elif told.order is Order.TAKE_OVER:
                    app.take_over()
                elif told.order is Order.RETIRE:
                    app.retire()
                else:
                    app.end(at_once=told.order is Order.STOP_NOW)
        except (EOFError, OSError):
            _log.warning("the supervisor is gone: ending too")
            app.end()
            asyncio.get_running_loop().call_later(self._alone_s, os._exit, 1)

    async def _answer(self, app: App, ask: Ask) -> None:
        """One question of the console, beside all else."""
        try:
            said = await QUESTIONS[ask.question](app.control, *ask.arguments, lambda line: self._progress(ask, line))
            answer = Answered(ask.number, said)
        except (VerbError, CantMove, MaintenanceFailed) as error:
            answer = Answered(ask.number, failure=str(error))
        except Exception as error:
            _log.exception("%s failed", ask.question)
            answer = Answered(ask.number, failure=f"{type(error).__name__}; the log says where")
        if not self._writer.is_closing():
            self._writer.write(packed(answer))

    def _progress(self, ask: Ask, line: str) -> None:
        if not self._writer.is_closing():
            self._writer.write(packed(Progress(ask.number, line)))


def _snapshot(app: App) -> Snapshot:
    return Snapshot(
        app.engine(), app.capture(), app.findings(), app.counters(), app.clients(), app.backends(), app.pool(),
        app.backend_up(), app.draining(), app.held_classes(),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
