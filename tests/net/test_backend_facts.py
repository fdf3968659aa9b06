"""What only the backend knows: which connections are shunt's, and what is said where that can't be told."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis

from proxy.capture.facts import BackendFacts, ClientGroup
from proxy.capture.reader import Capture
from proxy.net import backend_facts
from proxy.net.backend_facts import address, told_apart
from tests.servers import RedisServer, redis_server, shunt, until

EMPTY = BackendFacts(1, "sample", "redis:6379")


def client(addr: str, name: str = "", **more: str) -> dict[str, str]:
    return {"addr": addr, "name": name, "age": "100", "idle": "5", "cmd": "get", **more}


#: rows of CLIENT LIST, shunt's own addresses, where the backend sees shunt; own, others by address, whether it is sure
CASES = {
    "only shunt's": ([client("10.0.0.1:1")], ["10.0.0.1:1"], "10.0.0.1:9", 1, {}, True),
    "one more from the same host": (
        [client("10.0.0.1:1"), client("10.0.0.1:2")], ["10.0.0.1:1"], "10.0.0.1:9", 1, {"10.0.0.1": 1}, True,
    ),
    "others from other hosts": (
        [client("10.0.0.1:1"), client("10.0.0.2:1"), client("10.0.0.2:2")], ["10.0.0.1:1"], "10.0.0.1:9", 1,
        {"10.0.0.2": 2}, True,
    ),
    "the same port of another host is not shunt's": (
        [client("10.0.0.2:1")], ["10.0.0.1:1"], "10.0.0.1:9", 0, {"10.0.0.2": 1}, True,
    ),
    "IPv6": ([client("[::1]:1"), client("[::1]:2")], ["[::1]:1"], "[::1]:9", 1, {"[::1]": 1}, True),
    "shunt has no connection yet": ([client("10.0.0.2:1")], [], "10.0.0.1:9", 0, {"10.0.0.2": 1}, True),
    "behind address translation, as many as shunt has": (
        [client("1.2.3.4:7"), client("1.2.3.4:8")], ["10.0.0.1:1", "10.0.0.1:2"], "1.2.3.4:9", None, {}, False,
    ),
    "behind address translation, one more": (
        [client("1.2.3.4:7"), client("1.2.3.4:8")], ["10.0.0.1:1"], "1.2.3.4:9", None, {"1.2.3.4": 1}, False,
    ),
    "behind address translation, from elsewhere": (
        [client("1.2.3.4:7"), client("5.6.7.8:1")], ["10.0.0.1:1"], "1.2.3.4:9", None, {"5.6.7.8": 1}, False,
    ),
    "a unix socket": (
        [client("/run/redis.sock:0"), client("/run/redis.sock:0"), client("10.0.0.2:1")], ["unix socket"],
        "/run/redis.sock:0", None, {"/run/redis.sock": 1, "10.0.0.2": 1}, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_shunts_connections_are_told_from_others(
    case: tuple[list[dict[str, str]], list[str], str, int | None, dict[str, int], bool],
) -> None:
    rows, own, seen, ours, others, sure = case
    facts = told_apart(EMPTY, rows, own, seen)
    assert facts.own == ours
    assert {group.address: group.count for group in facts.others} == others
    assert (facts.unsure == "") == sure
    assert facts.listed == len(rows)


def test_others_are_grouped_by_name_with_what_they_did_last() -> None:
    rows = [
        client("10.0.0.2:1", "cron", age="500", idle="90", cmd="lpush"),
        client("10.0.0.2:2", "cron", age="20", idle="1", cmd="get", **{"lib-name": "redis-rb", "lib-ver": "5.0"}),
        client("10.0.0.2:3"),
    ]
    assert told_apart(EMPTY, rows, [], "10.0.0.1:9").others == (
        ClientGroup("10.0.0.2", "cron", 2, "get", "redis-rb 5.0", 500),
        ClientGroup("10.0.0.2", "", 1, "get", "", 100),
    )


def test_only_the_largest_groups_are_kept_and_the_rest_is_counted() -> None:
    rows = [client(f"10.0.{i // 250}.{i % 250}:1") for i in range(backend_facts.GROUPS + 12)]
    facts = told_apart(EMPTY, rows, [], "10.9.9.9:9")
    assert (len(facts.others), facts.others_more) == (backend_facts.GROUPS, 12)


@pytest.mark.parametrize(
    ("sockname", "shown"),
    [
        (("127.0.0.1", 5), "127.0.0.1:5"),
        (("::1", 5, 0, 0), "[::1]:5"),
        (("::ffff:10.0.0.1", 5, 0, 0), "10.0.0.1:5"),
        ("", "unix socket"),
        (None, "unix socket"),
    ],
)
def test_an_address_is_written_as_redis_writes_it(sockname: object, shown: str) -> None:
    assert address(sockname) == shown


def test_facts_survive_json_and_fields_of_a_newer_shunt_are_left_out() -> None:
    facts = told_apart(EMPTY, [client("10.0.0.2:1", "cron")], [], "10.0.0.1:9", "a worker was silent")
    data = {**facts.as_json(), "newer": 1, "others": [{**each, "newer": 2} for each in facts.as_json()["others"]]}
    assert BackendFacts.of_json(data) == facts


async def _sampled(url: str) -> BackendFacts:
    return await backend_facts.sample(Redis.from_url(url), "redis", [], "sample")


def test_what_may_not_be_asked_is_unknown_with_its_reason() -> None:
    with redis_server() as redis:
        redis.call("ACL", "SETUSER", "watcher", "on", ">pw", "+info", "+client|id")
        facts = asyncio.run(_sampled(f"redis://watcher:pw@{redis.address[0]}:{redis.address[1]}"))
        assert facts.info["maxmemory_policy"] == "noeviction"
        assert facts.listed is None
        assert "permission" in facts.unknown["CLIENT LIST"]
        assert "pw" not in str(facts)
        refused = asyncio.run(_sampled(f"redis://watcher:wrong@{redis.address[0]}:{redis.address[1]}"))
        assert list(refused.unknown) == ["everything"]
    gone = asyncio.run(_sampled(redis.url))
    assert list(gone.unknown) == ["everything"]


def facts_of(capture: Path) -> list[BackendFacts]:
    opened = Capture([capture])
    for _ in opened.batches():
        pass
    return opened.backend_facts()


@pytest.mark.session_only("a shared backend connection is not one for each client")
@pytest.mark.parametrize("workers", [1, 3])
def test_the_connections_of_all_workers_are_known_as_shunts_own(
    workers: int, redis: RedisServer, tmp_path: Path
) -> None:
    capture = tmp_path / "capture"
    with (
        shunt(redis.url, "--backend-facts", "200ms", "--workers", str(workers), capture=capture) as through,
        redis.talk() as direct,
    ):
        direct.call("CLIENT", "SETNAME", "direct")
        talks = [through.talk() for _ in range(12)]

        def seen() -> bool:
            for talk in talks:  # samples are written with rows
                talk.call("PING")
            found = facts_of(capture) if any(capture.glob("*.shunt*")) else []
            return bool(found) and found[-1].own == 12 and [group.name for group in found[-1].others] == ["direct"]

        until(seen, within_s=20, what="all connections are told apart", every_s=0.1)
        for talk in talks:
            talk.close()
        through.stop()
    found = facts_of(capture)
    assert {facts.unsure for facts in found} == {""}
    assert (found[0].moment, found[-1].moment) == ("start", "end")
    assert all(earlier.ts_ns < later.ts_ns for earlier, later in pairwise(found))  # one worker asks


def test_nothing_is_asked_where_it_is_switched_off_or_nothing_is_captured(redis: RedisServer, tmp_path: Path) -> None:
    redis.call("CONFIG", "RESETSTAT")
    with shunt(redis.url, "--backend-facts", "off", capture=tmp_path / "off") as through, through.talk() as talk:
        talk.call("PING")
    with shunt(redis.url) as through, through.talk() as talk:
        talk.call("PING")
    assert facts_of(tmp_path / "off") == []
    assert b"cmdstat_client|list" not in redis.call("INFO", "commandstats")
