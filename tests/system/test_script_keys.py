"""Scripts with undeclared keys: what real clusters of one and of three nodes answer, and what the report announces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Cluster, RedisServer, captured, cluster, findings, shunt
from tests.wire import Talk

pytestmark = pytest.mark.session_only("is about what a report says, and whose commands they are doesn't matter")

NON_LOCAL = "a non local key in a cluster node"
OTHER_SLOT = "Script attempted to access keys that do not hash to the same slot"
NO_CLUSTER = "Can not run script on cluster, 'no-cluster' flag is set"
LATENT, STRICT, FLAGGED = "script-undeclared-keys", "script-undeclared-slots", "#!lua flags=allow-cross-slot-keys\n"


@dataclass(frozen=True)
class Script:
    """A body. <HOME>: a key's name that is on the node of the declared key but in another slot; <AWAY>: one that is on
    another node where there is one. ``one``, ``three``: the error on so many nodes; empty: none."""

    name: str
    body: str
    rule: str
    one: str = ""
    three: str = ""


SCRIPTS = [
    Script("declared", "return redis.call('GET', KEYS[1])", ""),
    Script("declared, #!lua", "#!lua\nreturn redis.call('GET', KEYS[1])", ""),
    Script("local", "return redis.call('SET', '<HOME>', 1)", LATENT),
    Script("elsewhere", "return redis.call('SET', '<AWAY>', 1)", LATENT, three=NON_LOCAL),
    Script("by argument", "return redis.call('SET', ARGV[1], 1)", LATENT, three=NON_LOCAL),
    Script("declared and elsewhere", "redis.call('GET', KEYS[1]) return redis.call('SET', '<AWAY>', 1)", LATENT,
           three=NON_LOCAL),
    Script("made of a declared key with a tag", "return redis.call('SET', KEYS[1] .. ':x', 1)", LATENT),
    Script("local, #!lua", "#!lua\nredis.call('GET', KEYS[1]) return redis.call('SET', '<HOME>', 1)", STRICT,
           OTHER_SLOT, OTHER_SLOT),
    Script("elsewhere, #!lua", "#!lua\nreturn redis.call('SET', '<AWAY>', 1)", STRICT, OTHER_SLOT, NON_LOCAL),
    Script("in the slot, #!lua", "#!lua\nreturn redis.call('SET', KEYS[1] .. ':x', 1)", STRICT),
    Script("local, with the flag", FLAGGED + "redis.call('GET', KEYS[1]) redis.call('SET', '<HOME>', 1)", LATENT),
    Script("elsewhere, with the flag", FLAGGED + "return redis.call('SET', '<AWAY>', 1)", LATENT, three=NON_LOCAL),
    Script("no cluster", "#!lua flags=no-cluster\nreturn 1", "script-no-cluster", NO_CLUSTER, NO_CLUSTER),
]  # fmt: skip
KEY = "{home}1"


@pytest.fixture(scope="module")
def clusters() -> Iterator[dict[int, Cluster]]:
    with cluster(1) as one, cluster(3) as three:
        yield {1: one, 3: three}


def words(script: Script, three: Cluster) -> tuple[str, ...]:
    """The EVAL, with names that lie where the case wants them on three nodes."""
    slot = three.keyslot(KEY.encode())
    names = [(name, three.keyslot(name.encode())) for name in (f"k{n}" for n in range(60))]
    home = next(name for name, at in names if three.owner(at) is three.owner(slot) and at != slot)
    away = next(name for name, at in names if three.owner(at) is not three.owner(slot))
    return ("EVAL", script.body.replace("<HOME>", home).replace("<AWAY>", away), "1", KEY, away)


@pytest.fixture(scope="module")
def found(clusters: dict[int, Cluster], redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The findings of each script, by its name, out of one capture of a single Redis."""
    capture: Path = tmp_path_factory.mktemp("capture")
    with shunt(redis.url, capture=capture, capture_args="keys") as through, through.talk() as talk:
        talk.call("CLIENT", "SETNAME", "scripts")
        for script in SCRIPTS:
            assert talk.call(*words(script, clusters[3]))[:1] != b"-"
    conn = next(row["conn"] for row in captured(capture) if row["client_name"] == b"scripts")
    mine = [each for each in findings(capture, code=1) if each["conn"] == conn]
    return {script.name: [e for e in mine if e["seq"] == at] for at, script in enumerate(SCRIPTS, 1)}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_cluster_answers_what_the_case_says(script: Script, size: int, clusters: dict[int, Cluster]) -> None:
    made = clusters[size]
    node = made.owner(made.keyslot(KEY.encode()))
    with Talk(node.address) as talk:
        reply = talk.call(*words(script, clusters[3])).decode()
    expected = script.one if size == 1 else script.three
    assert (expected in reply) if expected else reply[:1] != "-", reply


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_report_finds_each_script_that_a_cluster_may_refuse(script: Script, found: dict[str, Any]) -> None:
    assert [(each["rule"], each["command"]) for each in found[script.name]] == (
        [(script.rule, "EVAL")] if script.rule else []
    )
    for each in found[script.name]:
        assert script.one in each["error"]
        assert script.three in each["error"]


def test_only_the_layout_decides_about_what_is_latent(found: dict[str, Any]) -> None:
    for script in SCRIPTS:
        severities = {each["severity"] for each in found[script.name]}
        if severities == {"latent"}:
            assert script.one == "", "on one node it works"
        assert ("error" in severities) == (script.rule == "script-no-cluster")
