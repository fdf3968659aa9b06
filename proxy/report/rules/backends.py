"""A rule about shunt's own classes of keys (``--classes``).

Knows: what shunt answers where keys live on several backends. Refuses to know: which keys live where.
"""

from __future__ import annotations

from proxy.capture.format import Flag
from proxy.capture.predicate import Has, OneOf
from proxy.report.rules.rule import Row, Rule, Severity


class CrossBackend(Rule):
    """
    shunt refused the command: with `--classes` its keys, those of its transaction, or the script's live on several
    Redis, or its client could not go over to the one that has them. No server has run it, so nothing else is said of
    it.

    **Error:** `CROSSBACKEND keys of this command live on backends a and b`, and EXEC answers EXECABORT. The
    application gets it now, and not from the target.

    **Instead:** put the keys that are used together into one class (docs/routes.md), or send a command for each.
    """

    id = "crossbackend"
    severity = Severity.UNKNOWN
    title = "shunt refused it: its keys live on several backends"
    predicate = Has("flags", Flag.REPLIED_BY_PROXY) & OneOf("error", [b"CROSSBACKEND"])
    remedy = "keys that are used together belong into one class"

    def error(self, row: Row) -> str:
        return "unknown: shunt answered CROSSBACKEND, and no server has run it"
