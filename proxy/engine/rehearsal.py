"""What a target refuses, and when: the decisions of ``--rehearse``, one command at a time.

Knows: the kinds of refusal that there are, Redis' order of checks, and how a transaction is spoiled. Refuses to know:
bytes on their way and connections (``rehearsed``), and what any particular target refuses (``targets``).

A command that the source refuses itself (not in the command table, wrong number of arguments) is never refused here:
Redis looks at that first. ``decide`` takes the transaction as it stands and returns it as it stands afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from protocol.commands import CommandSpec
from protocol.slots import slot

#: Numbered databases of a Redis that is not told otherwise: beyond them its own error comes first.
USUAL_DATABASES = 16
OUT_OF_RANGE = "ERR DB index is out of range"
#: Commands whose arguments decide, beside their keys.
READS_ARGUMENTS = frozenset({"SELECT", "COPY", "SORT", "SORT_RO"})
#: Commands that open or end a transaction: BOUNDARY in the table of suspects. SUSPECT: may be refused.
BOUNDARIES = frozenset({"MULTI", "EXEC", "DISCARD", "RESET"})
SUSPECT, BOUNDARY = 1, 2
#: Inside MULTI these run at once: their keys are none of the transaction's.
_AT_ONCE = frozenset({"WATCH", "QUIT"})
_INTEGER = re.compile(rb"-?[1-9][0-9]{0,9}|0")


class TransactionCheck(Enum):
    """When a target notices that the commands of a transaction lie in several slots."""

    NEVER = "never"
    AT_QUEUE = "at queue"
    AT_EXEC = "at exec"


@dataclass(frozen=True, slots=True)
class Refusals:
    """What one target refuses. Error texts without the leading ``-``; ``""``: the target does not refuse that.

    ``in_transaction`` may name ``{command}``, ``{first_key}``, ``{first_slot}``, ``{key}`` and ``{slot}``.
    """

    slot: Callable[[bytes], int] = slot
    cross_slot: str = ""  # one command, several slots; inside MULTI it is seen when the command is queued
    may_cross: frozenset[str] = frozenset()  # commands that may, outside MULTI
    transaction: TransactionCheck = TransactionCheck.NEVER
    in_transaction: str = ""  # with AT_QUEUE: to the command that leaves the transaction's slot
    exec_abort: str = "EXECABORT Transaction discarded because of previous errors."
    databases: int = USUAL_DATABASES  # SELECT and COPY … DB may name those below
    select: str = ""
    copy: str = ""
    sort_by: str = ""
    sort_get: str = ""
    at_once: Mapping[str, str] = field(default_factory=dict)  # command -> error, inside MULTI when it is queued
    when_run: Mapping[str, str] = field(default_factory=dict)  # command -> error, inside MULTI in EXEC's reply


class Asked(NamedTuple):
    """One command, as a target looks at it. ``keys``: those that can be told; ``args``: where READS_ARGUMENTS."""

    name: str  # "" if it is not in the command table
    keys: Sequence[bytes] = ()
    args: Sequence[bytes] = ()
    fits: bool = True  # whether the number of arguments is right
    whole: bool = True  # whether all of it has arrived


class Txn(NamedTuple):
    """An open transaction, as the commands say. Positions count its commands from 0; -1: there is none."""

    commands: int = 0
    first_key: bytes = b""
    slot: int = -1
    crossed_at: int = -1  # from this command on its keys lie in several slots
    spoiled: bool = False  # a command was refused when queued: what follows is not kept
    by_target: bool = False  # … and not by the source
    later: int = 0  # commands whose error stands in EXEC's reply


class Way(Enum):
    """What becomes of a command that does not simply go on."""

    ANSWER = "answer"  # its reply is an error
    LATER = "later"  # it is queued, and its error stands in EXEC's reply
    END = "end"  # EXEC: the transaction is discarded, and the reply is an error
    RUN = "run"  # EXEC: it runs, and errors are put into its reply


class Decision(NamedTuple):
    """``otherwise``: END's error if the source refused a command of the transaction before number ``crossed_at``."""

    way: Way
    error: str = ""
    otherwise: str = ""
    crossed_at: int = -1

    def reply(self, refused_at: int = -1) -> bytes:
        """The error as a frame. ``refused_at``: the first command of the transaction that the source refused."""
        return _frame(self.otherwise if 0 <= refused_at < self.crossed_at else self.error)


