"""Each diagnosis on Sidekiq: worlds that it finds, and worlds that it leaves alone, as data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.capture.facts import BackendFacts, ClientGroup
from proxy.report.rules.sidekiq import SIDEKIQ_RULES, shared_mode_needs
from proxy.report.sidekiq import (
    CallerLine,
    NamespaceLine,
    ProcessLine,
    QueueLine,
    RoundTrip,
    SetLine,
    Sidekiq,
    Spread,
)

S = 1_000_000_000
RULES = {rule.id: rule for rule in SIDEKIQ_RULES}


def world(**more: Any) -> Sidekiq:
    return Sidekiq(**{"first_ts": 0, "last_ts": 300 * S, "namespaces": (NamespaceLine(b"", 10, 10, 1),), **more})


def queue(name: str, namespace: str = "", **more: Any) -> QueueLine:
    return QueueLine(namespace.encode(), name.encode(), **more)


PUSHED: dict[str, Any] = {"pushes": 3, "pushed": 3, "first_push_ts": 10 * S, "pushers": (b"10.0.0.1",)}


def process(name: str, beats: tuple[float, float] = (0, 300), **more: Any) -> ProcessLine:
    """Heartbeats every 5 s from the first to the last of these seconds."""
    first, last = beats
    line = ProcessLine(
        b"", name.encode(), b"10.0.0.1", int((last - first) / 5) + 1, int(first * S), int(last * S), 5 * S, 5 * S
    )
    return replace(line, **more)


def tagged(name: str, started: int, beats: tuple[float, float] = (0, 300), **more: Any) -> ProcessLine:
    told = {"told": True, "tag": "shop", "version": "7.3.0", "queues": ("default",), "started_ts": started * S}
    return process(name, beats, **{**told, **more})


def caller(name: str = "", **more: Any) -> CallerLine:
    return CallerLine(
        b"10.0.0.1", name.encode(), **{"connections": 1, "at_once": 1, "opened": 0, "short": 0, "commands": 9, **more}
    )


def facts(*others: ClientGroup, unsure: str = "", **info: Any) -> BackendFacts:
    return BackendFacts(S, "sample", "redis:6379", info, len(others) + 1, 1, others, 0, unsure)


CRON = ClientGroup("10.0.0.7", "cron", 2, "lpush")
FULL: dict[str, Any] = {"connected_clients": 95, "maxclients": 100}

# rule, what the world is like, the world, what it says: (level, subject's beginning, part of what was seen)
CASES: list[tuple[str, str, Sidekiq, list[tuple[str, str, str]]]] = [
    (
        "queue-never-fetched", "the same name without a namespace is fetched",
        world(queues=(queue("default", "app", **PUSHED), queue("default", listened=True))),
        [("high", "app:queue:default", "fetched is queue:default: the same name under another namespace")],
    ),
    (
        "queue-never-fetched", "another database",
        world(queues=(queue("default", db=1, **PUSHED), queue("default", listened=True))),
        [("high", "queue:default in database 1", "the same name under another namespace or database")],
    ),
    (
        "queue-never-fetched", "spelt nearly the same",
        world(queues=(queue("Mailer", **PUSHED), queue("mailers", listened=True))),
        [("high", "queue:Mailer", "queue:mailers, which is spelt nearly the same")],
    ),
    (
        "queue-never-fetched", "workers do not go through shunt",
        world(queues=(queue("default", **PUSHED),)),
        [("medium", "queue:default", "no fetch at all is in this capture")],
    ),
    (
        "queue-never-fetched", "a fetch asked for it, in vain",
        world(queues=(queue("default", listened=True, **PUSHED),)), [],
    ),
    ("queue-never-fetched", "nothing was pushed", world(queues=(queue("default"),)), []),
    (
        "queue-never-fetched", "pushed just before the capture ended",
        world(queues=(queue("default", **{**PUSHED, "first_push_ts": 297 * S}),)), [],
    ),
    (
        "two-namespaces", "two", world(namespaces=(NamespaceLine(b"", 1, 20, 2), NamespaceLine(b"app", 5, 0, 0))),
        [("medium", "2 namespaces", "namespace app: 5 pushes, 0 jobs fetched, 0 processes")],
    ),
    ("two-namespaces", "one", world(), []),
    (
        "process-vanished", "silent for the last minute", world(processes=(process("a", (0, 240), lost_fetches=5),)),
        [("high", "a (10.0.0.1)", "none for the last 60 s of the capture, and it did not sign off; 5 fetches")],
    ),
    ("process-vanished", "it signed off", world(processes=(process("a", (0, 240), ended_ts=241 * S),)), []),
    ("process-vanished", "its next heartbeat is only late", world(processes=(process("a", (0, 285)),)), []),
    (
        "process-vanished", "one heartbeat tells no rhythm",
        world(processes=(process("a", (0, 0), interval_ns=None),)), [],
    ),
    (
        "heartbeat-paused", "half a minute", world(processes=(process("a", silence_ns=30 * S),)),
        [("medium", "a (10.0.0.1)", "usually a heartbeat every 5.0 s, once none for 30 s")],
    ),
    (
        "heartbeat-paused", "longer than it lives",
        world(processes=(process("a", silence_ns=61 * S),)), [("high", "a", "61 s")],
    ),
    ("heartbeat-paused", "a little late", world(processes=(process("a", silence_ns=19 * S),)), []),
    (
        "process-left-over", "other queues",
        world(processes=(tagged("old", 1, queues=("default", "old")), tagged("new", 100))),
        [("medium", "old (10.0.0.1)", "queues default, old beside default; it was started 99 s before new")],
    ),
    (
        "process-left-over", "another version",
        world(processes=(tagged("old", 1, version="7.2.1"), tagged("new", 100))),
        [("high", "old (10.0.0.1)", "Sidekiq 7.2.1 beside 7.3.0")],
    ),
    ("process-left-over", "all alike", world(processes=(tagged("one", 1), tagged("two", 100))), []),
    ("process-left-over", "another tag", world(processes=(tagged("a", 1, queues=("x",), tag="b"), tagged("c", 9))), []),
    (
        "process-left-over", "a deploy, side by side for a moment",
        world(processes=(tagged("old", 1, (0, 110), version="7.2.1"), tagged("new", 100, (100, 300)))), [],
    ),
    ("process-left-over", "nothing is told", world(processes=(process("a"), process("b", (5, 300)))), []),
    (
        "past-the-proxy", "in every sample", world(facts=(facts(CRON), facts(CRON))),
        [("high", "10.0.0.7", "2 connections named 'cron', in 2 of 2 samples, last command lpush")],
    ),
    ("past-the-proxy", "looked in once", world(facts=(facts(CRON), facts(), facts())), [("low", "10.0.0.7", "1 of 3")]),
    (
        "past-the-proxy", "there for long when it was seen", world(facts=(facts(replace(CRON, oldest_s=900)),)),
        [("high", "10.0.0.7", "in 1 of 1 sample")],
    ),
    (
        "past-the-proxy", "behind address translation",
        world(facts=(facts(CRON, unsure="NAT"), facts(CRON, unsure="NAT"))),
        [("medium", "10.0.0.7", "not certain: NAT")],
    ),
    ("past-the-proxy", "only shunt", world(facts=(facts(), facts())), []),
    ("past-the-proxy", "the list could not be asked for", world(facts=(BackendFacts(S, "start", "r"),)), []),
    (
        "connections-short", "nearly full",
        world(facts=(facts(**FULL),), callers=(caller(at_once=90),), blocking=20, at_once=90),
        [(
            "high", "redis:6379",
            "95 of 100 connections in use; most at once: 10.0.0.1 90; shared mode would need about 24"
        )],
    ),
    (
        "connections-short", "three quarters", world(facts=(facts(**{**FULL, "connected_clients": 75}), facts())),
        [("medium", "redis:6379", "75 of 100")],
    ),
    ("connections-short", "half", world(facts=(facts(**{**FULL, "connected_clients": 50}),)), []),
    ("connections-short", "the limit is not known", world(facts=(facts(connected_clients=9999),)), []),
    (
        "connection-churn", "one a second", world(callers=(caller("cron", opened=400, short=390),)),
        [("medium", "10.0.0.1 'cron'", "400 connections opened in 5 min, 390 of them for at most 5 commands")],
    ),
    ("connection-churn", "many that stay", world(callers=(caller(opened=400, short=10),)), []),
    ("connection-churn", "few", world(callers=(caller(opened=50, short=50),)), []),
    (
        "big-payloads", "some",
        world(queues=(queue("default", big_jobs=2, job_bytes=Spread(50, 300, 90_000, 90_000)),)),
        [("medium", "queue:default", "2 jobs of 50 over 64 KB, the largest 90.0 kB, half of all under 0.3 kB")],
    ),
    ("big-payloads", "none", world(queues=(queue("default", job_bytes=Spread(50, 300, 900, 900)),)), []),
    (
        "fetch-lost", "undelivered", world(callers=(caller(undelivered=1, lost_fetches=4),)),
        [("high", "10.0.0.1", "4 waiting fetches cut off; 1 job lost for certain")],
    ),
    (
        "fetch-lost", "cut off", world(callers=(caller(lost_fetches=1),)),
        [("low", "10.0.0.1", "1 waiting fetch cut off; no job is known to be lost")],
    ),
    ("fetch-lost", "none", world(callers=(caller(),)), []),
    (
        "unsafe-eviction", "with a limit",
        world(facts=(facts(maxmemory_policy="allkeys-lru", maxmemory=10**9, used_memory=9 * 10**8),)),
        [("high", "redis:6379", "maxmemory-policy allkeys-lru; 900.0 MB of 1,000.0 MB in use; 0 keys evicted")],
    ),
    (
        "unsafe-eviction", "without a limit of its own",
        world(facts=(facts(maxmemory_policy="volatile-ttl", maxmemory=0),)),
        [("medium", "redis:6379", "no limit of its own")],
    ),
    ("unsafe-eviction", "noeviction", world(facts=(facts(maxmemory_policy="noeviction", maxmemory=10**9),)), []),
    (
        "unsafe-eviction", "changed since",
        world(facts=(facts(maxmemory_policy="x"), facts(maxmemory_policy="noeviction"))), [],
    ),
    ("unsafe-eviction", "not told", world(facts=(facts(maxmemory_policy=""),)), []),
    (
        "retries-growing", "a third fail",
        world(namespaces=(NamespaceLine(b"", 90, 90, 1),), sets=(SetLine(b"", "retry", 30, 2, 9),)),
        [("medium", "retry", "30 jobs set aside, 2 taken up again, 90 fetched in the same time: the set grew by 28")],
    ),
    (
        "retries-growing", "few of very many, and they stay",
        world(namespaces=(NamespaceLine(b"", 9000, 9000, 1),), sets=(SetLine(b"", "retry", 150, 50, 9),)),
        [("medium", "retry", "50 taken up again, 9,000 fetched in the same time: the set grew by 100")],
    ),
    (
        "retries-growing", "as many are taken up as are set aside",
        world(namespaces=(NamespaceLine(b"", 9000, 9000, 1),), sets=(SetLine(b"", "retry", 150, 51, 9),)), [],
    ),
    ("retries-growing", "a few", world(sets=(SetLine(b"", "retry", 19, 2, 9),)), []),
    (
        "retries-growing", "many, of very many",
        world(namespaces=(NamespaceLine(b"", 900, 900, 1),), sets=(SetLine(b"", "retry", 30, 30, 9),)), [],
    ),
    (
        "dead-set-growing", "some",
        world(sets=(SetLine(b"app", "dead", 1, 0, 0),)), [("medium", "app:dead", "1 job given up")],
    ),
    ("dead-set-growing", "none", world(sets=(SetLine(b"", "dead", 0, 0, 0),)), []),
    (
        "round-trip-long", "another continent",
        world(round_trip=RoundTrip(80_000_000, 90_000_000, 99), fetches=10, blocking=5),
        [("medium", "shunt to the backend", "more than 80.0 ms, 1 % more than 90.0 ms")],
    ),
    (
        "round-trip-long", "too long for the rate",
        world(
            round_trip=RoundTrip(5_000_000, 9_000_000, 99), fetches=10, blocking=5,
            queues=(queue("default", peak_fetched_per_s=700),),
        ),
        [(
            "medium", "shunt to the backend",
            "at 700 fetches a second that is 70% of the time of 5 fetching connections"
        )],
    ),
    (
        "round-trip-long", "near, and fast",
        world(
            round_trip=RoundTrip(300_000, 900_000, 99), fetches=10, blocking=5,
            queues=(queue("q", peak_fetched_per_s=9000),),
        ),
        [],
    ),
    ("round-trip-long", "nobody fetches", world(round_trip=RoundTrip(80_000_000, 90_000_000, 99)), []),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}: {case[1]}")
def test_a_rule_finds_what_it_is_for_and_nothing_else(
    case: tuple[str, str, Sidekiq, list[tuple[str, str, str]]],
) -> None:
    rule, _, facts_, expected = case
    found = list(RULES[rule].judge(facts_))
    assert [(str(each.level), each.rule) for each in found] == [(level, rule) for level, _, _ in expected]
    for advice, (_, subject, seen) in zip(found, expected, strict=True):
        assert advice.subject.startswith(subject), advice
        assert seen in advice.seen, advice
        assert advice.why
        assert advice.instead


def test_each_rule_has_a_world_that_it_finds_and_one_that_it_leaves_alone() -> None:
    assert {rule for rule, _, _, found in CASES if found} == set(RULES)
    assert {rule for rule, _, _, found in CASES if not found} == set(RULES)


def test_shared_mode_needs_a_connection_for_each_that_waits_and_a_few_more() -> None:
    assert shared_mode_needs(world(blocking=20, at_once=90)) == 24
    assert shared_mode_needs(world(blocking=3, at_once=4)) == 4
