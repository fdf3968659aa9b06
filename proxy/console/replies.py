"""What the console says, as bytes of RESP2 or RESP3.

Knows: how each kind of reply is written. Refuses to know: what is said. Commands are read by ``protocol.resp``.

An answer is an array of simple strings under RESP2, which redis-cli prints as lines, without quotes; under RESP3 one
verbatim string of lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"


class Status(str):
    """Text that is said as a simple string."""


Reply = str | int | None | Sequence["Reply"] | Mapping[str, "Reply"]


def simple(line: str) -> bytes:
    return b"+%b\r\n" % _one_line(line)


def error(line: str, code: str = "ERR") -> bytes:
    return b"-%b %b\r\n" % (code.encode(), _one_line(line))


def bulk(text: str) -> bytes:
    data = text.encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


def lines(said: Sequence[str], resp3: bool) -> bytes:
    """An answer of several lines."""
    if resp3:
        data = "\n".join(said).encode()
        return b"=%d\r\ntxt:%b\r\n" % (len(data) + 4, data)
    return b"*%d\r\n" % len(said) + b"".join(map(simple, said))


def push(kind: str, line: str) -> bytes:
    """Out of band, RESP3 only."""
    return b">2\r\n" + bulk(kind) + bulk(line)


def value(given: Reply, resp3: bool) -> bytes:
    """Text, numbers, arrays and maps as they are; under RESP2 a map is a flat array."""
    if given is None:
        return b"_\r\n" if resp3 else b"$-1\r\n"
    if isinstance(given, str):
        return simple(given) if isinstance(given, Status) else bulk(given)
    if isinstance(given, int):
        return b":%d\r\n" % given
    if isinstance(given, Mapping):
        head = b"%%%d\r\n" % len(given) if resp3 else b"*%d\r\n" % (2 * len(given))
        return head + b"".join(bulk(key) + value(each, resp3) for key, each in given.items())
    return b"*%d\r\n" % len(given) + b"".join(value(each, resp3) for each in given)


def _one_line(line: str) -> bytes:
    return line.replace("\r", " ").replace("\n", " ").encode()
