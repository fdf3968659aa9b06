"""What a supervisor and its workers say to each other, over a socket pair of their own.

Knows: the messages, and how one becomes bytes: a length, and a pickle of our own classes, from our own processes.
Refuses to know: when something is said (``worker``, ``supervise``; on the other side ``cli.worker``).
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from dataclasses import dataclass
from enum import Enum
from typing import Any

from proxy.config import RunConfig
from proxy.supervisor.totals import Snapshot

_LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message to a worker: who it is. ``config`` has its share of every limit; ``sockets`` are descriptors,
    for each address of ``config.listen``. The rest is as in ``wiring.Seat``.

    The configuration goes this way and not as arguments: it may hold passwords, and other users can read arguments.
    """

    config: RunConfig
    number: int
    run: str
    started_ns: int
    owns: bool
    watched: bool
    epoch: int
    sockets: list[list[int]]


class Order(Enum):
    """What a worker is told to do."""

    REPORT = "report"
    ADDRESSES = "addresses"  # say where your backend connections are
    TAKE_OVER = "take over"  # the sockets that another worker has let go of
    RETIRE = "retire"  # let go of the sockets, then drain
    DRAIN = "drain"
    STOP_NOW = "stop now"


@dataclass(frozen=True, slots=True)
class Told:
    """An order. ``number`` comes back in the report that it leads to."""

    order: Order
    number: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """A question of the console, one of ``control.QUESTIONS``. ``number`` comes back in its progress and its answer."""

    number: int
    question: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a worker is with a question: one line."""

    number: int
    line: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a question; ``failure``: one line, and there is none."""

    number: int
    answer: Any = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A worker's numbers. ``refusing``: it has found the backend down, and accepts nobody."""

    snapshot: Snapshot
    refusing: bool
    answers: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """An order: ask the backend for what only it knows. ``own``: where all workers' connections are;
    ``why_incomplete``: why some may be missing there. ``number`` comes back in the report that it leads to."""

    moment: str
    own: frozenset[str]
    why_incomplete: str
    number: int


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a worker's backend connections are, as the backend would name them."""

    found: list[str]
    answers: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A worker can't start with what it was given: one line, as ``shunt run`` would say it."""

    why: str


def packed(message: object) -> bytes:
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


def receive_first(control: socket.socket) -> Any:
    """One message, waiting for it: before there is an event loop. Raises EOFError."""
    (length,) = _LENGTH.unpack(_exactly(control, _LENGTH.size))
    return pickle.loads(_exactly(control, length))


async def receive(reader: asyncio.StreamReader) -> Any:
    """The next message. Raises EOFError (asyncio.IncompleteReadError), OSError."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))


def _exactly(control: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = control.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return bytes(data)
