"""What the report says a cluster refuses, against what real clusters of three nodes and of one do refuse."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hiredis
import pytest

from tests.servers import Cluster, RedisServer, captured, cluster, findings, redis_server, shunt, shunt_cli
from tests.system.verdict_cases import FUNCTIONS, PLACES, SCRIPT, SINGLE, SUBSCRIPTIONS, WITHOUT_CASE, Case, cases
from tests.wire import Talk

pytestmark = pytest.mark.session_only("is about what a report says, and whose commands they are doesn't matter")

Replies = list[list[bytes]]


@dataclass
class Judged:
    """One case: what a single Redis and a cluster answered, and what the report says of each of its commands."""

    case: Case
    single: Replies
    clustered: Replies
    found: dict[int, list[dict[str, Any]]]

    def refused(self) -> dict[int, str]:
        """Index of each command that only the cluster answers with an error -> the error's first word."""
        words = {}
        for index, (one, many) in enumerate(zip(self.single, self.clustered, strict=True)):
            new = [error for error in errors(many) if error not in errors(one)]
            if new and not new[0].startswith(("MOVED", "ASK")):
                words[index] = new[0].split(" ")[0]
        return words

    def accused(self) -> dict[int, set[str]]:
        """Index of each command with a finding of severity error -> the first words that the report announces.

        What a queued command is accused of "at exec" is seen in the reply of its EXEC.
        """
        words: dict[int, set[str]] = defaultdict(set)
        for index, found in self.found.items():
            for finding in found:
                if finding["severity"] == "error":
                    seen = self.exec_after(index) if finding["when"] == "at exec" else index
                    words[seen].add(finding["error"].split(" ")[0])
        return dict(words)

    def exec_after(self, index: int) -> int:
        return next(n for n, words in enumerate(self.case.commands) if n >= index and words[0] == "EXEC")


def errors(frames: list[bytes]) -> list[str]:
    """The texts of all errors in replies, however deep."""
    reader = hiredis.Reader(errors="surrogateescape", encoding="utf-8")
    for frame in frames:
        reader.feed(frame)
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, Exception):
            found.append(str(value))
        elif isinstance(value, list):
            for part in value:
                look(part)

    while (value := reader.gets()) is not False:
        look(value)
    return found


def ask(talk: Talk, case: Case, words: tuple[str, ...]) -> list[bytes]:
    """The frames that answer one command: one, or one per channel unless it is an error."""
    first = talk.call(*words)
    more = case.pushes - 1 if first[:1] != b"-" else 0
    return [first, *talk.frames(max(more, 0))]


def play(talk: Talk, case: Case) -> Replies:
    return [ask(talk, case, words) for words in case.commands]


def play_on_cluster(made: Cluster, case: Case) -> Replies:
    """At the node of the first key; single commands follow MOVED, a transaction stays where it is."""
    key = next((w for words in case.commands for w in words[1:] if w in case_keys(made)[case.place]), "")
    home = made.owner(made.keyslot(key.encode()))
    together = any(words[0] in ("MULTI", "WATCH") for words in case.commands)
    replies = []
    with Talk(home.address) as talk:
        for words in case.commands:
            frames = ask(talk, case, words)
            if frames[0].startswith(b"-MOVED") and not together:
                with Talk(made.owner(int(frames[0].split()[1])).address) as other:
                    frames = ask(other, case, words)
            replies.append(frames)
    return replies


def case_keys(made: Cluster) -> dict[str, tuple[str, str, str]]:
    """Keys for each place that the cluster has, found by asking it for slots."""
    slots = {key: made.keyslot(key.encode()) for key in (f"key:{number}" for number in range(40))}
    by_node: dict[int, list[str]] = defaultdict(list)
    for key, slot in slots.items():
        by_node[made.owner(slot).port].append(key)
    one, *others = (by_node[node.port] for node in made.nodes)
    assert len({slots[key] for key in one[:3]}) == 3
    places = {"one slot": PLACES["one slot"], "one node": (one[0], one[1], one[2])}
    return {**places, **({"three nodes": (one[0], others[0][0], others[1][0])} if others else {})}


def prepare(server: RedisServer) -> str:
    """Functions and the script, as every node must have them; the script's SHA."""
    assert server.call("FUNCTION", "LOAD", "REPLACE", FUNCTIONS)[:1] == b"$"
    return server.call("SCRIPT", "LOAD", SCRIPT).split(b"\r\n")[1].decode()


