"""How batches of older format versions become today's.

Knows: each version's schema, and the step from each version to the next. Refuses to know: frames and files.
To change ``format.SCHEMA``: keep the old one here as the schema of
its version, add the step that turns its batches into the next version's, and raise ``FORMAT_VERSION``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from proxy.capture.format import FORMAT_VERSION, SCHEMA


@dataclass(frozen=True, slots=True)
class Step:
    """From one version to the next: the older version's schema, and what to do with a batch of it."""

    schema: pa.Schema
    upgrade: Callable[[pa.RecordBatch], pa.RecordBatch]


class UnknownVersion(ValueError):
    """The batch was written by a version that this program doesn't know."""


#: What version 2 added at the end of each row, and what stands there for "not known".
_SECOND = {"nargs": 0, "reply_items": -1}


def _count_arguments_and_items(batch: pa.RecordBatch) -> pa.RecordBatch:
    """1 to 2: how many arguments and reply elements there were is not known."""
    added = [pa.repeat(pa.scalar(value, pa.int32()), batch.num_rows) for value in _SECOND.values()]
    return pa.RecordBatch.from_arrays([*batch.columns, *added], schema=SCHEMA)


#: version -> the step to version + 1
CHAIN: Mapping[int, Step] = {
    1: Step(pa.schema([field for field in SCHEMA if field.name not in _SECOND]), _count_arguments_and_items),
}


@dataclass(frozen=True, slots=True)
class Migrations:
    """A chain of steps that ends at ``latest`` with ``schema``."""

    chain: Mapping[int, Step]
    latest: int
    schema: pa.Schema

    def schema_of(self, version: int) -> pa.Schema:
        """The schema that batches of ``version`` were written with. Raises UnknownVersion."""
        if version == self.latest:
            return self.schema
        if version not in self.chain:
            raise UnknownVersion(f"format version {version}; this shunt reads up to {self.latest}")
        return self.chain[version].schema

    def upgrade(self, batch: pa.RecordBatch, version: int) -> pa.RecordBatch:
        """``batch`` of ``version`` as a batch of the latest version."""
        while version < self.latest:
            batch = self.chain[version].upgrade(batch)
            version += 1
        return batch


MIGRATIONS = Migrations(CHAIN, FORMAT_VERSION, SCHEMA)
