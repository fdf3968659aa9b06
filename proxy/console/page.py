"""The table of docs/console.md, made of the table of verbs: ``python -m proxy.console.page docs/console.md``.

Knows: the two marker lines that it writes between. Refuses to know: any verb.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from proxy.console.audit import Audit
from proxy.console.verb import Table
from proxy.console.verbs import table as verbs
from proxy.console.world import World

BEGIN = "<!-- verbs: made of the table of verbs by `python -m proxy.console.page docs/console.md` -->"
END = "<!-- end of verbs -->"
_HEAD = "| verb | what it does | changes something |\n|---|---|---|\n"


def every() -> Table:
    """All verbs, without a shunt: none of them is run."""
    return verbs(cast(World, None), Audit())


def table() -> str:
    """One line for each verb."""
    lines = []
    for verb in every().verbs.values():
        usage = verb.usage.replace("|", r"\|")
        lines.append(f"| `{usage}` | {verb.help} | {'yes' if verb.changes else 'no'} |\n")
    return _HEAD + "".join(lines)


def with_table(page: str) -> str:
    """``page`` with its table brought up to date. ValueError: the markers are missing."""
    before, rest = page.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
