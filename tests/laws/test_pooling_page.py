"""The table of docs/pooling.md and the table of the code name the same commands, and each line says what it has to."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from proxy.engine.pooling import WAYS, Way
from tests.laws.source import ROOT

HEAD = ["command", "session", "shared", "what differs"]
#: A command in the table: `GET`, or `CLIENT SETNAME`; several may share a line.
_COMMAND = re.compile(r"`([A-Z][A-Z0-9-]*(?: [A-Z][A-Z0-9-]*)?)`")


def table() -> list[list[str]]:
    """The lines of the page's table, each as its four cells."""
    page = (ROOT / "docs" / "pooling.md").read_text()
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        for line in page.splitlines()
        if line.strip().startswith("|")
    ]
    assert HEAD in rows, f"docs/pooling.md has no table | {' | '.join(HEAD)} |"
    start = rows.index(HEAD) + 2
    end = next((at for at in range(start, len(rows)) if len(rows[at]) != len(HEAD)), len(rows))
    return rows[start:end]


def on_the_page() -> Counter[str]:
    """How often each command stands in the first column."""
    return Counter(name for row in table() for name in _COMMAND.findall(row[0]))


def test_every_command_that_goes_another_way_is_on_the_page() -> None:
    assert set(WAYS) - set(on_the_page()) == set()


def test_every_command_on_the_page_goes_another_way() -> None:
    assert set(on_the_page()) - set(WAYS) == set()


def test_no_command_is_on_the_page_twice() -> None:
    assert {name: times for name, times in on_the_page().items() if times > 1} == {}


def test_a_command_that_simply_goes_over_a_shared_connection_is_not_in_the_table_of_the_code() -> None:
    assert {name for name, way in WAYS.items() if way is Way.SHARED} == set()


def test_every_line_of_the_page_names_commands_and_says_all_four_things() -> None:
    rows = table()
    assert rows
    assert [row for row in rows if not all(row)] == []
    unnamed = [row for row in rows if not _COMMAND.search(row[0])]
    assert [row for row in unnamed if "every other" not in row[0] and "unknown" not in row[0]] == []


@pytest.mark.parametrize("way", [way for way in Way if way is not Way.SHARED], ids=lambda way: way.name)
def test_every_way_is_taken_by_a_command(way: Way) -> None:
    assert way in WAYS.values()
