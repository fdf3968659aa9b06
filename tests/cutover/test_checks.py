"""Each check by cases: what is known of two servers in, one finding out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.address import Address
from proxy.cutover.checks import CHECKS, look
from proxy.cutover.finding import Level, Side
from proxy.cutover.server_facts import (
    Answer,
    Jobs,
    Judged,
    Offset,
    Place,
    Reach,
    Right,
    Rights,
    Stage,
    Unknown,
    World,
)  # fmt: skip
from tests.cutover.world import ALLOWED, COMMANDS, USE, USED, WORLD, certificate, past, source, target, world

PASS, WARN, FAIL, UNKNOWN = Level.PASS, Level.WARN, Level.FAIL, Level.UNKNOWN
S, T, B = Side.SOURCE, Side.TARGET, Side.BOTH
NO = Unknown("CONFIG GET is refused: NOPERM")
TLS = Place(Address.parse("rediss://10.0.0.9:6380"))
CLUSTER = {"cluster_state": "ok", "cluster_slots_assigned": "16384", "cluster_size": "1"}
COMPATIBLE = Judged("redis-cluster", True, False, "compatible", "none of 7 commands would end in an error.")
CHANGES = Judged("redis-cluster", False, False, "compatible after 2 changes", "3 of 7 would end in an error.")
UNSURE = Judged("redis-cluster", False, True, "can't tell", "nothing is known of FOO.")
REFUSED = {"may": {**ALLOWED, "FUNCTION RESTORE": Right.NO_COMMAND}}
FAILED = {stage: target(reach=Reach(stage, "why it failed", 0.1)) for stage in Stage}


def denied(right: Right | Unknown, left_out: int = 0) -> World:
    return target(rights=Rights("app", "ACL DRYRUN", (Answer(USED, right),), left_out))


def clustered(judged: Judged | Unknown | None, **changes: str) -> World:
    return replace(target({"cluster_enabled": 1}, cluster={**CLUSTER, **changes}), judged=judged)


def following(given: World) -> World:
    return replace(given, follow=True)


def lacks(*names: str) -> dict[str, frozenset[str]]:
    return {name: each for name, each in COMMANDS.items() if name not in names}


def functions(**of_target: Any) -> World:
    return replace(source(libraries=frozenset({"mine"})), target=target(**of_target).target)


def both(**info: object) -> World:
    return replace(WORLD, source=source(dict(info)).source, target=target(dict(info)).target)


AT_SOURCE = {"master_host": "10.0.0.5", "master_port": 6379}
#: check, side, what is known; the level, and words of its text or advice
CASES = {
    "reached": ("reach", T, WORLD, PASS, "answers; connecting takes 1 ms"),
    "slow to connect": ("reach", T, target(reach=Reach(connect_s=0.5)), WARN, "--connect-timeout"),
    "no name": ("reach", T, FAILED[Stage.NAME], FAIL, "getent hosts 10.0.0.9"),
    "refused": ("reach", T, FAILED[Stage.CONNECT], FAIL, "why it failed"),
    "no Redis": ("reach", T, FAILED[Stage.ANSWER], FAIL, "rediss://"),
    "reached, but not through TLS": ("reach", T, FAILED[Stage.TLS], PASS, "takes connections"),
    "no TLS wanted": ("tls", T, WORLD, PASS, "without TLS"),
    "TLS fails": ("tls", T, FAILED[Stage.TLS], FAIL, "--target-tls-ca"),
    "a good certificate": ("tls", T, target(place=TLS, certificate=certificate(80)), PASS, "80 more days"),
    "a certificate that ends soon": ("tls", T, target(place=TLS, certificate=certificate(3)), WARN, "Renew"),
    "a certificate that nobody checks": (
        "tls", T, target(place=TLS, certificate=Unknown("it is not checked")), UNKNOWN, "not checked",
    ),
    "TLS on the source alone": ("tls", T, source(place=TLS), WARN, "rediss:// for the target"),
    "no password": ("credentials", T, WORLD, PASS, "no password"),
    "a wrong password": ("credentials", T, FAILED[Stage.CREDENTIALS], FAIL, "Put the password into"),
    "two servers": ("same-server", B, WORLD, PASS, "two servers"),
    "one server under two names": ("same-server", B, target({"run_id": "a" * 40}), FAIL, "same run_id"),
    "one address": ("same-server", B, target(place=WORLD.source.place), FAIL, "both 10.0.0.5:6379"),
    "run_id hidden, versions differ": (
        "same-server", B, target({"run_id": None, "redis_version": "7.2.0"}), PASS, "redis_version differ",
    ),
    "run_id hidden, nothing differs": ("same-server", B, target({"run_id": None}), UNKNOWN, "does not tell run_id"),
    "a primary": ("role", T, WORLD, PASS, "takes writes"),
    "a replica": (
        "role", T, target({"role": "slave", "master_host": "h", "master_port": 1}), FAIL, "a replica of h:1",
    ),
    "a replica of the source, cut off from it": (
        "role", T, replace(target({"role": "slave", **AT_SOURCE, "master_link_status": "down"}), follow=True), WARN,
        "its link to it is not up",
    ),
    "a replica of the source that is not to follow": (
        "role", T, target({"role": "slave", **AT_SOURCE, "master_link_status": "up"}), FAIL, "REPLICAOF NO ONE",
    ),
    "loading": ("role", T, target({"loading": 1}), FAIL, "loading"),
    "too few replicas": (
        "role", T, target({"min_slaves_good_slaves": 0}, config={"min-replicas-to-write": "1"}), FAIL, "NOREPLICAS",
    ),
    "no snapshot": (
        "role", T, target({"rdb_last_bgsave_status": "err"}), FAIL, "MISCONF",
    ),
    "no snapshot, and nobody minds": (
        "role", T, target({"rdb_last_bgsave_status": "err"}, config={"stop-writes-on-bgsave-error": "no"}), WARN,
        "BGSAVE",
    ),
    "no append-only file": ("role", T, target({"aof_last_write_status": "err"}), FAIL, "MISCONF"),
    "no role told": ("role", T, target(info={"role": None}), UNKNOWN, "does not tell role"),
    "the source is a replica": (
        "role", S, source({"role": "slave", "master_host": "h", "master_port": 1}), WARN, "Name h:1 as the source",
    ),
    "one version": ("version", B, WORLD, PASS, "Both are Redis 7.0.15"),
    "an older target": ("version", B, target({"redis_version": "6.2.1"}), WARN, "older than the source"),
    "an older target that is to follow": (
        "version", B, following(target({"redis_version": "6.2.1"})), FAIL, "must not be older",
    ),
    "another kind": ("version", B, target({"valkey_version": "8.0.1"}), WARN, "another kind"),
    "a version that is hidden": ("version", B, target({"redis_version": None}), UNKNOWN, "redis_version"),
    "no cluster": ("cluster", T, WORLD, PASS, "not a cluster's node"),
    "a shard that fits": ("cluster", T, clustered(COMPATIBLE), PASS, "has none of them"),
    "a shard that refuses": ("cluster", T, clustered(CHANGES), FAIL, "compatible after 2 changes"),
    "a shard, unsure": ("cluster", T, clustered(UNSURE), UNKNOWN, "can't tell"),
    "a shard without a capture": ("cluster", T, clustered(None), UNKNOWN, "--capture DIR"),
    "several shards": ("cluster", T, clustered(COMPATIBLE, cluster_size="3"), FAIL, "MOVED"),
    "a cluster that is down": ("cluster", T, clustered(COMPATIBLE, cluster_state="fail"), FAIL, "state fail"),
    "all commands": ("commands", T, WORLD, PASS, "every command that the capture uses"),
    "a missing command of the capture": ("commands", T, target(commands=lacks("LPUSH")), FAIL, "LPUSH"),
    "a missing command that was run": ("commands", T, target(commands=lacks("GET")), WARN, "GET"),
    "a missing command that nobody used": ("commands", T, target(commands=lacks("SET")), PASS, "it lacks SET"),
    "commands without capture and statistics": (
        "commands", T, replace(source(used=NO), use=None), UNKNOWN, "--capture DIR",
    ),
    "allowed": ("acl", T, WORLD, PASS, "may run everything"),
    "a command refused": ("acl", T, denied(Right.NO_COMMAND), FAIL, "ACL SETUSER app +lpush"),
    "a key refused": ("acl", T, denied(Right.NO_KEY), FAIL, "ACL SETUSER app ~KEYS"),
    "a key refused, without capture": ("acl", T, replace(denied(Right.NO_KEY), use=None), WARN, "LPUSH"),
    "a right unknown": ("acl", T, denied(Unknown("no line")), UNKNOWN, "may run 0 of 1 command"),
    "some not asked": ("acl", T, denied(Right.ALLOWED, 9), UNKNOWN, "may run 1 of 1 command"),
    "a damaged capture": ("acl", T, world(use=replace(USE, losses=1)), UNKNOWN, "of the rest it is not known"),
    "ACL refused": ("acl", T, target(rights=NO), UNKNOWN, "--target-user"),
    "no functions": ("functions", T, WORLD, PASS, "no functions"),
    "functions there": (
        "functions", T, replace(source(libraries=frozenset({"m"})), target=target(libraries=frozenset({"m"})).target),
        PASS, "1 function library",
    ),
    "functions that the switch copies": ("functions", T, functions(), PASS, "shunt switch copies them"),
    "functions that nobody may copy": ("functions", T, functions(**REFUSED), WARN, "FUNCTION RESTORE on the target is"),
    "functions that nobody may copy, and that are called": (
        "functions", T, replace(functions(**REFUSED), use=replace(USE, commands=(replace(USED, name="FCALL"),))), FAIL,
        "calls functions",
    ),
    "functions of a target without": (
        "functions", T, functions(commands=lacks("FUNCTION")), WARN, "the target has no functions",
    ),
    "scripts there": ("scripts", T, WORLD, PASS, "all 1 script"),
    "a script that the switch loads": (
        "scripts", T, target(scripts_missing=("a" * 40,)), PASS, "recorded since its start",
    ),
    "a script that nobody may load": ("scripts", T, target(scripts_missing=("a" * 40,), may={}), WARN, "NOSCRIPT"),
    "room": ("memory", T, WORLD, PASS, "100 MB of 1 GB"),
    "little room": ("memory", T, source({"used_memory": 750_000_000}), WARN, "80%"),
    "no room": ("memory", T, source({"used_memory": 950_000_000}), FAIL, "does not fit"),
    "no limit": ("memory", T, target({"maxmemory": 0}), PASS, "a machine of 2 GB"),
    "no limit, a small machine": (
        "memory", T, target({"maxmemory": 0, "total_system_memory": 150_000_000}), FAIL, "does not fit",
    ),
    "no memory told": ("memory", T, target({"maxmemory": None}, config={"maxmemory": NO}), UNKNOWN, "NOPERM"),
    "noeviction": ("eviction", T, WORLD, PASS, "evicts nothing"),
    "allkeys-lru under Sidekiq": ("eviction", T, target({"maxmemory_policy": "allkeys-lru"}), FAIL, "jobs would"),
    "volatile-lru under Sidekiq": ("eviction", T, target({"maxmemory_policy": "volatile-lru"}), WARN, "time to live"),
    "allkeys-lru of a cache": (
        "eviction", T, replace(both(maxmemory_policy="allkeys-lru"), use=None, source=replace(
            both(maxmemory_policy="allkeys-lru").source, sidekiq=False)), PASS, "as the source does",
    ),
    "connections": ("connections", T, WORLD, PASS, "50 connections"),
    "many connections": ("connections", T, target({"maxclients": 110}), WARN, "--pool shared"),
    "too many connections": ("connections", T, target({"maxclients": 60}), FAIL, "refused"),
    "databases": ("databases", T, WORLD, PASS, "has database 0"),
    "a database missing": (
        "databases", T, replace(source(keys={0: 1, 5: 2}), target=target(selects={0: "", 5: "out of range"}).target),
        FAIL, "lacks database 5",
    ),
    "another database in the URL": (
        "databases", T, target(place=Place(Address.parse("redis://10.0.0.9:6379/2"))), WARN, "the target's 2",
    ),
    "SELECT refused": ("databases", T, target(selects=NO), UNKNOWN, "NOPERM"),
    "empty": ("emptiness", T, WORLD, PASS, "is empty"),
    "keys there": ("emptiness", T, target(keys={0: 3}), WARN, "3 keys already, none of them a job"),
    "keys that would be deleted": ("emptiness", T, following(target(keys={0: 3})), FAIL, "would delete them"),
    "jobs there": ("emptiness", T, target(keys={0: 3}, jobs=Jobs({"0/queue:default": 12})), FAIL, "12 jobs"),
    "too many keys to look at": (
        "emptiness", T, target(keys={0: 10**9}, jobs=Jobs({}, False)), WARN, "too many to look at",
    ),
    "an append-only file": ("persistence", T, WORLD, PASS, "append-only file"),
    "no append-only file any more": ("persistence", T, target({"aof_enabled": 0}), WARN, "appendonly yes"),
    "snapshots": ("persistence", T, both(aof_enabled=0), PASS, "as the source does"),
    "as many replicas": ("replicas", T, WORLD, PASS, "1 replica"),
    "no replica any more": ("replicas", T, target({"connected_slaves": 0}), WARN, "take its place"),
    "nobody past shunt": ("bypass", S, WORLD, PASS, "Nobody but shunt (3 connections)"),
    "a reader past shunt": ("bypass", S, world(clients=past(("cron", 2, "get"))), WARN, "2 clients are connected"),
    "a writer past shunt": ("bypass", S, world(clients=past(("cron", 1, "lpush"))), FAIL, "command that writes"),
    "writers that may be shunt's": (
        "bypass", S, world(clients=past(("cron", 1, "lpush"), unsure="addresses are translated")), WARN,
        "Addresses are translated",
    ),
    "which are shunt's is not known": (
        "bypass", S, world(clients=past(("", 4, "get")), running=Unknown("no console")), UNKNOWN, "no console",
    ),
    "a capture that saw who went past": (
        "bypass", S,
        world(clients=past(("", 4, "get")), running=Unknown("no console"),
              use=replace(USE, facts=past(("cron", 1, "rpush")))),
        FAIL, "when the capture was made",
    ),
    "a capture that saw nobody go past": (
        "bypass", S, world(clients=past(("", 4, "get")), running=Unknown("no console"), use=replace(USE, facts=past())),
        PASS, "nobody went past shunt",
    ),
    "fetches can be ended": ("unblock", S, WORLD, PASS, "as a hold does"),
    "fetches can't be ended": (
        "unblock", S, source(may={**ALLOWED, "CLIENT UNBLOCK": Right.NO_COMMAND}), WARN, "+client|unblock",
    ),
    "following": ("follow", B, WORLD, PASS, "REPLICAOF is allowed"),
    "no REPLICAOF": ("follow", B, target(commands=lacks("REPLICAOF")), PASS, "the target has no REPLICAOF"),
    "no REPLICAOF, and it is wanted": (
        "follow", B, following(target(may={"REPLICAOF": Right.NO_COMMAND})), FAIL, "Leave --follow out",
    ),
    "no CONFIG SET for the other's password": (
        "follow", B, following(replace(
            source(place=Place(Address.parse("redis://:pw@10.0.0.5:6379"))),
            target=target(may={**ALLOWED, "CONFIG SET": Right.NO_COMMAND}).target,
        )), FAIL, "CONFIG SET",
    ),
    "a unix socket": ("follow", B, source(place=Place(Address.parse("unix:///s"))), PASS, "a unix socket"),
    "REPLICAOF unknown": ("follow", B, target(may={"REPLICAOF": NO}), UNKNOWN, "NOPERM"),
    "clocks agree": ("clock", B, WORLD, PASS, "agree"),
    "clocks differ": ("clock", B, target(clock=Offset(30.0, 0.001)), WARN, "30 s (± 1.5 ms) ahead"),
    "clocks differ a little": ("clock", B, target(clock=Offset(-0.2, 0.001)), PASS, "behind"),
    "near": ("round-trip", T, WORLD, PASS, "median 200 µs"),
    "farther": ("round-trip", T, target(pings_s=(0.003,) * 50), WARN, "15.0 times"),
    "far": ("round-trip", T, target(pings_s=(0.001,) * 97 + (0.2,) * 3), WARN, "within 300 ms"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_check_says_what_is_so(case: tuple[str, Side, World, Level, str]) -> None:
    check, side, known, level, words = case
    [finding] = [each for each in look(known) if (each.check, each.side) == (check, side)]
    assert finding.level is level, finding
    assert words in f"{finding.text} {finding.do}", finding
    assert finding.text.endswith((".", ")", "!"))
    assert (level in (WARN, FAIL)) <= bool(finding.do), "what does not pass says what to do"


def test_every_check_passes_on_two_servers_that_are_fit() -> None:
    assert [finding for finding in look(WORLD) if finding.level is not PASS] == []


def test_every_check_has_a_case_that_does_not_pass() -> None:
    tried = {check for check, _, _, level, _ in CASES.values() if level is not PASS}
    assert {check.id for check in CHECKS} - tried == set()


def test_what_needs_a_server_that_is_not_reached_is_unknown_and_says_so() -> None:
    gone = look(FAILED[Stage.CONNECT])
    assert [finding.check for finding in gone if finding.level is FAIL] == ["reach"]
    unreached = [finding for finding in gone if finding.why == "the target was not reached"]
    assert {finding.level for finding in unreached} == {UNKNOWN}
    assert {"role", "memory", "acl"} <= {finding.check for finding in unreached}


def test_the_quick_checks_are_those_that_a_switch_repeats() -> None:
    quick = {finding.check for finding in look(WORLD, quick=True)}
    assert quick == {"reach", "tls", "credentials", "same-server", "role", "version", "cluster"}


def test_the_page_has_a_section_for_every_check_and_no_other() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "preflight.md").read_text()
    titled = [line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")]
    assert titled == list(dict.fromkeys(check.id for check in CHECKS))


def test_no_finding_is_lost_where_nothing_at_all_is_known() -> None:
    nothing = World(replace(WORLD.source, info=NO, config={}, commands=NO, used=NO, keys=NO, clock=NO, pings_s=NO,
                            libraries=NO, may={}, sidekiq=NO),
                    replace(WORLD.target, info=NO, config={}, commands=NO, keys=NO, clock=NO, pings_s=NO, rights=NO,
                            libraries=NO, may={}, selects=NO, jobs=NO))  # fmt: skip
    said = look(nothing)
    assert len(said) == len(CHECKS)
    assert {finding.check for finding in said if finding.level is PASS} <= {"reach", "tls", "credentials"}
