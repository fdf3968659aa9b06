"""What a report finds out about Sidekiq, out of rows: queues, jobs, processes, connections."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.capture.facts import BackendFacts, ClientGroup
from proxy.capture.format import Flag, ReplyKind
from proxy.report.charts import depths
from proxy.report.render_json import render_json
from proxy.report.render_text import render_text
from proxy.report.run import run
from proxy.report.sidekiq import QueueLine, Sidekiq
from tests.capture.rows import START_NS
from tests.report.world import Rows, command, transaction

S = 1_000_000_000
FETCH = Flag.BLOCKING | Flag.POP
IDENTITY = "web-1:42:0123456789ab"

Row = dict[str, Any]


def at(seconds: float, row: Row, **columns: Any) -> Row:
    return {**row, "ts": START_NS + int(seconds * S), **columns}


def push(seconds: float, key: str = "queue:default", *payloads: str, **columns: Any) -> Row:
    """An LPUSH of one job, or of these payloads with all arguments."""
    given: Row = {"reply": ReplyKind.INTEGER, "nargs": 2 + max(len(payloads), 1), "request_bytes": 200, **columns}
    if payloads:
        given["args"] = ["LPUSH", key, *payloads]
    return at(seconds, command(f"LPUSH {key}"), **given)


def fetch(seconds: float, served: str = "", queues: str = "queue:default queue:low", **columns: Any) -> Row:
    """A BRPOP whose reply came at this second; it had waited for a tenth, or for two seconds in vain."""
    wait = 0.1 if served else 2.0
    given: Row = {"flags": FETCH, "latency_ns": int(wait * S), "reply": ReplyKind.NULL, **columns}
    if served:
        given |= {"served_key": served, "reply": given["reply"] if "reply" in columns else ReplyKind.ARRAY}
    return at(seconds - wait, command(f"BRPOP {queues}"), **given)


#: What makes a namespace Sidekiq's.
SIGN = at(0, command("SADD queues", reply=ReplyKind.INTEGER))


def beat(seconds: float, identity: str = IDENTITY, info: Row | None = None, **columns: Any) -> Row:
    args = {} if info is None else {"args": ["HMSET", identity, "info", json.dumps(info), "busy", "0"]}
    return at(seconds, command(f"HMSET {identity}"), **{"flags": Flag.QUEUED, "txn": 1, **args, **columns})


def found(*rows: Row, **world: Any) -> Sidekiq:
    in_order = sorted([SIGN, *rows], key=lambda row: row["ts"] + max(row.get("latency_ns", 0), 0))
    return run(Rows([{**row, "seq": number} for number, row in enumerate(in_order)], **world)).sidekiq


def only_queue(*rows: Row, key: str = "queue:default", **world: Any) -> QueueLine:
    [line] = [queue for queue in found(*rows, **world).queues if queue.key == key.encode()]
    return line


def test_without_keys_of_sidekiq_there_is_nothing_to_say() -> None:
    report = run(Rows([command("GET a"), command("LPUSH shop:queue:orders"), command("BRPOP shop:queue:orders")]))
    assert (report.sidekiq.namespaces, report.sidekiq.queues) == ((), ())
    assert "Sidekiq ─" not in render_text(report)


def test_a_wait_is_from_a_pushs_arrival_to_the_reply_of_the_fetch() -> None:
    queue = only_queue(fetch(1), push(2), push(3), fetch(4, "queue:default"), fetch(4.5, "queue:default"), fetch(9))
    assert (queue.pushed, queue.fetched, queue.depth, queue.highest) == (2, 2, 0, 2)
    assert queue.wait_ns is not None
    assert (queue.wait_ns.count, queue.wait_ns.max) == (2, 2 * S)
    assert queue.wait_ns.p50 == pytest.approx(1.5 * S, rel=0.02)


#: A bulk push: how many jobs are known by the number of arguments, or by the arguments, else not at all.
@pytest.mark.parametrize(
    ("bulk", "pushed", "unknown", "depth"),
    [
        (push(2, nargs=5), 3, 0, 3),
        (push(2, "queue:default", "{}", "{}", nargs=0), 2, 0, 2),
        (push(2, nargs=0), 0, 1, None),
        (push(2, reply=ReplyKind.ERROR, error="OOM"), 0, 0, 0),
        (push(2, reply=ReplyKind.LOST, latency_ns=-1), 0, 0, None),
        (push(2, flags=Flag.REPLIED_BY_PROXY), 0, 0, 0),
    ],
)
def test_a_push_counts_by_its_jobs(bulk: Row, pushed: int, unknown: int, depth: int | None) -> None:
    queue = only_queue(fetch(1), bulk, at(30, command("PING")))
    assert (queue.pushed, queue.unknown_pushes, queue.depth) == (pushed, unknown, depth)


@pytest.mark.parametrize(("reply", "pushed"), [(ReplyKind.ARRAY, 1), (ReplyKind.NULL, 0), (ReplyKind.ERROR, 0)])
@pytest.mark.parametrize("batch_rows", [1000, 2])
def test_a_push_in_a_transaction_counts_when_its_exec_has_run(reply: ReplyKind, pushed: int, batch_rows: int) -> None:
    rows = transaction("SADD queues", "LPUSH queue:default", reply=reply)
    timed = [at(2 + number / 1000, row, nargs=3) for number, row in enumerate(rows)]
    assert only_queue(fetch(1), *timed, batch_rows=batch_rows).pushed == pushed


def test_what_a_stopping_worker_puts_back_is_no_push_and_is_fetched_first() -> None:
    back = at(6, command("RPUSH queue:default"), reply=ReplyKind.INTEGER, nargs=3)
    queue = only_queue(fetch(1), push(2), push(3), fetch(4, "queue:default"), back, fetch(7, "queue:default"))
    assert (queue.pushed, queue.requeued, queue.fetched, queue.depth) == (2, 1, 2, 1)
    assert queue.wait_ns is not None
    assert queue.wait_ns.p50 == pytest.approx(1 * S, rel=0.02)


def test_a_gap_leaves_depths_unknown_until_the_queue_is_seen_empty() -> None:
    gap = at(3, {"gap": "the capture's queue was full", "command": "", "conn": 0})
    assert only_queue(fetch(1), push(2), gap, push(4)).depth is None
    assert only_queue(fetch(1), push(2), gap, push(4), fetch(9), at(20, command("PING"))).depth == 0


def test_a_fetch_without_a_known_reply_leaves_the_depth_unknown() -> None:
    unknown = fetch(3, reply=ReplyKind.NONE, latency_ns=-1)
    queue = only_queue(fetch(1), push(1.5), unknown, push(4))
    assert (queue.depth, queue.relative, queue.listened) == (None, None, True)


def test_a_cleared_queue_is_empty() -> None:
    queue = only_queue(fetch(1), push(2), at(3, command("UNLINK queue:default", reply=ReplyKind.INTEGER)))
    assert (queue.depth, queue.removed) == (0, 1)


def test_queues_of_two_databases_are_two() -> None:
    lines = found(push(1), push(2, db=3), fetch(3, db=3)).queues
    assert sorted((line.key, line.db, line.listened) for line in lines if line.pushed) == [
        (b"queue:default", 0, False),
        (b"queue:default", 3, True),
    ]


def test_the_time_line_has_every_push_and_fetch() -> None:
    queue = only_queue(fetch(1), *(push(2 + i) for i in range(5)), *(fetch(20 + i, "queue:default") for i in range(5)))
    assert sum(point.pushed for point in queue.line) == 5
    assert sum(point.fetched for point in queue.line) == 5
    assert max(point.high or 0 for point in queue.line) == 5
    assert queue.line[-1].last == 0


def test_the_charts_get_the_queues_whose_depth_is_known_deepest_first() -> None:
    low = [push(2, "queue:low"), push(3, "queue:low"), push(3.5, "queue:low"), push(3, "queue:never")]
    rows = [SIGN, fetch(1), push(2), fetch(4, "queue:default"), *low, at(30, command("PING"))]
    shown = depths(run(Rows(rows)))
    assert [name for name, _ in shown] == ["queue:low", "queue:default"]
    assert max(depth or 0 for _, depth in shown[0][1]) == 3


def test_several_workers_of_shunt_are_put_in_order_of_time() -> None:
    class Two(Rows):
        """Two workers: one saw the fetches, the other, read later, the pushes."""

        def batches(self) -> Any:
            for number, batch in enumerate(super().batches()):
                column = batch.schema.get_field_index("worker")
                import pyarrow as pa

                yield batch.set_column(
                    column, batch.schema.field(column), pa.repeat(pa.scalar(number, pa.int32()), batch.num_rows)
                )

    rows = [SIGN, fetch(1), fetch(4, "queue:default"), fetch(9), push(2), at(3, command("PING"))]
    [queue] = [line for line in run(Two(rows, batch_rows=4)).sidekiq.queues if line.pushed]
    assert (queue.depth, queue.unseen_in, queue.unseen_out) == (0, 0, 0)
    assert queue.wait_ns is not None
    assert queue.wait_ns.max == 2 * S


# ---------------------------------------------------------------------------------------------------- jobs


def job(name: str, **more: Any) -> str:
    return json.dumps({"class": name, "args": [1], "jid": "j", **more})


def test_job_classes_come_out_of_payloads_and_activejobs_are_unwrapped() -> None:
    seen = found(
        push(1, "queue:default", job("A"), job("A"), job("B")),
        push(61, "queue:default", job("Wrapper", wrapped="Mail")),
        at(2, command("ZADD schedule"), reply=ReplyKind.INTEGER, args=["ZADD", "schedule", "1.5", job("B")], nargs=4),
        at(3, command("ZADD retry"), reply=ReplyKind.INTEGER, args=["ZADD", "retry", "9", job("A")], nargs=4),
    )
    assert seen.jobs is not None
    told = {line.name: (line.count, line.scheduled, line.retries, line.dead) for line in seen.jobs}
    assert told == {b"A": (2, 0, 1, 0), b"B": (1, 1, 0, 0), b"Mail": (1, 0, 0, 0)}
    [one] = [line for line in seen.jobs if line.name == b"A"]
    assert one.bytes is not None
    assert one.bytes.max == len(job("A"))
    assert one.per_minute == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("payload", ["", "no json", "[1]", "{}", '{"class": 5', "\\xff{", "null"])
def test_a_payload_that_is_no_job_is_counted_and_harms_nothing(payload: str) -> None:
    jobs = found(push(1, "queue:default", payload)).jobs
    assert jobs is not None
    assert [line.count for line in jobs] == [1]


def test_without_arguments_job_classes_are_not_told_and_the_text_says_what_is_needed() -> None:
    report = run(Rows([SIGN, push(1)]))
    assert report.sidekiq.jobs is None
    assert "needs --capture-args full" in render_text(report)
    assert json.loads(render_json(report))["sidekiq"]["jobs"] is None


def test_big_jobs_are_counted_without_arguments_too() -> None:
    queue = only_queue(push(1, request_bytes=70_000), push(2, request_bytes=140_000, nargs=4), push(3))
    assert (queue.big_jobs, queue.job_bytes and queue.job_bytes.max) == (3, 70_000)


def test_schedule_retry_and_dead_are_counted_in_and_out() -> None:
    poll = {"reply": ReplyKind.BULK, "flags": Flag.SCRIPT}
    seen = found(
        push(1),
        at(2, command("ZADD retry"), reply=ReplyKind.INTEGER, nargs=6),
        at(3, command("EVALSHA retry"), **poll),
        at(4, command("EVALSHA retry"), **{**poll, "reply": ReplyKind.NULL}),
        at(5, command("ZADD dead"), reply=ReplyKind.INTEGER, nargs=0),
    )
    assert {(line.role, line.added, line.unknown_adds, line.taken, line.polls) for line in seen.sets} == {
        ("retry", 2, 0, 1, 2), ("dead", 0, 1, 0, 0),
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------- processes


def test_a_process_is_known_by_its_heartbeats_and_by_what_they_tell() -> None:
    info = {"hostname": "web-1", "pid": 42, "tag": "shop", "concurrency": 5, "queues": ["b", "a"], "version": "7.3.0",
            "started_at": 1_700_000_000.5}  # fmt: skip
    seen = found(push(1), *(beat(5 * number, info=info) for number in range(4)))
    [process] = seen.processes
    assert (process.identity, process.beats, process.interval_ns) == (IDENTITY.encode(), 4, 5 * S)
    assert (process.told, process.tag, process.queues, process.version) == (True, "shop", ("a", "b"), "7.3.0")
    assert (process.concurrency, process.started_ts) == (5, 1_700_000_000_500_000_000)


@pytest.mark.parametrize("info", ["nonsense", "[]", '{"pid": "x"}', '{"queues": 5}', "[" * 20_000])
def test_a_heartbeat_that_tells_nonsense_tells_nothing(info: str) -> None:
    row = beat(1, args=["HMSET", IDENTITY, "info", info])
    [process] = found(push(0), row, beat(2)).processes
    assert not process.told


@pytest.mark.parametrize(
    ("end", "ended"),
    [
        (at(12, command(f"UNLINK {IDENTITY}:workers"), reply=ReplyKind.INTEGER), True),
        (at(12, command(f"DEL {IDENTITY}:work"), reply=ReplyKind.INTEGER), True),
        (at(12, command(f"UNLINK {IDENTITY}:work"), txn=3, flags=Flag.QUEUED), False),  # that is a heartbeat's
        (at(8, command(f"UNLINK {IDENTITY}:workers"), reply=ReplyKind.INTEGER), False),  # it went on beating
    ],
)
def test_a_process_signs_off_outside_of_a_heartbeat(end: Row, ended: bool) -> None:
    [process] = found(beat(0), beat(5), beat(10), end).processes
    assert (process.ended_ts > 0) == ended


def test_a_key_that_only_looks_like_an_identity_is_no_process() -> None:
    assert found(push(1), at(2, command("HSET user:12:34567"))).processes == ()


def test_connections_are_counted_by_address_and_name() -> None:
    rows = [push(1, conn=1), push(2, conn=2, client_addr="10.0.0.2:5"), push(3, conn=3, client_addr="10.0.0.2:6")]
    callers = {line.address: (line.connections, line.pushes) for line in found(*rows).callers}
    assert callers == {b"127.0.0.1": (1, 1), b"10.0.0.2": (2, 2)}


def test_fetches_without_a_reply_count_but_not_those_that_end_with_the_capture() -> None:
    gone: Row = {"reply": ReplyKind.LOST, "latency_ns": -1}
    seen = found(fetch(3, conn=7, **gone), fetch(60, conn=8, **gone), at(60, command("PING")))
    assert sum(line.lost_fetches for line in seen.callers) == 1
    lost = fetch(3, "queue:default", conn=7)
    lost["flags"] |= Flag.UNDELIVERED
    assert sum(line.undelivered for line in found(lost, at(60, command("PING"))).callers) == 1


@pytest.mark.parametrize(("reply", "still_lost"), [(ReplyKind.INTEGER, 0), (ReplyKind.ERROR, 1), (ReplyKind.LOST, 1)])
def test_a_job_that_shunt_gave_back_is_not_lost_and_no_push_of_its_clients(reply: ReplyKind, still_lost: int) -> None:
    lost, back = fetch(3, "queue:default", conn=7), push(4, conn=7, reply=reply)
    lost["flags"] |= Flag.UNDELIVERED
    back["flags"] = Flag.WRITE | Flag.GIVEN_BACK
    [caller] = found(lost, back, at(60, command("PING", conn=7))).callers
    assert (caller.undelivered, caller.pushes) == (still_lost, 0)


def test_no_name_that_somebody_chose_can_drive_a_terminal() -> None:
    nasty = "x\x1b[31m\u202e"
    info = {"tag": nasty, "queues": [nasty], "version": nasty, "started_at": 5}
    group = ClientGroup("10.0.0.7", nasty, 1, nasty, nasty)
    facts = [BackendFacts(START_NS, "start", "r", {"redis_version": nasty}, 1, 0, (group,), 0, nasty, {"INFO": nasty})]
    other = "web-1:43:0123456789ab"
    beats = [beat(n, info=info) for n in range(30)] + [beat(n, other, {**info, "queues": []}) for n in range(30)]
    text = render_text(run(Rows([SIGN, push(1, f"queue:{nasty}"), *beats], facts=facts)))
    assert "process-left-over" in text
    assert "past-the-proxy" in text
    assert not {"\x1b", "\u202e"} & set(text)


def test_a_report_with_everything_has_it_all_in_its_text() -> None:
    report = run(
        Rows([SIGN, fetch(1), push(2, "queue:default", job("Mail")), fetch(3, "queue:default"), beat(4), beat(9)])
    )
    text = render_text(report)
    for word in ("queue:default", "Mail", IDENTITY, "1 job pushed, 1 fetched", "Nothing is known of the backend"):
        assert word in text, word
