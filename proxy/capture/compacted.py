"""Compacted captures: Parquet files that hold the rows of closed segments, and all else that was in them.

Knows: what stands in such a file's metadata. Refuses to know: when and out of what one is made (``compact``).
The file's columns are READ_SCHEMA's, so that any Parquet reader sees run, worker and backend name in each row.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from proxy.capture.facts import BackendFacts
from proxy.capture.format import FORMAT_VERSION, SCHEMA
from proxy.capture.frames import Loss
from proxy.capture.segments import SegmentHeader

METADATA_KEY = b"shunt"
_BATCH_ROWS = 65_536

#: What a reader adds to SCHEMA's columns.
ADDED = (
    pa.field("run", pa.string(), nullable=False),
    pa.field("worker", pa.int32(), nullable=False),
    pa.field("backend_name", pa.string(), nullable=False),  # empty: not known
)
READ_SCHEMA = pa.schema([*SCHEMA, *ADDED])


@dataclass(slots=True)
class About:
    """A compacted file's metadata. ``numbers``: the segments it took the place of. ``losses``: what could not be read
    of them. Times in ns; None without rows."""

    header: SegmentHeader
    numbers: list[int]
    rows: int = 0
    gaps: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    format: int = FORMAT_VERSION
    scripts: dict[bytes, bytes] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    facts: list[BackendFacts] = field(default_factory=list)

    def metadata(self) -> dict[bytes, bytes]:
        """The Parquet file's key-value metadata: one key with JSON."""
        data: dict[str, Any] = {
            **asdict(self.header),
            **{name: getattr(self, name) for name in ("numbers", "rows", "gaps", "first_ns", "last_ns", "format")},
            "scripts": {sha.decode("latin-1"): base64.b64encode(body).decode() for sha, body in self.scripts.items()},
            "losses": [{**asdict(loss), "path": str(loss.path)} for loss in self.losses],
            "facts": [sample.as_json() for sample in self.facts],
        }
        return {METADATA_KEY: json.dumps(data, separators=(",", ":")).encode()}

    @classmethod
    def unpack(cls, text: bytes) -> About:
        """Out of that key's JSON. Raises ValueError or KeyError."""
        data = json.loads(text)
        return cls(
            SegmentHeader.of_json(data), data["numbers"], data["rows"], data["gaps"], data["first_ns"],
            data["last_ns"], data["format"],
            {sha.encode("latin-1"): base64.b64decode(body) for sha, body in data["scripts"].items()},
            [Loss(**{**loss, "path": Path(loss["path"])}) for loss in data["losses"]],
            [BackendFacts.of_json(sample) for sample in data.get("facts", ())],
        )  # fmt: skip


def read_about(path: Path) -> About:
    """A compacted file's metadata. Raises OSError, ValueError, KeyError or pa.ArrowException."""
    metadata = pq.read_metadata(path).metadata or {}
    if METADATA_KEY not in metadata:
        raise ValueError("a Parquet file, but none that shunt capture compact has written")
    return About.unpack(metadata[METADATA_KEY])


def read_batches(path: Path, schema: pa.Schema = SCHEMA) -> Iterator[pa.RecordBatch]:
    """The rows as batches with ``schema``, page checksums verified. Raises OSError or pa.ArrowException."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=schema.names, use_threads=False):
            yield pa.record_batch(batch.columns, schema=schema)


def parquet_writer(out: BinaryIO) -> pq.ParquetWriter:
    """A Parquet writer as compaction needs it: READ_SCHEMA, zstd, page checksums."""
    return pq.ParquetWriter(out, READ_SCHEMA, compression="zstd", write_page_checksum=True)
