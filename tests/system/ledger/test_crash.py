"""What explains a lost or doubled job, and what does not: with histories written by hand, and Redis' own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import redis_server

from .auditor import audit
from .crash import Explained, Kill, explain
from .direct import Producer
from .entries import Ledger, book, parse
from .history import APPENDONLY, Event, commands, events

pytestmark = pytest.mark.session_only("is about the test equipment")

KILL = Kill(began=10.0, over=10.1, back=11.0)


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def heard(written: str, history: str, *, kills: tuple[Kill, ...] = (KILL,)) -> Explained:
    """``history``: words like +j (pushed to queue:a) and -j (popped from it)."""
    kept = book(map(parse, lines(written)))
    happened = [Event(word[1:], {"+": "pushed", "-": "popped"}[word[0]], "queue:a") for word in history.split()]
    return explain(kept, audit(kept, []), kills, happened)


LOST = "intent j 1 p queue:a\nacknowledged j 2 p queue:a\n"
BROKEN = "broken - 10.2 w1 queue:* 9 Redis::ConnectionError\n"
#: Jobs that were pushed, popped and run around the lost one: they say when it was popped.
BEFORE = "intent b {0} p queue:a\nacknowledged b {0} p queue:a\npopped b {1} w2 queue:a {0}\ngot b {1} w2 queue:a\n"
AFTER = BEFORE.replace(" b ", " c ")


def test_a_pop_that_nobody_heard_of_is_put_to_the_kill_that_it_fits() -> None:
    made = heard(LOST + BROKEN + BEFORE.format(9.9, 10) + AFTER.format(11, 12), "+j +b -b -j +c -c")
    assert made.unexplained == {}
    assert made.tolls[0].pops == ["j"]


def test_a_reply_that_was_on_its_way_for_a_while_is_put_to_the_kill_that_met_it() -> None:
    made = heard(LOST + BROKEN + BEFORE.format(9.1, 9.2) + AFTER.format(9.2, 9.3), "+j +b -b -j +c -c")
    assert made.unexplained == {}
    assert made.tolls[0].pops == ["j"]
    assert made.tolls[0].oldest_s == pytest.approx(10.0 - 9.2)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param((3, 4), (5, 6), id="before anybody asked who waited at the kill"),
        pytest.param((11, 12), (13, 14), id="after the kill"),
    ],
)
def test_a_pop_that_nobody_heard_of_at_another_time_is_unexplained(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    made = heard(LOST + BROKEN + BEFORE.format(*before) + AFTER.format(*after), "+j +b -b -j +c -c")
    assert list(made.unexplained) == ["j"]
    assert made.tolls[0].pops == []


def test_a_kill_explains_no_more_pops_than_were_under_way() -> None:
    two = LOST + LOST.replace(" j ", " k ")
    made = heard(two + BROKEN, "+j +k -j -k")
    assert (len(made.tolls[0].pops), len(made.unexplained)) == (1, 1)
    assert heard(two + BROKEN + BROKEN.replace("w1", "w2"), "+j +k -j -k").unexplained == {}


def test_a_fetch_does_not_explain_what_was_taken_from_the_schedule() -> None:
    assert list(heard(LOST + BROKEN.replace("queue:*", "schedule"), "+j -j").unexplained) == ["j"]


def test_a_push_that_redis_never_wrote_is_forgotten_and_no_pop() -> None:
    assert heard(LOST + BROKEN, "").tolls[0].forgotten == ["j"]


def test_a_job_that_redis_should_have_is_unexplained() -> None:
    assert "does not show it" in heard(LOST + BROKEN, "+j").unexplained["j"]


def test_a_job_that_a_worker_had_and_could_not_put_back_is_told_apart() -> None:
    ran = "popped j 9 w queue:a 8\ngot j 9 w queue:a\nfailed j 9 w queue:a\nmoving j 9 w retry\n"
    history = "+j -j"
    assert heard(LOST + ran + "unmoved j 10.05 w retry E", history).tolls[0].hands == ["j"]
    assert list(heard(LOST + ran + "unmoved j 9.5 w retry E", history).unexplained) == ["j"]
    assert list(heard(LOST + "popped j 9 w queue:a 8", history).unexplained) == ["j"]


RUN_TWICE = "popped j 12 w1 queue:a 11\ngot j 12 w1 queue:a\npopped j 13 w2 queue:a 11\ngot j 13 w2 queue:a\n"


@pytest.mark.parametrize(("ended", "explained"), [(12, True), (9.5, False)])
def test_a_push_that_went_out_twice_is_put_to_the_kill_in_which_it_was_under_way(ended: float, explained: bool) -> None:
    pushed = f"intent j 9 p queue:a\nacknowledged j {ended} p queue:a\n"
    made = heard(pushed + RUN_TWICE, "+j +j -j -j")
    assert (made.tolls[0].pushes == ["j"], list(made.unexplained) == ["j"]) == (explained, not explained)


def test_a_retry_that_sidekiq_writes_twice_because_it_heard_nothing_is_a_push_too() -> None:
    ran = "popped j 9 w queue:a 8\ngot j 9 w queue:a\nfailed j 9 w queue:a\nmoving j 9 w retry\n"
    again = "moving j {0} w retry\nmoved j {0} w retry\npopped j 12 w queue:a 11\ngot j 12 w queue:a\n"
    twice = LOST + ran + "unmoved j {0} w retry E\n" + again + again.split("\n", 2)[2]
    made = heard(twice.format(10.05), "+j -j +j +j -j -j")
    assert (made.tolls[0].pushes, made.unexplained) == (["j"], {})
    assert "clients know 2" in heard(twice.format(10.05), "+j -j +j +j -j -j", kills=()).unexplained["j"]


def test_a_reply_that_was_delivered_twice_is_no_push_of_a_client() -> None:
    made = heard("intent j 9 p queue:a\nacknowledged j 12 p queue:a\n" + RUN_TWICE, "+j -j", kills=())
    assert "delivered twice" in made.unexplained["j"]


def test_redis_own_history_says_what_was_pushed_and_popped(tmp_path: Path) -> None:
    with redis_server(*APPENDONLY, "no") as redis, Producer(redis.url, tmp_path) as producer:
        waits = redis.talk()
        waits.send(b"BRPOP queue:low queue:default 5\r\n")
        first, second = producer.push(), producer.push("low")
        assert first.encode() in waits.frame()
        redis.call("EVAL", "return redis.call('rpoplpush', KEYS[1], KEYS[2])", "2", "elsewhere", "elsewhere")
        redis.call("ZADD", "retry", "1", f'{{"jid":"{first}"}}')
        redis.call("ZADD", "retry", "2", f'{{"jid":"{first}"}}')
        redis.call("EVAL", "return redis.call('zrem', KEYS[1], ARGV[1])", "1", "retry", f'{{"jid":"{first}"}}')
        redis.call("RPUSH", "queue:low", f'{{"jid":"{first}"}}')
        redis.call("BRPOP", "queue:low", "0")
        happened = [(event.kind, event.place, event.jid) for event in events(commands(redis.directory))]
        assert happened == [
            ("pushed", "queue:default", first),
            ("popped", "queue:default", first),
            ("pushed", "queue:low", second),
            ("pushed", "retry", first),
            ("popped", "retry", first),
            ("pushed", "queue:low", first),
            ("popped", "queue:low", first),
        ]
        redis.call("LPUSH", "queue:low", "x")
        redis.call("LSET", "queue:low", "0", "y")
        with pytest.raises(ValueError, match="does not know b'LSET'"):
            events(commands(redis.directory))
    assert Ledger(tmp_path).look()["acknowledged"] == 2
