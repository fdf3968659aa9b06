"""The rules' documentation, made of their docstrings: ``python -m proxy.report.render_rules`` puts it into a page.

Knows: the two marker lines that it writes between.
"""

from __future__ import annotations

import sys
from pathlib import Path

from proxy.report.rules import TARGETS

BEGIN = "<!-- rules: made of the rules' docstrings by `python -m proxy.report.render_rules docs/report.md` -->"
END = "<!-- end of rules -->"


def rules_markdown() -> str:
    """The section between the markers, markers included."""
    lines = [BEGIN, ""]
    for target in TARGETS.values():
        lines += [f"### Target `{target.id}`: {target.title}", ""]
        for rule in target.rules:
            lines += [f"#### `{rule.id}` ({rule.severity}): {rule.title}", "", rule.documentation(), ""]
    return "\n".join([*lines, END])


def with_rules(page: str) -> str:
    """``page`` with its rules section brought up to date. ValueError: the markers are missing."""
    before, rest = page.split(BEGIN.split(":")[0], 1)
    _, after = rest.split(END, 1)
    return before + rules_markdown() + after


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_rules(path.read_text(encoding="utf-8")), encoding="utf-8")
