"""What is fuzzed: whatever clients and backends say to each other, a session survives it and writes whole rows.

Run by ``python -m tests.fuzz``, which prepares what this needs; the modules come from build/fuzz, not from the tree.
"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped]

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.engine import guarded
from proxy.engine.access import Access
from proxy.engine.recorder import Recorder

TABLE = CommandTable(table().commands)
GUARDED = Access(user=b"u", password=b"p", prelude=((b"AUTH", b"secret"), (b"SELECT", b"3")), db=3)
ACCESS = (None, None, None, GUARDED)
#: Pieces that random bytes would hardly ever form; the fuzzer picks and mixes them.
WORDS = (
    b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n", b"+QUEUED\r\n", b"+OK\r\n", b"$-1\r\n", b"*-1\r\n",
    b"_\r\n", b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", b"%1\r\n$2\r\nid\r\n:7\r\n",
    b"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n", b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
    b">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n", b"*1\r\n$7\r\nMONITOR\r\n",
    b'+1700000000.1 [0 a] "GET"\r\n', b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n",
    b"*1\r\n$5\r\nRESET\r\n", b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n",
    b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n", b"*4\r\n$5\r\nBRPOP\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\n0\r\n",
    b"*2\r\n$1\r\na\r\n$1\r\nx\r\n", b"*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n", b"PING\r\n",
    b"*1\r\n$4\r\nPSYN", b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$3\r\njoe\r\n", b"-ERR no\r\n",
    b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n", b"*3\r\n$3\r\nSET\r\n$600\r\n" + b"k" * 600 + b"\r\n$1\r\nv\r\n",
    b"*2\r\n$5\r\nWATCH\r\n$1\r\nw\r\n",
)  # fmt: skip


def test_one_input(data: bytes) -> None:
    """``data``: one byte for the recording, then orders: whose bytes, which word or how many raw ones."""
    if not data:
        return
    recorder = Recorder(TABLE, data[0] % 3, lambda: None, lambda sha, body: None)
    recorder.max_frame = 300 if data[0] & 64 else 0
    session = guarded.session(recorder, b"1.2.3.4:5", ACCESS[(data[0] >> 2) % 4])
    session.prelude()
    now, at = 1, 1
    while at < len(data):
        order = data[at]
        at += 1
        if order & 32:
            said = WORDS[(order & 31) % len(WORDS)]
        else:
            said = data[at : at + (order & 31)]
            at += order & 31
        now += 1000
        if order & 64:
            session.client_bytes(said, now)
        else:
            session.backend_bytes(said, now)
    session.finish(now)
    batch = recorder.take()
    if batch is not None:
        batch.validate(full=True)
        assert min(batch.column("latency_ns").to_pylist()) >= -1
    assert session.in_flight == 0


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
