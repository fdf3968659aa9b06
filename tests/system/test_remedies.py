"""The hash tags that a report proposes, proven: what was captured runs on a real cluster once its keys are renamed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.capture.reader import Capture
from proxy.report.analysis import Analysis
from proxy.report.remedies import Remedies
from proxy.report.templates import fold_one
from tests.servers import Cluster, RedisServer, captured, cluster, shunt
from tests.wire import Talk

pytestmark = pytest.mark.session_only("the backend of a capture doesn't matter here")

Unit = list[dict[str, Any]]

#: One line for each kind of use; ``<n>`` is a number that changes from use to use, ``<m>`` another one.
LINES = """
SINTERSTORE cart:<n>:both cart:<n> order:<n>
RENAME job:<n> done:<n>
MGET user:<n> user:<m>
DEL session:<n> session:<m> other
BRPOP queue:low queue:high queue:mail 0.01
LMOVE queue:low working LEFT RIGHT
PFMERGE hits:2026-11-23 hits:2026-11-22 hits:total
ZUNIONSTORE rank:all 2 rank:eu rank:us
EVAL return(#KEYS) 2 lock:<n> lock:<n>:owner
GET alone:<n>
SET alone:<n> 1
MSET {t}a 1 {t}b 2
COPY {t}a outside REPLACE
MULTI|SADD queues low|LPUSH queue:low job|EXEC
MULTI|HSET stock:<n> left 3|ZADD rank:eu 1 <n>|EXEC
MULTI|INCR seen:<n>|EXPIRE seen:<n> 60|EXEC
WATCH balance:<n> limit:<n>|GET balance:<n>|MULTI|SET balance:<n> 1|EXEC
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(scope="module")
def capture(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every line twenty times in random order, through shunt to a single Redis, on four connections."""
    directory = tmp_path_factory.mktemp("capture")
    rng = random.Random(5)
    lines = LINES.strip().splitlines() * 20
    rng.shuffle(lines)
    with shunt(redis.url, capture=directory) as through:
        talks = [through.talk() for _ in range(4)]
        for line in lines:
            filled = line.replace("<n>", str(rng.randrange(50))).replace("<m>", str(rng.randrange(50, 99)))
            talk = rng.choice(talks)
            for command in filled.split("|"):
                talk.call(*command.split())
        for talk in talks:
            talk.close()
    return directory


@pytest.fixture(scope="module")
def remedies(capture: Path) -> Remedies:
    with Analysis(Capture([capture])) as analysis:
        return analysis.together.remedies()


def units(capture: Path) -> list[Unit]:
    """What was captured: from WATCH or MULTI to EXEC is one unit, any other command is one by itself."""
    made: list[Unit] = []
    open_on = 0  # the connection whose unit goes on
    for row in captured(capture):
        if open_on != row["conn"]:
            made.append([])
        made[-1].append(row)
        if row["command"] in (b"WATCH", b"MULTI"):
            open_on = row["conn"]
        elif row["command"] == b"EXEC":
            open_on = 0
    return made


def run(made: Cluster, unit: Unit, remedies: Remedies | None) -> list[bytes]:
    """The unit's replies from the node of its first key, its keys renamed."""

    def name(row: dict[str, Any], word: bytes) -> bytes:
        return remedies.rename(fold_one(word), word) if remedies and word in row["keys"] else word

    first = next((name(row, row["keys"][0]) for row in unit if row["keys"]), b"")
    with Talk(made.owner(made.keyslot(first)).address) as talk:
        return [talk.call(*(name(row, word) for word in row["args"])) for row in unit]


def refused(replies: list[bytes]) -> list[bytes]:
    return [each for each in replies if each.startswith((b"-CROSSSLOT", b"-MOVED", b"-EXECABORT"))]


def test_as_captured_the_cluster_refuses_much_of_it(capture: Path, nodes: Cluster) -> None:
    assert sum(bool(refused(run(nodes, unit, None))) for unit in units(capture)) > 100


def test_with_the_proposed_tags_the_cluster_refuses_nothing(capture: Path, nodes: Cluster, remedies: Remedies) -> None:
    for unit in units(capture):
        replies = run(nodes, unit, remedies)
        assert refused(replies) == [], [row["args"] for row in unit]


def test_no_tag_is_given_to_keys_that_need_none(remedies: Remedies) -> None:
    tagged = {template for tag in remedies.tags for template in tag.templates}
    assert tagged.isdisjoint({b"alone:<id>", b"seen:<id>"})


def test_keys_with_a_part_in_common_stay_spread_over_the_slots(remedies: Remedies) -> None:
    spread = {tag.templates for tag in remedies.tags if tag.constant is None}
    assert (b"done:<id>", b"job:<id>") in spread
    assert (b"cart:<id>", b"cart:<id>:both", b"order:<id>") in spread
    assert (b"lock:<id>", b"lock:<id>:owner") in spread
