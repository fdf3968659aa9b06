"""What a rule is: one small class that names a kind of row and says what would become of it on a target.

Knows: severities, moments, who can change what, and the columns that rules may look at. Refuses to know: how rows are
read (``report`` and ``report.live`` do that), and any target by name: what differs is in the ``Target`` that a rule is
made with. A rule's docstring is its documentation: what breaks, the exact error, when, and what to do instead;
``docs/rules.md`` is made of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from proxy.capture.format import Flag
from proxy.capture.predicate import Above, Has, OneOf, Predicate
from proxy.report.targets import Target

#: One row: column name to value. The columns are those of the capture and ``DERIVED``.
Row = Mapping[str, Any]

#: Columns that a report adds to the capture's; in live findings those that need the whole capture are always 0.
DERIVED = {
    "db_unseen": "1 on one command of a connection that works in a database above 0 and was never seen to SELECT it",
    "notifications": "1 where a subscription names a keyspace notification channel (needs full arguments)",
    "script_facts": "ScriptFact bits of the script body, where the capture has it",
    "watch_apart": "1 on an EXEC whose WATCH named a key in another slot than the transaction's",
}


class Severity(StrEnum):
    """How bad a finding is. ``ERROR`` and ``UNKNOWN`` keep a verdict from being "compatible", and what ``blocks``."""

    ERROR = "error"  # the application gets an error
    SILENT = "silent"  # no error, another answer
    LATENT = "latent"  # works by luck of the layout
    RESTRICTED = "restricted"  # an administrator's command that the target refuses
    UNKNOWN = "unknown"  # cannot be told from the capture


class When(StrEnum):
    """When the application would see it."""

    COMMAND = "at command"
    QUEUE = "at queue"
    EXEC = "at exec"


class Change(StrEnum):
    """Who can make a finding go away."""

    APPLICATION = "application"  # its keys, its commands, its configuration, a newer version of a library
    TARGET = "target"  # a setting of the target
    NOBODY = "nobody"


@dataclass(frozen=True)
class Finding:
    """What one rule says of one row. ``error``: what the application would see ("" if it would see none)."""

    rule: str
    severity: Severity
    error: str
    when: When


class Rule:
    """Base of the rules: constants, and pure functions of a row that most rules leave as they are.

    A rule is made for a target. Where targets differ, a rule sets ``severity``, ``predicate``, ``text``, ``blocks`` or
    ``change`` from the target's facts in ``__init__``.
    """

    id: ClassVar[str]
    severity: Severity
    title: ClassVar[str]
    predicate: Predicate
    text: str = ""
    #: Whether it keeps a target from being compatible: errors do, and no error where data would be missed.
    blocks: bool
    change: Change = Change.APPLICATION
    remedy: str = ""  # what to change, in a few words
    reads_gaps: ClassVar[bool] = False  # True: it looks at gap rows instead of exchanges
    follows: ClassVar[bool] = False  # True: goes away with another finding, and is no change of its own

    def __init__(self, target: Target) -> None:
        self.target = target
        self.blocks = self.severity is Severity.ERROR

    @classmethod
    def concerns(cls, target: Target) -> bool:
        """Whether the rule has anything to say of this target."""
        return True

    def error(self, row: Row) -> str:
        """What the application would see."""
        return self.text

    def when(self, row: Row) -> When:
        """The moment at which it would see that."""
        if row["command"] == b"EXEC":
            return When.EXEC
        return When.QUEUE if in_transaction(row) else When.COMMAND

    def change_of(self, row: Row) -> tuple[Change, str]:
        """Who can make this occurrence go away, and how."""
        return self.change, self.remedy

    def judge(self, row: Row) -> Finding | None:
        """The finding, or None where the rule has nothing to say."""
        if bool(row["gap"]) != self.reads_gaps or not self.predicate.matches(row):
            return None
        return Finding(self.id, self.severity, self.error(row), self.when(row))

    @classmethod
    def documentation(cls) -> str:
        return inspect.cleandoc(cls.__doc__ or "")


class ShardedRule(Rule):
    """Base of the rules that only matter where keys can be apart."""

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.sharded


def in_transaction(row: Row) -> bool:
    """Whether the row's command was sent between MULTI and EXEC."""
    return bool(row["flags"] & Flag.QUEUED) or row["txn"] > 0


# Parts of predicates. A command that the source refused for reasons that come before everything else would be
# refused by the target in the same words, and what shunt answered itself never reached a server. What it refused in
# rehearsal is judged all the same: the source would have taken it.
REHEARSED = Has("flags", Flag.REHEARSED)
REACHED = (REHEARSED | ~Has("flags", Flag.REPLIED_BY_PROXY)) & ~OneOf("error", [b"NOAUTH", b"NOPERM"])
#: "ERR" covers unknown commands, wrong arity and syntax: the source refused them too.
NOT_REFUSED = REACHED & (REHEARSED | ~OneOf("error", [b"ERR"]))
QUEUED = Has("flags", Flag.QUEUED) | Above("txn", 0)
EXEC = OneOf("command", [b"EXEC"])

EXECABORT = "EXECABORT Transaction discarded because of previous errors."
