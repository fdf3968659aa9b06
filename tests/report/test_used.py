"""What a capture uses: one entry for each command and pattern of keys, with a sample that can be asked about."""

from __future__ import annotations

import pytest

from proxy.capture.facts import BackendFacts
from proxy.capture.format import Flag, ReplyKind
from proxy.capture.use import CaptureUse
from proxy.report import used as module
from proxy.report.used import used
from tests.report.world import Rows, command


def of(*rows: dict[str, object], **given: object) -> CaptureUse:
    return used(Rows(rows, **given))  # type: ignore[arg-type]


def test_a_command_is_one_entry_for_each_pattern_of_its_first_key() -> None:
    found = of(command("GET user:12"), command("GET user:13"), command("GET stat:x"), command("SET user:1"))
    assert [(each.name, each.template, each.count) for each in found.commands] == [
        ("GET", b"stat:x", 1),
        ("GET", b"user:<id>", 2),
        ("SET", b"user:<id>", 1),
    ]
    assert found.commands[1].keys == (b"user:12",)
    assert (found.exchanges, found.names) == (4, {"GET", "SET"})


def test_batches_are_counted_together() -> None:
    found = used(Rows([command("GET a")] * 7, batch_rows=2))
    assert [each.count for each in found.commands] == [7]


def test_what_the_backend_did_not_run_is_not_used() -> None:
    found = of(
        command("FOO", reply=ReplyKind.ERROR),
        command("PING", flags=Flag.REPLIED_BY_PROXY),
        {"gap": "disk full", "gap_rows": 3},
        command("BRPOP a", reply=ReplyKind.LOST),
    )
    assert found.names == {"BRPOP"}


@pytest.mark.parametrize(("flags", "kept"), [(Flag.ARGS, True), (Flag.ARGS | Flag.ARGS_CUT, False)])
def test_arguments_are_a_sample_only_if_they_are_whole(flags: Flag, kept: bool) -> None:
    [found] = of(command("SET a", args=["SET", "a", "1"], flags=flags)).commands
    assert found.args == ((b"SET", b"a", b"1") if kept else ())


def test_databases_scripts_sidekiq_and_the_last_facts() -> None:
    sha = "a" * 40
    facts = [BackendFacts(1, "start", "b"), BackendFacts(2, "end", "b")]
    found = of(
        command("LPUSH queue:default", db=3),
        command("SADD queues"),
        command("EVALSHA", script=sha),
        command("SCRIPT"),
        facts=facts,
        losses=["a torn frame"],
    )
    assert (found.databases, found.scripts, found.sidekiq) == ((0, 3), {sha}, True)
    assert (found.facts, found.losses) == (facts[1], 1)
    assert not of(command("GET a")).sidekiq


def test_patterns_beyond_the_bound_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    found = of(command("GET a"), command("GET b"), command("GET c"), command("GET d"), command("GET a"))
    assert (len(found.commands), found.left_out) == (2, 2)
