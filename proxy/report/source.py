"""What a report reads. Knows: the shape of an open capture. Refuses to know: files (``capture.reader`` has them)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from proxy.capture.facts import BackendFacts
from proxy.capture.mirrored import Mirrored


class Source(Protocol):
    """An open capture: ``capture.reader.Capture`` is one, a test's list of batches another."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Batches with the capture's columns, and ``run``, ``worker``, ``backend_name``, in file order."""

    def scripts(self) -> Mapping[bytes, bytes]:
        """Script bodies by SHA-1 (40 hex digits)."""

    def backend_facts(self) -> Sequence[BackendFacts]:
        """Samples of what only the backend knows, in order of time; complete once ``batches`` has ended."""

    def mirrors(self) -> tuple[Sequence[Mirrored], Sequence[str]]:
        """What mirrors did meanwhile, and a line for each record of that which can't be read."""

    @property
    def losses(self) -> Sequence[object]:
        """What the reader could not read; complete once ``batches`` has ended. Each prints as one line."""
