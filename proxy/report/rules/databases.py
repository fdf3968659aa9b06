"""Rules about numbered databases: a cluster has only number 0."""

from __future__ import annotations

from proxy.capture.format import SLOT_CROSS, Flag
from proxy.capture.predicate import Above, Equal, Has, OneOf
from proxy.report.rules.rule import EXEC, NOT_REFUSED, QUEUED, REACHED, Row, Rule, Severity, When

_FOREIGN = NOT_REFUSED & Has("flags", Flag.FOREIGN_DB) & ~QUEUED
_SELECT_ERROR = "ERR SELECT is not allowed in cluster mode"

#: Error of each command that names another database.
_ERRORS = {
    b"SELECT": _SELECT_ERROR,
    b"SWAPDB": "ERR SWAPDB is not allowed in cluster mode",
    b"MOVE": "ERR MOVE is not allowed in cluster mode",
    b"COPY": "ERR Copying to another database is not allowed in cluster mode",
}


class SelectDatabase(Rule):
    """
    SELECT of a database other than 0. `SELECT 0` is accepted everywhere.

    **Error:** `ERR SELECT is not allowed in cluster mode`. Client libraries send SELECT when they connect, so nothing
    at all works: Sidekiq's `redis://host/1` is such a case.

    **Instead:** use database 0 and tell applications apart by a key prefix, or give each its own Redis.
    """

    id = "select-database"
    severity = Severity.ERROR
    title = "SELECT of a database other than 0"
    predicate = _FOREIGN & OneOf("command", [b"SELECT"])
    text = _SELECT_ERROR


class DatabaseInUse(Rule):
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
    text = _SELECT_ERROR

    def when(self, row: Row) -> When:
        return When.COMMAND


class OtherDatabase(Rule):
    """
    SWAPDB, MOVE, or COPY with a DB option: commands that move data between databases.

    **Error:** `ERR SWAPDB is not allowed in cluster mode`, `ERR MOVE is not allowed in cluster mode`, `ERR Copying to
    another database is not allowed in cluster mode`.

    **Instead:** RENAME or COPY within database 0, with both keys in one slot.
    """

    id = "other-database"
    severity = Severity.ERROR
    title = "data moves between databases"
    # Keys in several slots are refused first, and that is another rule's.
    predicate = _FOREIGN & ~OneOf("command", [b"SELECT"]) & ~Equal("slot", SLOT_CROSS)

    def error(self, row: Row) -> str:
        return _ERRORS.get(row["command"], "ERR not allowed in cluster mode")


class TxnOtherDatabase(Rule):
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
    text = "ERR SELECT, SWAPDB, MOVE or COPY to another database is not allowed in cluster mode (inside EXEC's reply)"
