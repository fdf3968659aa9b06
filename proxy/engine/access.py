"""Who may speak, when credentials stand in one of the URLs: answers to AUTH and HELLO … AUTH in Redis' words.

Knows: the listener's credentials and what a new backend connection must be told first (the *prelude*). Refuses to
know: sockets, and everything that is not about credentials. Without credentials in any URL none of this is used,
and AUTH is Redis' own business.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

OK = b"+OK\r\n"
#: A command that is none. Redis ends CLIENT REPLY SKIP with it as with any other, and does not answer it.
EMPTY = b"*0\r\n"
NOAUTH = b"-NOAUTH Authentication required.\r\n"
WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
SYNTAX = b"-ERR syntax error\r\n"
AUTH_ARITY = b"-ERR wrong number of arguments for 'auth' command\r\n"
NO_PASSWORD = (
    b"-ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?\r\n"
)
HELLO_NOAUTH = (
    b"-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> "
    b"<pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n"
)
#: What an unauthenticated client may send at most, as in Redis: arguments, and bytes of one argument.
UNAUTHENTICATED_ARGS = 10
UNAUTHENTICATED_BULK = 16384


@dataclass(frozen=True, slots=True)
class HelloAnswer:
    """What becomes of a HELLO: ``reply`` (shunt answers) or ``forward`` (bytes for the backend)."""

    reply: bytes | None = None
    forward: bytes | None = None
    authenticated: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """The credentials of both sides. ``user`` None means the default user; ``password`` None: the listener is open.

    ``answers``: whether shunt answers AUTH, that is, whether one of the URLs has credentials. ``db``: the database that
    a new backend connection is in after the prelude.
    """

    user: bytes | None = None
    password: bytes | None = None
    prelude: tuple[tuple[bytes, ...], ...] = ()
    answers: bool = True
    db: int = 0

    @property
    def protected(self) -> bool:
        """Whether a client must authenticate to shunt."""
        return self.password is not None

    def __repr__(self) -> str:
        return f"Access(protected={self.protected}, prelude={len(self.prelude)} commands)"

    def auth(self, args: Sequence[bytes]) -> tuple[bytes, bool]:
        """The reply to AUTH with these arguments (name first), and whether the client is now authenticated."""
        if len(args) not in (2, 3):
            return (AUTH_ARITY if len(args) < 2 else SYNTAX), False
        if len(args) == 2 and not self.protected:
            return NO_PASSWORD, False
        user = args[1] if len(args) == 3 else b"default"
        return (OK, True) if self._matches(user, args[-1]) else (WRONGPASS, False)

    def hello(self, args: Sequence[bytes], authenticated: bool) -> HelloAnswer:
        """What becomes of HELLO with these arguments (name first) from a client in that state."""
        kept, credentials = _without_auth(args)
        forward = encode(kept)
        if len(args) > 1 and args[1] not in (b"2", b"3"):
            return HelloAnswer(forward=forward, authenticated=authenticated)  # Redis refuses the version first
        if credentials is not None:
            if not self._matches(*credentials):
                return HelloAnswer(reply=WRONGPASS, authenticated=authenticated)
            return HelloAnswer(forward=forward, authenticated=True)
        if not authenticated:
            return HelloAnswer(reply=HELLO_NOAUTH)
        return HelloAnswer(forward=forward, authenticated=True)

    def _matches(self, user: bytes, password: bytes) -> bool:
        if not hmac.compare_digest(user, self.user or b"default"):
            return False
        return self.password is None or hmac.compare_digest(password, self.password)


def _without_auth(args: Sequence[bytes]) -> tuple[list[bytes], tuple[bytes, bytes] | None]:
    kept = list(args[:2])
    credentials = None
    i = 2
    while i < len(args):
        word = args[i].upper()
        if word == b"AUTH" and i + 2 < len(args):
            credentials = (args[i + 1], args[i + 2])
            i += 3
        elif word == b"SETNAME" and i + 1 < len(args):
            kept += args[i : i + 2]
            i += 2
        else:
            kept.append(args[i])
            i += 1
    return kept, credentials


def without_auth(args: Sequence[bytes]) -> bytes:
    """HELLO as the backend may see it: without its AUTH part."""
    return encode(_without_auth(args)[0])


def encode(args: Sequence[bytes]) -> bytes:
    """A command as a RESP array."""
    parts = [b"*%d\r\n" % len(args)]
    parts += [b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args]
    return b"".join(parts)
