"""Damage: every whole frame is read, every damaged one is named, and nothing else is taken for a frame."""

from __future__ import annotations

import os
import random
import string
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.capture.format import FORMAT_VERSION, SCHEMA
from proxy.capture.frames import HEAD_BYTES, MAGIC, Frame, FrameKind, Loss, Scanner, Tail, pack_frame
from proxy.capture.reader import Capture
from tests.capture import rows

BATCHES = 6


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One closed segment of a few frames with 1 to 6 rows each; every row's seq tells its frame."""
    folder = tmp_path_factory.mktemp("written")
    batches = [rows.batch([dict(seq=i, keys=[f"k{i}:{j}"]) for j in range(i + 1)]) for i in range(BATCHES)]
    rows.write_capture(folder, batches, scripts={b"a" * 40: b"return 1"})
    return next(folder.iterdir())


def frames_of(path: Path) -> list[Frame]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return [frame for frame in Scanner(fd, path) if isinstance(frame, Frame)]
    finally:
        os.close(fd)


def read(folder: Path, data: bytes, name: str) -> tuple[list[int], Capture]:
    """The seqs of the rows in ``data`` taken as a segment, and the capture with its losses."""
    path = folder / name
    path.write_bytes(data)
    capture = Capture([path])
    return [seq for batch in capture.batches() for seq in batch.column("seq").to_pylist()], capture


def expected(whole: list[Frame]) -> list[int]:
    return [f.head.rows - 1 for f in whole if f.head.kind == FrameKind.BATCH for _ in range(f.head.rows)]


def test_900_truncations_lose_only_the_frame_that_is_cut(written: Path, tmp_path: Path) -> None:
    data, frames = written.read_bytes(), frames_of(written)
    chance = random.Random(1)
    ends = [f.offset + HEAD_BYTES + f.head.length for f in frames]
    for size in [*ends, *(chance.randrange(len(data)) for _ in range(900 - len(ends)))]:
        seqs, capture = read(tmp_path, data[:size], written.name)
        assert seqs == expected([f for f, end in zip(frames, ends, strict=True) if end <= size])
        assert bool(capture.losses) == (size < len(data)), size


def test_a_flipped_bit_loses_exactly_the_frame_that_it_hits(written: Path, tmp_path: Path) -> None:
    data, frames = written.read_bytes(), frames_of(written)
    chance = random.Random(2)
    for _ in range(600):
        at = chance.randrange(len(data))
        hit = max(i for i, frame in enumerate(frames) if frame.offset <= at)
        torn = bytearray(data)
        torn[at] ^= 1 << chance.randrange(8)
        seqs, capture = read(tmp_path, bytes(torn), written.name)
        assert seqs == expected([frame for i, frame in enumerate(frames) if i != hit])
        first = capture.losses[0]
        assert first.offset == frames[hit].offset
        assert first.size == HEAD_BYTES + frames[hit].head.length
        assert f"frame {hit} " in str(first)
        assert str(written.name) in str(first)
        assert len(capture.losses) == (2 if hit == len(frames) - 1 else 1)  # without its end a segment is torn too


def test_several_flipped_bits_lose_exactly_the_frames_that_they_hit(written: Path, tmp_path: Path) -> None:
    data, frames = written.read_bytes(), frames_of(written)
    chance = random.Random(3)
    for _ in range(200):
        torn, hit = bytearray(data), set()
        for _ in range(chance.randrange(2, 9)):
            at = chance.randrange(len(data))
            torn[at] = chance.choice([b for b in range(256) if b != data[at]])
            hit.add(max(i for i, frame in enumerate(frames) if frame.offset <= at))
        seqs, capture = read(tmp_path, bytes(torn), written.name)
        assert seqs == expected([frame for i, frame in enumerate(frames) if i not in hit])
        assert sum(loss.size for loss in capture.losses) == sum(HEAD_BYTES + frames[i].head.length for i in hit)


