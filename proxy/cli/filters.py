"""``--where``: the option of every verb that reads a capture.

Knows: how the option is declared, and what is said of what it left out. Refuses to know: expressions
(``capture.filters``), whose library is imported only where the option is used.
"""

from __future__ import annotations

from typing import Any

import click

from proxy.capture.filters.filtered import Filter, LeftOut


class FilterType(click.ParamType[Any]):
    """A filter expression; one that means nothing is a usage error of one line."""

    name = "expression"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Filter:
        from proxy.capture.filters.expression import FilterError, parse

        if isinstance(value, Filter):
            return value
        try:
            return parse(value)
        except FilterError as error:
            self.fail(f"{error} (docs/filters.md has all fields)", param, ctx)


where_option = click.option(
    "--where", metavar="EXPRESSION", type=FilterType(),
    help="Only exchanges like these: 'cmd:BRPOP and key:queue:* and latency>10ms and slot:cross'; docs/filters.md.",
)  # fmt: skip


def doubts(left_out: LeftOut) -> str | None:
    """One line for stderr where the filter itself could not tell; None where it could."""
    if not left_out.doubtful:
        return None
    exchanges = "1 exchange" if left_out.doubtful == 1 else f"{left_out.doubtful:,} exchanges"
    return f"left out: {exchanges} that may match, but not all of their keys are known"
