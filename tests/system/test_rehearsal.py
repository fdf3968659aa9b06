"""``--rehearse redis-cluster`` in front of a single Redis answers as a real cluster of one node does, byte for byte.

``DIALOGUES`` in the environment sets how many random dialogues are tried, ``DIALOGUE_SEED`` where to begin.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import (
    RedisServer,
    Shunt,
    captured,
    cluster,
    findings,
    monitor,
    neutral,
    redis_server,
    shunt,
    shunt_cli,
    until,
)
from tests.system.test_verdicts import errors, play, prepare
from tests.system.verdict_cases import PLACES, Case, cases
from tests.wire import Address, Talk, encode

pytestmark = pytest.mark.session_only("says itself which pool it wants, and runs with each")

DIALOGUES = int(os.environ.get("DIALOGUES", "200"))
SEED = int(os.environ.get("DIALOGUE_SEED", "0"))
CROSS = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"
ABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
MEGABYTE = 1 << 20
FENCE = b"the end of this dialogue"

#: What the verdict's cases don't ask: the order of a cluster's own refusals and of those that any Redis has.
ORDER = """
MGET|FOO a b|SELECT -1|SELECT abc|SELECT 99|SELECT|SWAPDB 0 0|SWAPDB x y|MOVE a 0|MOVE a x|COPY a a DB 0|COPY a a DB 99
COPY a a DB -1|COPY a a DB x|COPY a a DB 1 FOO|COPY a a FOO|COPY a b DB x|SORT k BY w_* GET x|SORT k FOO BY w_*
SORT k LIMIT x 1 BY w_*|SORT k GET|SORT k GET # BY w_*|SORT k BY w_{k}*|SORT a STORE b BY w_*|REPLICAOF NO ONE
REPLICAOF localhost x|SLAVEOF NO ONE|FAILOVER|FAILOVER x|MSET a 1 b|EVAL return(1) 3 a b|EVAL return(1) x a b
EVAL return(1) -1 a|SUNSUBSCRIBE a b|XREAD STREAMS a b 0|GEORADIUS a 0 0 1 km STORE b STORE c|PFDEBUG a b
MULTI,MGET a b,EXEC|MULTI,WATCH a b,SET a 1,EXEC|MULTI,WATCH a,SET a 1,EXEC|MULTI,MULTI,SET a 1,EXEC
MULTI,SET a 1,SET b 1,MGET a b,EXEC|MULTI,SET a 1,MGET a b,SET b 1,EXEC|MULTI,FOO,SET a 1,SET b 1,EXEC
MULTI,SET a 1,SET b 1,FOO,EXEC|MULTI,SET a 1,SET b 1,EXEC foo,EXEC|MULTI,SSUBSCRIBE a b,EXEC|EXEC|DISCARD|MULTI foo,EXEC
MULTI,SELECT 1,REPLICAOF NO ONE,FAILOVER,SWAPDB 0 1,SORT a BY w_*,EXEC|MULTI,SELECT,SET a 1,EXEC|MULTI,RESET,GET a
WATCH z,MULTI,SET a 1,SET b 1,EXEC,SET z 1,MULTI,SET a 2,EXEC|MULTI,UNWATCH,SET a 1,SET b 1,EXEC|MULTI,DISCARD foo,EXEC
MULTI,SPUBLISH a m,SPUBLISH b m,EXEC|MULTI,SET a 1,SET b 1,DISCARD,EXEC|MULTI,LPUSH a x,MOVE a 1,LRANGE a 0 -1,EXEC
""".replace("\n", "|")


@dataclass
class World:
    """A cluster of one node, and a shunt that rehearses in front of a single Redis."""

    node: RedisServer
    single: RedisServer
    shunt: Shunt
    sha: str

    def clear(self) -> None:
        self.node.call("FLUSHALL")
        self.single.call("FLUSHALL")


@pytest.fixture(scope="module")
def node() -> Iterator[RedisServer]:
    with cluster(1) as made:
        yield made.nodes[0]


@pytest.fixture(scope="module", params=["session", "shared"])
def world(request: pytest.FixtureRequest, node: RedisServer) -> Iterator[World]:
    with redis_server() as single:
        prepare(node)
        sha = prepare(single)
        with shunt(single.url, "--rehearse", "redis-cluster", "--pool", request.param) as running:
            yield World(node, single, running, sha)


KEYS = {**{place: PLACES[place] for place in ("one slot",)}, "one node": ("key:0", "key:1", "key:2")}
#: What a script says of itself is not looked at (docs/rehearsal.md): it runs as on the source.
NAMES = [case.id for case in cases(KEYS, "") if "NO_CLUSTER" not in case.id and "forbids a cluster" not in case.id]


def comparable(frames: list[list[bytes]]) -> list[list[bytes] | None]:
    """Replies that differ between any two servers are left out."""
    return [None if reply[0][:1] == b"$" and b"redis_version" in reply[0] else reply for reply in frames]


@pytest.mark.parametrize("name", NAMES)
def test_each_case_of_the_verdict_is_answered_as_by_the_cluster(name: str, world: World) -> None:
    [case] = [case for case in cases(KEYS, world.sha) if case.id == name]
    world.clear()
    with world.shunt.talk() as here, Talk(world.node.address) as there:
        ours, theirs = play(here, case), play(there, case)
    assert [errors(reply)[:1] for reply in ours] == [errors(reply)[:1] for reply in theirs]
    if not {"XADD", "RANDOMKEY", "KEYS", "SCAN", "FUNCTION"} & {words[0] for words in case.commands}:
        assert comparable(ours) == comparable(theirs)


@pytest.mark.parametrize("lines", [lines for lines in ORDER.split("|") if lines])
def test_the_order_of_checks_is_the_clusters(lines: str, world: World) -> None:
    case = Case(lines, "", tuple(tuple(line.split()) for line in lines.split(",")))
    world.clear()
    with world.shunt.talk() as here, Talk(world.node.address) as there:
        assert play(here, case) == play(there, case)
    assert b"role:master" in world.single.call("INFO", "replication")


# ---- random dialogues ------------------------------------------------------------------------------------------------

PLAIN = (
    """
