"""The section on which way to go: the three ways in words, and every target's verdict in a table."""

from __future__ import annotations

from proxy.report.cells import Section, TextTable, columns, count, with_rows
from proxy.report.document import Report

#: So many targets of a way are named; the table has all.
_NAMED = 8


def ways(report: Report) -> Section:
    """Which way to go."""
    found = report.ways
    paragraphs = []
    for way in found.ways:
        targets = f" ({_some(way.targets)})" if way.targets else ""
        paragraphs.append(f"{way.id}. {way.title}: {way.answer}{targets}.")
        paragraphs += [f"{way.id}, seen: {each}" for each in way.evidence]
        paragraphs.append(f"{way.id}, cost: {way.cost}")
    rows = tuple(
        (
            line.target, line.words, count(line.counts["error"]), count(line.changes), count(line.fixed),
            count(line.counts["silent"] + line.counts["latent"]), count(line.counts["unknown"]),
        )
        for line in found.targets
    )  # fmt: skip
    heads = columns("target", "verdict", "refused*", "changes*", "fixed*", "silent, latent*", "unknown*")
    note = (
        "Refused, fixed (nobody can change them), silent, latent and unknown count commands; changes are call sites. "
        "shunt targets NAME explains a target and says how each fact is known; --target NAME lists its findings."
    )
    table = TextTable("Targets", heads, rows, note)
    return Section("ways", "Which way to go", tuple(paragraphs), tables=with_rows([table]))


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
