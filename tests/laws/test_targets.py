"""Every fact of a target has a source, and docs/targets.md says what the files say."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.report.rules import EVERY_RULE, RULES
from proxy.report.targets import TARGETS
from proxy.report.targets.explain import explain
from proxy.report.targets.page import targets_page
from tests.laws.source import ROOT

FILES = sorted((ROOT / "proxy" / "report" / "targets").glob("*.toml"))
#: Errors by command: part of the table ``databases``, with its source.
PARTS = {"errors"}


def tables(document: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in document.items():
        each = value if isinstance(value, list) else [value]
        for table in each:
            if isinstance(table, dict) and name not in PARTS:
                yield f"{path}{name}", table
                yield from tables(table, f"{path}{name}.")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_table_of_every_file_has_a_source_and_says_how_it_is_known(file: Path) -> None:
    found = list(tables(tomllib.loads(file.read_text(encoding="utf-8"))))
    assert found
    assert [name for name, table in found if not table.get("source") or not table.get("confidence")] == []


@pytest.mark.parametrize("name", TARGETS)
def test_every_statement_about_a_target_has_a_source(name: str) -> None:
    said = explain(TARGETS[name])
    assert len(said) > 10
    assert [each for each in said if not each.source or not each.text.endswith((".", '"'))] == []


def test_every_rule_concerns_a_target() -> None:
    assert {type(rule) for rules in RULES.values() for rule in rules} == set(EVERY_RULE)


@pytest.mark.parametrize("name", TARGETS)
def test_a_rule_that_blocks_says_what_to_change(name: str) -> None:
    silent = [rule.id for rule in RULES[name] if rule.blocks and not rule.remedy and rule.id != "missing-command"]
    assert silent == []


def test_the_page_about_targets_is_made_of_their_files() -> None:
    page = ROOT / "docs" / "targets.md"
    assert page.read_text(encoding="utf-8") == targets_page(), "run: make docs"
