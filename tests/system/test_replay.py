"""A dialogue through shunt to one Redis, replayed to another: the same data there, or what differs and why."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as client

from tests.servers import HOST, RedisServer, captured, redis_server, shunt, shunt_cli, shunt_command, start, until

pytestmark = pytest.mark.session_only("is about what a capture says; how clients were pooled is not")

THREADS = 6
ROUNDS = 60


@pytest.fixture(scope="module")
def source() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def target() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def other() -> Iterator[RedisServer]:
    """A source of which nothing is compared afterwards."""
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def capture(source: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What some threads said to ``source`` through shunt, with all arguments; it was empty before."""
    path = tmp_path_factory.mktemp("replay") / "capture"
    with shunt(source.url, "--backend-facts", "1s", capture=path) as running:
        assert isinstance(running.address, tuple)
        port = running.address[1]
        threads = [threading.Thread(target=talk, args=(port, n)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return path


def talk(port: int, number: int) -> None:
    """One client: on its own keys everything, on shared ones what comes out the same in any order of rivals; and a
    queue that it feeds and drains by itself, waiting."""
    redis = client.Redis(host=HOST, port=port, db=number % 3, protocol=3 if number % 2 else 2)
    own = f"own:{number}"
    for n in range(ROUNDS):
        redis.set(f"{own}:{n % 7}", f"value {n}".encode() + b"\x00\xff" * n)
        redis.append(f"{own}:log", f"{n};")
        redis.incrby("shared:total", n)
        redis.sadd("shared:members", number, n)
        redis.hset(f"{own}:hash", mapping={str(n % 5): n, "last": n})
        redis.zadd(f"{own}:scores", {f"m{n % 11}": n})
        redis.lpush(f"{own}:queue", n)
        redis.get(f"{own}:{n % 3}")
        if n % 3 == 0:
            redis.brpop(f"{own}:queue", timeout=1)
        if n % 10 == 0:
            redis.eval("return redis.call('RPUSH', KEYS[1], ARGV[1])", 1, f"{own}:scripted", n)
        if n % 9 == 0:
            redis.delete(f"{own}:{n % 7}")
        with redis.pipeline(transaction=True) as pipe:
            pipe.watch(f"{own}:{n % 7}")
            pipe.multi()
            pipe.incr(f"{own}:count")
            pipe.rpush(f"{own}:history", n)
            pipe.execute()
        with redis.pipeline(transaction=False) as pipe:
            for each in range(5):
                pipe.rpush(f"{own}:pipelined", each)
            pipe.execute()
    redis.close()


def replayed(capture: Path, target: RedisServer, *args: str, url: str = "") -> dict[str, Any]:
    """``shunt replay --json``; its document, with ``code`` and ``stderr``."""
    done = shunt_cli("replay", str(capture), url or target.url, "--json", *args, timeout_s=100)
    assert done.stdout, done.stderr
    return {**json.loads(done.stdout), "code": done.returncode, "stderr": done.stderr}


def everything(server: RedisServer) -> dict[tuple[int, bytes], bytes]:
    """Each key's DUMP, by database and name."""
    found = {}
    for db in range(3):
        with client.Redis(host=server.host, port=server.port, db=db) as redis:
            found.update({(db, key): redis.dump(key) for key in redis.scan_iter(count=1000)})
    return found


def calls(server: RedisServer) -> dict[str, int]:
    with client.Redis(host=server.host, port=server.port) as redis:
        return {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in redis.info("commandstats").items()}


def test_at_full_speed_an_empty_target_ends_with_the_same_keys(
    source: RedisServer, target: RedisServer, capture: Path
) -> None:
    shown = replayed(capture, target, "--speed", "max", "--allow-writes")
    assert shown["errors"] == [] or not any(each["only_target"] for each in shown["errors"])
    assert (shown["code"], shown["unanswered"], shown["stopped"]) == (0, [], "")
    assert shown["transactions"] == THREADS * ROUNDS
    assert len(everything(source)) > 60
    assert everything(target) == everything(source)
    assert shown["reply_kinds"]["different"] == []
    assert {"SET", "EXEC", "BRPOP"} <= {each["command"] for each in shown["latencies"]}
    assert shown["connections"] == len({row["conn"] for row in captured(capture) if row["command"]})


def test_without_allow_writes_nothing_is_written(target: RedisServer, capture: Path) -> None:
    shown = replayed(capture, target, "--speed", "max")
    assert shown["code"] == 0
    said = set(calls(target)) - {"info", "hello", "select", "ping", "client", "client|setinfo", "command"}
    assert said == {"get", "watch", "unwatch"}
    assert everything(target) == {}
    skipped = {each["why"].split(";")[0]: each["commands"] for each in shown["skipped"]}
    assert skipped["not flagged readonly"]["SET"] == THREADS * ROUNDS
    assert calls(target)["watch"] == calls(target)["unwatch"]


def test_transactions_arrive_in_one_piece(target: RedisServer, capture: Path) -> None:
    from tests.servers import monitor

    with monitor(target) as seen:
        replayed(capture, target, "--speed", "max", "--allow-writes")
        told = seen.stop()
    within: dict[str, list[str]] = {}
    whole = []
    for each in told:
        name = each.args[0].upper().decode()
        if each.who == "lua":
            continue
        if name == "MULTI":
            within[each.who] = []
        elif name == "EXEC":
            whole.append(within.pop(each.who))
        elif each.who in within:
            within[each.who].append(name)
    assert whole == [["INCRBY", "RPUSH"]] * (THREADS * ROUNDS) or whole == [["INCR", "RPUSH"]] * (THREADS * ROUNDS)
    assert within == {}


def test_what_a_target_refuses_is_named_first(target: RedisServer, capture: Path) -> None:
    assert target.call("ACL", "SETUSER", "few", "on", ">pw", "~own:*", "+@all", "-hset", "-zadd") == b"+OK\r\n"
    shown = replayed(
        capture, target, "--speed", "max", "--allow-writes", url=f"redis://few:pw@{target.host}:{target.port}"
    )
    assert shown["code"] == 1
    first = shown["errors"][: sum(each["only_target"] for each in shown["errors"])]
    assert {(each["command"], each["target"], each["count"]) for each in first} == {
        (name, "NOPERM", THREADS * ROUNDS) for name in ("HSET", "ZADD", "INCRBY", "SADD")
    }
    done = shunt_cli("replay", str(capture), f"redis://few:pw@{target.host}:{target.port}", "--speed", "max",
                     "--allow-writes", timeout_s=100)  # fmt: skip
    assert done.stdout.index("Errors that only the target gives") < done.stdout.index("Latencies")
    assert "pw" not in done.stdout + done.stderr


def test_the_captured_pace_is_the_planned_one(target: RedisServer, capture: Path) -> None:
    rows = captured(capture)
    shown = replayed(capture, target, "--speed", "10x", "--allow-writes", "--max-gap", "100ms")
    assert shown["schedule"]["captured_s"] == pytest.approx(
        (max(row["ts"] for row in rows) - min(row["ts"] for row in rows)) / 1e9, abs=0.01
    )
    least_s = (shown["schedule"]["captured_s"] - shown["schedule"]["pauses_left_out_s"]) / 10
    assert shown["seconds"] >= least_s - 0.01  # never earlier than planned
    assert shown["schedule"]["behind_ms"]["p50"] >= 0


@pytest.mark.parametrize("mode", ["none", "keys"])
def test_a_capture_without_arguments_is_refused_before_anything_is_sent(
    other: RedisServer, target: RedisServer, tmp_path: Path, mode: str
) -> None:
    with shunt(other.url, capture=tmp_path / "c", capture_args=mode) as running, running.talk() as talk:
        talk.call("GET", "a")
    done = shunt_cli("replay", str(tmp_path / "c"), target.url)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"--capture-args {mode}" in done.stderr
    assert "record again with --capture-args full" in done.stderr


def test_writes_are_not_repeated_on_the_server_that_was_captured(source: RedisServer, capture: Path) -> None:
    before = everything(source)
    done = shunt_cli("replay", str(capture), source.url, "--speed", "max", "--allow-writes")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is the server that the capture was made from" in done.stderr
    reading = shunt_cli("replay", str(capture), source.url, "--speed", "max")
    assert reading.returncode == 0
    assert "it serves the captured reads again" in reading.stderr
    assert everything(source) == before


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"redis://{HOST}:1", "does not answer"),
        (f"redis://{HOST}:1/3", "leave the database out"),
        ("http://x", "not a redis URL"),
    ],
)
def test_a_target_that_can_not_be_is_refused(capture: Path, url: str, says: str) -> None:
    done = shunt_cli("replay", str(capture), url)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_filter_chooses_what_is_replayed(target: RedisServer, capture: Path) -> None:
    shown = replayed(capture, target, "--speed", "max", "--allow-writes", "--where", "cmd:HSET")
    assert {each["command"] for each in shown["latencies"]} == {"HSET"}
    assert set(calls(target)) & {"set", "zadd", "multi"} == set()
    assert calls(target)["hset"] == THREADS * ROUNDS


