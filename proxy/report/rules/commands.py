"""Rules about commands that a target does not run whatever their keys: missing, restricted, unverified.

Knows: that a target names them (``Target.refusals``). Refuses to know: which they are.
"""

from __future__ import annotations

from proxy.capture.predicate import OneOf
from proxy.report.rules.rule import NOT_REFUSED, QUEUED, Change, Row, Rule, Severity, in_transaction
from proxy.report.targets import CommandKind, Target


class RefusedCommand(Rule):
    """Base: the commands of one kind, with the target's own text."""

    kind: CommandKind

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.predicate = NOT_REFUSED & OneOf("command", target.names(self.kind))

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return bool(target.names(cls.kind))

    def error(self, row: Row) -> str:
        name = row["command"].decode(errors="replace")
        text = self.words(name).replace("{command}", name)
        if not in_transaction(row) or name == "EXEC" or self.target.lacks("EXEC"):
            return text
        aborts = self.target.transactions.spoiled == "aborts"
        return f"{text}; EXEC then {'answers EXECABORT' if aborts else 'runs the rest of the transaction'}"

    def words(self, name: str) -> str:
        """The target's error for a command of that name."""
        return self.target.refusals[name].error


class MissingCommand(RefusedCommand):
    """
    A command that the target does not have: newer than its version, left out by the offering, or not understood by a
    proxy.

    **Error:** the target's: `ERR unknown command …` from a server, `NOPERM …` from some offerings; twemproxy closes
    the connection. Inside MULTI it comes when the command is queued, and EXEC answers EXECABORT (Envoy's EXEC runs the
    rest).

    **Instead:** what the finding says; where nothing can be sent instead, another target.
    """

    id = "missing-command"
    severity = Severity.ERROR
    title = "the target lacks the command"
    kind = CommandKind.MISSING

    def change_of(self, row: Row) -> tuple[Change, str]:
        instead = self.target.refusals[row["command"].decode(errors="replace")].instead
        return (Change.APPLICATION, instead) if instead else (Change.NOBODY, "nothing can be sent instead")


class ForbiddenCommand(RefusedCommand):
    """
    An administrator's command that the target refuses: REPLICAOF on a cluster, CONFIG or DEBUG on an offering that is
    run by somebody else. An application rarely sends it.

    **Error:** the target's, for example `ERR REPLICAOF not allowed in cluster mode.`

    **Instead:** the offering's own interface. An application has no business with any of them.
    """

    id = "forbidden-command"
    severity = Severity.RESTRICTED
    title = "an administrator's command that the target refuses"
    kind = CommandKind.RESTRICTED
    remedy = "the offering's own interface"


class UnverifiedCommand(RefusedCommand):
    """
    A command of which nobody has verified that the target serves it. That is not a refusal, and it is not green.

    **Error:** unknown.

    **Instead:** try it on the target, or ask the vendor.
    """

    id = "unverified-command"
    severity = Severity.UNKNOWN
    title = "nobody has verified that the target serves the command"
    kind = CommandKind.UNVERIFIED
    remedy = "try it on the target"

    def error(self, row: Row) -> str:
        return f"unknown: {self.target.refusals[row['command'].decode(errors='replace')].source}"


class TxnCommand(RefusedCommand):
    """
    A command that the target serves, but not inside MULTI. Envoy refuses EXISTS and EVAL there, and runs the rest.

    **Error:** `'EXISTS' command is not supported within transaction`, when it is queued. EXEC then runs the other
    commands as if nothing had happened.

    **Instead:** send it before MULTI or behind EXEC.
    """

    id = "txn-command"
    severity = Severity.ERROR
    title = "a command that the target refuses inside MULTI"
    remedy = "send it outside the transaction"

    def __init__(self, target: Target) -> None:
        Rule.__init__(self, target)
        refused = [name.encode() for name in target.transactions.refuses]
        self.predicate = NOT_REFUSED & QUEUED & OneOf("command", refused)

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return bool(target.transactions.refuses)

    def words(self, name: str) -> str:
        return self.target.transactions.refuses_error
