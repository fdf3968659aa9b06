"""A capture without files, for tests of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from protocol.slots import slot
from proxy.capture.facts import BackendFacts
from proxy.capture.format import SLOT_CROSS, SLOT_NONE, Flag, ReplyKind
from proxy.capture.mirrored import Mirrored
from tests.capture.rows import batch


class Rows:
    """A ``report.Source`` of rows given as small dicts, several per batch."""

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        scripts: Mapping[bytes, bytes] | None = None,
        losses: Sequence[object] = (),
        facts: Sequence[BackendFacts] = (),
        run: str = "run-1",
        batch_rows: int = 1000,
    ) -> None:
        self._batches = [batch(rows[i : i + batch_rows]) for i in range(0, len(rows), batch_rows)]
        self._scripts = dict(scripts or {})
        self._run = run
        self.losses = losses
        self._facts = facts
        self.mirrored: list[Mirrored] = []

    def batches(self) -> Iterator[pa.RecordBatch]:
        for each in self._batches:
            added = {
                "run": pa.repeat(pa.scalar(self._run), each.num_rows),
                "worker": pa.repeat(pa.scalar(0, pa.int32()), each.num_rows),
                "backend_name": pa.repeat(pa.scalar("127.0.0.1:6379"), each.num_rows),
            }
            for name, column in added.items():
                each = each.append_column(name, column)
            yield each

    def backend_facts(self) -> Sequence[BackendFacts]:
        return self._facts

    def mirrors(self) -> tuple[Sequence[Mirrored], Sequence[str]]:
        return self.mirrored, ()

    def scripts(self) -> Mapping[bytes, bytes]:
        return self._scripts


def slot_of(keys: Sequence[str]) -> int:
    """The slot column's value for these keys."""
    slots = {slot(key.encode()) for key in keys}
    return SLOT_NONE if not slots else slots.pop() if len(slots) == 1 else SLOT_CROSS


def command(text: str, **columns: Any) -> dict[str, Any]:
    """One exchange: ``command("BRPOP queue:a queue:b")`` is a name and its keys."""
    name, *keys = text.split()
    return {"command": name, "keys": keys, "slot": slot_of(keys), "reply": ReplyKind.BULK, **columns}


def transaction(*texts: str, txn: int = 1, conn: int = 1, **of_exec: Any) -> list[dict[str, Any]]:
    """MULTI, the commands, EXEC, as the engine records them."""
    queued = [
        command(
            text, txn=txn, conn=conn, **(
                {"reply": ReplyKind.SIMPLE, "flags": Flag.QUEUED}
            )
        )
        for text in texts
    ]  # fmt: skip
    slots = {row["slot"] for row in queued} - {SLOT_NONE}
    flags = Flag(0)
    if SLOT_CROSS in slots:
        flags |= Flag.TXN_REFUSED
    if len(slots) > 1:
        flags |= Flag.TXN_CROSS
    flags |= of_exec.pop("flags", Flag(0))
    return [
        command("MULTI", txn=txn, conn=conn),
        *queued,
        command("EXEC", txn=txn, conn=conn, flags=flags, **of_exec),
    ]
