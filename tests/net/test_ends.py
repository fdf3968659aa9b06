"""The two ends of a connection where they meet shunt's own answers: order, and bounds."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from proxy.capture.format import Flag
from proxy.capture.reader import Capture
from tests.servers import HOST, RedisServer, captured, free_port, shunt, until
from tests.wire import Talk, encode

MB = 1 << 20
GREETING = b"-ERR max number of clients reached\r\n"


@pytest.mark.session_only("a new client needs no new backend connection")
def test_an_error_that_redis_greets_with_reaches_the_client(redis: RedisServer) -> None:
    with shunt(redis.url) as through, redis.talk() as keep:
        keep.call("CONFIG", "SET", "maxclients", 1)
        try:
            greetings = set()
            for _ in range(20):
                with through.talk() as talk:
                    greetings.add(talk.to_eof())
        finally:
            keep.call("CONFIG", "SET", "maxclients", 10_000)
    assert greetings == {GREETING}


def test_an_unauthenticated_client_that_never_reads_is_not_read_for_ever(redis: RedisServer) -> None:
    where = (HOST, free_port())
    with shunt(redis.url, listen=f"redis://:pw@{HOST}:{where[1]}", address=where) as through:
        before = through.process.rss()
        with Talk(where) as talk:
            talk.sock.settimeout(1.0)
            sent, wrong = 0, encode("AUTH", "x") * 1_000
            with contextlib.suppress(TimeoutError):
                while sent < 64 * MB:
                    sent += talk.sock.send(wrong)
        assert sent < 64 * MB, "shunt went on reading"
        assert through.process.peak_rss() - before < 32 * MB


class SlowBackend:
    """Answers BRPOP only after its client has closed its side, PING at once, and nothing else."""

    def __init__(self) -> None:
        self.server = socket.create_server((HOST, 0))
        self.url = f"redis://{HOST}:{self.server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.server.accept()[0],), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            while data := sock.recv(65536):
                if b"BRPOP" in data:
                    while sock.recv(65536):
                        pass
                    sock.sendall(b"*2\r\n$1\r\nq\r\n$3\r\njob\r\n")
                    return
                sock.sendall(b"+PONG\r\n" if b"PING" in data else b"-ERR unknown command\r\n")


@pytest.mark.session_only("a shared backend connection does not end with one client")
def test_a_job_that_is_popped_for_a_client_that_has_gone_is_flagged_and_reported(tmp_path: Path) -> None:
    backend = SlowBackend()
    with shunt(backend.url, capture=tmp_path / "capture") as through:
        with through.talk() as talk:
            talk.send(encode("BRPOP", "q", 0))
            until(lambda: through.metric("shunt_clients") == 1, what="the client is there")
        until(lambda: through.metric("shunt_clients") == 0, what="the client is gone")
        through.stop()
    backend.server.close()
    [row] = [row for row in captured(tmp_path / "capture") if row["command"] == b"BRPOP"]
    assert row["flags"] & Flag.UNDELIVERED
    assert row["served_key"] == b"q"
    facts = Capture([tmp_path / "capture"])
    list(facts.batches())
    assert {"INFO", "maxclients", "CLIENT LIST"} <= set(facts.backend_facts()[0].unknown)
