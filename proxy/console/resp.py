"""The console that speaks RESP: ``redis-cli -s shunt.sock``, redis-py, ``shunt status``.

Knows: connections, who is at the other end, the password, the words that clients say before anything else (HELLO,
COMMAND, CLIENT …), and the options that may stand before a verb. Refuses to know: any verb (``desk``).

Before a verb may stand PROGRESS (RESP3 only: lines are pushed while it is under way) and JSON (the answer is one string
of JSON). One connection's commands are done one after another; several connections don't wait for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.resp import CommandReader
from proxy.address import Address
from proxy.console import door, replies
from proxy.console.audit import Caller
from proxy.console.desk import Desk
from proxy.console.verb import Verb, VerbError
from proxy.version import VERSION

_log = logging.getLogger(__name__)

#: A console is for people and their tools.
MOST_CONNECTIONS = 64
MAX_FRAME_BYTES = 65_536
READ_BYTES = 65_536
#: What a client may leave unread before progress is no longer pushed to it, bytes.
UNREAD_BYTES = 262_144
CLOSE_S = 1.0
NOAUTH = replies.error("Authentication required.", "NOAUTH")


class RespConsole:
    """A console at ``address``; its credentials, if it has any, are asked of every connection."""

    def __init__(self, address: Address, desk: Desk) -> None:
        self.address = address
        self._desk = desk
        self._door = door.Door(address)
        self._servers: list[asyncio.Server] = []
        self._conversations: dict[Conversation, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Begin to listen. Raises DoorError."""
        await self._door.open()
        for each in self._door.sockets:
            kind = asyncio.start_unix_server if self.address.scheme == "unix" else asyncio.start_server
            self._servers.append(await kind(self._connected, sock=each))
        _log.info("console at %s", self.address)

    @property
    def port(self) -> int:
        return int(self._door.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Take nobody in any more. Whose verb is done reads its answer, if that is soon."""
        for server in self._servers:
            server.close()
        self._door.close()
        for conversation, task in self._conversations.items():
            conversation.ended = True
            if not conversation.busy:
                task.cancel()
        if self._conversations:
            _, late = await asyncio.wait(self._conversations.values(), timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._servers = []

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversation = Conversation(self.address, self._desk, reader, writer)
        self._conversations[conversation] = task
        try:
            if len(self._conversations) > MOST_CONNECTIONS:
                writer.write(replies.error(f"{MOST_CONNECTIONS} connections are open; close one"))
            else:
                await conversation.run()
        except (OSError, asyncio.CancelledError):
            pass  # it has gone, or the console ends
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), CLOSE_S)
            self._conversations.pop(conversation, None)


@dataclass(slots=True)
class Options:
    """What stood before a verb."""

    progress: bool = False
    json: bool = False
    words: list[str] = field(default_factory=list)


class Conversation:
    """One connection of the console."""

    def __init__(
        self, address: Address, desk: Desk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._desk = desk
        self._address = address
        self._reader = reader
        self._writer = writer
        self._caller = _caller(writer.get_extra_info("socket"), writer.get_extra_info("peername"))
        self._trusted = address.password is None
        self._resp3 = False
        self.busy = False
        self.ended = False

    async def run(self) -> None:
        """Until either side ends it. Raises OSError."""
        commands = CommandReader(MAX_FRAME_BYTES)
        while not self.ended:
            data = await self._reader.read(READ_BYTES)
            if not data:
                return
            for arguments, _, _ in commands.feed(data):
                self.busy = True
                self._writer.write(await self._reply([(each or b"").decode(errors="replace") for each in arguments]))
                await self._writer.drain()
                self.busy = False
                if self.ended:
                    return
            if commands.bad or commands.too_big:
                self._writer.write(replies.error("Protocol error; the console takes commands of up to 64 KiB"))
                return

    async def _reply(self, words: list[str]) -> bytes:
        if not words:
            return b""
        word = words[0].upper()
        greeting = GREETINGS.get(word)
        if not self._trusted and word not in ("AUTH", "HELLO", "QUIT"):
            return NOAUTH
        if greeting is not None:
            return greeting(self, words[1:])
        options = _options(words)
        if options.progress and not self._resp3:
            return replies.error("PROGRESS needs RESP3; say HELLO 3 first, or use redis-cli -3")
        try:
            answer = await self._desk.call(options.words, self._caller, self._push if options.progress else _nobody)
        except VerbError as error:
            return replies.error(str(error))
        if options.json:
            return replies.bulk(json.dumps({"answer": answer.data, "notes": answer.notes}, ensure_ascii=False))
        if isinstance(answer.data, str) and not answer.notes:
            return replies.simple(answer.data)
        return replies.lines(answer.lines(), self._resp3)

    def _push(self, line: str) -> None:
        if not self._writer.is_closing() and self._writer.transport.get_write_buffer_size() < UNREAD_BYTES:
            self._writer.write(replies.push("progress", line))

    # ---- what clients say before anything else ----------------------------------------------------------------------

    def _ping(self, words: list[str]) -> bytes:
        return replies.bulk(words[0]) if words else replies.PONG

    def _quit(self, words: list[str]) -> bytes:
        self.ended = True
        return replies.OK

    def _auth(self, words: list[str]) -> bytes:
        if len(words) not in (1, 2):
            return replies.error("wrong number of arguments for 'auth' command")
        if self._address.password is None:
            return replies.error("this console has no password: the socket's owner may do everything")
        if not self._is_right(words[0] if len(words) == 2 else None, words[-1]):
            _log.warning("console: wrong credentials from %s", self._caller.address or f"uid {self._caller.uid}")
            return replies.error("invalid username-password pair or user is disabled.", "WRONGPASS")
        self._trusted = True
        return replies.OK

    def _is_right(self, user: str | None, password: str) -> bool:
        ours = self._address.password
        assert ours is not None
        right = hmac.compare_digest(password.encode(), ours.get_secret_value().encode())
        return right and (user is None or user == (self._address.user or "default"))

    def _hello(self, words: list[str]) -> bytes:
        version, rest = (words[0], words[1:]) if words else ("", [])
        if version not in ("", "2", "3"):
            return replies.error("unsupported protocol version", "NOPROTO")
        while rest:
            if rest[0].upper() == "AUTH" and len(rest) >= 3:
                said = self._auth(rest[1:3])
                if said != replies.OK:
                    return said
                rest = rest[3:]
            elif rest[0].upper() == "SETNAME" and len(rest) >= 2:
                rest = rest[2:]
            else:
                return replies.error(f"HELLO does not know '{rest[0][:20]}'")
        if not self._trusted:
            return replies.error("HELLO must be called with AUTH here: HELLO 3 AUTH default password", "NOAUTH")
        if version:
            self._resp3 = version == "3"
        facts: dict[str, replies.Reply] = {
            "server": "shunt", "version": VERSION, "proto": 3 if self._resp3 else 2, "id": 0, "mode": "console",
            "role": "console", "modules": [],
        }  # fmt: skip
        return replies.value(facts, self._resp3)

    def _command(self, words: list[str]) -> bytes:
        """COMMAND DOCS tells redis-cli what to complete and to explain; the others are about keys: there are none."""
        if words[:1] and words[0].upper() == "DOCS":
            asked = {word.upper() for word in words[1:]}
            verbs = self._desk.table.verbs
            docs: dict[str, replies.Reply] = {
                name.lower(): _docs(verb) for name, verb in verbs.items() if not asked or name in asked
            }
            return replies.value(docs, self._resp3)
        return replies.value(0 if words[:1] and words[0].upper() == "COUNT" else [], self._resp3)

    def _client(self, words: list[str]) -> bytes:
        """CLIENT SETNAME and SETINFO, which libraries send unasked."""
        if words and words[0].upper() in ("SETNAME", "SETINFO"):
            return replies.OK
        return replies.error("this is shunt's console: SHOW CLIENTS and KILL are about shunt's clients")

    def _select(self, words: list[str]) -> bytes:
        return replies.OK if words == ["0"] else replies.error("the console has no databases")


#: The words that are about the connection, and not verbs.
GREETINGS: dict[str, Callable[[Conversation, list[str]], bytes]] = {
    "PING": Conversation._ping,
    "QUIT": Conversation._quit,
    "AUTH": Conversation._auth,
    "HELLO": Conversation._hello,
    "COMMAND": Conversation._command,
    "CLIENT": Conversation._client,
    "SELECT": Conversation._select,
}


def _options(words: list[str]) -> Options:
    options = Options()
    at = 0
    while at < len(words) - 1 and words[at].upper() in ("PROGRESS", "JSON"):
        setattr(options, words[at].lower(), True)
        at += 1
    options.words = words[at:]
    return options


def _docs(verb: Verb) -> dict[str, replies.Reply]:
    """As COMMAND DOCS describes a command."""
    arguments: list[replies.Reply] = []
    for word in verb.arguments.split():
        name = word.strip("[]")
        flags: dict[str, replies.Reply] = {"flags": [replies.Status("optional")]} if word.startswith("[") else {}
        token: dict[str, replies.Reply] = {"token": name} if name == "NOW" else {}
        arguments.append(
            {"name": name.lower(), "type": "pure-token" if token else "string", "display_text": name.lower()}
            | token
            | flags
        )
    docs: dict[str, replies.Reply] = {"summary": verb.help, "since": VERSION, "group": "server", "complexity": "O(1)"}
    return docs | ({"arguments": arguments} if arguments else {})


def _caller(sock: socket.socket, peername: object) -> Caller:
    if sock.family == socket.AF_UNIX:
        pid, uid = door.peer(sock)
        return Caller("unix", uid=uid, pid=pid)
    host, port = peername[:2] if isinstance(peername, tuple) else ("?", 0)
    return Caller("tcp", address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _nobody(line: str) -> None:
    """Who did not ask for progress gets none."""
