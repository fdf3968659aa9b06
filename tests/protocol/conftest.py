"""The servers that the command table, the key finder and the slots are held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis as redis_py

from tests.servers import free_port, redis_server, until

AskMany = Callable[[Sequence[Sequence[bytes]]], list[Any]]


def _ask_many(port: int) -> tuple[redis_py.Redis, AskMany]:
    client = redis_py.Redis(port=port, protocol=2, socket_timeout=30)
    client.response_callbacks.clear()

    def ask_many(commands: Sequence[Sequence[bytes]]) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(commands), 500):
            with client.pipeline(transaction=False) as pipe:
                for command in commands[start : start + 500]:
                    pipe.execute_command(*command)
                answers += pipe.execute(raise_on_error=False)
        return answers

    return client, ask_many


@pytest.fixture(scope="session")
def live_url() -> Iterator[str]:
    """A redis-server's URL."""
    with redis_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def live(live_url: str) -> Iterator[AskMany]:
    """Sends commands to a standalone redis-server; an error is an answer."""
    client, ask_many = _ask_many(int(live_url.rsplit(":", 1)[1]))
    with client:
        yield ask_many


@pytest.fixture(scope="session")
def one_node_cluster() -> Iterator[AskMany]:
    """Sends commands to a Redis Cluster of one node that serves every slot."""
    port = free_port(also=10_000)
    with redis_server("--cluster-enabled", "yes", port=port):
        client, ask_many = _ask_many(port)
        with client:
            ask_many([(b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"16383")])
            until(lambda: b"cluster_state:ok" in ask_many([(b"CLUSTER", b"INFO")])[0], what="cluster_state:ok")
            yield ask_many
