"""The keys that scripts touched, out of the order of MONITOR's lines."""

from __future__ import annotations

import hashlib

import pytest

from proxy.report import touched
from proxy.report.render_touched import render_touched
from proxy.report.touched import OTHER, TouchedKeys, TouchedScript


def seen(*lines: str) -> tuple[TouchedScript, ...]:
    """``> EVALSHA …`` a client's command, ``lua …`` one of a script."""
    keys = TouchedKeys()
    play(keys, *lines)
    return keys.result()


def play(keys: TouchedKeys, *lines: str) -> None:
    for text in lines:
        mark, *words = text.split()
        (keys.inside if mark == "lua" else keys.command)([word.encode() for word in words])


def keys_of(script: TouchedScript) -> list[str]:
    return [f"{'' if key.declared else '!'}{key.template.decode()} {key.count}" for key in script.keys]


def test_what_follows_a_call_is_the_scripts_own() -> None:
    first = ("> EVALSHA ABC 1 a:1", "lua GET a:1", "lua SET b:7 1", "lua SET b:8 1")
    [script] = seen(*first, "> GET c", "> EVALSHA abc 1 a:2")
    assert (script.script, script.calls, script.undeclared_calls, script.over_slots) == (b"abc", 2, 1, 1)
    assert script.most_slots == 3
    assert keys_of(script) == ["!b:<id> 2", "a:<id> 1"]


def test_a_body_is_known_by_its_hash_and_a_function_by_its_name() -> None:
    first, second = seen("> EVAL x 0", "lua SET k 1", "> FCALL_RO F 1 k", "lua GET k")
    assert (first.script, first.function) == (hashlib.sha1(b"x").hexdigest().encode(), False)
    assert (second.script, second.function, keys_of(second)) == (b"F", True, ["k 1"])


def test_a_key_is_declared_by_its_own_call() -> None:
    [script] = seen("> EVALSHA a 1 x", "lua GET x", "> EVALSHA a 1 y", "lua GET x")
    assert keys_of(script) == ["!x 1", "x 1"]


def test_what_is_not_known_is_said() -> None:
    keys = TouchedKeys()
    play(keys, "lua GET early", "> EVALSHA a 5 x", "lua FT.SEARCH i", "> PING", "lua GET late")
    [script] = keys.result()
    assert script.unknown == {
        "declared keys: its arguments do not fit its key specification": 1,
        "the command is not in the command table": 1,
    }
    text = render_touched(keys.result(), keys.unattached)
    assert "2 commands of scripts whose call was not seen" in text
    assert "the command is not in the command table" in text


def test_scripts_and_templates_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("MOST_SCRIPTS", 2), ("MOST_TEMPLATES", 2), ("_RAW_KEYS", 3)):
        monkeypatch.setattr(touched, name, most)
    calls = [f"> EVALSHA s{n} 0" for n in range(4)]
    assert {script.script: script.calls for script in seen(*calls)} == {b"s0": 1, b"s1": 1, OTHER: 2}
    [script] = seen("> EVALSHA s 0", *(f"lua GET {'abcdef'[n % 6]}" for n in range(12)))
    assert sum(key.count for key in script.keys) == 12
    assert len(script.keys) == 3


def test_a_quiet_window_says_so() -> None:
    assert render_touched((), 0) == "No script or function was called.\n"