def test_a_frame_cut_out_of_the_middle_is_missed(written: Path, tmp_path: Path) -> None:
    data, frames = written.read_bytes(), frames_of(written)
    for i in range(3, len(frames) - 1):
        cut = data[: frames[i].offset] + data[frames[i + 1].offset :]
        seqs, capture = read(tmp_path, cut, written.name)
        assert seqs == expected([frame for j, frame in enumerate(frames) if j != i])
        assert [f"frames {i} to {i} are missing" in str(loss) for loss in capture.losses] == [True]


def test_bytes_cut_out_of_a_frame_cost_that_frame_alone(written: Path, tmp_path: Path) -> None:
    data, frames = written.read_bytes(), frames_of(written)
    for i in range(3, len(frames) - 1):
        at = frames[i].offset + HEAD_BYTES + 16
        seqs, capture = read(tmp_path, data[:at] + data[at + 24 :], written.name)
        assert seqs == expected([frame for j, frame in enumerate(frames) if j != i])
        assert len(capture.losses) == 1


def test_bytes_that_are_no_frame_are_skipped_and_named(written: Path, tmp_path: Path) -> None:
    data, frames = written.read_bytes(), frames_of(written)
    at = frames[4].offset
    for junk in (b"x", MAGIC, MAGIC * 100, bytes(5000), data[frames[3].offset : at]):
        seqs, capture = read(tmp_path, data[:at] + junk + data[at:], written.name)
        assert seqs == expected(frames)
        assert [(loss.offset, loss.size, loss.rows) for loss in capture.losses] == [(at, len(junk), 0)]


def test_a_whole_frame_inside_a_frame_s_body_is_never_read_as_one(tmp_path: Path) -> None:
    """A client may well store a piece of a capture as a value."""
    inner = b"".join(pack_frame(FrameKind.SCRIPTS, FORMAT_VERSION, b"guess123", 2, b"12345678"))
    body = MAGIC + inner + MAGIC
    parts = [b"".join(pack_frame(FrameKind.SCRIPTS, FORMAT_VERSION, b"real id.", n, body)) for n in range(4)]
    path = tmp_path / "segment"
    start = len(parts[0])
    for at in range(start, 2 * start):
        torn = bytearray(b"".join(parts))
        torn[at] ^= 0x10
        path.write_bytes(torn)
        fd = os.open(path, os.O_RDONLY)
        found = list(Scanner(fd, path))
        os.close(fd)
        assert [item.head.number for item in found if isinstance(item, Frame)] == [0, 2, 3]
        assert [(item.offset, item.size) for item in found if isinstance(item, Loss)] == [(start, start)]


def test_a_growing_file_is_followed(written: Path, tmp_path: Path) -> None:
    data, frames = written.read_bytes(), frames_of(written)
    path = tmp_path / written.name
    path.write_bytes(b"")
    with path.open("ab", buffering=0) as out:
        fd = os.open(path, os.O_RDONLY)
        scanner, seen = Scanner(fd, path), []
        for start in range(0, len(data), 97):
            out.write(data[start : start + 97])
            seen += [item for item in scanner if not isinstance(item, Tail)]
        os.close(fd)
    assert [item.offset for item in seen] == [frame.offset for frame in frames]


def column(field: pa.Field) -> st.SearchStrategy[Any]:
    kind = field.type
    if pa.types.is_list(kind):
        return st.lists(column(kind.value_field), max_size=4)
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({inner.name: column(inner) for inner in kind})
    if pa.types.is_binary(kind):
        return st.one_of(st.binary(max_size=40), st.sampled_from([MAGIC, b"\\", b"\xff", string.printable.encode()]))
    signed, bits = pa.types.is_signed_integer(kind), kind.bit_width
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


ROWS = st.lists(st.fixed_dictionaries({field.name: column(field) for field in SCHEMA}), min_size=1, max_size=8)


@given(st.lists(ROWS, min_size=1, max_size=3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_rows_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, given_rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    batches = [pa.RecordBatch.from_pylist(each, schema=SCHEMA) for each in given_rows]
    rows.write_capture(folder, batches)
    capture = Capture([folder])
    assert [batch.select(SCHEMA.names).to_pylist() for batch in capture.batches()] == given_rows
    assert capture.losses == []
