"""The table of docs/console.md is the table of the code, and the command line's words are verbs of it."""

from __future__ import annotations

import re

import pytest

from proxy.cli.control import WORDS
from proxy.cli.main import VERBS
from proxy.console.page import every, with_table
from tests.laws.source import ROOT

PAGE = (ROOT / "docs" / "console.md").read_text()


def test_the_table_is_made_from_the_verbs() -> None:
    assert with_table(PAGE) == PAGE, "run: python -m proxy.console.page docs/console.md"


@pytest.mark.parametrize("name", WORDS)
def test_a_word_of_the_command_line_is_a_verb_with_the_same_arguments(name: str) -> None:
    word = WORDS[name]
    optional = [f"[{each}]" for each, _ in (*word.options, *word.flags)]
    optional += [f"[{each} NAME]…" for each, _ in word.pairs]
    written = " ".join([*word.arguments.split(), *optional])
    assert every().verbs[word.verb].arguments == written
    assert VERBS[name].module == "proxy.cli.control"
    assert re.search(rf"`(shunt )?{name}`", PAGE)
