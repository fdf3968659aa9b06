"""Rows become batches, whatever their number, and totals are what the rows add up to."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.capture.format import SCHEMA, ArgsMode
from proxy.engine.counters import bucket_index
from proxy.engine.recorder import Recorder
from proxy.engine.session import Session
from proxy.engine.stats import BUCKET_BOUNDS_NS, BUCKETS
from tests.engine.playbook import TABLE, Talk, encode


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 4097, 20_000])
def test_a_batch_holds_every_row_in_order(count: int) -> None:
    talk = Talk()
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        talk.client(b"".join(encode("MSET", f"k{n}", "v", "z" * (n % 9), "v") for n in numbers))
        talk.backend(b"".join(b"-E%d x\r\n" % (n % 7) if n % 3 == 0 else b"+OK\r\n" for n in numbers))
    batch = talk.recorder.take()
    batch.validate(full=True)
    assert batch.schema == SCHEMA
    rows = batch.to_pylist()
    assert [row["seq"] for row in rows] == list(range(count))
    assert [row["keys"] for row in rows] == [[b"k%d" % n, b"z" * (n % 9)] for n in range(count)]
    assert [row["error"] for row in rows] == [b"E%d" % (n % 7) if n % 3 == 0 else b"" for n in range(count)]


RARE = ("db", "txn", "error", "served_key", "client_name", "script", "args", "unknown", "gap", "gap_rows", "keys_cut")
SCRIPT = "return 1"


def rare_rows(late: int) -> list[dict[str, object]]:
    """``late`` plain rows, one of each kind that fills a column that is else empty, and as many plain rows again."""
    talk = Talk(mode=ArgsMode.FULL if late % 2 else ArgsMode.KEYS)
    plain = encode("GET", "k") * late
    talk.client(plain)
    talk.backend(b"$-1\r\n" * late)
    talk.client(encode("CLIENT", "SETNAME", "me") + encode("SELECT", "3") + encode("EVAL", SCRIPT, "0"))
    talk.backend(b"+OK\r\n+OK\r\n:1\r\n")
    talk.client(encode("NOSUCH") + encode("LPOP", "list") + encode("GET", "x" * 600) + encode("MULTI") + encode("EXEC"))
    talk.backend(b"-ERR no\r\n$1\r\nx\r\n$-1\r\n+OK\r\n*0\r\n")
    talk.client(encode("CLIENT", "SETNAME", "") + encode("SELECT", "0") + plain)
    talk.backend(b"+OK\r\n+OK\r\n" + b"$-1\r\n" * late)
    batches = [talk.recorder.take()]
    talk.client(plain)
    talk.backend(b"$-1\r\n" * late)
    batches.append(talk.recorder.take())
    rows: list[dict[str, object]] = []
    for batch in filter(None, batches):
        batch.validate(full=True)
        rows += batch.to_pylist()
    return rows


@pytest.mark.parametrize("late", [0, 1, 2, 1023, 1024, 5001])
def test_what_is_rarely_there_stands_in_its_own_row_and_nowhere_else(late: int) -> None:
    rows = rare_rows(late)
    plain, special = rows[:late] + rows[late + 10 :], rows[late : late + 10]
    assert [row["seq"] for row in rows] == list(range(3 * late + 10))
    args = [b"GET", b"k"] if late % 2 else []
    empty = {"db": 0, "txn": 0, "unknown": 0, "gap_rows": 0, "args": args, "keys_cut": []}
    assert all({name: row[name] for name in RARE} == dict.fromkeys(RARE, b"") | empty for row in plain)
    seen = [
        (row["db"], row["txn"], row["error"], row["served_key"], row["client_name"]) for row in rows[late : late + 10]
    ]
    assert seen == [
        (0, 0, b"", b"", b"me"), (0, 0, b"", b"", b"me"), (3, 0, b"", b"", b"me"), (3, 0, b"ERR", b"", b"me"),
        (3, 0, b"", b"list", b"me"), (3, 0, b"", b"", b"me"), (3, 1, b"", b"", b"me"), (3, 1, b"", b"", b"me"),
        (3, 0, b"", b"", b""), (3, 0, b"", b"", b""),
    ]  # fmt: skip
    assert [bool(row["script"]) for row in special] == [False, False, True, *[False] * 7]
    assert [bool(row["unknown"]) for row in special] == [False, False, False, True, *[False] * 6]
    assert [bool(row["keys_cut"]) for row in special] == [*[False] * 5, True, *[False] * 4]


def test_batches_outlive_the_columns_and_each_other() -> None:
    talk, batches = Talk(), []
    for count in (1, 3000, 2, 700, 1):
        talk.client(b"".join(encode("GET", f"{count}:{n}") for n in range(count)))
        talk.backend(b"$-1\r\n" * count)
        batches.append(talk.recorder.take())
    del talk
    for count in (700, 1):  # freed in any order, also the memory of the one that is looked at last
        batches = [batch for batch in batches if batch.num_rows != count]
    assert [batch.column("keys").to_pylist() for batch in batches] == [
        [[b"%d:%d" % (count, n)] for n in range(count)] for count in (3000, 2)]  # fmt: skip


def test_a_batch_is_its_receivers_own() -> None:
    talk = Talk()
    talk.client(encode("GET", "first"))
    talk.backend(b"$-1\r\n")
    batch = talk.recorder.take()
    talk.client(encode("GET", "other"))
    talk.backend(b"$-1\r\n")
    talk.recorder.take()
    assert batch.column("keys").to_pylist() == [[b"first"]]
    assert talk.recorder.take() is None


def test_rows_without_room_become_one_gap_row() -> None:
    talk = Talk()
    talk.client(encode("CLIENT", "REPLY", "OFF"))
    pings = encode("PING") * 10_000
    for _ in range(14):
        talk.client(pings)
    assert talk.recorder.take().num_rows == 131_072
    [gap] = talk.rows()
    assert (gap["gap"], gap["gap_rows"]) == (b"engine-full", 140_001 - 131_072)
    assert talk.recorder.counters.gap_rows == 140_001 - 131_072
    talk.client(encode("PING"))
    assert [row["seq"] for row in talk.rows()] == [140_001]


def test_sessions_share_a_recorder_and_keep_their_own_names() -> None:
    recorder = Recorder(TABLE, 1, lambda: None, lambda sha, body: None)
    sessions = [Session(recorder, b"a:%d" % n) for n in range(3)]
    for turn in range(2):
        for number, session in enumerate(sessions):
            session.client_bytes(
                encode("CLIENT", "SETNAME", f"n{number}") if turn == 0 else encode("GET", f"k{number}"), 1
            )
    for session in reversed(sessions):
        session.backend_bytes(b"+OK\r\n$-1\r\n", 2)
    rows = [row for row in recorder.take().to_pylist() if row["command"] == b"GET"]
    assert [(row["conn"], row["client_addr"], row["client_name"], row["keys"]) for row in rows] == [
        (n + 1, b"a:%d" % n, b"n%d" % n, [b"k%d" % n]) for n in (2, 1, 0)]  # fmt: skip


@given(
    st.one_of(
        st.integers(0, 2**50), st.sampled_from(BUCKET_BOUNDS_NS), st.sampled_from(BUCKET_BOUNDS_NS).map(lambda b: b - 1)
    )
)
@settings(max_examples=500, derandomize=True)
def test_a_latency_falls_into_the_bucket_below_its_exclusive_bound(ns: int) -> None:
    assert bucket_index(ns) == bisect_right(BUCKET_BOUNDS_NS, ns)
    assert bucket_index(ns) < BUCKETS


def test_every_bound_begins_the_next_bucket() -> None:
    for number, bound in enumerate(BUCKET_BOUNDS_NS):
        assert (bucket_index(bound - 1), bucket_index(bound)) == (number, number + 1)


def test_totals_are_what_the_commands_add_up_to() -> None:
    talk = Talk()
    talk.client(encode("GET", "a") + encode("GET", "b") + encode("MSET", "a", "1", "b", "2") + encode("NOSUCH"))
    talk.client(encode("BRPOP", "q", "0"))
    talk.now_ns += 5000
    talk.backend(b"$1\r\nx\r\n-WRONGTYPE x\r\n-CROSSSLOT x\r\n-ERR unknown command\r\n*-1\r\n")
    stats = talk.recorder.counters.stats()
    by_name = {each.command: each for each in stats.commands}
    assert set(by_name) == {"GET", "MSET", "unknown", "BRPOP"}
    get, mset, unknown, brpop = by_name["GET"], by_name["MSET"], by_name["unknown"], by_name["BRPOP"]
    assert (get.count, get.errors, get.request_bytes, get.reply_bytes) == (2, 1, 40, 21)
    assert (get.service_ns, sum(get.service_buckets), get.service_buckets[bucket_index(5000)]) == (10_000, 2, 2)
    assert (mset.cross_slot, mset.errors) == (1, 1)
    assert (unknown.unknown_keys, unknown.errors) == (1, 1)
    assert (brpop.service_ns, brpop.wait_ns, sum(brpop.service_buckets), sum(brpop.wait_buckets)) == (0, 5000, 0, 1)
    assert stats.errors == {"WRONGTYPE": 1, "CROSSSLOT": 1, "ERR": 1}
    assert stats.rows == 5


def test_queued_fetches_count_as_service_not_as_waits() -> None:
    talk = Talk()
    talk.client(encode("MULTI") + encode("BRPOP", "q", "0") + encode("EXEC"))
    talk.backend(b"+OK\r\n+QUEUED\r\n*1\r\n*-1\r\n")
    by_name = {each.command: each for each in talk.recorder.counters.stats().commands}
    assert sum(by_name["BRPOP"].wait_buckets) == 0
    assert sum(by_name["BRPOP"].service_buckets) == 1


def test_error_words_without_end_are_counted_together() -> None:
    talk = Talk()
    talk.client(encode("PING") * 100)
    talk.backend(b"".join(b"-E%d\r\n" % n for n in range(100)))
    errors = talk.recorder.counters.stats().errors
    assert len(errors) == 65
    assert (errors["other"], sum(errors.values())) == (36, 100)