@dataclass(frozen=True, slots=True)
class Rehearsing:
    """``percent``: share of connections that rehearse; ``suspects``: by command id, SUSPECT, BOUNDARY or 0."""

    rules: Refusals
    percent: int
    suspects: bytes

    def chooses(self, conn: int) -> bool:
        """Whether client connection number ``conn`` (from 1) rehearses: spread evenly, always the same ones."""
        return conn * self.percent // 100 != (conn - 1) * self.percent // 100


def suspects(rules: Refusals, commands: Iterable[CommandSpec]) -> bytes:
    """For each command, in this order: whether ``decide`` may have something to say of it outside a transaction."""
    named = {*rules.at_once, *rules.when_run, *READS_ARGUMENTS}
    return bytes(
        BOUNDARY if command.name in BOUNDARIES
        else SUSPECT if command.name in named or (rules.cross_slot and _may_name_several(command))
        else 0
        for command in commands
    )  # fmt: skip


def _may_name_several(command: CommandSpec) -> bool:
    """Whether the command may name more than one key (or shard channel)."""
    specs = command.key_specs
    return len(specs) > 1 or any((spec.begin, spec.find, spec.last) != ("index", "range", 0) for spec in specs)


def decide(rules: Refusals, txn: Txn | None, asked: Asked) -> tuple[Txn | None, Decision | None]:
    """What becomes of one command: the transaction afterwards (None: none is open), and None if the command goes on.

    Of a command that is not ``whole`` only what is certain already is decided.
    """
    if asked.name in BOUNDARIES:
        return _boundary(rules, txn, asked)
    decision = _refusal(rules, txn, asked) if asked.name and asked.fits else None
    return (None if txn is None else _queued(rules, txn, asked, decision)), decision


def _boundary(rules: Refusals, txn: Txn | None, asked: Asked) -> tuple[Txn | None, Decision | None]:
    if txn is None:
        return (Txn() if asked.name == "MULTI" and asked.fits else None), None
    if asked.name == "EXEC":
        return None, _exec(rules, txn) if asked.fits else None
    if asked.name == "MULTI" or not asked.fits:
        return txn._replace(commands=txn.commands + 1, spoiled=txn.spoiled or not asked.fits), None
    return None, None


def _exec(rules: Refusals, txn: Txn) -> Decision | None:
    if txn.crossed_at >= 0:
        return Decision(Way.END, rules.cross_slot, rules.exec_abort, txn.crossed_at)
    if txn.by_target:
        return Decision(Way.END, rules.exec_abort)
    return Decision(Way.RUN, rules.exec_abort) if txn.later and not txn.spoiled else None


def _queued(rules: Refusals, txn: Txn, asked: Asked, decision: Decision | None) -> Txn:
    """The transaction behind a command that does not end it."""
    after = txn._replace(commands=txn.commands + 1)
    if decision is not None and decision.way is Way.ANSWER:
        return after._replace(spoiled=True, by_target=True)
    if not asked.fits:
        return after._replace(spoiled=True)
    if txn.spoiled or asked.name in _AT_ONCE:
        return after
    if decision is not None:
        after = after._replace(later=txn.later + 1)
    if not asked.keys:
        return after
    slot = rules.slot(asked.keys[0])
    if txn.slot < 0:
        return after._replace(slot=slot, first_key=asked.keys[0])
    if slot != txn.slot and txn.crossed_at < 0 and rules.transaction is TransactionCheck.AT_EXEC:
        return after._replace(crossed_at=txn.commands)
    return after


