"""The sections of a report, in reading order: one module each, from the report's nouns to text cells."""

from __future__ import annotations

from collections.abc import Callable

from proxy.report.cells import Section
from proxy.report.document import Report
from proxy.report.sections.costs import costs
from proxy.report.sections.load import load
from proxy.report.sections.mirrored import mirrored
from proxy.report.sections.rehearsal import rehearsal
from proxy.report.sections.remedies import remedies
from proxy.report.sections.scripts import scripts
from proxy.report.sections.sidekiq import sidekiq
from proxy.report.sections.traffic import traffic
from proxy.report.sections.ways import ways

SECTIONS: tuple[Callable[[Report], Section], ...] = (
    mirrored, rehearsal, ways, remedies, scripts, sidekiq, costs, traffic, load,
)  # fmt: skip


def sections(report: Report) -> list[Section]:
    """Every section that has something to say."""
    return [section for section in (make(report) for make in SECTIONS) if not section.empty]
