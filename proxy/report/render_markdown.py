"""A report as Markdown, for a ticket or a page. Knows: Markdown's table and code syntax."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from proxy.report.cells import TOP_SUBJECTS, Section, TextTable, by_rule, moment, more, place
from proxy.report.document import Report, TargetReport
from proxy.report.heading import FINE_PRINT, change_line, key_list, overview, severity_counts, subject
from proxy.report.rules.advice import Advice
from proxy.report.sections import sections
from proxy.report.selection import headline


def render_markdown(report: Report) -> str:
    """The report. Every value that comes from the traffic stands in a code span."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield "# Report"
    if report.selection is not None:
        yield "\n" + headline(replace(report.selection, where=code(report.selection.where)))
    for target in report.targets:
        yield f"\n**{target.target}: {target.words}.** {target.reason[0].upper() + target.reason[1:]}\n"
    for label, value in overview(report.overview):
        yield f"- {label}: {value}"
    for loss in report.losses:
        yield f"- damaged: {code(loss)}"
    for target in report.targets:
        yield from _findings(target)
    for section in sections(report):
        yield from _section(section)
    yield f"\n{FINE_PRINT}"


def _findings(target: TargetReport) -> Iterator[str]:
    if not target.findings:
        return
    yield f"\n## Findings for {target.target}: {severity_counts(target.counts)}\n"
    headings = ("severity", "rule", "count", "command", "keys", "error", "when", "change", "first (UTC)", "conn/seq")
    yield from _rows(headings, {"count"})
    for group in target.findings:
        yield _row(
            (
                str(group.severity), code(group.rule), f"{group.count:,}", code(subject(group)), code(key_list(group)),
                code(group.error), str(group.when), escape(change_line(group)), moment(group.first_ts),
                ", ".join(place(example) for example in group.examples),
            )
        )  # fmt: skip


def _section(section: Section) -> Iterator[str]:
    yield f"\n## {section.title}"
    for paragraph in section.paragraphs:
        yield f"\n{escape(paragraph)}"
    for group in by_rule(section.advice):
        yield from _advice(group)
    for table in section.tables:
        yield from _table(table)


def _advice(group: Sequence[Advice]) -> Iterator[str]:
    """What one rule says of its subjects; why and what instead stand once, below them."""
    rule = group[0]
    yield f"\n**{rule.level}: {code(rule.rule)}** {rule.title}\n"
    for advice in group[:TOP_SUBJECTS]:
        yield f"- {code(advice.subject)}: {escape(advice.seen)}"
        if advice.examples:
            examples = ", ".join(place(each) for each in advice.examples)
            yield f"  {advice.count:,}×, first {moment(advice.first_ts)} UTC, conn/seq {examples}"
    if left := more(len(group) - TOP_SUBJECTS, "subject").strip():
        yield f"- {left}"
    yield f"- why: {rule.why}"
    yield f"- instead: {rule.instead}"


def _table(table: TextTable) -> Iterator[str]:
    yield f"\n### {table.title}\n"
    numbers = {column.heading for column in table.columns if column.number}
    yield from _rows([column.heading for column in table.columns], numbers)
    for row in table.rows:
        yield _row([cell if column.number else code(cell) for cell, column in zip(row, table.columns, strict=True)])
    if table.note:
        yield f"\n{table.note.strip()}"


def _rows(headings: Sequence[str], numbers: set[str]) -> Iterator[str]:
    yield _row(headings)
    yield _row(["---:" if heading in numbers else "---" for heading in headings])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def code(text: str) -> str:
    """A code span that a table cell survives: backticks fenced, pipes escaped."""
    if not text:
        return ""
    escaped = text.replace("|", "\\|")
    runs = max((len(run) for run in _backticks(text)), default=0)
    fence = "`" * (runs + 1)
    return f"{fence} {escaped} {fence}" if runs else f"`{escaped}`"


def escape(text: str) -> str:
    """Text in which nothing is markup."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)


def _backticks(text: str) -> Iterator[str]:
    run = ""
    for character in text:
        run = run + character if character == "`" else ""
        if run:
            yield run
