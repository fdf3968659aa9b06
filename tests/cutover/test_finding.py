"""The verdict, the JSON document, and the text."""

from __future__ import annotations

import json

import pytest

from proxy.cli.preflight_text import render
from proxy.cutover.finding import Finding, Level, Preflight, Side

LONG = "a sentence that does not fit into one line of a narrow terminal, and goes on for a good while. " * 2


def found(*levels: Level) -> Preflight:
    findings = tuple(Finding("role", Side.TARGET, level, LONG, "do this", ("one", "two")) for level in levels)
    return Preflight("redis://a:1", "redis://:***@b:2", "2026-11-24T00:00:00+00:00", findings)


VERDICTS = [
    ((Level.PASS,), "ready", 0),
    ((Level.PASS, Level.WARN), "ready, 1 warning", 0),
    ((Level.WARN, Level.WARN, Level.UNKNOWN), "ready, 2 warnings, 1 unknown", 0),
    ((Level.FAIL, Level.WARN, Level.FAIL), "not ready: 2, 1 warning", 1),
]


@pytest.mark.parametrize(("levels", "verdict", "code"), VERDICTS)
def test_only_a_failure_is_in_the_way(levels: tuple[Level, ...], verdict: str, code: int) -> None:
    assert (found(*levels).verdict, found(*levels).exit_code) == (verdict, code)


def test_the_document_has_every_finding() -> None:
    document = json.loads(json.dumps(found(Level.PASS, Level.FAIL).as_json()))
    assert (document["ready"], document["counts"]["fail"], len(document["findings"])) == (False, 1, 2)
    assert document["findings"][0] == {
        "check": "role", "side": "target", "level": "pass", "text": LONG, "do": "do this", "why": "",
        "details": ["one", "two"], "data": {},
    }  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal_and_what_failed_stands_above_the_verdict(width: int) -> None:
    lines = render(found(Level.FAIL, Level.PASS, Level.WARN), color=False, width=width).splitlines()
    assert max(map(len, lines)) <= width
    order = [line.split()[0] for line in lines if line.startswith(("  ok", "  WARN", "  FAIL"))]
    assert order == ["ok", "WARN", "FAIL"]
    assert lines[-1] == "not ready: 1, 1 warning"


def test_what_a_server_says_can_do_nothing_to_a_terminal() -> None:
    evil = Finding("reach", Side.TARGET, Level.FAIL, "its name is \x1b[2J\u202e", "do \x07", ("\x9b",))
    text = render(Preflight("redis://a:1", "redis://b:2", "", (evil,)), color=False, width=80)
    assert all(char.isprintable() or char == "\n" for char in text)
