"""How long a report of ten million commands takes, and how much memory.

    python bench/report_10m.py [--rows 10000000] [--directory DIR]

Writes a capture once (Sidekiq-like: pushes, fetches from several queues, heartbeats as transactions, polling scripts,
an API), kept in DIR for the next time, then times ``shunt report`` on it in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402

from protocol.slots import slot as hash_slot  # noqa: E402
from proxy.capture.format import SCHEMA, SLOT_CROSS, SLOT_NONE, Flag, ReplyKind  # noqa: E402
from proxy.capture.segments import SegmentFile, SegmentHeader  # noqa: E402

BATCH_ROWS = 65_536
SEGMENT_BATCHES = 16
START_NS = 1_795_000_000_000_000_000


def one(command: bytes, keys: list[bytes], reply: ReplyKind, size: int, txn: int = 0, flags: int = 0) -> dict[str, Any]:
    """What one exchange differs in."""
    slots = {hash_slot(key) for key in keys}
    where = SLOT_NONE if not slots else slots.pop() if len(slots) == 1 else SLOT_CROSS
    return {
        "command": command, "keys": keys, "nkeys": len(keys), "slot": where, "reply": int(reply), "txn": txn,
        "flags": int(flags | (Flag.QUEUED if reply is ReplyKind.SIMPLE and txn else 0)), "request_bytes": size,
    }  # fmt: skip


def traffic(rng: random.Random) -> Iterator[list[dict[str, Any]]]:
    """Bursts of commands that one connection sends one after another, without end."""
    queues = [b"queue:default", b"queue:critical", b"queue:low", b"queue:mailers"]
    txn = 0
    while True:
        dice = rng.random()
        queue = rng.choice(queues)
        if dice < 0.35:
            size = int(rng.lognormvariate(6, 1))
            yield [one(b"SADD", [b"queues"], ReplyKind.INTEGER, 60), one(b"LPUSH", [queue], ReplyKind.INTEGER, size)]
        elif dice < 0.65:
            shuffled = rng.sample(queues, len(queues))
            yield [one(b"BRPOP", shuffled, ReplyKind.ARRAY, 120, flags=Flag.BLOCKING | Flag.POP)]
        elif dice < 0.70:
            txn += 1
            worker = b"web-%d:%d:%012x" % (rng.randrange(20), rng.randrange(30000), rng.getrandbits(48))
            keys = [b"processes", worker, worker, worker, worker + b"-signals"]
            names = [b"SADD", b"EXISTS", b"HSET", b"EXPIRE", b"RPOP"]
            queued = [one(n, [k], ReplyKind.SIMPLE, 90, txn) for n, k in zip(names, keys, strict=True)]
            first, last = one(b"MULTI", [], ReplyKind.SIMPLE, 15, txn), one(b"EXEC", [], ReplyKind.ARRAY, 14, txn)
            first["flags"] = 0
            last["flags"] = int(Flag.TXN_CROSS)
            yield [first, *queued, last]
        elif dice < 0.80:
            yield [one(b"EVALSHA", [b"schedule"], ReplyKind.NULL, 130, flags=Flag.SCRIPT)]
        else:
            jid = b"it-%024x" % rng.getrandbits(96)
            yield [one(b"HGETALL", [jid], ReplyKind.ARRAY, 50), one(b"HSET", [jid], ReplyKind.INTEGER, 300)]


def batch(rng: random.Random, bursts: Iterator[list[dict[str, Any]]], start: int) -> pa.RecordBatch:
    """One batch of BATCH_ROWS rows, from row number ``start`` on."""
    rows: list[dict[str, Any]] = []
    conns: list[int] = []
    while len(rows) < BATCH_ROWS:
        burst = next(bursts)
        conns += [rng.randrange(1, 400)] * len(burst)
        rows += burst
    rows, conns = rows[:BATCH_ROWS], conns[:BATCH_ROWS]
    size = len(rows)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    columns["ts"] = [START_NS + (start + i) * 100_000 for i in range(size)]
    columns["conn"] = conns
    columns["seq"] = [start + i for i in range(size)]
    columns["client_addr"] = [b"10.0.0.%d:%d" % (conn % 20, 30000 + conn) for conn in conns]
    columns["client_name"] = [b"worker"] * size
    columns["latency_ns"] = [int(rng.lognormvariate(11.5, 0.6)) for _ in range(size)]
    columns["reply_bytes"] = [rng.randrange(4, 400) for _ in range(size)]
    columns["nargs"] = [len(keys) + 2 for keys in columns["keys"]]
    columns["reply_items"] = [rng.randrange(9) if kind == ReplyKind.ARRAY else -1 for kind in columns["reply"]]
    columns["error"] = [b"WRONGTYPE" if rng.random() < 0.0005 else b"" for _ in range(size)]
    empty: dict[pa.DataType, Any] = {pa.binary(): b""}
    for field in SCHEMA:
        if field.name not in columns:
            columns[field.name] = [[] if pa.types.is_list(field.type) else empty.get(field.type, 0)] * size
    return pa.RecordBatch.from_pydict(columns, schema=SCHEMA)


def generate(directory: Path, rows: int, distinct: int = 24) -> None:
    """A capture of ``rows`` rows; after ``distinct`` batches the same batches come again with later times."""
    rng = random.Random(7)
    bursts = traffic(rng)
    header = SegmentHeader("20261123T030141Z-4242", 0, START_NS, "0.1.0", "keys", ("127.0.0.1:6379",))
    made: list[pa.RecordBatch] = []
    segment: SegmentFile | None = None
    for number, start in enumerate(range(0, rows, BATCH_ROWS)):
        if len(made) < distinct:
            made.append(batch(rng, bursts, start))
        shift = start - (number % distinct) * BATCH_ROWS
        each = made[number % distinct].slice(0, min(BATCH_ROWS, rows - start))
        for name, unit in (("ts", 100_000), ("seq", 1), ("txn", 0)):
            index = SCHEMA.get_field_index(name)
            column = each.column(index)
            if name == "txn":  # a transaction is not repeated under the same number
                moved = pc.if_else(pc.greater(column, 0), pc.add(column, shift), column)
            else:
                moved = pc.add(column, shift * unit)
            each = each.set_column(index, SCHEMA.field(index), moved)
        if number % SEGMENT_BATCHES == 0:
            if segment is not None:
                segment.close()
            segment = SegmentFile.create(directory, header, number=number // SEGMENT_BATCHES + 1, opened_ns=START_NS)
        assert segment is not None
        segment.write_batch(each)
    if segment is not None:
        segment.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--format", default="json")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.gettempdir()) / f"shunt-report-{options.rows}"
    if not directory.exists():
        directory.mkdir(parents=True)
        generate(directory, options.rows)
    size = sum(file.stat().st_size for file in directory.iterdir())
    command = [sys.executable, "-m", "proxy.cli.main", "report", str(directory), "--format", options.format]
    started = time.perf_counter()
    done = subprocess.run([*command, "-o", os.devnull], cwd=ROOT, check=False)
    took = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{options.rows:,} rows, {size / 1e6:,.0f} MB: {took:.1f} s, CPU {used.ru_utime + used.ru_stime:.1f} s on "
        f"{os.cpu_count()} cores, {used.ru_maxrss / 1024:,.0f} MB at most, exit code {done.returncode}"
    )


if __name__ == "__main__":
    main()
