"""A costly program and its mended form, through shunt to a real Redis: what the report says, and what the diff says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis as client

from tests.servers import RedisServer, captured, shunt, shunt_cli

pytestmark = pytest.mark.session_only("is about what a report says, and whose commands they are doesn't matter")

BUSY = "local n = 0 for i = 1, 5000000 do n = n + i % 7 end return n"  # tens of milliseconds
USERS = [f"{{u}}user:{n}" for n in range(3000)]
NEEDS_ARGUMENTS = {"radius-of-everything", "scan-count-too-large"}


def prepare(redis: client.Redis) -> None:
    redis.flushall()
    with redis.pipeline(transaction=False) as pipe:
        for user in USERS:
            pipe.set(user, "v" * 20)
        for start in range(0, 300_000, 1000):
            pipe.sadd("big:1", *range(start, start + 1000))
        pipe.sadd("tags", *range(900))
        pipe.sadd("tags", *range(900, 1800))
        pipe.geoadd("shops", (13.4, 52.5, "here"))
        pipe.execute()


def costly(redis: client.Redis) -> None:
    """One of each sin."""
    redis.mget(USERS)
    redis.keys("{u}user:1*")
    redis.smembers("tags")
    redis.execute_command("SCAN", "0", "COUNT", "5000")
    redis.sadd("made", *range(2000))
    redis.delete("big:1")
    redis.eval(BUSY, 0)
    redis.set("page:1", "x" * 300_000)
    redis.execute_command("GEORADIUS", "shops", 13, 52, 20100, "km")
    redis.execute_command("SETEX", "session:1", 60, "x")
    with redis.pipeline(transaction=True) as pipe:
        for n in range(150):
            pipe.incr(f"{{u}}counter:{n % 3}")
        pipe.execute()
    for user in USERS[:150]:
        redis.get(user)


def mended(redis: client.Redis) -> None:
    """The same without."""
    with redis.pipeline(transaction=False) as pipe:
        for start in range(0, len(USERS), 500):
            pipe.mget(USERS[start : start + 500])
        for user in USERS[:150]:
            pipe.get(user)
        pipe.execute()
    list(redis.scan_iter("{u}user:1*", count=500))
    list(redis.sscan_iter("tags", count=500))
    for start in range(0, 2000, 500):
        redis.sadd("made", *range(start, start + 500))
    redis.unlink("big:1")
    redis.execute_command("GEOSEARCH", "shops", "FROMLONLAT", 13, 52, "BYRADIUS", 10, "km")
    redis.set("session:1", "x", ex=60)
    redis.set("page:1", "x" * 3000)


def record(server: RedisServer, program: Any, folder: Path, capture_args: str) -> Path:
    """A capture of ``program``, of the data before it nothing."""
    with client.Redis(*server.address, protocol=2) as direct:
        prepare(direct)
    with shunt(server.url, capture=folder, capture_args=capture_args) as running:
        host, port = running.address
        with client.Redis(str(host), int(port), client_name="program") as redis:
            program(redis)
    return folder


@pytest.fixture(scope="module", params=["full", "keys"])
def captures(request: pytest.FixtureRequest, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(f"costs-{request.param}")
    return (
        request.param,
        record(redis, costly, folder / "before", request.param),
        record(redis, mended, folder / "after", request.param),
    )


def advice(path: Path) -> dict[str, str]:
    """Rule to subject."""
    report = json.loads(shunt_cli("report", str(path), "--format", "json").stdout)
    return {each["rule"]: each["subject"] for each in report["costs"]["advice"]}


def test_each_sin_is_named_where_it_was_committed(captures: Any) -> None:
    recorded, before, _ = captures
    expected = {
        "keys-command": "KEYS", "read-batch-too-large": "MGET {u}user:<id>", "whole-collection-read": "SMEMBERS tags",
        "write-batch-too-large": "SADD made", "slow-delete": "DEL big:<id>", "big-value": "SET page:<id>",
        "long-transaction": "EXEC", "reads-in-a-row": "GET {u}user:<id>", "radius-of-everything": "GEORADIUS shops",
        "scan-count-too-large": "SCAN",
    }  # fmt: skip
    said = advice(before)
    assert set(said) - {"deprecated-command", "long-script"} == set(expected) - (
        NEEDS_ARGUMENTS if recorded == "keys" else set()
    )
    assert {rule: subject for rule, subject in said.items() if rule in expected} == {
        rule: expected[rule] for rule in said if rule in expected
    }
    assert said["long-script"].startswith("EVAL ")


def test_the_mended_program_gets_no_advice(captures: Any) -> None:
    _, _, after = captures
    assert advice(after) == {}


def test_the_diff_says_what_is_gone_and_the_exit_code_what_is_new(captures: Any) -> None:
    _, before, after = captures
    done = shunt_cli("diff", str(before), str(after), "--format", "json")
    found = json.loads(done.stdout)
    gone = {item["rule"] for item in found["gone"] if item["of"] == "advice"}
    assert {"keys-command", "read-batch-too-large", "slow-delete"} <= gone
    assert [item for item in found["new"] if item["of"] == "advice"] == []
    assert shunt_cli("diff", str(before), str(before)).returncode == 0
    assert shunt_cli("diff", str(after), str(before)).returncode == 1


def test_arguments_and_elements_are_counted_as_redis_saw_them(captures: Any) -> None:
    _, before, _ = captures
    counts = {(row["command"], row["nargs"]): row["reply_items"] for row in captured(before)}
    assert counts[b"MGET", 3001] == 3000
    assert counts[b"SMEMBERS", 2] == 1800
    assert counts[b"SADD", 2002] == -1
    assert counts[b"EXEC", 1] == 150
    assert counts[b"SCAN", 4] == 2
