"""A Redis connection without data: what it answers tells which command was asked, and in which state of the connection.

Knows: what of a connection's state changes answers (database, protocol, user, MULTI, WATCH, CLIENT REPLY,
subscriptions), as Redis 7.2 has it, and what shunt answers where a URL has credentials. Refuses to know: how bytes get
here. Two of these that read the same bytes say the same, so one beside shunt tells what a client must hear of the one
behind it.

A key that contains ``dirty`` counts as changed since WATCH. Pops wait until they are served. ``p`` is the password.
"""

# Over 300 lines: one connection's state, and each command is a few lines.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from zlib import crc32

from protocol.commands import table
from protocol.keyspecs import ask
from protocol.resp import CommandReader
from proxy.engine.access import NOAUTH, UNAUTHENTICATED_ARGS, UNAUTHENTICATED_BULK, Access
from proxy.engine.pooling import NOT_WHILE_SUBSCRIBED, WAYS, Way

OK = b"+OK\r\n"
PASSWORD = b"p"
COMMANDS = table().commands
_CONTAINERS = {name for name, spec in COMMANDS.items() if spec.container}
_WHILE_SUBSCRIBED = {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "PING",
                     "QUIT", "RESET"}  # fmt: skip
_AT_ONCE_IN_MULTI = {"EXEC", "DISCARD", "QUIT", "RESET"}
_NEVER_IN_MULTI = {"MULTI", "WATCH", "MONITOR", "SYNC", "PSYNC"}
#: shunt answers these from what it keeps for each client: a frame must come, whatever it says.
_SHUNT_SAYS = {f"CLIENT {word}" for word in ("SETNAME", "GETNAME", "SETINFO", "NO-EVICT", "NO-TOUCH", "ID", "INFO")}
_SHUNT_SAYS |= {"WAIT", "WAITAOF"}


class Frame(NamedTuple):
    """One frame of an answer. ``loose``: its bytes are not foretold. ``alone``: refused, it leaves nothing undone."""

    data: bytes
    loose: bool = False
    alone: bool = False


Args = list[bytes]


@dataclass(slots=True)
class _State:
    db: int = 0
    resp: int = 2
    user: bytes = b"default"
    queue: list[Args] | None = None
    refused: bool = False
    changed: bool = False
    off: bool = False
    skip_next: bool = False
    known: bool = True
    monitor: bool = False
    tracking: bool = False


