"""What answers over HTTP, to Prometheus and to who asks whether shunt is well."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.console.http import ConsoleError, start
from proxy.engine.stats import EngineStats
from tests.console.source import FakeSource, FakeWorkforce, command


@asynccontextmanager
async def served(source: FakeSource, workforce: FakeWorkforce | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    console = await start("127.0.0.1", 0, source, workforce)
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


async def test_metrics_of_several_workers_are_fresh_and_name_each_process() -> None:
    workforce = FakeWorkforce(pids={"supervisor": os.getpid(), "7": os.getppid()})
    async with served(FakeSource(), workforce) as session:
        _, text = await get(session, "/metrics")
    assert workforce.refreshed == 1
    assert "shunt_workers 2.0" in text
    assert 'shunt_worker_restarts_total{reason="died"} 1.0' in text
    assert 'shunt_worker_restarts_total{reason="reload"} 4.0' in text
    assert 'process_cpu_seconds_total{worker="7"}' in text
    assert text.count("# TYPE process_resident_memory_bytes gauge") == 1
    assert {family.name for family in text_string_to_metric_families(text)} > {"shunt_workers", "process_open_fds"}


async def test_readiness_of_several_workers_names_those_that_are_missing() -> None:
    workforce = FakeWorkforce(lost=["worker 3 is missing"])
    async with served(FakeSource(), workforce) as session:
        assert await get(session, "/readyz") == (200, "ready\nworker 3 is missing\n")
    async with served(FakeSource(up=False), workforce) as session:
        status, text = await get(session, "/readyz")
        assert (status, text.splitlines()[1]) == (503, "worker 3 is missing")
    async with served(FakeSource(up=False), FakeWorkforce(runs=0, lost=["worker 3 is missing"])) as session:
        status, text = await get(session, "/readyz")
        assert (status, text) == (503, "no worker runs: clients wait until one does\nworker 3 is missing\n")
