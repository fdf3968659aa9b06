"""A capture of which only the rows that a filter keeps are read.

Knows: how to apply a filter to batches, and to count what it leaves out. Refuses to know: expressions (``expression``)
and what is done with the rows. Losses, scripts and backend facts are the whole capture's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from proxy.capture.facts import BackendFacts
from proxy.capture.mirrored import Mirrored
from proxy.capture.predicate import Above, OneOf, Predicate
from proxy.capture.render import values

_EXEC = OneOf("command", [b"EXEC"])
_IN_TXN = Above("txn", 0)
_QUEUED = _IN_TXN & ~OneOf("command", [b"EXEC", b"MULTI", b"DISCARD", b"WATCH"])
_BITS = pa.scalar(32, pa.int64())
IS_GAP = ~OneOf("gap", [b""])


@dataclass(frozen=True)
class Filter:
    """Which rows are read. ``keeps``: those. ``doubts``: exchanges of which it can't be told, None if of none."""

    text: str
    keeps: Predicate
    doubts: Predicate | None


class Readable(Protocol):
    """An open capture: ``capture.reader.Capture`` is one."""

    def batches(self) -> Iterator[pa.RecordBatch]: ...

    def scripts(self) -> Mapping[bytes, bytes]: ...

    def backend_facts(self) -> Sequence[BackendFacts]: ...

    def mirrors(self) -> tuple[Sequence[Mirrored], Sequence[str]]: ...

    @property
    def losses(self) -> Sequence[object]: ...


@dataclass(slots=True)
class LeftOut:
    """What a filter left out. ``doubtful``, of the exchanges: those that it can't tell to be wanted or not.
    ``torn``: transactions that it left the EXEC out of, but not every command."""

    exchanges: int = 0
    gaps: int = 0
    doubtful: int = 0
    torn: int = 0


class Filtered:
    """A capture behind a filter. ``left_out`` is complete once ``batches`` has ended."""

    def __init__(self, source: Readable, chosen: Filter) -> None:
        self.filter = chosen
        self.left_out = LeftOut()
        self._source = source

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The batches of the capture without the rows that are left out; none is empty."""
        self.left_out = LeftOut()
        transactions = _Transactions()
        for batch in self._source.batches():
            keeps = self.filter.keeps.mask(batch)
            if self.filter.doubts is not None:
                self.left_out.doubtful += self.filter.doubts.mask(batch).true_count
            self.left_out.torn += transactions.torn(batch, keeps)
            if keeps.true_count < batch.num_rows:
                self._count(batch, pc.invert(keeps))
                batch = batch.filter(keeps)
            if batch.num_rows:
                yield batch

    def scripts(self) -> Mapping[bytes, bytes]:
        """The capture's script bodies by SHA-1."""
        return self._source.scripts()

    def backend_facts(self) -> Sequence[BackendFacts]:
        """The capture's samples of backend facts."""
        return self._source.backend_facts()

    def mirrors(self) -> tuple[Sequence[Mirrored], Sequence[str]]:
        """What mirrors did meanwhile, of all that was mirrored: it is kept as totals."""
        return self._source.mirrors()

    @property
    def losses(self) -> Sequence[object]:
        """The capture's losses."""
        return self._source.losses

    def _count(self, batch: pa.RecordBatch, dropped: pa.BooleanArray) -> None:
        gaps = pc.and_(dropped, IS_GAP.mask(batch)).true_count
        self.left_out.gaps += gaps
        self.left_out.exchanges += dropped.true_count - gaps


class _Transactions:
    """Finds transactions of which commands are kept and the EXEC is not. A connection has one at a time."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, int, int], int] = {}  # run, worker, conn: last transaction with a kept command

    def torn(self, batch: pa.RecordBatch, keeps: pa.BooleanArray) -> int:
        """How many EXECs of the batch are left out while commands of theirs, here or before, are kept."""
        if not _IN_TXN.mask(batch).true_count:
            return 0
        pairs = batch.select(["conn", "txn"])
        kept = pairs.filter(pc.and_(_QUEUED.mask(batch), keeps))
        ends = pairs.filter(pc.and_not(_EXEC.mask(batch), keeps))
        stream = (batch.column("run")[0].as_py(), batch.column("worker")[0].as_py())
        here = pc.is_in(_key(ends), value_set=_key(kept))
        before = sum(self._last.get((*stream, conn)) == txn for conn, txn in _rows(ends.filter(pc.invert(here))))
        # A connection's transactions count upward: the highest is the last.
        last = pa.Table.from_batches([kept]).group_by("conn").aggregate([("txn", "max")])
        self._last.update({(*stream, row["conn"]): row["txn_max"] for row in last.to_pylist()})
        return int(here.true_count) + before


def _key(pairs: pa.RecordBatch) -> pa.Array:
    """Connection and transaction as one number each: no connection has 2^32 transactions."""
    return pc.add(pc.shift_left(pairs.column("conn"), _BITS), pairs.column("txn"))


def _rows(pairs: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    return zip(values(pairs.column("conn")), values(pairs.column("txn")), strict=True)