def judge(made: Cluster, redis: RedisServer, capture: Path) -> dict[str, Judged]:
    """Every case played on a single Redis through shunt and on the cluster, and the report on the capture."""
    sha = prepare(redis)
    for node in made.nodes:
        prepare(node)
    all_cases = cases(case_keys(made), sha)
    single, names = {}, {}
    with shunt(redis.url, capture=capture, capture_args="keys") as through:
        for number, case in enumerate(all_cases):
            names[f"case-{number}".encode()] = case.id
            redis.call("FLUSHALL")
            with through.talk() as talk:
                talk.call("CLIENT", "SETNAME", f"case-{number}")
                single[case.id] = play(talk, case)
    clustered = {}
    for case in all_cases:
        for node in made.nodes:
            node.call("FLUSHALL")
        clustered[case.id] = play_on_cluster(made, case)
    conns = {row["conn"]: names[row["client_name"]] for row in captured(capture) if row["client_name"] in names}
    found: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for finding in findings(capture, code=1):
        found[conns[finding["conn"]]][finding["seq"] - 1].append(finding)  # SETNAME was number 0
    return {case.id: Judged(case, single[case.id], clustered[case.id], dict(found[case.id])) for case in all_cases}


Judgements = dict[int, dict[str, Judged]]


@pytest.fixture(scope="module")
def judged(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Judgements:
    """Number of nodes to every case."""
    made = {}
    for size in (3, 1):
        with cluster(size) as nodes:
            made[size] = judge(nodes, redis, tmp_path_factory.mktemp("capture"))
    return made


ONE_NODE = {place: PLACES[place] for place in ("one slot", "one node")}
NAMES = [*((3, case.id) for case in cases(PLACES, "")), *((1, case.id) for case in cases(ONE_NODE, ""))]
IDS = [f"{size}: {name}" for size, name in NAMES]


@pytest.mark.parametrize(("size", "name"), NAMES, ids=IDS)
def test_a_command_is_accused_exactly_when_the_cluster_refuses_it(size: int, name: str, judged: Judgements) -> None:
    case = judged[size][name]
    refused, accused = case.refused(), case.accused()
    assert set(accused) == set(refused), f"cluster: {case.clustered}\nsingle: {case.single}\nreport: {case.found}"


@pytest.mark.parametrize(("size", "name"), [each for each in NAMES if "(three nodes)" not in each[1]])
def test_the_report_announces_the_error_that_the_cluster_answers(size: int, name: str, judged: Judgements) -> None:
    """On three nodes a transaction meets MOVED and EXECABORT instead: that depends on the layout."""
    case = judged[size][name]
    accused = case.accused()
    for index, word in case.refused().items():
        assert accused.get(index) == {word}, f"{case.clustered[index]!r}: {case.found}"


@pytest.mark.parametrize("size", [3, 1])
def test_precision_and_recall_are_1_with_a_transaction_as_one_unit(size: int, judged: Judgements) -> None:
    refused = {name for name, case in judged[size].items() if case.refused()}
    accused = {name for name, case in judged[size].items() if case.accused()}
    assert refused == accused


@pytest.mark.parametrize(("size", "least"), [(3, 100), (1, 60)])
def test_something_is_refused_and_something_is_not(size: int, least: int, judged: Judgements) -> None:
    refused = {name for name, case in judged[size].items() if case.refused()}
    assert len(refused) > least
    assert len(judged[size]) - len(refused) > least
    assert not {
        name
        for name in refused
        if name.endswith("(one slot)") and "<2>" in name and "DB 1" not in name and "BY" not in name
    }


def test_every_command_of_the_server_with_several_keys_has_a_case(redis: RedisServer) -> None:
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(redis.call("COMMAND"))
    have = {line.split()[0] for line in [*SINGLE.strip().splitlines(), *SUBSCRIPTIONS]} | set(WITHOUT_CASE)
    several = set()
    for name, _, flags, first, last, _, _, _, specs, _ in reader.gets():
        if last != first or "movablekeys" in flags or len(specs) > 1:
            several.add(name.upper())
    assert several - have == set()


#: A script that names its key as an argument: nobody can tell from the wire.
HIDDEN = ("EVAL", "return redis.call('get', ARGV[1])", "0", "a")


def report_code(tmp_path: Path, *commands: tuple[str, ...]) -> int:
    with redis_server() as redis, shunt(redis.url, capture=tmp_path / "c") as through, through.talk() as talk:
        for words in commands:
            talk.call(*words)
        through.stop()
    return shunt_cli("report", str(tmp_path / "c"), "--target", "redis-cluster").returncode


def test_a_compatible_capture_ends_the_report_with_0(tmp_path: Path) -> None:
    assert report_code(tmp_path, ("SET", "a", "1"), ("MGET", "{t}1", "{t}2"), ("PING",)) == 0


def test_a_capture_with_a_refused_command_ends_the_report_with_1(tmp_path: Path) -> None:
    assert report_code(tmp_path, ("SET", "a", "1"), ("MGET", "a", "b"), HIDDEN) == 1


def test_a_capture_that_cannot_be_judged_ends_the_report_with_3(tmp_path: Path) -> None:
    assert report_code(tmp_path, ("SET", "a", "1"), HIDDEN) == 3


def test_a_report_on_nothing_is_a_usage_error(tmp_path: Path) -> None:
    done = shunt_cli("report", str(tmp_path / "nothing"))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
