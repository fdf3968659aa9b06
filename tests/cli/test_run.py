"""``shunt run`` around the worker: flags, what is said, and the report at the end. The worker itself is a stand-in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

from proxy.cli import run
from proxy.cli.main import main
from proxy.config import RunConfig, flag, load
from proxy.console.http import ConsoleError
from tests.console.source import FakeSource

Serve = Callable[..., int]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[Serve], list[RunConfig]]:
    """Puts a stand-in in place of proxy.app.serve; the configurations it was called with are returned."""

    def install(serve: Serve) -> list[RunConfig]:
        seen: list[RunConfig] = []

        async def stand_in(config: RunConfig, *, on_ready: Callable[[FakeSource], None] | None = None) -> int:
            seen.append(config)
            assert on_ready is not None
            on_ready(FakeSource())
            return serve(config)

        app = ModuleType("proxy.app")
        app.serve = stand_in  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "proxy.app", app)
        return seen

    return install


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The paths of every report that was asked for, in place of the report."""
    asked: list[tuple[str, ...]] = []

    @click.command()
    @click.argument("paths", nargs=-1)
    def report_command(paths: tuple[str, ...]) -> None:
        asked.append(paths)
        click.echo("the report")

    module = ModuleType("proxy.cli.report")
    module.report_command = report_command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "proxy.cli.report", module)
    return asked


def shunt_run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["run", "--backend", "redis://127.0.0.1:6379", *arguments])


def test_every_option_is_a_flag() -> None:
    flags = {opt for parameter in run.run_command.params for opt in parameter.opts}
    assert flags == {flag(name) for name in RunConfig.model_fields}


def test_flags_reach_the_worker(worker: Callable[[Serve], list[RunConfig]]) -> None:
    seen = worker(lambda _: 0)
    result = shunt_run(
        "--listen", "redis://127.0.0.1:1", "--listen", "redis://127.0.0.1:2", "--allow-open", "--drain-timeout", "2s"
    )
    assert result.exit_code == 0, result.output
    [config] = seen
    assert [address.port for address in config.listen] == [1, 2]
    assert (config.allow_open, config.drain_timeout, config.report_on_exit) == (True, 2.0, None)


@pytest.mark.parametrize("code", [0, 1])
def test_the_workers_exit_code_is_the_runs(code: int, worker: Callable[[Serve], list[RunConfig]]) -> None:
    worker(lambda _: code)
    assert shunt_run().exit_code == code


def test_what_the_worker_can_not_use_is_one_line(worker: Callable[[Serve], list[RunConfig]]) -> None:
    def refuse(_: RunConfig) -> int:
        raise ConsoleError("--http h:1: can't listen there: address already in use; choose another address or port")

    worker(refuse)
    result = shunt_run()
    assert result.exit_code == 2
    assert [line for line in result.stderr.splitlines() if line.startswith("shunt: ")] == [
        "shunt: --http h:1: can't listen there: address already in use; choose another address or port"
    ]


def test_without_a_terminal_nothing_is_drawn_and_stdout_is_empty(worker: Callable[[Serve], list[RunConfig]]) -> None:
    worker(lambda _: 0)
    result = shunt_run()
    assert result.stdout == ""
    assert "export REDIS_URL=redis://127.0.0.1:6380" in result.stderr
    assert "\x1b" not in result.stderr


def test_the_report_is_on_this_runs_files_only(
    tmp_path: Path, worker: Callable[[Serve], list[RunConfig]], reported: list[tuple[str, ...]]
) -> None:
    (tmp_path / "yesterday").write_text("")

    def record(config: RunConfig) -> int:
        assert config.capture is not None
        (config.capture / "today").write_text("")
        return 0

    worker(record)
    result = shunt_run("--capture", str(tmp_path), "--report-on-exit")
    assert (result.exit_code, result.stdout) == (0, "the report\n")
    assert reported == [(str(tmp_path / "today"),)]


def test_there_is_no_report_unless_someone_sees_it(
    tmp_path: Path, worker: Callable[[Serve], list[RunConfig]], reported: list[tuple[str, ...]]
) -> None:
    worker(lambda config: len(str((config.capture or tmp_path) / "x")) * 0)
    assert shunt_run("--capture", str(tmp_path)).stdout == ""
    assert shunt_run("--capture", str(tmp_path), "--report-on-exit").stdout == "Nothing was recorded: no report.\n"
    assert reported == []


def test_the_next_steps_show_no_password_and_an_address_that_works() -> None:
    config = load(
        {"backend": "redis://:hunter2@10.0.0.1", "listen": ["redis://:hunter2@0.0.0.0:6380"], "http": "127.0.0.1:1"}
    )
    text = "\n".join(run._next_steps(config))
    assert "hunter2" not in text
    assert "export REDIS_URL=redis://:***@127.0.0.1:6380" in text
    assert "http://127.0.0.1:1/metrics" in text
