"""The table of docs/filters.md, made of the table of fields: ``python -m proxy.capture.filters.page docs/filters.md``.

Knows: the two marker lines that it writes between. Refuses to know: any field.
"""

from __future__ import annotations

import sys
from pathlib import Path

from proxy.capture.filters.fields import MATCH, fields

BEGIN = "<!-- fields: made of the table of fields by `python -m proxy.capture.filters.page docs/filters.md` -->"
END = "<!-- end of fields -->"
_HEAD = "| field | values | compares with | matches | example |\n|---|---|---|---|---|\n"


def table() -> str:
    """One line for each field."""
    lines = []
    for name, field in fields().items():
        operators = ": !=" if field.operators == MATCH else ": != < <= > >="
        lines.append(f"| `{name}` | {field.values} | `{operators}` | {field.meaning} | `{field.example}` |\n")
    return _HEAD + "".join(lines)


def with_table(page: str) -> str:
    """``page`` with its table brought up to date. ValueError: the markers are missing."""
    before, rest = page.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
