"""What each verb answers, and what the audit log says of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from proxy.console.audit import Audit, Caller, masked
from proxy.console.verb import Answer, BadArguments, Call, Table, UnknownVerb, Verb, VerbError
from proxy.engine.stats import EngineStats
from tests.console.source import FakeSource, FakeWorkforce, Written, command
from tests.console.world import WHO, FakeWorld, Slow, client, desk

WEB, JOB, IDLE = (
    client(),
    client("0:2", "127.0.0.1:5001", "sidekiq", state="blocked", in_flight=1),
    client("1:1", "127.0.0.1:5002", "web"),
)


def world() -> FakeWorld:
    return FakeWorld(rows=[WEB, JOB, IDLE])


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("SHOW HELP RELOAD", ["verb=RELOAD help="]),
        ("help show", ["verb=\"SHOW HELP [VERB]\"", "verb=\"SHOW CLIENTS\""]),
        ("hold", ["held: 3 clients, quiet after 12 ms", "note: released by itself 0.8 s after HOLD, or by RELEASE"]),
        ("maintenance", ['step=release at_s=1.5 took_s=0.1 said="traffic goes on"']),
        ("maintenance 5m new", ["step="]),
        ("maintenance done", ["it goes on to the release"]),
        ("maintenance abort", ["aborted: traffic goes on"]),
        ("hold 2s 30s", ["held: 3 clients", "note: released by itself 30 s after HOLD"]),
        (
            "hold 2s 30s class queues CLASS jobs class queues",
            ["held: class queues, jobs, quiet after 12 ms; 3 clients waiting", "note: released by itself 30 s"],
        ),
        ("HOLD CLASS class", ["held: class class, quiet after 12 ms", "note: released by itself 0.8 s"]),
        ("release", ["released: 3 clients"]),
        ("release class queues", ["released: 3 clients"]),
        (
            "show clients",
            ["id=0:1 addr=127.0.0.1:5000 name=web db=0 age=12 idle=3 in_flight=0 state=plain phase=own", "id=0:2"],
        ),
        ("SHOW SOCKETS", ["addr=127.0.0.1:40001", "addr=127.0.0.1:40002"]),
        ("SHOW BACKENDS", ["addr=redis://10.0.0.5:6379 up=yes connections=4 clients=3 connect_errors=2"]),
        ("SHOW CONFIG", ["option=backend value=redis://:***@10.0.0.5:6379 origin=environment"]),
        ("SHOW STATE", ["version: 0.1.0", "backend: redis://10.0.0.5:6379", "capture: -", "backend_up: yes"]),
        ("SHOW HISTORY", []),
        ("KILL 127.0.0.1:5000", ["1 client ended"]),
        ("KILL addr=127.0.0.1:5000", ["1 client ended"]),
        ("KILL web", ["2 clients ended"]),
        ("kill name=web now", ["2 clients ended"]),
        ("KILL id=0:2 NOW", ["1 client ended; 1 fetch cut off, whose jobs may be lost"]),
        ("KILL nobody", ["no client nobody is connected"]),
        ("RELOAD", ['what=log-level outcome="info -> debug"']),
        ("SHUTDOWN", ["shunt has ended"]),
    ],
)  # fmt: skip
async def test_what_a_verb_answers(line: str, lines: list[str]) -> None:
    there = world()
    there.source.counted = {"backend_connect_errors": 2}
    said = (await (await desk(there))[0].call(line.split(), WHO)).lines()
    assert len(said) >= len(lines) if lines else said == []
    for expected, is_said in zip(lines, said, strict=False):
        assert is_said.startswith(expected)


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("", UnknownVerb, "there is no verb ''; there are HELP, SHOW HELP, SHOW CLIENTS"),
        ("FLUSHALL", UnknownVerb, "there is no verb 'FLUSHALL'; there are HELP"),
        ("SHOW", UnknownVerb, "SHOW CLIENTS"),
        ("HELP FLUSHALL", UnknownVerb, "there are HELP"),
        ("SHOW CLIENTS all", BadArguments, "write SHOW CLIENTS: Each client"),
        ("KILL", BadArguments, "write KILL CLIENT [NOW]"),
        ("KILL web THEN", BadArguments, "'THEN' means nothing here; write NOW"),
        ("SHOW HISTORY many", BadArguments, "write a number of lines from 1 to 1000"),
        ("SHOW HISTORY 0", BadArguments, "write a number"),
        ("SHOW STATS soon", BadArguments, "'soon' is no duration"),
        ("SHOW STATS 2h", BadArguments, "at most 60s"),
        ("HOLD 2s 1s", VerbError, "LIMIT not below QUIET"),
        ("MAINTENANCE new 5m", BadArguments, "write MAINTENANCE [LIMIT] [TARGET]"),
        ("MAINTENANCE 2h", BadArguments, "at most 3600s"),
        ("HOLD 0", VerbError, "above 0"),
        ("HOLD 1s 2s 3s", BadArguments, "write HOLD [QUIET] [LIMIT] [CLASS NAME]…"),
        ("HOLD CLASS", BadArguments, "write CLASS NAME"),
        ("HOLD CLASS a 2s", BadArguments, "write CLASS NAME"),
        ("HOLD queues", BadArguments, "'queues' is no duration"),
        ("RELEASE queues", BadArguments, "write RELEASE [CLASS NAME]…"),
        ("RELEASE CLASS", BadArguments, "write CLASS NAME"),
        ("SHUTDOWN later", BadArguments, "write NOW, or nothing"),
    ],
)
async def test_what_can_not_be_called_says_how(line: str, error: type[VerbError], says: str) -> None:
    there = world()
    with pytest.raises(error) as caught:
        await (await desk(there))[0].call(line.split(), WHO)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [each for each in there.done if each != ("refresh",)] == []


async def test_stats_are_rates_of_a_moment_and_totals_since_the_start() -> None:
    source = FakeSource(EngineStats(commands=[command("GET", *[100_000] * 99, 50_000_000, errors=1)]))
    source.counted = {"client_rx_bytes": 1000, "client_tx_bytes": 5000}
    source.written = Written(failing="no space left on device")
    source.found = {"cross-slot": 3, "script-load": 0}
    there, _ = await desk(FakeWorld(source))
    asked = asyncio.create_task(there.call(["SHOW", "STATS", "20ms"], WHO))
    await asyncio.sleep(0)
    source.stats = EngineStats(commands=[command("GET", *[100_000] * 150, 50_000_000, errors=1)])
    data: Any = (await asked).data
    assert data["commands_per_s"] == pytest.approx(51 / data["over_s"], rel=0.05)
    assert (data["total_commands"], data["total_errors"], data["total_bytes_out"]) == (151, 1, 5000)
    assert 0.08 < data["p99_ms"] < 0.13
    assert (data["capture_failing"], data["finding_cross-slot"]) == ("no space left on device", 3)
    assert "finding_script-load" not in data
    totals: Any = (await there.call(["SHOW", "STATS", "0"], WHO)).data
    assert "commands_per_s" not in totals


async def test_where_nothing_was_measured_no_latency_is_told() -> None:
    data: Any = (await (await desk(FakeWorld()))[0].call(["SHOW", "STATS", "0"], WHO)).data
    assert (data["total_commands"], data["total_p99_ms"]) == (0, None)


async def test_with_several_workers_state_tells_of_them_and_what_is_missing() -> None:
    there = FakeWorld(workforce=FakeWorkforce(lost=["worker 3 is missing"], pids={"supervisor": 1, "0": 2, "1": 3}))
    lines = (await (await desk(there))[0].call(["SHOW", "STATE"], WHO)).lines()
    for line in ("workers: 2", "worker_pids: 0:2 1:3", "workers_replaced_died: 1", "note: worker 3 is missing"):
        assert line in lines


@pytest.mark.parametrize(
    ("held", "workforce", "line"),
    [
        ({"queues": 0, "default": 0}, None, "held_classes: -"),
        ({"queues": 1, "default": 1}, None, "held_classes: queues, default"),
        ({"queues": 2, "default": 1}, FakeWorkforce(), "held_classes: queues, default (in 1 of 2 workers)"),
        ({}, None, ""),
    ],
)
async def test_state_tells_which_classes_are_held(
    held: dict[str, int], workforce: FakeWorkforce | None, line: str
) -> None:
    there = FakeWorld(FakeSource(held=held), workforce=workforce)
    lines = (await (await desk(there))[0].call(["SHOW", "STATE"], WHO)).lines()
    assert [each for each in lines if each.startswith("held_classes")] == ([line] if line else [])


async def test_a_client_that_reaches_no_boundary_is_named_with_what_to_do() -> None:
    there = FakeWorld(rows=[WEB, IDLE], stuck={"1:1"})
    with pytest.raises(VerbError) as caught:
        await (await desk(there))[0].call(["KILL", "web"], WHO)
    assert str(caught.value).startswith("1 ended; still under way: 127.0.0.1:5002; ")
    assert "KILL web NOW" in str(caught.value)


async def test_a_client_that_may_be_where_nobody_answers_is_not_said_to_be_gone() -> None:
    there = FakeWorld(notes=["worker 1 did not answer within 2 s"])
    with pytest.raises(VerbError, match="worker 1 did not answer within 2 s"):
        await (await desk(there))[0].call(["KILL", "web"], WHO)


async def test_each_change_is_one_line_of_who_what_and_what_came_of_it(tmp_path: Path) -> None:
    there = world()
    there.refuses = "--backend: is needed"
    at, audit = await desk(there, tmp_path / "audit.jsonl")
    await at.call(["kill", "web", "now"], WHO)
    await at.call(["SHOW", "CLIENTS"], WHO)
    with pytest.raises(VerbError):
        await at.call(["RELOAD"], Caller("http", address="10.0.0.9", token="deploy"))
    first, second = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert first["who"] == {"by": "unix", "uid": 0, "pid": 42, "user": pwd.getpwuid(0).pw_name}
    assert (first["verb"], first["arguments"], first["outcome"]) == ("KILL", ["web", "now"], "done")
    assert (first["said"], first["when"][-1], first["duration_ms"] >= 0) == ("2 clients ended", "Z", True)
    assert second["who"] == {"by": "http", "address": "10.0.0.9", "token": "deploy"}
    assert (second["verb"], second["outcome"], second["said"]) == ("RELOAD", "failed", "--backend: is needed")
    assert oct((tmp_path / "audit.jsonl").stat().st_mode)[-3:] == "600"
    audit.close()


async def test_history_is_the_last_lines_of_the_log_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('not ours\n{"verb": "half"}\n')
    at, audit = await desk(world(), path)
    for name in ("web", "nobody", "sidekiq"):
        await at.call(["KILL", name], WHO)
    audit.close()
    again, audit = await desk(world(), path)
    rows: Any = (await again.call(["SHOW", "HISTORY", "2"], WHO)).data
    assert [row["verb"] for row in rows] == ["KILL nobody", "KILL sidekiq"]
    audit.close()


async def test_without_a_file_a_change_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    await (await desk(world()))[0].call(["KILL", "web"], WHO)
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert json.loads(record.getMessage().removeprefix("audit: "))["verb"] == "KILL"


async def test_a_log_that_can_not_be_written_stops_no_change(caplog: pytest.LogCaptureFixture) -> None:
    at, audit = await desk(world(), Path("/dev/full"))
    assert (await at.call(["KILL", "web"], WHO)).data == "2 clients ended"
    assert "--audit-log /dev/full: No space left on device" in caplog.text
    assert len(audit.last(10)) == 1
    audit.close()


async def test_a_log_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    at, audit = await desk(world(), tmp_path / "audit.jsonl")
    os.rename(tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1")
    await audit.open()
    await at.call(["KILL", "web"], WHO)
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 1
    assert len(audit.last(10)) == 1
    audit.close()


async def test_a_change_goes_on_when_who_asked_for_it_has_gone(tmp_path: Path) -> None:
    slow = Slow()
    at, audit = await desk(world(), tmp_path / "audit.jsonl", slow.verb())
    asked = asyncio.create_task(at.call(["WAIT", "redis://app:hunter2@10.0.0.5"], WHO))
    await slow.begun.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    slow.go.set()
    await at.settled(5.0)
    [entry] = audit.last(10)
    assert (entry.outcome, entry.said, entry.arguments) == ("done", "done at last", ("redis://app:***@10.0.0.5",))
    assert "hunter2" not in (tmp_path / "audit.jsonl").read_text()
    audit.close()


async def test_a_change_that_is_under_way_at_the_end_is_written_down_as_cut_off() -> None:
    slow = Slow()
    at, audit = await desk(world(), None, slow.verb())
    asked = asyncio.create_task(at.call(["WAIT"], WHO))
    await slow.begun.wait()
    await at.settled(0.01)
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert [(entry.outcome, entry.said) for entry in audit.last(10)] == [("failed", "it was cancelled")]


async def test_a_verb_that_breaks_is_an_error_without_what_broke_it(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(call: Call) -> Answer:
        raise ValueError("hunter2")

    at, _ = await desk(world(), None, Verb("BREAK", "Breaks.", broken))
    with pytest.raises(VerbError, match=r"^BREAK failed: ValueError; the log says where$"):
        await at.call(["BREAK"], WHO)


@pytest.mark.parametrize(
    ("text", "is_shown"),
    [
        ("redis://:pw@h:1", "redis://:***@h:1"),
        ("rediss://app:p/w@x@h/0", "rediss://app:***@h/0"),
        ("unix://app:pw@/s.sock", "unix://app:***@/s.sock"),
        ("redis://h:1", "redis://h:1"),
        ("name=a@b", "name=a@b"),
    ],
)
def test_passwords_of_urls_are_masked(text: str, is_shown: str) -> None:
    assert masked(text) == is_shown


def test_a_line_can_do_nothing_to_a_terminal() -> None:
    assert Answer([{"name": "\x1b[31mred\nnext", "db": 1}]).lines() == ["name=\\x1b[31mred\\nnext db=1"]


async def test_two_verbs_of_one_name_are_a_mistake() -> None:
    async def nothing(call: Call) -> Answer:
        return Answer("")

    with pytest.raises(ValueError, match="HELP is there twice"):
        Table([Verb("HELP", "", nothing), Verb("HELP", "", nothing)])


def test_a_log_is_asked_for_no_more_than_it_has() -> None:
    assert Audit().last(20) == []
