"""Which captured commands are sent, and why the others are not.

Knows: the reasons, and the tables behind them. Refuses to know: transactions as a whole (``planner``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from protocol.commands import CommandSpec, Kind, Replies, Trait, table
from proxy.capture.format import Flag


class Reason(StrEnum):
    """Why a captured command is not sent; the value is what the summary says."""

    NO_ARGUMENTS = "its arguments were not recorded"
    CUT = "its arguments were cut when it was recorded"
    SECRET = "it carries a secret, which is never recorded"
    BY_SHUNT = "shunt answered it, the source never saw it"
    FOLLOWED = "followed, not sent: the replay's own connections do it (SELECT, HELLO, RESET, QUIT)"
    CREDENTIALS = "credentials are the target's own, from its URL"
    REPLIES = "its replies can't be counted (subscriptions, MONITOR, replication)"
    REPLY_MODE = "it changes how and whether replies come"
    SERVER = "it acts on the server, not on data"
    NOT_READONLY = "not flagged readonly; --allow-writes sends it"
    TORN = "its transaction is not whole in the capture"
    WITH_OTHERS = "another command of its transaction is not sent"


_FOLLOWED = {Kind.SELECT, Kind.HELLO, Kind.RESET, Kind.QUIT}
_REPLY_MODE = {Kind.CLIENT_REPLY, Kind.CLIENT_TRACKING, Kind.CLIENT_CACHING}
_UNCOUNTED = {Replies.PER_CHANNEL, Replies.STREAM, Replies.RAW, Replies.NONE}
#: MIGRATE would move keys from the target to where the capture says; SCRIPT DEBUG makes a connection a debugger.
_SERVER = {"MIGRATE", "SCRIPT DEBUG"}
#: What only frames a transaction changes nothing by itself.
FRAMES = {Kind.MULTI, Kind.EXEC, Kind.DISCARD, Kind.WATCH, Kind.UNWATCH}


def only_reads(spec: CommandSpec | None) -> bool:
    """Flagged readonly, and so by its keys too: PFCOUNT is flagged so, and writes what it counted into its key."""
    return (
        spec is not None
        and Trait.READONLY in spec.traits
        and Trait.WRITE not in spec.traits
        and not any("RW" in each.flags for each in spec.key_specs)
    )


_TABLE: tuple[tuple[Reason, Callable[[CommandSpec], bool]], ...] = (
    (Reason.FOLLOWED, lambda spec: spec.kind in _FOLLOWED),
    (Reason.CREDENTIALS, lambda spec: spec.kind == Kind.AUTH),
    (Reason.REPLIES, lambda spec: spec.replies in _UNCOUNTED),
    (Reason.REPLY_MODE, lambda spec: spec.kind in _REPLY_MODE),
    (Reason.SERVER, lambda spec: Trait.ADMIN in spec.traits or spec.name in _SERVER),
)
#: As plain numbers: an IntFlag's "&" costs a microsecond.
_REDACTED, _CUT, _ARGS = Flag.REDACTED.value, Flag.ARGS_CUT.value, Flag.ARGS.value


@dataclass(frozen=True, slots=True)
class Choice:
    """What holds for every command of one name. ``why_not``: it is never sent, or not without --allow-writes."""

    name: str
    kind: Kind
    why_not: Reason | None
    reads: bool
    writes_unseen: bool  # without a key it may write anything: FLUSHALL, a script that declares none


@cache
def choice(command: bytes, allow_writes: bool) -> Choice:
    """``command`` is a captured command's name, upper case. An unknown command counts as one that writes."""
    name = command.decode("utf-8", "backslashreplace")
    spec = table().commands.get(name)
    reads = only_reads(spec)
    if spec is None:
        return Choice(name, Kind.PLAIN, None if allow_writes else Reason.NOT_READONLY, False, True)
    why = next((reason for reason, holds in _TABLE if holds(spec)), None)
    if why is None and not allow_writes and not reads and spec.kind not in FRAMES:
        why = Reason.NOT_READONLY
    return Choice(name, spec.kind, why, reads, Trait.WRITE in spec.traits or spec.kind == Kind.SWAPDB)


def not_recorded(flags: int) -> Reason | None:
    """Why a row's arguments are not there to be sent."""
    if flags & _REDACTED:
        return Reason.SECRET
    if flags & _CUT:
        return Reason.CUT
    return None if flags & _ARGS else Reason.NO_ARGUMENTS
