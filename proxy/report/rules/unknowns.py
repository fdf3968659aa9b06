"""Rules about what the capture cannot tell: counted, named with the reason, and never green."""

from __future__ import annotations

from proxy.capture.format import SLOT_CROSS, SLOT_UNKNOWN, UNKNOWN_TEXT, Flag, UnknownWhy
from proxy.capture.predicate import Above, Equal, Has, OneOf
from proxy.report.printable import printable
from proxy.report.rules.rule import EXEC, NOT_REFUSED, REACHED, Row, Rule, Severity, ShardedRule
from proxy.report.targets import Target


class KeysUnknown(Rule):
    """
    The keys of a command could not be told, so neither could its slots. The reason is given: a module's command that
    the command table lacks, a server that does not say where the keys are, arguments that do not fit. A command that
    the source itself refused with ERR (unknown command, wrong number of arguments) is not counted: the target would
    refuse it in the same words.

    **Error:** unknown.

    **Instead:** look at the examples. If the command is a module's, regenerate the command table from a server that
    has the module (`shunt commands`) and record again.
    """

    id = "keys-unknown"
    severity = Severity.UNKNOWN
    title = "a command's keys cannot be told"
    predicate = NOT_REFUSED & ~EXEC & ~Equal("slot", SLOT_CROSS) & (Equal("slot", SLOT_UNKNOWN) | Above("unknown", 0))
    remedy = "look at the examples"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        if not target.sharded:  # where keys are matters to nobody; whether there is such a command does
            self.predicate = NOT_REFUSED & Equal("unknown", UnknownWhy.NOT_IN_TABLE)

    def error(self, row: Row) -> str:
        try:
            why = UNKNOWN_TEXT[UnknownWhy(row["unknown"])]
        except ValueError:
            why = ""
        return f"unknown: {why or 'its keys cannot be told'}"


class TxnUnknown(ShardedRule):
    """
    The keys of at least one command of a transaction could not be told, so it cannot be told whether the transaction
    stays in one slot. Not counted where the known keys cross slots already, or where the source refused the EXEC.

    **Error:** unknown.

    **Instead:** as for `keys-unknown`.
    """

    id = "txn-unknown"
    severity = Severity.UNKNOWN
    title = "a transaction holds a command whose keys cannot be told"
    predicate = (
        REACHED
        & EXEC
        & ~OneOf("error", [b"ERR", b"EXECABORT"])
        & (Has("flags", Flag.TXN_UNKNOWN) | Equal("slot", SLOT_UNKNOWN))
        & ~Has("flags", Flag.TXN_CROSS | Flag.TXN_REFUSED)
    )
    text = "unknown: the keys of a queued command cannot be told"
    remedy = "look at the examples"

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return target.sharded and not target.lacks("EXEC")


class Gap(Rule):
    """
    Exchanges are missing at this place: the recorder could not keep up, the disk was full, or a connection became a
    plain byte pipe. What was not recorded was not judged.

    **Error:** unknown.

    **Instead:** look at the reason in the gap, put it right, and record again.
    """

    id = "gap"
    severity = Severity.UNKNOWN
    title = "the capture has a gap"
    predicate = ~OneOf("gap", [b""])
    reads_gaps = True
    remedy = "record again"

    def error(self, row: Row) -> str:
        rows = row["gap_rows"]
        missing = f"{rows} commands were not recorded" if rows else "commands were not recorded"
        return f"unknown: {missing} ({printable(row['gap'])})"
