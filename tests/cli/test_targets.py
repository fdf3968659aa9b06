"""``shunt targets``: a list, an explanation, an error."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from proxy.cli.targets import targets_command
from proxy.report.targets import TARGETS


def test_the_list_names_every_target() -> None:
    result = CliRunner().invoke(targets_command, [])
    assert result.exit_code == 0
    assert {line.split()[0] for line in result.stdout.splitlines() if line.strip()} >= set(TARGETS)
    assert max(map(len, result.stdout.splitlines())) <= 100


@pytest.mark.parametrize("name", [*TARGETS, "redis-cluster-7"])
def test_a_target_is_explained_with_sources_and_confidence(name: str) -> None:
    result = CliRunner().invoke(targets_command, [name])
    assert result.exit_code == 0
    assert "transactions: " in result.stdout
    known = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    words = ("measured: ", "documented: ", "inferred: ", "memory: ")
    assert len([line for line in known if line.strip().startswith(words)]) > 10


def test_an_unknown_target_is_one_line_that_lists_them() -> None:
    result = CliRunner().invoke(targets_command, ["elsewhere"])
    assert result.exit_code == 2
    assert "unknown target 'elsewhere'; there is: active-active, " in result.stderr
