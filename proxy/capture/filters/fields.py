"""The table of what a filter expression can ask of a row; docs/filters.md shows it.

Knows: every field, the columns behind it, its words. Refuses to know: how an expression is parsed (``expression``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from proxy.capture.filters import values
from proxy.capture.filters.answer import Answer
from proxy.capture.filters.values import INT32, Number, Pattern, Reader, duration_ns, size_bytes, unless_unknown, whole
from proxy.capture.format import SLOT_CROSS, SLOT_NONE, SLOT_UNKNOWN, Flag, ReplyKind, UnknownWhy
from proxy.capture.glob import Glob, Matches
from proxy.capture.predicate import Above, Below, Equal, Has, OneOf, Predicate

MATCH = (":", "=", "!=")
ORDER = (*MATCH, "<", "<=", ">", ">=")


@dataclass(frozen=True)
class Field:
    """``words``: values with a meaning of their own, unless they are quoted. ``read``: all other values, if any."""

    values: str
    meaning: str
    example: str
    operators: tuple[str, ...] = MATCH
    words: Mapping[str, Predicate | Answer] = field(default_factory=dict)
    read: Reader | None = None


def _text(column: str) -> dict[str, Predicate]:
    """Words for a binary column in which empty means absent."""
    return {"any": ~OneOf(column, [b""]), "none": OneOf(column, [b""])}


def _number(column: str) -> dict[str, Predicate]:
    """Words for an integer column in which 0 means absent."""
    return {"any": Above(column, 0), "none": Equal(column, 0)}


_GROUPS: dict[str, Predicate] = {
    "@write": Has("flags", Flag.WRITE),
    "@pop": Has("flags", Flag.POP),
    "@script": Has("flags", Flag.SCRIPT),
    "@blocking": Has("flags", Flag.BLOCKING),
}
_SERVED = Has("flags", Flag.SERVED)
_SLOTS: dict[str, Predicate | Answer] = {
    "any": unless_unknown(Above("slot", SLOT_NONE)),
    "none": unless_unknown(Equal("slot", SLOT_NONE)),
    "cross": unless_unknown(Equal("slot", SLOT_CROSS)),
    "unknown": Equal("slot", SLOT_UNKNOWN),
}
_REASONS: dict[str, Predicate] = {
    why.name.lower(): Equal("unknown", why) for why in UnknownWhy if why is not UnknownWhy.NOTHING
}
_HAS_KEYS = unless_unknown(Above("nkeys", 0))
_NUMBER = "number"
_PATTERN = "pattern"


def _command(operator: str, text: str) -> Answer:
    if text.startswith("@"):
        raise ValueError(f"is no group of commands; there is: {', '.join(_GROUPS)}")
    return Pattern("command", bytes.upper)(operator, text)


def _served(_: str, text: str) -> Answer:
    return Answer.sure(_SERVED & Matches("served_key", Glob.of(text)))


@cache
def fields() -> Mapping[str, Field]:
    """Every field by its name, in the order of the page."""
    return {**_WHAT, **_WHO, **_WHERE_AND_WHEN, **_HOW_IT_WENT, **_WHAT_IS_MISSING}


_WHAT: dict[str, Field] = {
    "cmd": Field(
        f"{_PATTERN}, `@write`, `@pop`, `@script`, `@blocking`",
        "the command in any case, with its subcommand; or a group: it writes (unknown commands count as writes), takes "
        "an element, runs a script, may block",
        'cmd:"CLIENT *" or cmd:@blocking',
        words=_GROUPS,
        read=_command,
    ),
    "key": Field(
        f"{_PATTERN}, `any`, `none`",
        "any of the command's keys",
        "key:queue:*",
        words={"any": _HAS_KEYS, "none": ~_HAS_KEYS},
        read=values.any_key,
    ),
    "served": Field(
        f"{_PATTERN}, `any`, `none`",
        "the key that a pop was served from",
        "served:queue:low",
        words={"any": _SERVED, "none": ~_SERVED},
        read=_served,
    ),
    "script": Field(
        "first digits of a SHA-1, `any`, `none`",
        "the script of EVAL, EVALSHA, SCRIPT LOAD",
        "script:a3f5",
        words=_text("script"),
        read=values.script,
    ),
    "flag": Field(
        "a flag",
        "a flag of the row, named as `capture cat` prints it ([capture-format.md](capture-format.md))",
        "flag:txn_cross",
        words={str(flag.name).lower(): Has("flags", flag) for flag in Flag},
    ),
    "txn": Field(
        f"{_NUMBER}, `any`, `none`",
        "the number of the transaction on its connection",
        "txn:any",
        ORDER,
        words=_number("txn"),
        read=Number("txn", whole, least=1),
    ),
}

_WHO: dict[str, Field] = {
    "client": Field(
        f"{_PATTERN}, `any`, `none`",
        "the client's name (CLIENT SETNAME)",
        'client:"Sidekiq-server*"',
        words=_text("client_name"),
        read=Pattern("client_name"),
    ),
    "addr": Field(_PATTERN, "the client's address, with its port or without", "addr:10.0.0.*", read=values.address),
    "conn": Field(_NUMBER, "the client connection, within its run", "conn:12", ORDER, read=Number("conn", whole)),
    "seq": Field(
        _NUMBER, "the client's n-th command on that connection, from 0", "seq<100", ORDER, read=Number("seq", whole)
    ),
    "run": Field(_PATTERN, "the run of shunt that recorded it", "run:20261123T*", read=Pattern("run")),
    "worker": Field(
        _NUMBER, "the worker that recorded it", "worker:0", ORDER, read=Number("worker", whole, most=INT32)
    ),
}

_WHERE_AND_WHEN: dict[str, Field] = {
    "db": Field(_NUMBER, "the database that it ran in", "db>0", ORDER, read=Number("db", whole, most=INT32)),
    "slot": Field(
        f"{_NUMBER}, `any`, `none`, `cross`, `unknown`",
        "the hash slot of its keys; it has no key; they lie in several slots; they can't be told",
        "slot:cross",
        ORDER,
        words=_SLOTS,
        read=values.slot,
    ),
    "backend": Field(_PATTERN, "the backend that answered", "backend:*:6379", read=Pattern("backend_name")),
    "epoch": Field(_NUMBER, "the epoch of the route", "epoch>=2", ORDER, read=Number("epoch", whole)),
    "time": Field(
        "a time in UTC",
        "when the command arrived: a day, hour, minute, second; without a date, of each day",
        "time>=2026-11-23T04:00 and time<2026-11-23T06 or time:04:15",
        ORDER,
        read=values.time,
    ),
}

_HOW_IT_WENT: dict[str, Field] = {
    "latency": Field(
        "duration, `none`",
        "from the command's last byte to its reply's last byte; without a reply it is `none`, and in no order",
        "latency>10ms",
        ORDER,
        words={"none": Below("latency_ns", 0)},
        read=Number("latency_ns", duration_ns),
    ),
    "held": Field("duration", "of that, held back by shunt", "held>0", ORDER, read=Number("held_ns", duration_ns)),
    "request": Field("size", "the command's bytes", "request>=64KiB", ORDER, read=Number("request_bytes", size_bytes)),
    "reply": Field("size", "the reply's bytes", "reply>1MB", ORDER, read=Number("reply_bytes", size_bytes)),
    "kind": Field(
        "a kind of reply",
        f"`{'`, `'.join(kind.name.lower() for kind in ReplyKind)}`",
        "kind:null",
        words={kind.name.lower(): Equal("reply", kind) for kind in ReplyKind},
    ),
    "error": Field(
        f"{_PATTERN}, `any`, `none`",
        "the first word of an error reply",
        "error:WRONGTYPE",
        words=_text("error"),
        read=Pattern("error"),
    ),
}

_WHAT_IS_MISSING: dict[str, Field] = {
    "unknown": Field(
        f"`any`, `none`, `{'`, `'.join(_REASONS)}`",
        "why the command's keys can't be told",
        "unknown:any",
        words={**_number("unknown"), **_REASONS},
    ),
    "gap": Field(
        f"{_PATTERN}, `any`, `none`",
        "not an exchange but a gap, with its reason; an expression without this field lets every gap pass",
        "gap:any",
        words=_text("gap"),
        read=Pattern("gap"),
    ),
}
