"""What every test may use: the file limit raised, and the fixtures that start real servers."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from tests.servers import RedisServer, redis_server


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes several seconds; part of CI all the same")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A redis-server of the module's own."""
    with redis_server() as server:
        yield server