PING|GET a|SET a 1|SET b 2|SET {t}1 x|MGET a b|MGET {t}1 {t}2|MSET a 1 b 2|DEL a b|INCR n|LPUSH l 1 2|RENAME a b|FOO|GET
BLPOP l m 0.01|LRANGE l 0 -1|SELECT 1|SELECT 0|SWAPDB 0 1|MOVE a 1|COPY a a DB 1|SORT l BY w_*|SORT l GET x
EVAL return(1) 2 a b|EVAL return(1) 0
SUNION s u|HSET h f v|HGETALL h|SINTERCARD 2 a b|MGET|REPLICAOF NO ONE|ECHO hello|SPUBLISH a b
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
STATE = (
    """
MULTI|EXEC|MULTI|EXEC|MULTI|EXEC|DISCARD|WATCH w|WATCH a b|UNWATCH|EXEC x|RESET|CLIENT REPLY SKIP|CLIENT REPLY OFF
CLIENT REPLY ON
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
BIG = [
    encode("SET", "big", "x" * 300_000),
    encode("MSET", "a", "y" * 200_000, "b", "z"),
    encode("MSET", "a", "y", "b", "z" * 400_000),
    encode("GET", "big"),
    b"MGET a b\r\n",
    b"GET a\r\n",
    b"\r\n",
]


def dialogue(seed: int) -> tuple[bytes, list[int]]:
    """The bytes of one dialogue and where they are cut."""
    dice = random.Random(seed)
    parts, inside = [], False
    for _ in range(dice.randint(1, 40)):
        kind = dice.random()
        line = dice.choice(PLAIN if kind < 0.6 else STATE)
        if inside and line.startswith("CLIENT"):
            line = "EXEC"  # else the connection becomes a plain pipe, which rehearses nothing
        if kind > 0.92:
            parts.append(dice.choice(BIG))
            continue
        inside = line == "MULTI" or (inside and line not in ("EXEC", "EXEC x", "DISCARD", "RESET"))
        parts.append(encode(*dice.choice([line, line.lower()]).split()))
    data = b"".join(parts)
    return data, sorted(dice.randrange(len(data)) for _ in range(dice.choice([0, 0, 1, 3, 10])))


def heard(address: Address, seed: int, version: str) -> bytes:
    data, cuts = dialogue(seed)
    with Talk(address) as talk:
        assert talk.call("HELLO", version)[:1] in b"*%"
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            talk.send(data[start:end])
        talk.send(encode("RESET") + encode("ECHO", FENCE))  # answered whatever came before
        seen = b""
        while not seen.endswith(FENCE + b"\r\n"):
            seen += talk.frame()
        return seen


def test_random_dialogues_are_answered_as_by_the_cluster(world: World) -> None:
    for seed in range(SEED, SEED + DIALOGUES):
        version = "32"[seed % 2]
        world.clear()
        ours, theirs = heard(world.shunt.address, seed, version), heard(world.node.address, seed, version)
        assert ours == theirs, f"DIALOGUE_SEED={seed}, RESP{version}: {dialogue(seed)[0][:3000]!r}"
    until(lambda: all(map(neutral, world.single.clients())), what="nothing is left behind in the backend")
    assert world.shunt.metric("shunt_rehearsal_total", outcome="refused") > 0


# ---- what reaches the backend ----------------------------------------------------------------------------------------


def test_nothing_of_a_refused_command_reaches_the_backend(world: World) -> None:
    world.clear()
    with monitor(world.single) as watching, world.shunt.talk() as talk:
        for line in ("MSET a 1 b 2", "SELECT 3", "MULTI", "SET a 1", "SET b 1", "EXEC", "MULTI", "SWAPDB 0 1", "EXEC"):
            talk.call(*line.split())
        seen = [b" ".join(each.args).decode() for each in watching.stop()]
    # MONITOR shows a queued command only when it runs
    assert seen == ["PING", "PING", "MULTI", "DISCARD", "MULTI", "PING", "EXEC"]
    assert world.single.call("DBSIZE") == b":0\r\n"


def test_a_refused_transaction_leaves_a_clean_connection(world: World) -> None:
    world.clear()
    with world.shunt.talk() as talk:
        assert talk.call("WATCH", "z") == b"+OK\r\n"
        assert [talk.call(*line.split()) for line in ("MULTI", "SET a 1", "SET b 1", "EXEC")][-1] == CROSS
        world.single.call("SET", "z", "changed")  # would make EXEC give up if the WATCH were still there
        assert all(neutral(client) for client in world.single.clients())
        assert [talk.call(*line.split()) for line in ("MULTI", "SET a 1", "EXEC")][-1] == b"*1\r\n+OK\r\n"
        assert talk.call("GET", "b") == b"$-1\r\n"


def test_a_big_command_is_thrown_away_as_it_comes_once_it_is_sure(world: World) -> None:
    world.clear()
    before = int(info(world.single, "total_net_input_bytes"))
    world.shunt.process.forget_peak_rss()
    at_first = world.shunt.process.rss()
    with world.shunt.talk() as talk:
        assert talk.call("MSET", "a", "x", "b", b"v" * 64 * MEGABYTE) == CROSS
        assert talk.call("GET", "a") == b"$-1\r\n"
    assert int(info(world.single, "total_net_input_bytes")) - before < 10_000
    assert world.shunt.process.peak_rss() - at_first < 16 * MEGABYTE


def test_a_big_command_that_is_not_sure_goes_on_and_is_counted(world: World) -> None:
    world.clear()
    with world.shunt.talk() as talk:
        assert talk.call("MSET", "a", b"v" * 10 * MEGABYTE, "b", "x") == b"+OK\r\n"
    assert world.shunt.metric("shunt_rehearsal_total", outcome="too-large") == 1


def info(server: RedisServer, field: str) -> str:
    lines = server.call("INFO").decode().split("\r\n")
    return next(line.split(":")[1] for line in lines if line.startswith(f"{field}:"))


# ---- who comes first, who rehearses, what is recorded ---------------------------------------------------------------


def test_a_password_that_the_source_asks_for_comes_first() -> None:
    with redis_server(password="pw") as single, shunt(single.url, "--rehearse", "redis-cluster") as through:
        with through.talk() as talk:
            assert talk.call("MGET", "a", "b") == b"-NOAUTH Authentication required.\r\n"
            sent = [encode(*line.split()) for line in ("MULTI", "SET a 1", "SET b 1", "EXEC", "AUTH pw", "MGET a b")]
            replies = talk.send(b"".join(sent)).frames(len(sent))
        assert [reply.split()[0] for reply in replies] == [b"-NOAUTH"] * 4 + [b"+OK", b"-CROSSSLOT"]


@pytest.mark.parametrize("pool", ["session", "shared"])
def test_passwords_in_the_urls_and_several_workers(pool: str) -> None:
    with redis_server(password="pw") as single:
        backend = f"redis://:pw@{single.host}:{single.port}"
        options = ("--rehearse", "redis-cluster", "--workers", "2", "--pool", pool, "--allow-open")
        with shunt(backend, *options) as through:
            for _ in range(10):
                with through.talk() as talk:
                    assert talk.call("MGET", "a", "b") == CROSS
                    assert talk.call("MGET", "{t}a", "{t}b") == b"*2\r\n$-1\r\n$-1\r\n"
                    assert talk.call("RESET") == b"+RESET\r\n"
                    assert talk.call("MGET", "a", "b") == CROSS
            assert through.metric("shunt_rehearsal_total", outcome="refused") == 20
            assert through.metric("shunt_rehearsal_refused_total", command="MGET") == 20


def test_a_share_of_the_connections_rehearses(redis: RedisServer) -> None:
    with shunt(redis.url, "--rehearse", "redis-cluster:25") as through:
        replies = []
        for _ in range(8):
            with through.talk() as talk:
                replies.append(talk.call("MGET", "a", "b") == CROSS)
    assert replies == [False, False, False, True] * 2


def test_a_target_that_there_is_none_of_is_refused_in_one_line() -> None:
    done = shunt_cli("run", "--backend", "redis://127.0.0.1:1", "--rehearse", "nowhere")
    assert done.returncode == 2
    assert "unknown target 'nowhere'; there is: active-active" in done.stderr


LINES = (
    "GET a", "MGET a b", "SELECT 1", "MULTI", "SET a 1", "SET b 1", "EXEC",
    "MULTI", "MGET a b", "EXEC", "MULTI", "SWAPDB 0 1", "EXEC",
)  # fmt: skip


def test_a_report_finds_in_a_rehearsal_what_it_finds_without(redis: RedisServer, tmp_path: Path) -> None:
    found = {}
    for name, options in (("plain", ()), ("rehearsed", ("--rehearse", "redis-cluster"))):
        with shunt(redis.url, *options, capture=tmp_path / name) as through, through.talk() as talk:
            for line in LINES:
                talk.call(*line.split())
        found[name] = {(each["rule"], each["seq"], each["when"]) for each in findings(tmp_path / name, code=1)}
    assert found["rehearsed"] == found["plain"]
    assert len(found["plain"]) > 5
    marked = [row["command"] for row in captured(tmp_path / "rehearsed") if row["flags"] & 1 << 19]
    assert marked == [b"MGET", b"SELECT", b"EXEC", b"MGET", b"EXEC", b"SWAPDB"]
    text = shunt_cli("report", str(tmp_path / "rehearsed")).stdout
    assert "6 commands were refused in rehearsal" in " ".join(text.split())


@pytest.mark.parametrize("pool", ["session", "shared"])
def test_a_writer_beside_refusals_loses_nothing(redis: RedisServer, pool: str) -> None:
    """Pipelines of two clients, every other command refused: each reply is the one that is due."""
    with shunt(redis.url, "--rehearse", "redis-cluster", "--pool", pool) as through:
        talks = [through.talk(), through.talk()]
        for number in range(200):
            for index, talk in enumerate(talks):
                value = f"{index}-{number}"
                talk.send(encode("ECHO", value) + encode("MGET", "a", "b") + encode("ECHO", value))
        for index, talk in enumerate(talks):
            for number in range(200):
                value = f"{index}-{number}".encode()
                echo = b"$%d\r\n%b\r\n" % (len(value), value)
                assert talk.frames(3) == [echo, CROSS, echo]
            talk.close()
