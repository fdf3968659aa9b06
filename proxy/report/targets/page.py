"""``docs/targets.md``, made of the targets' files: ``python -m proxy.report.targets.page docs/targets.md`` writes it.

Knows: the page's order and Markdown. Refuses to know: any target.
"""

from __future__ import annotations

import sys
from pathlib import Path

from proxy.report.targets import TARGETS, Target
from proxy.report.targets.explain import explain

_HEAD = """# The targets

This page is made of the files in `proxy/report/targets` by `make docs`; a test keeps the two in step. `shunt targets`
lists them, `shunt targets NAME` shows one, `shunt report --target NAME` judges a capture against it
([report.md](report.md)), `--target all` against every one in one pass.

Every fact has its source, and says how it is known: *measured* on a real server or proxy, *documented* by the vendor or
the source code, *inferred* from something documented, or from *memory*. A text in parentheses describes what happens;
any other is the exact text of the error. A command that nobody has verified on a target is "unknown" in a report, and
never green.

A target is one TOML file. `like = "other"` takes over what is said of the other; what a file says goes first. The
checks name file and place. Add a file, run `make docs`.
"""


def targets_page() -> str:
    """The whole page."""
    lines = [_HEAD, "| target | what it is | client | several keys | also called |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_row(target)) + " |" for target in TARGETS.values()]
    for target in TARGETS.values():
        lines += ["", *_target(target)]
    return "\n".join(lines) + "\n"


def _row(target: Target) -> tuple[str, ...]:
    several = "anywhere"
    if target.sharded:
        allowed = len(target.cross_slot.allowed)
        several = f"in one slot, but for {allowed} commands" if allowed else "in one slot"
    client = "cluster" if target.client.needs == "cluster" else "any"
    tls = ", TLS" if target.client.tls == "required" else ""
    link = f"[`{target.id}`](#{target.id.replace('.', '')})"
    return (link, target.title, client + tls, several, ", ".join(f"`{alias}`" for alias in target.aliases))


def _target(target: Target) -> list[str]:
    like = f" Like `{target.parents[0]}`, but for what differs." if target.parents else ""
    lines = [f"## {target.id}", "", f"**{target.title}.** {' '.join(target.about.split())}{like}", ""]
    lines += ["| about | what | known | source |", "|---|---|---|---|"]
    for each in explain(target):
        cells = (each.topic, each.text, str(each.confidence), each.source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(targets_page(), encoding="utf-8")
