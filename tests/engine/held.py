"""Clients of a shunt with classes, without sockets or clocks: sessions, and backends that answer when they are told.

Knows: how a session is driven (``net.routing`` does it with sockets), and of which class a command is, by the first
letter of its keys: told anew here, so that it can be wrong in one place only. Refuses to know: when a class is held.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.capture.format import ArgsMode
from proxy.engine.recorder import Recorder
from proxy.engine.routed import Gates, RoutedSession
from proxy.routing.table import KeyClass, Table
from tests.engine.playbook import encode
from tests.wire import frame_end

TABLE = Table(0, tuple(map(KeyClass.parse, ("q=main:q:*", "r=main:r:*", "f=far:f:*"))))
BITS = {name: 1 << number for number, name in enumerate(TABLE.names)}
COMMANDS = CommandTable(table().commands)
#: Names of commands whose keys can't be told.
KEYLESS_WRITES = frozenset(
    ("FLUSHALL", "FLUSHDB", "SWAPDB", "EVAL", "NOSUCH", "DEBUG", "REPLICAOF", "FCALL", "FUNCTION", "PSYNC")
)
KEYLESS = frozenset(("PING", "MULTI", "EXEC", "DISCARD", "UNWATCH", "SCAN", "DBSIZE", "INFO", "KEYS", "SUBSCRIBE"))

Words = tuple[str, ...]


def classes_of(words: Words) -> frozenset[str]:
    """The classes of a command, by its keys as they are written in these tests: a letter, a colon, a name."""
    name = words[0].upper()
    if name in KEYLESS:
        return frozenset()
    if name in KEYLESS_WRITES and (name not in ("EVAL", "FCALL") or words[2] == "0"):
        return frozenset(TABLE.names)
    keys = [word for word in words[1:] if word[1:2] == ":"]
    assert keys, words
    return frozenset(key[0] if key[0] in "qrf" else "default" for key in keys)


@dataclass
class Server:
    """One connection to one backend: what waits for its reply, and whether a transaction is open."""

    waiting: list[Words] = field(default_factory=list)
    queued: list[Words] | None = None
    half: bytes = b""

    @property
    def to_run(self) -> list[Words]:
        """What is queued, unless the next that ends the transaction is DISCARD."""
        ends = [words[0] for words in self.waiting if words[0] in ("EXEC", "DISCARD")]
        return [] if ends[:1] == ["DISCARD"] else self.queued or []

    def take(self, data: bytes) -> list[Words]:
        """More bytes. The commands that are whole now."""
        data = self.half + data
        taken = []
        while data and (end := frame_end(data)) > 0:
            taken.append(tuple(part.decode() for part in data[:end].split(b"\r\n")[2::2]))
            data = data[end:]
        self.half = data
        self.waiting += taken
        return taken

    def reply(self) -> bytes:
        """To the oldest."""
        words = self.waiting.pop(0)
        name = words[0].upper()
        if name == "MULTI":
            if self.queued is not None:
                return b"-ERR MULTI calls can not be nested\r\n"
            self.queued = []
            return b"+OK\r\n"
        if name in ("EXEC", "DISCARD") and self.queued is not None:
            done, self.queued = len(self.queued), None
            return b"*%d\r\n" % done + b":1\r\n" * done if name == "EXEC" else b"+OK\r\n"
        if self.queued is not None:
            self.queued.append(words)
            return b"+QUEUED\r\n"
        return b"+PONG\r\n" if name == "PING" else b":1\r\n"


class Driven:
    """One client: its session, and a connection to each backend. ``log``: what has reached them, in order; ``heard``:
    the bytes that it was answered."""

    def __init__(self, gates: Gates, splits: bool = False) -> None:
        recorder = Recorder(COMMANDS, ArgsMode.KEYS, lambda: None, lambda sha, body: None)
        self.session = RoutedSession(recorder, b"1.2.3.4:5", (), TABLE, (0, 1), splits, gates)
        self.servers = [Server(), Server()]
        self.log: list[Words] = []
        self.heard = b""

    def send(self, data: bytes) -> None:
        """The client sends these bytes."""
        forwarded = self.session.client_bytes(data, 1)
        self._pass_on([data] if forwarded else self.session.to_backend, [] if forwarded else self.session.to_client)
        self.go_over()

    def say(self, line: str) -> None:
        """The client sends one command."""
        self.send(encode(*line.split()))

    def answer(self) -> bool:
        """The oldest command in flight is answered; False: there is none."""
        server = self.servers[self.session.here]
        if not server.waiting:
            return False
        data = server.reply()
        forwarded = self.session.backend_bytes(data, 2)
        self.heard += data if forwarded else b"".join(self.session.to_client)
        self.go_over()
        return True

    def go_over(self) -> None:
        """As ``RoutedClient.go_over``, with connections that are there at once."""
        session = self.session
        while session.want >= 0 and session.in_flight == 0:
            if session.want != session.here:
                words = session.leave()
                self._pass_on([words] if words else [], [])
                while session.in_flight:
                    session.backend_bytes(self.servers[session.here].reply(), 2)
            session.go_on(session.want, (), 3)
            self._pass_on(session.to_backend, session.to_client)

    def look_again(self) -> None:
        """Something was released."""
        if self.session.waits:
            self.session.look_again(4)
            self._pass_on(self.session.to_backend, self.session.to_client)
            self.go_over()

    def in_flight(self, name: str) -> bool:
        """The truth: whether something of the class is at a backend, or in its open transaction."""
        there = [words for server in self.servers for words in (*server.waiting, *server.to_run)]
        return any(name in classes_of(words) for words in there)

    def _pass_on(self, to_backend: list[bytes], to_client: list[bytes]) -> None:
        data = b"".join(to_backend)
        if data:
            self.log += self.servers[self.session.here].take(data)
        self.heard += b"".join(to_client)
