"""What a capture uses of a server: each command with each pattern of keys, databases, scripts; in one pass.

Knows: Arrow's grouping. Refuses to know: files, and what is done with it (``cutover``). What the backend answered with
an error, and what shunt answered itself, is not used: another server need not have it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.format import Flag, ReplyKind
from proxy.capture.use import CaptureUse, UsedCommand
from proxy.report.sidekiq_keys import namespaces
from proxy.report.source import Source
from proxy.report.templates import fold_first

#: Commands with a pattern of keys that are kept; a capture with more has keys that no pattern folds.
MOST = 5_000
_NAMED_BY_SHA = pa.array([b"EVALSHA", b"EVALSHA_RO"], pa.binary())
_COLUMNS = ("command", "keys", "nkeys", "nargs", "args", "flags")


def used(source: Source, on_rows: Callable[[int], None] = lambda rows: None) -> CaptureUse:
    """Reads all of ``source``. ``on_rows`` is called with the number of rows read so far."""
    found: dict[tuple[bytes, bytes], UsedCommand] = {}
    beyond: set[tuple[bytes, bytes]] = set()
    databases: set[int] = set()
    scripts: set[str] = set()
    rows = exchanges = 0
    for batch in source.batches():
        rows += batch.num_rows
        batch = _answered(batch)
        exchanges += batch.num_rows
        databases.update(pc.unique(batch.column("db")).to_pylist())
        scripts.update(_scripts(batch))
        _take(batch, found, beyond)
        on_rows(rows)
    facts = source.backend_facts()
    return CaptureUse(
        exchanges,
        tuple(found[each] for each in sorted(found)),
        len(beyond),
        tuple(sorted(databases)),
        frozenset(scripts),
        bool(namespaces(template for _, template in found)),
        facts[-1] if facts else None,
        len(source.losses),
    )


def _answered(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Exchanges that the backend ran, or may have run."""
    ours = pc.bit_wise_and(batch.column("flags"), pa.scalar(int(Flag.REPLIED_BY_PROXY), pa.uint32()))
    keep = pc.equal(batch.column("gap"), pa.scalar(b"", pa.binary()))
    keep = pc.and_(keep, pc.equal(ours, 0))
    keep = pc.and_(keep, pc.not_equal(batch.column("reply"), pa.scalar(int(ReplyKind.ERROR), pa.uint8())))
    return batch.filter(keep)


def _scripts(batch: pa.RecordBatch) -> list[str]:
    shas = pc.unique(batch.column("script").filter(pc.is_in(batch.column("command"), _NAMED_BY_SHA)))
    return [sha.decode() for sha in shas.to_pylist() if sha]


def _take(
    batch: pa.RecordBatch, found: dict[tuple[bytes, bytes], UsedCommand], beyond: set[tuple[bytes, bytes]]
) -> None:
    if not batch.num_rows:
        return
    names = ["command", "template", "row"]
    columns = [batch.column("command"), fold_first(batch.column("keys")), pa.array(range(batch.num_rows), pa.int32())]
    groups = pa.table(columns, names).group_by(names[:2]).aggregate([("row", "min"), ("row", "count")])
    narrowed = batch.select(list(_COLUMNS))
    for group in groups.to_pylist():
        place = (group["command"], group["template"])
        known = found.get(place)
        if known is None and len(found) >= MOST:
            beyond.add(place)
            continue
        if known is None:
            known = _sample(narrowed.slice(group["row_min"], 1).to_pylist()[0], group["template"])
        found[place] = _more(known, group["row_count"])


def _sample(row: dict[str, Any], template: bytes) -> UsedCommand:
    whole = row["flags"] & (Flag.ARGS | Flag.ARGS_CUT) == Flag.ARGS
    return UsedCommand(
        row["command"].decode("utf-8", "backslashreplace"), template, 0, tuple(row["keys"]), row["nkeys"], row["nargs"],
        tuple(row["args"]) if whole else (),
    )  # fmt: skip


def _more(known: UsedCommand, count: int) -> UsedCommand:
    return UsedCommand(
        known.name, known.template, known.count + count, known.keys, known.nkeys, known.nargs, known.args
    )
