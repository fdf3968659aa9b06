"""``docs/rules.md``, made of the rules' docstrings: ``python -m proxy.report.render_rules docs/rules.md`` writes it.

Knows: the page's order. Refuses to know: what any rule says.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from proxy.report.rules import EVERY_RULE
from proxy.report.rules.advice import AdviceRule
from proxy.report.rules.costs import RULES, THRESHOLDS
from proxy.report.rules.sidekiq import SIDEKIQ_RULES

_COSTS = "\n".join(
    [
        "What takes more time than it should, whatever the target. [slow.md](slow.md) explains how it is found. The",
        "thresholds are constants in `proxy/report/rules/costs.py`:",
        "",
        "| constant | value | bounds |",
        "|---|---|---|",
        *(f"| `{name}` | {value} | {what} |" for name, value, what in THRESHOLDS),
    ]
)

#: The families of advice: title, what they are about, their rules.
FAMILIES: tuple[tuple[str, str, tuple[AdviceRule[Any], ...]], ...] = (
    ("Advice: slow and costly commands", _COSTS, RULES),
    (
        "Sidekiq",
        "What loses jobs, stops them, or soon will. [sidekiq.md](sidekiq.md) says where it is seen.",
        SIDEKIQ_RULES,
    ),
)

_HEAD = """# The rules

This page is made of the rules' docstrings by `make docs`; a test keeps the two in step.

A rule of a *target* says what that target would refuse, or answer differently. A rule of *advice* says what is slow,
costly or wrong today, whatever the target. [report.md](report.md) explains severities, levels and verdicts.
"""

_TARGETS = """Errors are quoted as open-source Redis Cluster says them; [targets.md](targets.md) has each target's own
words, which of these rules concern it, and where that is known from. The severity is the usual one: a target may raise
or lower it."""


def rules_page() -> str:
    """The whole page."""
    lines = [_HEAD]
    lines += ["## Targets", "", _TARGETS, ""]
    for rule in EVERY_RULE:
        lines += [f"### `{rule.id}` ({rule.severity}): {rule.title}", "", rule.documentation(), ""]
    for title, about, rules in FAMILIES:
        lines += [f"## {title}", "", about, ""]
        for advice in rules:
            lines += [f"### `{advice.id}` ({advice.level}): {advice.title}", "", advice.documentation(), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(rules_page(), encoding="utf-8")