class Connection:
    """One connection's answers, with ``access`` as shunt gives it.

    ``ended``: Redis closes it. ``unsure``: MULTI was refused, and shunt may take credentials that were sent behind it
    for parts of a transaction. ``channels``: subscriptions by kind ("", "P", "S"), in order.
    """

    def __init__(self, access: Access | None = None) -> None:
        self._access = access
        self._guards = access is not None and access.answers
        self.home_db = 0 if access is None else access.db
        self.state = self._fresh()
        self.ended = self.unsure = self._streams = False
        self.channels: dict[str, dict[bytes, None]] = {"": {}, "P": {}, "S": {}}
        self._skip = False
        self._unread = b""
        self._reader: CommandReader | None = None
        self._frames: list[Frame] = []
        self._in_exec: list[bytes] | None = None

    def _fresh(self) -> _State:
        return _State(db=self.home_db, known=self._access is None or not self._access.protected)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def read(self, data: bytes) -> list[Args | None]:
        """The commands that these bytes complete; [] for bytes that are an empty one, None for those that are none."""
        self._unread += data
        commands: list[Args | None] = []
        while self._unread:
            if self._reader is None:
                end = self._unread.find(b"\n") + 1
                if end == 0:
                    if self._unread.startswith(b"*") and _is_bad(self._unread):
                        commands.append(None)
                        self._unread = b""
                    break
                if _is_empty(self._unread[:end]):
                    commands.append([])
                    self._unread = self._unread[end:]
                    continue
                self._reader = CommandReader()
            found = self._reader.feed(self._unread)
            if not found:
                if self._reader.bad:
                    commands.append(None)
                self._unread = b""
                break
            arguments, used, _ = found[0]
            commands.append([b"?" if each is None else each for each in arguments])
            self._unread = self._unread[used:]
            self._reader = None
        return commands

    def waits(self, args: Args | None) -> bool:
        """Whether this command would wait for something."""
        return bool(args) and self.state.queue is None and _may_wait(args or [])

    def answer(self, args: Args | None) -> list[Frame]:
        """Run one command; the frames that are the answer to it."""
        if self.ended or self._streams:
            return []
        self._frames = []
        if args is None:
            self.ended = True
            self._say(b"-ERR Protocol error\r\n", loose=True)
        elif args:
            self._process(args)
        self._skip, self.state.skip_next = self.state.skip_next, False
        return self._frames

    # ---- answering --------------------------------------------------------------------------------------------------

    def _say(self, data: bytes, *, loose: bool = False, alone: bool = False, confirms: bool = False) -> None:
        if (self.state.off or self._skip) and not confirms:
            return
        if self._in_exec is None:
            self._frames.append(Frame(data, loose, alone))
        else:
            self._in_exec.append(data)

    def _refuse(self, why: bytes, *, loose: bool = False) -> None:
        self.state.refused = self.state.queue is not None
        self._say(b"-ERR %b\r\n" % why, loose=loose, alone=loose)

    def _process(self, args: Args) -> None:
        name = _name(args)
        if self._guards and self._guarded(args):
            return
        before = self.state.queue
        self._ask(name, args)
        if name == "MULTI" and (before is not None or self.state.queue is None):
            self.unsure = self._guards

    def _ask(self, name: str, args: Args) -> None:
        """Run or queue it, or refuse it as Redis does before it runs one."""
        spec = COMMANDS.get(name)
        if spec is None:
            return self._refuse(b"unknown command '%b'" % _plain(b" ".join(args[:3])))
        if not (len(args) == spec.arity or (spec.arity < 0 and len(args) >= -spec.arity)):
            if name == "EXEC":
                self._leave()
                return self._say(b"-EXECABORT Transaction discarded because of: wrong number of arguments\r\n")
            said = b"wrong number of arguments for '%b' command" % name.lower().replace(" ", "|").encode()
            return self._refuse(said, loose=name in ("WAIT", "WAITAOF"))
        if self.state.resp == 2 and self._subscriptions() and name not in _WHILE_SUBSCRIBED:
            self.state.refused = self.state.queue is not None
            said = NOT_WHILE_SUBSCRIBED % name.lower().replace(" ", "|").encode()
            return self._say(said, loose=name in ("WAIT", "WAITAOF"))
        if self.state.queue is not None and name in _NEVER_IN_MULTI:
            return self._refuse(b"Command not allowed inside a transaction")
        if self.state.queue is not None and name not in _AT_ONCE_IN_MULTI:
            self.state.queue.append(args)
            return self._say(b"+QUEUED\r\n")
        return self._run(name, args)

    def _guarded(self, args: Args) -> bool:
        """What shunt says where a URL has credentials; False: it is Redis' turn."""
        assert self._access is not None
        word = args[0].upper()
        if word == b"AUTH":
            if self.state.queue is not None:
                self._refuse(b"wrong number of arguments for 'auth' command")
                return True
            reply, good = self._access.auth(args)
            self.state.known = self.state.known or good
            self._say(reply)
        elif word == b"HELLO":
            return self.state.queue is None and self._guarded_hello(args)
        elif not self.state.known and word not in (b"QUIT", b"RESET"):
            self._say(NOAUTH, loose=True)
            self.ended = len(args) > UNAUTHENTICATED_ARGS or max(map(len, args)) > UNAUTHENTICATED_BULK
        else:
            return False
        return True

    def _guarded_hello(self, args: Args) -> bool:
        assert self._access is not None
        answer = self._access.hello(args, self.state.known)
        self.state.known = answer.authenticated
        if answer.reply is not None:
            self._say(answer.reply)
            return True
        [args[:]] = [command for command in self.read_apart(answer.forward or b"") if command]
        return False

    @staticmethod
    def read_apart(data: bytes) -> list[Args | None]:
        """The commands in these bytes, which are no part of what the connection reads."""
        return Connection().read(data)

    def _run(self, name: str, args: Args) -> None:
        special = _SPECIAL.get(name)
        if special is not None:
            special(self, args)
        elif name in _SHUNT_SAYS:
            self._say(OK, loose=True, alone=name in ("WAIT", "WAITAOF"))
        else:
            self._say(self._value(name, args), alone=_may_wait(args) or WAYS.get(name) == Way.PRIVATE)

    def _value(self, name: str, args: Args) -> bytes:
        """An answer that is nobody else's, in the form that this command's answers have."""
        text = b"%b@%d/%b" % (_plain(b" ".join(args[1:3])), self.state.db, self.state.user)
        bulk = b"$%d\r\n%b\r\n" % (len(text), text)
        if name == "GETRANGE":
            size = min(int(args[3]), 60_000) if args[3].isdigit() else 1
            return b"$%d\r\n%b\r\n" % (size * len(text), text * size)
        forms: dict[str, bytes] = {
            "SET": b"+%b\r\n" % text,
            "DEL": b":%d\r\n" % crc32(text),
            "LPUSH": b":%d\r\n" % crc32(text),
            "RPUSH": b":%d\r\n" % crc32(text),
            "INCR": b"-ERR %b\r\n" % text,
            "GETDEL": self._null(),
            "LRANGE": b"*2\r\n%b*2\r\n%b:7\r\n" % (bulk, bulk),
            "HGETALL": b"%b\r\n%b%b" % (b"*2" if self.state.resp == 2 else b"%1", bulk, bulk),
            "ZSCORE": bulk if self.state.resp == 2 else b",1.5\r\n",
        }
        if _may_wait(args):
            return b"*2\r\n%b%b" % (bulk, bulk)
        return forms.get(name, bulk)

    def _null(self, mark: bytes = b"$") -> bytes:
        return b"_\r\n" if self.state.resp == 3 else b"%b-1\r\n" % mark

    def _subscriptions(self) -> int:
        return sum(map(len, self.channels.values()))

    # ---- commands that change the connection ------------------------------------------------------------------------

    def _multi(self, args: Args) -> None:
        self.state.queue, self.state.refused = [], False
        self._say(OK)

    def _leave(self) -> None:
        self.state.queue, self.state.refused, self.state.changed = None, False, False

    def _exec(self, args: Args) -> None:
        queue, refused, changed = self.state.queue, self.state.refused, self.state.changed
        if queue is None:
            return self._say(b"-ERR EXEC without MULTI\r\n")
        self._leave()
        if refused:
            return self._say(b"-EXECABORT Transaction discarded because of previous errors.\r\n")
        if changed:
            return self._say(self._null(b"*"))
        self._in_exec = []
        self._say(b"*%d\r\n" % len(queue))
        for each in queue:
            self._run(_name(each), each)
        said, self._in_exec = b"".join(self._in_exec), None
        if said:
            self._frames.append(Frame(said))

    def _discard(self, args: Args) -> None:
        if self.state.queue is None:
            return self._say(b"-ERR DISCARD without MULTI\r\n")
        self._leave()
        self._say(OK)

    def _watch(self, args: Args) -> None:
        self.state.changed = self.state.changed or any(b"dirty" in key for key in args[1:])
        self._say(OK)

    def _unwatch(self, args: Args) -> None:
        self.state.changed = False
        self._say(OK)

    def _select(self, args: Args) -> None:
        if not args[1].isdigit() or int(args[1]) > 15:
            return self._say(b"-ERR invalid DB index\r\n")
        self.state.db = int(args[1])
        self._say(OK)

    def _log_in(self, user: bytes, password: bytes) -> bool:
        if password == PASSWORD:
            self.state.user = user
            return True
        self._say(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")
        return False

    def _auth(self, args: Args) -> None:
        if len(args) > 3:
            return self._say(b"-ERR syntax error\r\n")
        if self._log_in(args[1] if len(args) == 3 else b"default", args[-1]):
            self._say(OK)

    def _hello(self, args: Args) -> None:
        if len(args) > 1 and args[1] not in (b"2", b"3"):
            return self._say(b"-NOPROTO unsupported protocol version\r\n")
        login, at = None, 2
        while at < len(args):
            option = args[at].upper()
            if option == b"AUTH" and at + 2 < len(args):
                login = args[at + 1], args[at + 2]
                at += 3
            elif option == b"SETNAME" and at + 1 < len(args):
                at += 2
            else:
                return self._say(b"-ERR Syntax error in HELLO option '%b'\r\n" % _plain(args[at]))
        if login is not None and not self._log_in(*login):
            return None
        if len(args) > 1:
            self.state.resp = int(args[1])
        mark = b"%1" if self.state.resp == 3 else b"*2"
        self._say(b"%b\r\n$5\r\nproto\r\n:%d\r\n" % (mark, self.state.resp))

    def _client_reply(self, args: Args) -> None:
        word = args[2].upper()
        if word == b"ON":
            self.state.off = self._skip = False
            self._say(OK)
        elif word == b"OFF":
            self.state.off = True
        elif word == b"SKIP":
            self.state.skip_next = not self.state.off
        else:
            self._say(b"-ERR syntax error\r\n")

    def _client_tracking(self, args: Args) -> None:
        word = args[2].upper()
        if len(args) > 3 or word not in (b"ON", b"OFF"):
            return self._say(b"-ERR syntax error\r\n")
        if word == b"ON" and self.state.resp == 2:
            return self._say(b"-ERR Client tracking can be enabled only in RESP3 or with REDIRECT\r\n")
        self.state.tracking = word == b"ON"
        self._say(OK)

    def _subscribe(self, args: Args) -> None:
        kind = _kind(args)
        for channel in args[1:]:
            self.channels[kind][channel] = None
            self._confirm(args[0].lower(), channel, kind)

    def _unsubscribe(self, args: Args) -> None:
        kind = _kind(args)
        leaving: list[bytes | None] = [*args[1:]] if len(args) > 1 else [*self.channels[kind]]
        for channel in leaving or [None]:
            if channel is not None:
                self.channels[kind].pop(channel, None)
            self._confirm(args[0].lower(), channel, kind)

    def _confirm(self, word: bytes, channel: bytes | None, kind: str) -> None:
        mark = b">" if self.state.resp == 3 else b"*"
        count = len(self.channels["S"]) if kind == "S" else len(self.channels[""]) + len(self.channels["P"])
        name = self._null() if channel is None else b"$%d\r\n%b\r\n" % (len(channel), channel)
        self._say(b"%b3\r\n$%d\r\n%b\r\n%b:%d\r\n" % (mark, len(word), word, name, count), confirms=True)

    def _ping(self, args: Args) -> None:
        text = args[1] if len(args) > 1 else b""
        if self.state.resp == 2 and self._subscriptions():
            return self._say(b"*2\r\n$4\r\npong\r\n$%d\r\n%b\r\n" % (len(text), text))
        self._say(b"$%d\r\n%b\r\n" % (len(text), text) if len(args) > 1 else b"+PONG\r\n")

    def _sync(self, args: Args) -> None:
        self._say(b"+FULLRESYNC\r\n")
        self._streams = True

    def _monitor(self, args: Args) -> None:
        if self._in_exec is not None:
            return self._say(b"-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n")
        if not self.state.monitor:
            self.state.monitor = True
            self._say(OK)

    def _reset(self, args: Args) -> None:
        self.state = self._fresh()
        for each in self.channels.values():
            each.clear()
        self._say(b"+RESET\r\n")

    def _quit(self, args: Args) -> None:
        self.ended = True
        self._say(OK)


def _kind(args: Args) -> str:
    letter = args[0][:1].upper().decode()
    return letter if letter in "PS" and not args[0].upper().startswith(b"SUB") else ""


_SPECIAL: dict[str, Callable[[Connection, Args], None]] = {
    "MULTI": Connection._multi,
    "EXEC": Connection._exec,
    "DISCARD": Connection._discard,
    "WATCH": Connection._watch,
    "UNWATCH": Connection._unwatch,
    "SELECT": Connection._select,
    "AUTH": Connection._auth,
    "HELLO": Connection._hello,
    "CLIENT REPLY": Connection._client_reply,
    "CLIENT TRACKING": Connection._client_tracking,
    **dict.fromkeys(("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"), Connection._subscribe),
    **dict.fromkeys(("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"), Connection._unsubscribe),
    "PING": Connection._ping,
    "MONITOR": Connection._monitor,
    **dict.fromkeys(("SYNC", "PSYNC"), Connection._sync),
    "RESET": Connection._reset,
    "QUIT": Connection._quit,
}


def _name(args: Args) -> str:
    """The command's name as the table has it; a subcommand's behind its container's."""
    name = args[0].upper().decode("latin-1")
    if name in _CONTAINERS and len(args) > 1:
        return f"{name} {args[1].upper().decode('latin-1')}"
    return name


def _plain(text: bytes) -> bytes:
    return bytes(byte if 0x20 <= byte <= 0x7E else 0x2E for byte in text[:64])


def _is_empty(line: bytes) -> bool:
    """Whether a line at the begin of a command is no command, as the scanner has it."""
    reader = CommandReader()
    found: list[Any] = reader.feed(line + b"!" if line.startswith(b"*") else line)
    return not found and not reader.bad  # behind an array's head "!" is an error, behind nothing it is a word


def _is_bad(start: bytes) -> bool:
    """Whether the begin of a line is enough to see that no command begins so."""
    reader = CommandReader()
    reader.feed(start)
    return reader.bad


def _may_wait(args: Args) -> bool:
    asked = ask(args)
    return asked is not None and bool(asked["may_block"])
