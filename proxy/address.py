"""Where a Redis, or a listener, is: an address as people write it in a URL.

Knows: the three URL schemes, their parts, and how to show an address without its password. Refuses to know: names
and sockets (``net`` resolves and connects), and which option an address came from (``config``).

    redis://[user:password@]host[:port][/db]      rediss://… is the same under TLS
    unix://[user:password@]/path[?db=n]
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Literal, cast
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from pydantic import SecretStr

Scheme = Literal["redis", "rediss", "unix"]

DEFAULT_PORT = 6379
#: More databases than any Redis is configured with; a bound so that a number from a URL stays a number.
MAX_DB = 1_000_000

_URL_SHAPES = "write redis://host:port, rediss://host:port or unix:///path"


class AddressError(ValueError):
    """A URL that is no address: one line, never with the URL itself, which may hold a password."""


@dataclass(frozen=True, slots=True)
class Address:
    """One end of a connection. ``host`` and ``port`` for redis and rediss, ``path`` for unix.

    ``port`` 0 is for listeners: the system chooses one. ``password`` is None without credentials; ``user`` is None for
    Redis's default user. ``db`` is None when the URL names none.
    """

    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""
    user: str | None = None
    password: SecretStr | None = None
    db: int | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """The address that ``url`` names. Raises AddressError."""
        try:
            parts = urlsplit(url.strip())
        except ValueError:  # its text repeats the URL, which may hold a password
            raise AddressError(f"not a URL; {_URL_SHAPES}") from None
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise AddressError(f"not a redis URL; {_URL_SHAPES}")
        if parts.fragment or "#" in url:
            raise AddressError("a '#' ends a URL; in a password write %23")
        user, password = _credentials(parts)
        if parts.scheme == "unix":
            return cls("unix", path=_socket_path(parts), user=user, password=password, db=_query_db(parts))
        if parts.query or "?" in url:
            raise AddressError("nothing may follow a '?'; in a password write %3F")
        host, port = _host_port(parts)
        return cls(cast(Scheme, parts.scheme), host, port, "", user, password, _path_db(parts))

    @property
    def label(self) -> str:
        """Short and without credentials: "127.0.0.1:6379", "[::1]:6379", "unix:/run/redis.sock"."""
        if self.scheme == "unix":
            return f"unix:{self.path}"
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def tls(self) -> bool:
        return self.scheme == "rediss"

    @property
    def has_credentials(self) -> bool:
        return self.password is not None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it: a unix socket, a loopback address or ``localhost``."""
        return self.scheme == "unix" or is_loopback(self.host)

    @property
    def bare(self) -> str:
        """The URL without credentials."""
        return str(replace(self, user=None, password=None))

    def __str__(self) -> str:
        who = "" if self.password is None else f"{quote(self.user or '', safe='')}:***@"
        if self.scheme == "unix":
            return f"unix://{who}{self.path}" + ("" if self.db is None else f"?db={self.db}")
        db = "" if self.db is None else f"/{self.db}"
        return f"{self.scheme}://{who}{_bracketed(self.host)}:{self.port}{db}"


@dataclass(frozen=True, slots=True)
class Named:
    """A Redis with a name of its own: ``NAME=URL``."""

    name: str
    address: Address

    @classmethod
    def parse(cls, text: str) -> Named:
        """Raises AddressError."""
        name, equals, url = text.strip().partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,39}", name):
            raise AddressError("not NAME=URL; write for example new=redis://host:port")
        return cls(name, Address.parse(url))

    def __str__(self) -> str:
        return f"{self.name}={self.address}"


@dataclass(frozen=True, slots=True)
class HostPort:
    """Where an HTTP server listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """``HOST:PORT`` or ``[IPv6]:PORT``. Raises AddressError."""
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@\s]+)):([0-9]{1,5})", text.strip())
        if found is None or int(found[3]) > 65535:
            raise AddressError("not HOST:PORT; write for example 127.0.0.1:9380 or [::1]:9380")
        return cls(found[1] or found[2], int(found[3]))

    def __str__(self) -> str:
        return f"{_bracketed(self.host)}:{self.port}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` is ``localhost`` or an address of the loopback interface; other names are not looked up."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _credentials(parts: SplitResult) -> tuple[str | None, SecretStr | None]:
    who, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None, None
    user, colon, password = who.partition(":")
    if not colon:
        raise AddressError("a user without a password; write user:password@ or :password@ before the host")
    if not user and not password:
        return None, None
    return unquote(user) or None, SecretStr(unquote(password))


def _host_port(parts: SplitResult) -> tuple[str, int]:
    place = parts.netloc.rpartition("@")[2]
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:\s]+))(?::([0-9]{1,5}))?", place)
    if found is None or int(found[3] or 0) > 65535:
        raise AddressError(
            "its host and port can't be read; write host:port, and in a password %2F for '/', %40 for '@'"
        )
    return found[1] or found[2], DEFAULT_PORT if found[3] is None else int(found[3])


def _socket_path(parts: SplitResult) -> str:
    path = unquote(parts.path)
    if parts.netloc.rpartition("@")[2] or not path.startswith("/") or path.endswith("/"):
        raise AddressError("a unix socket needs an absolute path; write unix:///run/redis.sock")
    return path


def _path_db(parts: SplitResult) -> int | None:
    return _db(parts.path[1:]) if parts.path not in ("", "/") else None


def _query_db(parts: SplitResult) -> int | None:
    if not parts.query:
        return None
    fields = parse_qs(parts.query, keep_blank_values=True)
    if list(fields) != ["db"] or len(fields["db"]) != 1:
        raise AddressError("only ?db=n may follow a unix socket's path")
    return _db(fields["db"][0])


def _db(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) > MAX_DB:
        raise AddressError("its database is no number; write /0 to /15, and in a password %2F for '/'")
    return int(text)