# ---- what is refused ------------------------------------------------------------------------------------------------


def _refusal(rules: Refusals, txn: Txn | None, asked: Asked) -> Decision | None:
    """In the order of Redis: the command itself, its keys, and what the command finds out when it runs."""
    error = rules.at_once.get(asked.name) or _slots(rules, txn, asked)
    if error:
        return Decision(Way.ANSWER, error)
    if not asked.whole:
        return None
    check = _CHECKS.get(asked.name)
    error = rules.when_run.get(asked.name) or (check(rules, asked.args) if check else "")
    if error:
        return Decision(Way.ANSWER if txn is None else Way.LATER, error)
    return None


def _slots(rules: Refusals, txn: Txn | None, asked: Asked) -> str:
    if not rules.cross_slot:
        return ""
    at_queue = txn is not None and rules.transaction is TransactionCheck.AT_QUEUE
    first, first_slot = (txn.first_key, txn.slot) if at_queue and txn is not None else (b"", -1)
    for key in asked.keys:
        slot = rules.slot(key)
        if first_slot < 0:
            first, first_slot = key, slot
        elif slot != first_slot:
            if at_queue:
                return _in_transaction(rules, asked.name, (first, first_slot), (key, slot))
            return "" if txn is None and asked.name in rules.may_cross else rules.cross_slot
    return ""


def _in_transaction(rules: Refusals, command: str, first: tuple[bytes, int], wrong: tuple[bytes, int]) -> str:
    return rules.in_transaction.format(
        command=command, first_key=first[0].decode("latin-1"), first_slot=first[1],
        key=wrong[0].decode("latin-1"), slot=wrong[1],
    )  # fmt: skip


def _number(text: bytes) -> int | None:
    """An int as Redis reads one."""
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if -(1 << 31) <= value < 1 << 31 else None


def _select(rules: Refusals, args: Sequence[bytes]) -> str:
    number = _number(args[1])
    return "" if number is None or 0 <= number < rules.databases else rules.select


def _copy(rules: Refusals, args: Sequence[bytes]) -> str:
    """COPY source destination [DB n] [REPLACE]: an option that Redis does not understand is the source's to refuse."""
    number = i = 0
    options = [arg.upper() for arg in args[3:]]
    while i < len(options):
        if options[i] == b"DB" and i + 1 < len(options):
            named = _number(options[i + 1])
            if named is None:
                return ""
            if not 0 <= named < USUAL_DATABASES:
                return OUT_OF_RANGE if rules.copy else ""
            number = named
            i += 1
        elif options[i] != b"REPLACE":
            return ""
        i += 1
    return rules.copy if number >= rules.databases else ""


def _sort(rules: Refusals, args: Sequence[bytes]) -> str:
    """SORT key [BY p] [LIMIT o n] [GET p …] [STORE dest] …: the first option that the target refuses."""
    i = 2
    while i < len(args):
        word, left = args[i].upper(), len(args) - i - 1
        if word == b"LIMIT" and left >= 2:
            if _number(args[i + 1]) is None or _number(args[i + 2]) is None:
                return ""
            i += 2
        elif word == b"STORE" and left and args[0].upper() == b"SORT":
            i += 1
        elif word == b"BY" and left:
            if b"*" in args[i + 1] and rules.sort_by:
                return rules.sort_by
            i += 1
        elif word == b"GET" and left:
            if rules.sort_get:
                return rules.sort_get
            i += 1
        elif word not in (b"ASC", b"DESC", b"ALPHA"):
            return ""
        i += 1
    return ""


_CHECKS: dict[str, Callable[[Refusals, Sequence[bytes]], str]] = {
    "SELECT": _select,
    "COPY": _copy,
    "SORT": _sort,
    "SORT_RO": _sort,
}


def _frame(error: str) -> bytes:
    """An error reply. What would end its line is a space, as in Redis' own errors."""
    return b"-%b\r\n" % error.encode("latin-1", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
