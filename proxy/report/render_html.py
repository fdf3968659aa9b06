"""A report as one HTML file, for someone who was not there: verdict, findings, advice and tables, charts.

Knows: what the page is made of, and what its words mean. Refuses to know: its layout (``page/``), what the charts show
(``charts``). The file asks nothing of any server and runs no script; a rule in it has browsers keep to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import jinja2

from proxy.report import cells
from proxy.report.charts import figures
from proxy.report.charts.over_time import Depths
from proxy.report.charts.specs import Figure
from proxy.report.document import FindingGroup, Report, TargetReport
from proxy.report.drawing import draw
from proxy.report.heading import FINE_PRINT, change_line, overview, severity_counts, subject
from proxy.report.printable import printable, shorten
from proxy.report.sections import sections
from proxy.report.selection import headline

#: Of one kind of finding, so many groups are shown.
SHOWN_GROUPS = 40
_KEYS_OF_A_GROUP = 12
_KEY_WIDTH = 160

#: The colour of a word; what is not here is a warning.
_TONES = {
    "compatible": "good", "not compatible": "bad", "error": "bad", "high": "bad", "restricted": "info", "low": "info",
}  # fmt: skip
_MEANINGS = {
    "error": "the application gets an error",
    "silent": "no error, but another answer than from a single Redis",
    "latent": "works while the slots happen to lie on one node, fails after a change of the layout",
    "restricted": "an administrator's command that the target refuses; an application rarely sends it",
    "unknown": "cannot be told from the capture; keeps a verdict from being green",
}


@dataclass(frozen=True)
class Kind:
    """Findings of one target that share rule, error and moment."""

    first: FindingGroup
    groups: Sequence[FindingGroup]
    count: int
    more: int  # groups that are not shown


@dataclass(frozen=True)
class Drawn:
    """A figure and its pictures."""

    figure: Figure
    pictures: Sequence[str]  # SVG


def render_html(report: Report, queues: Sequence[tuple[str, Depths]] = ()) -> str:
    """The whole page. Every value in it is escaped by the template; only our own drawings are markup. ``queues``: names
    and depths over time, deepest first."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("proxy.report", "page"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        printable=printable, by_rule=cells.by_rule, moment=cells.moment, place=cells.place,
        tone=_tone, sentence=_sentence,
    )  # fmt: skip
    return environment.get_template("report.html.jinja").render(
        report=report,
        overview=overview(report.overview),
        selection=headline(report.selection) if report.selection is not None else "",
        kinds={target.target: list(_kinds(target)) for target in report.targets},
        counted=severity_counts,
        subject=subject,
        change=change_line,
        keys=_keys,
        meanings=_MEANINGS,
        sections=sections(report),
        top_subjects=cells.TOP_SUBJECTS,
        drawn=[_drawn(figure) for figure in figures(report, queues)],
        fine_print=FINE_PRINT,
    )


def _drawn(figure: Figure) -> Drawn:
    last = len(figure.specs)
    numbered = (f"{figure.title}, picture {i} of {last}" if last > 1 else figure.title for i in range(1, last + 1))
    return Drawn(
        figure, [draw(spec, f"{title}. {figure.says}") for title, spec in zip(numbered, figure.specs, strict=True)]
    )


def _kinds(target: TargetReport) -> Iterator[Kind]:
    for _, alike in groupby(target.findings, key=lambda group: (group.rule, group.error, group.when)):
        groups = list(alike)
        more = max(0, len(groups) - SHOWN_GROUPS)
        yield Kind(groups[0], groups[:SHOWN_GROUPS], sum(group.count for group in groups), more)


def _keys(group: FindingGroup) -> list[str]:
    shown = [shorten(printable(key), _KEY_WIDTH) for key in group.keys[:_KEYS_OF_A_GROUP]]
    more = len(group.keys) - len(shown)
    return [*shown, f"and {more} more"] if more else shown


def _tone(word: object) -> str:
    return _TONES.get(str(word), "warn")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
