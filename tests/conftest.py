"""What every test may use: the file limit raised, the fixtures that start real servers, and the pool under test.

``SHUNT_POOL=shared`` in the environment is every started shunt's ``--pool``. What session mode alone promises is
marked ``session_only("why")`` and left out then; docs/pooling.md has the table of what differs.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.servers import RedisServer, redis_server

POOL = os.environ.get("SHUNT_POOL", "session")
_LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes several seconds; part of CI all the same")
    config.addinivalue_line("markers", "session_only(why): not promised with --pool shared (docs/pooling.md)")
    config.stash[_LEFT_OUT] = Counter()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With SHUNT_POOL=shared, deselect what only session mode promises, and remember why."""
    marked = [(item, item.get_closest_marker("session_only")) for item in items]
    for item, mark in marked:
        if mark is not None and (len(mark.args) != 1 or not isinstance(mark.args[0], str)):
            raise pytest.UsageError(f"{item.nodeid}: session_only needs one reason")
    if POOL == "session":
        return
    out = [(item, mark) for item, mark in marked if mark is not None]
    config.stash[_LEFT_OUT].update(mark.args[0] for _, mark in out)
    config.hook.pytest_deselected(items=[item for item, _ in out])
    items[:] = [item for item, mark in marked if mark is None]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash[_LEFT_OUT]
    if left_out:
        terminalreporter.section(f"left out with --pool {POOL}, see docs/pooling.md")
        for why, count in sorted(left_out.items()):
            terminalreporter.write_line(f"{count:4} test{'s' if count > 1 else ''}: {why}")


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A redis-server of the module's own."""
    with redis_server() as server:
        yield server