def test_interrupted_it_ends_with_the_summary_so_far(target: RedisServer, tmp_path: Path, capture: Path) -> None:
    command = [*shunt_command(), "replay", str(capture), target.url, "--speed", "0.01x", "--allow-writes"]
    process = start(command, tmp_path / "log", env={"PYTHONPATH": str(Path(__file__).parents[2])})
    try:
        until(lambda: "set" in calls(target), what="the replay has begun")
        process.signal(signal.SIGINT)
        assert process.wait() == 130
    finally:
        process.kill()
    assert "Ended early: interrupted" in process.log
    assert "Latencies in ms" in process.log
    assert "Traceback" not in process.log


def test_a_target_that_goes_away_ends_the_replay(tmp_path: Path, capture: Path) -> None:
    with redis_server() as server:
        command = [*shunt_command(), "replay", str(capture), server.url, "--speed", "0.2x", "--allow-writes"]
        process = start(command, tmp_path / "log", env={"PYTHONPATH": str(Path(__file__).parents[2])})
        try:
            until(lambda: "set" in calls(server), what="the replay has begun")
            server.kill()
            assert process.wait(60) == 1
        finally:
            process.kill()
    assert "connections in a row failed" in process.log
    assert "Not answered" in process.log


def test_a_wait_that_finds_nothing_ends_with_the_pace(other: RedisServer, target: RedisServer, tmp_path: Path) -> None:
    with shunt(other.url, capture=tmp_path / "c") as running, running.talk() as one, running.talk() as two:
        other.call("LPUSH", "before", "the capture")
        assert b"the capture" in one.call("BRPOP", "before", "0")
        assert b"*-1" in two.call("BRPOP", "nothing", "0.2")
        one.call("SET", "done", "1")
    shown = replayed(tmp_path / "c", target, "--speed", "max", "--allow-writes")
    assert [(k["command"], k["captured"], k["replayed"]) for k in shown["reply_kinds"]["different"]] == [
        ("BRPOP", "array", "null")
    ]
    assert target.call("EXISTS", "done") == b":1\r\n"


def test_scripts_that_were_loaded_before_the_capture_are_there(
    target: RedisServer, other: RedisServer, tmp_path: Path
) -> None:
    with shunt(other.url, capture=tmp_path / "c") as running, running.talk() as talk:
        talk.call("EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", "1", "scripted", "yes")
        sha = client.Redis(host=other.host, port=other.port).script_load("return redis.call('SET', KEYS[1], ARGV[1])")
        talk.call("EVALSHA", str(sha), "1", "scripted", "again")
    shown = replayed(tmp_path / "c", target, "--speed", "max", "--allow-writes", "--where", "cmd:EVALSHA")
    assert (shown["code"], shown["scripts_loaded"]) == (0, 1)
    assert target.call("GET", "scripted") == b"$5\r\nagain\r\n"


def test_a_compacted_capture_is_replayed_alike(
    target: RedisServer, source: RedisServer, capture: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in capture.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    subprocess.run([*shunt_command(), "capture", "compact", str(copy)], check=True, capture_output=True)
    assert {file.suffix for file in copy.iterdir()} == {".parquet"}
    replayed(copy, target, "--speed", "max", "--allow-writes")
    assert everything(target) == everything(source)
