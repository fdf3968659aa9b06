"""Log lines: one line each, for people or programs, without anything a client sent."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from proxy.cli import logs


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_text_line_has_time_level_and_where_from(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("text", "info")
    logging.getLogger("proxy.app").info("listening on %s", "127.0.0.1:6380")
    line = capsys.readouterr().err
    assert line.endswith("Z info proxy.app: listening on 127.0.0.1:6380\n")


def test_a_json_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("json", "info")
    logging.getLogger("proxy.app").warning("two\nlines")
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["logger"], line["message"]) == ("warning", "proxy.app", "two lines")
    assert line["ts"].endswith("Z")


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("text", "warning")
    logging.getLogger("proxy.app").info("x")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_exception_is_where_it_was_raised_and_not_what_it_quotes(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.setup(log_format, "info")
    try:
        int("hunter2")
    except ValueError:
        logging.getLogger("proxy.app").exception("a consumer failed")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "a consumer failed" in line
    assert "ValueError at test_logs.py:" in line
    assert "hunter2" not in line


def test_the_systems_own_reason_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("text", "info")
    logging.getLogger("x").error("can't write", exc_info=OSError(28, "No space left on device"))
    assert "OSError: No space left on device" in capsys.readouterr().err


def test_a_line_follows_stderr_to_where_it_is_now(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    logs.setup("text", "info")
    elsewhere = io.StringIO()
    monkeypatch.setattr(sys, "stderr", elsewhere)
    logging.getLogger("x").info("moved")
    assert "moved" in elsewhere.getvalue()


def test_a_worker_s_lines_tell_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("text", "info", worker=2)
    logging.getLogger("proxy.app").info("listening")
    assert capsys.readouterr().err.endswith(" info worker 2 proxy.app: listening\n")
    logs.setup("json", "info", worker=2)
    logging.getLogger("proxy.app").info("listening")
    assert json.loads(capsys.readouterr().err)["worker"] == 2
