"""Recorded latencies against a backend whose delays are known."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import hiredis
import pytest

from tests.servers import HOST, Shunt, captured, free_port, printed, shunt, shunt_cli
from tests.wire import Talk, encode

MS = 1_000_000
#: How much later than its delay a reply may be seen on a machine that is busy with other tests.
SLACK_MS = 60
DELAYS_MS = (0, 20, 50, 100)


class SlowBackend:
    """Answers ``GET delay:N`` after N ms, one command after another per connection, and anything else at once.

    ``GET split:N`` sends half of its reply at once and the rest after N ms. ``GET big:N`` answers with N bytes.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self._up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, HOST, self.port))
        self._up.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    await self._answer(command, writer)
        writer.close()

    async def _answer(self, command: list[bytes], writer: asyncio.StreamWriter) -> None:
        kind, _, number = command[1].partition(b":") if len(command) > 1 else (b"", b"", b"")
        if command[0].upper() == b"PING":
            writer.write(b"+PONG\r\n")
        elif kind == b"delay":
            await asyncio.sleep(int(number) / 1_000)
            writer.write(b"$2\r\nok\r\n")
        elif kind == b"split":
            writer.write(b"$6\r\nab")
            await asyncio.sleep(int(number) / 1_000)
            writer.write(b"cdef\r\n")
        elif kind == b"big":
            writer.write(b"$%d\r\n%s\r\n" % (int(number), b"x" * int(number)))
        else:
            writer.write(b"+OK\r\n")

    def __enter__(self) -> SlowBackend:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"


Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Path, str]:
    """Rows of every kind of dialogue, the capture, and what /metrics said at the end."""
    capture = tmp_path_factory.mktemp("capture")
    with SlowBackend() as backend, shunt(backend.url, capture=capture) as through:
        one_by_one(through)
        at_once(through)
        in_parts(through)
        metrics = through.get("/metrics")[1]
        through.stop()
    return captured(capture), capture, metrics


def named(through: Shunt, name: str) -> Talk:
    talk = through.talk()
    assert talk.call("CLIENT", "SETNAME", name) == b"+OK\r\n"
    return talk


def one_by_one(through: Shunt) -> None:
    with named(through, "one-by-one") as talk:
        for _ in range(5):
            for delay in DELAYS_MS:
                talk.call("GET", f"delay:{delay}")


def at_once(through: Shunt) -> None:
    """Three commands in one write: each waits for those before it."""
    with named(through, "at-once") as talk:
        talk.send(b"".join(encode("GET", f"delay:{delay}") for delay in (50, 50, 50))).frames(3)


def in_parts(through: Shunt) -> None:
    """A command whose last byte comes late is not slow; a reply whose last byte comes late is."""
    with named(through, "in-parts") as talk:
        command = encode("GET", "delay:0")
        talk.send(command[:-1])
        time.sleep(0.2)  # the time that must not be counted
        talk.send(command[-1:]).frame()
        talk.call("GET", "split:100")
    with named(through, "a-slow-reader") as talk:
        talk.send(encode("GET", "big:100000"))
        time.sleep(0.2)
        talk.frame()


def of(rows: Rows, name: str) -> Rows:
    return [row for row in rows if row["client_name"] == name.encode() and row["command"] == b"GET"]


def latency_ms(row: dict[str, Any]) -> float:
    return float(row["latency_ns"]) / MS


Recorded = tuple[Rows, Path, str]


def test_a_latency_is_the_backends_delay_and_little_more(recorded: Recorded) -> None:
    rows = of(recorded[0], "one-by-one")
    assert len(rows) == 20
    by_delay: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        by_delay[int(row["keys"][0].split(b":")[1])].append(latency_ms(row))
    for delay, seen in by_delay.items():
        assert min(seen) >= delay * 0.95, f"{delay} ms: {seen}"
        assert sorted(seen)[2] <= delay + SLACK_MS, f"{delay} ms: {seen}"
    medians = [sorted(by_delay[delay])[2] for delay in DELAYS_MS]
    assert medians == sorted(medians)


def test_commands_sent_at_once_wait_for_each_other(recorded: Recorded) -> None:
    first, second, third = map(latency_ms, of(recorded[0], "at-once"))
    assert first >= 47
    assert second >= first + 40
    assert third >= second + 40


def test_a_latency_begins_with_the_commands_last_byte(recorded: Recorded) -> None:
    whole = of(recorded[0], "in-parts")[0]
    assert latency_ms(whole) < 150, "the 200 ms before the last byte were counted"


def test_a_latency_ends_with_the_replys_last_byte(recorded: Recorded) -> None:
    split = of(recorded[0], "in-parts")[1]
    assert latency_ms(split) >= 95
    assert split["reply_bytes"] == len(b"$6\r\nabcdef\r\n")


def test_a_client_that_reads_late_does_not_make_the_backend_slow(recorded: Recorded) -> None:
    (row,) = of(recorded[0], "a-slow-reader")
    assert latency_ms(row) < 150


def test_times_are_those_of_the_wall_clock_and_in_order(recorded: Recorded) -> None:
    now = time.time_ns()
    rows = [row for row in recorded[0] if not row["gap"]]
    assert all(0 <= now - row["ts"] < 600 * 1_000 * MS for row in rows)
    for name in ("one-by-one", "at-once"):
        times = [row["ts"] for row in of(rows, name)]
        assert times == sorted(times)
    assert {row["held_ns"] for row in rows} == {0}


def test_the_printed_latency_is_the_recorded_one(recorded: Recorded) -> None:
    rows, capture, _ = recorded
    lines = {(line["conn"], line["seq"]): line["latency_ns"] for line in printed(capture)}
    assert lines == {(row["conn"], row["seq"]): row["latency_ns"] for row in rows}


def test_the_reports_quantiles_are_those_of_the_rows(recorded: Recorded) -> None:
    rows, capture, _ = recorded
    done = shunt_cli("report", str(capture), "--format", "json")
    assert done.returncode in (0, 3), done.stderr
    (service,) = [each["service"] for each in json.loads(done.stdout)["commands"] if each["command"] == "GET"]
    seen = sorted(row["latency_ns"] for row in rows if row["command"] == b"GET")
    assert service["count"] == len(seen)
    assert seen[len(seen) // 2 - 1] * 0.97 <= service["p50_ns"] <= seen[len(seen) // 2 + 1] * 1.03
    assert seen[-2] * 0.97 <= service["p99_ns"] <= seen[-1] == service["max_ns"]


def test_the_metrics_count_each_delay_in_its_bucket(recorded: Recorded) -> None:
    rows, _, metrics = recorded
    seen = [row["latency_ns"] / 1e9 for row in rows if row["command"] == b"GET"]
    bucket = re.compile(r'shunt_command_duration_seconds_bucket\{command="GET",le="([^"]+)"\} (\S+)')
    counted = [(float(bound), float(count)) for bound, count in bucket.findall(metrics)]
    assert len(counted) > 10
    for bound, count in counted:
        assert count == sum(latency < bound for latency in seen), f"below {bound} s"
