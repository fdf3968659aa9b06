"""Sidekiq's own keys, by name."""

from __future__ import annotations

import pytest

from proxy.report.sidekiq_keys import Role, namespaces, which
from proxy.report.templates import fold_one

#: key, its namespace, role and rest; each is also tried as its template
CASES = [
    ("queue:default", "", "queue", "default"),
    ("queue:a:b", "", "queue", "a:b"),
    ("app:queue:default", "app", "queue", "default"),
    ("app:prod:queue:mail", "app:prod", "queue", "mail"),
    ("queue:sq|web-1:42:0123456789ab|default", "", "private", "web-1:42:0123456789ab|default"),
    ("queues", "", "queues", ""),
    ("app:queues", "app", "queues", ""),
    ("schedule", "", "schedule", ""),
    ("retry", "", "retry", ""),
    ("app:dead", "app", "dead", ""),
    ("processes", "", "processes", ""),
    ("web-1.example.org:4242:0123456789ab", "", "identity", "web-1.example.org:4242:0123456789ab"),
    ("app:web-1:4242:0123456789ab", "app", "identity", "web-1:4242:0123456789ab"),
    ("web-1:4242:0123456789ab:workers", "", "work", "web-1:4242:0123456789ab"),
    ("web-1:4242:0123456789ab:work", "", "work", "web-1:4242:0123456789ab"),
    ("app:web-1:4242:0123456789ab-signals", "app", "signals", "web-1:4242:0123456789ab"),
    ("stat:processed", "", "stat", ""),
    ("app:stat:failed:2026-11-24", "app", "stat", ""),
    ("j|20261124|8:15", "", "metrics", ""),
    ("process_cleanup", "", "cleanup", ""),
    ("it-0123456789abcdef01234567", "", "iteration", ""),
    ("b-DkVzK8WSz0pJ6g-jids", "", "batch", ""),
]
NOBODYS = ["queue", "queues:x", "stat:other", "user:12:34567", "retry:x", "it-work", "xqueues", "cart:queue-1", ""]


@pytest.mark.parametrize(("key", "namespace", "role", "rest"), CASES)
def test_a_key_of_sidekiqs_is_known_by_its_name(key: str, namespace: str, role: str, rest: str) -> None:
    assert which(key.encode()) == (namespace.encode(), Role(role), rest.encode())


@pytest.mark.parametrize(("key", "namespace", "role", "rest"), CASES)
def test_so_is_its_template(key: str, namespace: str, role: str, rest: str) -> None:
    found = which(fold_one(key.encode()))
    assert found is not None
    assert (found.namespace, found.role) == (namespace.encode(), Role(role))


@pytest.mark.parametrize("key", NOBODYS)
def test_another_name_is_none_of_sidekiqs(key: str) -> None:
    assert which(key.encode()) is None


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (["queue:a", "queues"], [""]),
        (["app:queue:a", "app:queues", "retry", "schedule"], ["", "app"]),
        (["app:queue:a", "app:queue:b"], []),  # lists of anybody's
        (["shop:queue:orders", "queue:a", "retry"], [""]),
        (["dead"], []),
    ],
)
def test_a_namespace_is_sidekiqs_where_two_roles_meet(keys: list[str], found: list[str]) -> None:
    assert sorted(namespaces(key.encode() for key in keys)) == [each.encode() for each in found]
