"""The HTTP side of the console: /metrics, /healthz, /readyz.

Knows: paths, status codes, and that a scrape must not hold the event loop, on which clients are served, for long.
Refuses to know: what the numbers mean (``console.metrics``).

The app starts this after its listeners, so that an answer at all means that the process is up; a backend that is
down or a drain makes it "not ready".
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from proxy.console.metrics import Renderer, Source, pieces
from proxy.version import VERSION

_INDEX = f"""shunt {VERSION}
/metrics  Prometheus metrics
/healthz  200 while the process is alive
/readyz   200 while clients are served, 503 and the reason otherwise
"""

#: The worker that the handlers tell about.
_SOURCE: web.AppKey[Source] = web.AppKey("source")


class ConsoleError(Exception):
    """HTTP can't be served: one line that says where, why and what to do."""


@dataclass(frozen=True, slots=True)
class HttpConsole:
    """A running HTTP server."""

    runner: web.AppRunner
    host: str
    port: int  # as bound: a free one when 0 was asked for

    async def close(self) -> None:
        """Stops listening and closes what is open, at once."""
        await self.runner.cleanup()


async def start(host: str, port: int, source: Source) -> HttpConsole:
    """Serves ``source`` on ``host``:``port``. Raises ConsoleError when that can't be bound."""
    runner = web.AppRunner(application(source), access_log=None, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except (OSError, OverflowError) as error:
        await runner.cleanup()
        raise ConsoleError(_bind_problem(host, port, error)) from None
    return HttpConsole(runner, host, int(runner.addresses[0][1]))


def application(source: Source) -> web.Application:
    app = web.Application()
    app[_SOURCE] = source
    for path, handler in (("/", _index), ("/metrics", _metrics), ("/healthz", _healthz), ("/readyz", _readyz)):
        app.router.add_get(path, handler)
    return app


async def _index(request: web.Request) -> web.Response:
    return web.Response(text=_INDEX)


async def _healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _readyz(request: web.Request) -> web.Response:
    source = request.app[_SOURCE]
    if source.draining():
        return web.Response(status=503, text="draining: shunt is ending its clients' connections\n")
    if not source.backend_up():
        return web.Response(status=503, text="the backend does not answer: clients are refused until it does\n")
    return web.Response(text="ready\n")


async def _metrics(request: web.Request) -> web.Response:
    """Rendered piece by piece, with a turn of the loop after each, so that clients wait for one piece at most."""
    renderer = Renderer()
    body = []
    for piece in pieces(request.app[_SOURCE], VERSION):
        body.append(renderer.render(piece))
        await asyncio.sleep(0)
    # Counting a process's open files takes milliseconds when there are thousands.
    process = await asyncio.to_thread(lambda: list(ProcessCollector(registry=None).collect()))
    body += [renderer.render(metric) for metric in process]
    return web.Response(body=b"".join(body), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


def _bind_problem(host: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    why = os.strerror(number).lower() if isinstance(number, int) and number > 0 else str(error)
    return f"--http {host}:{port}: can't listen there: {why}; choose another address or port"
