"""The command as a whole: its verbs, its exit codes, its one-line errors, and what it does not import."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from proxy.cli.main import VERBS, main


def shunt(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_help_names_every_verb_without_importing_it() -> None:
    code, out, _ = shunt("--help")
    assert code == 0
    assert all(f"  {name} " in out for name in VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_there(name: str) -> None:
    context = click.Context(main)
    verb = main.get_command(context, name)
    assert isinstance(verb, click.Command)
    assert shunt(name, "--help")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("rn",), "No such command 'rn'"),
        (("run", "--lisen", "x"), "No such option '--lisen'"),
        (("run",), "--backend: is needed"),
        (("run", "--backend", "redis://:hunter2@h:x"), "--backend (from the command line): "),
        (("run", "--backend", "redis://h", "surplus"), "unexpected extra argument"),
        (("run", "--backend", "redis://h", "--config", "/no/such/file"), "No such file or directory"),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(arguments: tuple[str, ...], says: str) -> None:
    code, out, err = shunt(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("shunt: ")
    assert err.count("\n") == 1
    assert says in err
    assert "hunter2" not in err


def test_the_version_is_the_distributions() -> None:
    code, out, _ = shunt("--version")
    assert code == 0
    assert out.startswith("shunt, version ")


def test_running_does_not_import_what_only_the_report_needs() -> None:
    probe = (
        "import importlib.util, sys, proxy.cli.main, proxy.cli.run\n"
        "if importlib.util.find_spec('proxy.app'): import proxy.app\n"
        "print(sorted({'duckdb', 'hypothesis', 'pandas'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"
