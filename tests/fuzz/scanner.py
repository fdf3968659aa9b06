"""What is fuzzed: any bytes, cut anywhere, are read the same as in one piece, and nothing is read outside of them.

Run by ``python -m tests.fuzz``, which prepares what this needs; the modules come from build/fuzz, not from the tree.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped]

from protocol.resp import CommandReader, ReplyReader


def test_one_input(data: bytes) -> None:
    """``data``: one byte that chooses the reader, eight that say where to cut, then the stream."""
    if len(data) < 9:
        return
    mode, cuts, stream = data[0], data[1:9], data[9:]
    limit = 64 if mode & 2 else 0
    pieces = _cut(stream, cuts)
    if mode & 1:
        whole, cut = CommandReader(limit), CommandReader(limit)
        in_one = [(arguments, inline) for arguments, _, inline in whole.feed(stream)]
        in_pieces = [(arguments, inline) for piece in pieces for arguments, _, inline in cut.feed(piece)]
        assert whole.too_big == cut.too_big, (stream, cuts)
    else:
        whole, cut = ReplyReader(), ReplyReader()
        in_one = [frame[:2] for frame in whole.feed(stream)]
        in_pieces = [frame[:2] for piece in pieces for frame in cut.feed(piece)]
    assert in_one == in_pieces, (stream, cuts, in_one, in_pieces)
    assert whole.bad == cut.bad, (stream, cuts)


def _cut(stream: bytes, cuts: bytes) -> list[bytes]:
    """``stream`` in pieces; each of ``cuts`` is a piece's length, the rest is the last piece."""
    pieces = []
    for length in cuts:
        pieces.append(stream[:length])
        stream = stream[length:]
    return [*pieces, stream]


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
