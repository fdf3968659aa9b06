"""What answers over HTTP, to Prometheus and to who asks whether shunt is well."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from proxy.console.http import ConsoleError, start
from proxy.engine.stats import EngineStats
from tests.console.source import FakeSource, command


@asynccontextmanager
async def served(source: FakeSource) -> AsyncIterator[aiohttp.ClientSession]:
    console = await start("127.0.0.1", 0, source)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{console.port}") as session:
        yield session
    await console.close()


async def get(session: aiohttp.ClientSession, path: str) -> tuple[int, str]:
    async with session.get(path) as response:
        return response.status, await response.text()


async def test_metrics_are_served_as_prometheus_reads_them() -> None:
    async with served(FakeSource(EngineStats(commands=[command("GET", 1000)]))) as session:
        async with session.get("/metrics") as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            text = await response.text()
        assert 'shunt_commands_total{command="GET"} 1.0' in text
        assert "process_resident_memory_bytes" in text


async def test_healthy_is_the_process_and_ready_is_the_service() -> None:
    source = FakeSource()
    async with served(source) as session:
        assert await get(session, "/healthz") == (200, "ok\n")
        assert await get(session, "/readyz") == (200, "ready\n")
        source.up = False
        assert await get(session, "/healthz") == (200, "ok\n")
        status, reason = await get(session, "/readyz")
        assert (status, reason.count("\n")) == (503, 1)
        assert "backend" in reason
        source.up, source.drains = True, True
        status, reason = await get(session, "/readyz")
        assert (status, reason.split(":")[0]) == (503, "draining")


async def test_the_first_page_names_the_others() -> None:
    async with served(FakeSource()) as session:
        status, text = await get(session, "/")
        assert status == 200
        assert all(path in text for path in ("/metrics", "/healthz", "/readyz"))
        assert (await get(session, "/nothing"))[0] == 404


async def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConsoleError) as caught:
            await start("127.0.0.1", port, FakeSource())
    assert str(caught.value) == (
        f"--http 127.0.0.1:{port}: can't listen there: address already in use; choose another address or port"
    )
