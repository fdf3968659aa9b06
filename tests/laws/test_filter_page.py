"""The table of docs/filters.md is the table of the code, and every expression on the page means something."""

from __future__ import annotations

import re

import pytest

from proxy.capture.filters.expression import parse
from proxy.capture.filters.fields import fields
from proxy.capture.filters.page import with_table
from tests.laws.source import ROOT

PAGE = (ROOT / "docs" / "filters.md").read_text()


def test_the_table_is_made_from_the_fields() -> None:
    assert with_table(PAGE) == PAGE, "run: python -m proxy.capture.filters.page docs/filters.md"


@pytest.mark.parametrize("name", fields())
def test_a_fields_example_asks_for_that_field(name: str) -> None:
    example = fields()[name].example
    assert re.search(rf"\b{name}[:<>!]", example)
    assert "|" not in example
    parse(example)


def test_every_expression_of_the_page_means_something() -> None:
    names = "|".join(fields())
    quoted = re.findall(rf"`((?:not )?(?:{names})(?:[:=<>]|!=)[^`]+)`", PAGE) + re.findall(r"--where '([^']+)'", PAGE)
    assert len(quoted) > len(fields())
    for expression in quoted:
        parse(expression)


def test_every_word_of_a_field_is_in_its_line_of_the_table() -> None:
    for name, field in fields().items():
        if name != "flag":  # those stand in docs/capture-format.md, and are checked there
            (line,) = re.findall(rf"^\| `{name}` .*$", PAGE, re.MULTILINE)
            assert [word for word in field.words if f"`{word}`" not in line] == []
