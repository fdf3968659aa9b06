"""Rules about numbered databases: most clusters have only number 0. What each command gets is the target's to say."""

from __future__ import annotations

from proxy.capture.format import SLOT_CROSS, Flag
from proxy.capture.predicate import Above, Equal, Has, OneOf, Predicate
from proxy.report.rules.rule import EXEC, NOT_REFUSED, QUEUED, REACHED, Change, Row, Rule, Severity, When
from proxy.report.targets import Target

_FOREIGN = NOT_REFUSED & Has("flags", Flag.FOREIGN_DB) & ~QUEUED
_SETTING = "configure the target with as many databases"


class DatabaseRule(Rule):
    """Base: a target whose number of databases is a setting can be changed itself."""

    remedy = "database 0, and key prefixes instead of databases"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        if target.databases.number == 0:
            self.change, self.remedy = Change.TARGET, _SETTING

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return "SELECT" in target.databases.errors and not target.lacks("SELECT")


class SelectDatabase(DatabaseRule):
    """
    SELECT of a database other than 0. `SELECT 0` is accepted everywhere.

    **Error:** `ERR SELECT is not allowed in cluster mode`. Client libraries send SELECT when they connect, so nothing
    at all works: Sidekiq's `redis://host/1` is such a case. Valkey 9 answers `ERR DB index is out of range` beyond its
    setting `cluster-databases`.

    **Instead:** use database 0 and tell applications apart by a key prefix, or give each its own Redis.
    """

    id = "select-database"
    severity = Severity.ERROR
    title = "SELECT of a database other than 0"
    predicate = _FOREIGN & OneOf("command", [b"SELECT"])

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.text = target.databases.errors["SELECT"]


class DatabaseInUse(DatabaseRule):
    """
    A connection works in a database above 0, but its SELECT is not in the capture: it was lost in a gap, or shunt
    itself selects the database that the backend's URL names. Counted once per connection.

    **Error:** `ERR SELECT is not allowed in cluster mode`, when the connection is made.

    **Instead:** as for `select-database`.
    """

    id = "database-in-use"
    severity = Severity.ERROR
    title = "commands run in a database other than 0"
    predicate = REACHED & Above("db_unseen", 0)

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.text = target.databases.errors.get("SELECT") or target.refusals["SELECT"].error

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return "SELECT" in target.databases.errors or target.lacks("SELECT")

    def when(self, row: Row) -> When:
        return When.COMMAND


class OtherDatabase(DatabaseRule):
    """
    SWAPDB, MOVE, or COPY with a DB option: commands that move data between databases.

    **Error:** `ERR SWAPDB is not allowed in cluster mode`, `ERR MOVE is not allowed in cluster mode`, `ERR Copying to
    another database is not allowed in cluster mode`.

    **Instead:** RENAME or COPY within database 0, with both keys in one slot.
    """

    id = "other-database"
    severity = Severity.ERROR
    title = "data moves between databases"

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        refused = [name for name in target.databases.errors if name != "SELECT" and not target.lacks(name)]
        named: Predicate = OneOf("command", [name.encode() for name in refused])
        # Keys in several slots are refused first, and that is another rule's.
        self.predicate = _FOREIGN & named & ~Equal("slot", SLOT_CROSS)

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return any(name != "SELECT" and not target.lacks(name) for name in target.databases.errors)

    def error(self, row: Row) -> str:
        return self.target.databases.errors.get(row["command"].decode(), "")


class TxnOtherDatabase(DatabaseRule):
    """
    A transaction holds SELECT n, SWAPDB, MOVE or COPY … DB n. Redis queues them without complaint.

    **Error:** EXEC's reply holds, in the place of that command's reply, the error that the command has by itself
    (`ERR SELECT is not allowed in cluster mode`). The other commands of the transaction run, those behind a SELECT
    in database 0: the wrong data is changed.

    **Instead:** as for `select-database` and `other-database`.
    """

    id = "txn-other-database"
    severity = Severity.ERROR
    title = "a transaction names another database"
    predicate = (
        NOT_REFUSED
        & ~OneOf("error", [b"EXECABORT"])
        & EXEC
        & Has("flags", Flag.TXN_REFUSED_DB)
        & ~Has("flags", Flag.TXN_CROSS | Flag.TXN_REFUSED)
    )

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        first = target.databases.errors["SELECT"]
        self.text = f"{first} (inside EXEC's reply; with SWAPDB, MOVE and COPY their own words)"

    @classmethod
    def concerns(cls, target: Target) -> bool:
        return super().concerns(target) and not target.lacks("EXEC")
