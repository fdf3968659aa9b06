"""What decides which questions a preflight asks."""

from __future__ import annotations

import pytest

from proxy.cutover.preflight import judged_as, older_than_acl
from tests.cutover.world import target

VERSIONS = [
    ({"redis_version": "5.0.14"}, True, "redis-cluster"),
    ({"redis_version": "6.0.0"}, False, "redis-cluster"),
    ({"redis_version": "8.2.1"}, False, "redis-cluster-8"),
    ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, False, "valkey-cluster"),
    ({"redis_version": "7.2.4", "valkey_version": "9.0.0"}, False, "valkey-cluster-9"),
    ({"redis_version": "7.4.0", "dragonfly_version": "df-v1.30.0"}, False, "dragonfly-cluster"),
    ({"redis_version": None}, False, "redis-cluster"),
]


@pytest.mark.parametrize(("info", "older", "kind"), VERSIONS)
def test_a_servers_version_decides_whether_it_has_rights_and_what_it_is_judged_as(
    info: dict[str, str | None], older: bool, kind: str
) -> None:
    server = target(info).target
    assert (older_than_acl(server), judged_as(server)) == (older, kind)
