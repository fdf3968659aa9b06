"""The auditor: every corruption is caught and named, and nothing is said of what is right.

First with ledgers written by hand, then with a redis-server from which jobs are taken, or to which they are added.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import RedisServer, redis_server

from .auditor import Audit, Overtaken, audit
from .direct import Producer, payload
from .entries import Ledger, book, parse
from .remains import Place, Remains, remains

pytestmark = pytest.mark.session_only("is about the test equipment")

PUSH = ("intent {0} {1} p queue:a", "acknowledged {0} {2} p queue:a")
RUN = ("popped {0} {2} w queue:a {1}", "got {0} {2} w queue:a")
Held = list[tuple[str, str]]


def lines(form: tuple[str, ...], jid: str, began: float, ended: float) -> list[str]:
    return [line.format(jid, began, ended) for line in form]


def judged(written: list[str], *places: tuple[str, str], others: tuple[Remains, ...] = ()) -> Audit:
    """The audit of a ledger with these lines, and a server "one" with jobs at (jid, key)."""
    return audit(book(map(parse, written)), [holding("one", *places), *others])


def holding(server: str, *places: tuple[str, str], follows: str | None = None) -> Remains:
    return Remains(server, follows, tuple((jid, Place(server, key, 0)) for jid, key in places))


DONE = [*lines(PUSH, "j", 1, 2), *lines(RUN, "j", 2, 3)]
WAITS = lines(PUSH, "j", 1, 2)
UNKNOWN = ["intent j 1 p queue:a", "unknown j 2 p queue:a Redis::ConnectionError"]
FAILED = [*DONE, "failed j 3 w queue:a", "moving j 3 w retry", "moved j 4 w retry"]


@pytest.mark.parametrize(
    ("written", "places"),
    [
        pytest.param(DONE, [], id="run"),
        pytest.param(WAITS, [("j", "queue:a")], id="waits"),
        pytest.param(WAITS, [("j", "schedule")], id="waits for its time"),
        pytest.param(FAILED, [("j", "retry")], id="failed, waits for its retry"),
        pytest.param([*FAILED, *lines(RUN, "j", 4, 5)], [], id="failed, then run"),
    ],
)
def test_nothing_is_wrong_with_a_job_that_is_in_one_place(written: list[str], places: Held) -> None:
    made = judged(written, *places)
    assert (made.faults, made.ambiguous) == ({}, {})
    assert (made.intended, made.acknowledged) == (1, 1)


@pytest.mark.parametrize(
    ("written", "places", "what"),
    [
        pytest.param(UNKNOWN, [], "unknown push to queue:a", id="gone"),
        pytest.param([*UNKNOWN, *lines(RUN, "j", 2, 3)], [], "run by w", id="run"),
        pytest.param(UNKNOWN, [("j", "queue:a")], "waits in one queue:a[0]", id="waits"),
        pytest.param(UNKNOWN[:1], [], "unanswered push", id="unanswered"),
    ],
)
def test_a_push_without_an_answer_is_ambiguous_and_neither_lost_nor_doubled(
    written: list[str], places: Held, what: str
) -> None:
    made = judged(written, *places)
    assert made.faults == {}
    assert list(made.ambiguous) == ["j"]
    assert what in made.ambiguous["j"]


@pytest.mark.parametrize(
    ("written", "places", "fault"),
    [
        pytest.param(WAITS, [], "lost", id="never run"),
        pytest.param(FAILED, [], "lost", id="failed, its retry is gone"),
        pytest.param([*DONE, *lines(RUN, "j", 3, 4)], [], "doubled", id="run twice"),
        pytest.param(
            [*UNKNOWN, *lines(RUN, "j", 2, 3), *lines(RUN, "j", 3, 4)], [], "doubled", id="unknown, run twice"
        ),
        pytest.param(DONE, [("j", "queue:a")], "doubled", id="run, still waits"),
        pytest.param(DONE, [("j", "dead")], "doubled", id="run, and dead"),
        pytest.param(WAITS, [("j", "queue:a"), ("j", "queue:a")], "doubled", id="twice in one queue"),
        pytest.param(WAITS, [("j", "queue:a"), ("j", "retry")], "doubled", id="in two places"),
        pytest.param([*FAILED, *lines(RUN, "j", 4, 5)], [("j", "retry")], "doubled", id="retried, still to retry"),
        pytest.param([], [("j", "queue:a")], "strangers", id="waits, never pushed"),
        pytest.param(lines(RUN, "j", 3, 4), [], "strangers", id="run, never pushed"),
    ],
)
def test_a_job_that_is_nowhere_or_twice_is_named(written: list[str], places: Held, fault: str) -> None:
    made = judged(written, *places)
    assert list(made.faults) == [fault]
    assert list(getattr(made, fault)) == ["j"]


def test_a_job_on_two_servers_is_doubled_unless_one_is_a_copy_of_the_other() -> None:
    here, there = ("j", "queue:a"), ("k", "queue:a")
    written = [*WAITS, *lines(PUSH, "k", 1, 2)]
    assert judged(written, here, there, others=(holding("two"),)).faults == {}
    assert judged(written, here, others=(holding("two", there),)).faults == {}
    assert list(judged(written, here, there, others=(holding("two", here),)).faults) == ["doubled"]
    assert judged(written, here, there, others=(holding("two", here, there, follows="one"),)).faults == {}
    differs = judged(written, here, there, others=(holding("two", here, follows="one"),))
    assert list(differs.faults) == ["copies differ"]
    assert list(differs.copies_differ) == ["k"]


def in_turn(first: tuple[float, float], second: tuple[float, float], of_second: str = "queue:a") -> list[str]:
    """Job 1 pushed before job 2, and when each was asked for and delivered."""
    written = [*lines(PUSH, "1", 1, 2), *lines(PUSH, "2", 3, 4), *lines(RUN, "1", *first), *lines(RUN, "2", *second)]
    return [line.replace("queue:a", of_second) if line.split()[1] == "2" else line for line in written]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        pytest.param(in_turn((5, 6), (7, 8)), [], id="in order"),
        pytest.param(in_turn((5, 9), (5, 6)), [], id="asked for at once: can't be told"),
        pytest.param(in_turn((7, 8), (5, 6)), [Overtaken("queue:a", "1", "2")], id="overtaken"),
        pytest.param(in_turn((7, 8), (5, 6), of_second="queue:b"), [], id="of another queue"),
        pytest.param([*in_turn((7, 8), (5, 6)), "moving 1 9 w retry", "moved 1 9 w retry"], [], id="moved meanwhile"),
    ],
)
def test_a_job_is_overtaken_only_where_no_two_threads_can_explain_it(
    written: list[str], found: list[Overtaken]
) -> None:
    assert judged(written).overtaken == found


def test_of_many_jobs_the_overtaken_one_is_found() -> None:
    turn = [*range(300, 500), 7, *range(500, 600)]  # 7 is served after 300 to 499
    written = [line for number in sorted(turn) for line in lines(PUSH, str(number), number, number + 0.5)]
    written += [line for at, number in enumerate(turn) for line in lines(RUN, str(number), 1000 + at, 1000.5 + at)]
    assert judged(written).overtaken == [Overtaken("queue:a", "7", "499")]


def test_a_line_that_was_not_written_to_its_end_is_said(tmp_path: Path) -> None:
    (tmp_path / "worker-1").write_text("\n".join(WAITS) + "\n")
    (tmp_path / "worker-2").write_text("got j 3 w queue:a\ngot j")
    ledger = Ledger(tmp_path)
    assert ledger.book().torn == ["worker-2"]
    assert audit(ledger.book(), []).faults == {"torn": ["worker-2"]}
    with (tmp_path / "worker-2").open("a") as file:
        file.write(" 4 w queue:a\n")
    assert ledger.look() == {"intent": 1, "acknowledged": 1, "got": 2}
    assert list(audit(ledger.book(), []).faults) == ["doubled"]


@pytest.mark.parametrize("line", ["acknowledged j 1 p queue:a", "ate j 1 p", "got j"])
def test_a_line_that_makes_no_sense_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"never wrote intent|no word of the ledger|not enough values"):
        book([parse(line)])


# ---------------------------------------------------------------------------------------------- a Redis that lies


@pytest.fixture
def waiting(redis: RedisServer, tmp_path: Path) -> Iterator[list[str]]:
    """Ten jobs that wait in ``queue:default``, in the order in which they were pushed; their ledger is in tmp_path."""
    redis.call("FLUSHALL")
    with Producer(redis.url, tmp_path) as producer:
        yield [producer.push() for _ in range(10)]


def after(tmp_path: Path, *servers: RedisServer) -> Audit:
    return audit(Ledger(tmp_path).book(), [remains(server) for server in servers])


def test_jobs_that_wait_are_found_where_they_are(redis: RedisServer, waiting: list[str], tmp_path: Path) -> None:
    made = after(tmp_path, redis)
    assert made.faults == {}
    assert [str(made.remaining[jid][0]) for jid in waiting] == [f"{redis.url} queue:default[{at}]" for at in range(10)]


def test_a_job_taken_from_redis_is_lost(redis: RedisServer, waiting: list[str], tmp_path: Path) -> None:
    assert waiting[3].encode() in redis.call("LINDEX", "queue:default", "-4")
    redis.call("LSET", "queue:default", "-4", "gone")
    redis.call("LREM", "queue:default", "0", "gone")
    made = after(tmp_path, redis)
    assert made.faults == {"lost": {waiting[3]: "acknowledged push to queue:default"}}


@pytest.mark.parametrize(
    "again",
    [
        ("LPUSH", "queue:default"),
        ("RPUSH", "queue:low"),
        ("ZADD", "retry", "1"),
        ("ZADD", "schedule", "1"),
        ("ZADD", "dead", "1"),
        ("LPUSH", "queue:sq|host:1|default"),
    ],
    ids=" ".join,
)
def test_a_job_added_to_redis_is_doubled_and_both_places_are_named(
    again: tuple[str, ...], redis: RedisServer, waiting: list[str], tmp_path: Path
) -> None:
    redis.call(*again, payload(waiting[5]))
    made = after(tmp_path, redis)
    assert list(made.faults) == ["doubled"]
    [(jid, said)] = made.doubled.items()
    assert jid == waiting[5]
    assert f"{redis.url} queue:default[5]" in said
    assert f"{redis.url} {again[1]}[" in said


def test_a_payload_that_is_no_job_is_a_stranger(redis: RedisServer, waiting: list[str], tmp_path: Path) -> None:
    redis.call("LPUSH", "queue:default", "not JSON")
    assert list(after(tmp_path, redis).strangers) == ["?"]


def test_a_follower_is_a_copy_until_it_is_promoted(redis: RedisServer, waiting: list[str], tmp_path: Path) -> None:
    with redis_server() as other:
        assert after(tmp_path, redis, other).faults == {}
        other.call("REPLICAOF", redis.host, redis.port)
        assert after(tmp_path, redis, other).faults == {}
        other.call("REPLICAOF", "NO", "ONE")
        made = after(tmp_path, redis, other)
        assert sorted(made.doubled) == sorted(waiting)
        redis.call("FLUSHALL")
        assert after(tmp_path, redis, other).faults == {}
