"""The HTTP side of the console: /metrics, /healthz, /readyz, and the routes that it is given (``http_verbs``).

Knows: paths, status codes, and that a scrape must not hold the event loop, on which clients are served, for long.
Refuses to know: what the numbers mean (``console.metrics``).

The app starts this after its listeners, so that an answer at all means that the process is up; a backend that is
down or a drain makes it "not ready".
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from proxy.console.metrics import Renderer, Source, Workforce, pieces, process_pieces, workforce_pieces
from proxy.version import VERSION

_INDEX = f"""shunt {VERSION}
/metrics  Prometheus metrics
/healthz  200 while the process is alive
/readyz   200 while clients are served, 503 and the reason otherwise
/v1/VERB  the console's verbs as JSON, for who has a token (docs/console.md)
"""

#: The worker that the handlers tell about, or what speaks for several.
_SOURCE: web.AppKey[Source] = web.AppKey("source")
#: Those several; None: there is one.
_WORKFORCE: web.AppKey[Workforce | None] = web.AppKey("workforce")


class ConsoleError(Exception):
    """A console can't be opened: one line that says where, why and what to do."""


@dataclass(frozen=True, slots=True)
class HttpConsole:
    """A running HTTP server."""

    runner: web.AppRunner
    host: str
    port: int  # as bound: a free one when 0 was asked for

    async def close(self) -> None:
        """Stops listening and closes what is open, at once."""
        await self.runner.cleanup()


async def start(
    host: str, port: int, source: Source, workforce: Workforce | None = None, routes: Iterable[web.RouteDef] = ()
) -> HttpConsole:
    """Serves ``source`` on ``host``:``port``. Raises ConsoleError when that can't be bound."""
    app = application(source, workforce)
    app.router.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except (OSError, OverflowError) as error:
        await runner.cleanup()
        raise ConsoleError(_bind_problem(host, port, error)) from None
    return HttpConsole(runner, host, int(runner.addresses[0][1]))


def application(source: Source, workforce: Workforce | None = None) -> web.Application:
    app = web.Application()
    app[_SOURCE] = source
    app[_WORKFORCE] = workforce
    for path, handler in (("/", _index), ("/metrics", _metrics), ("/healthz", _healthz), ("/readyz", _readyz)):
        app.router.add_get(path, handler)
    return app


async def _index(request: web.Request) -> web.Response:
    return web.Response(text=_INDEX)


async def _healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _readyz(request: web.Request) -> web.Response:
    source, workforce = request.app[_SOURCE], request.app[_WORKFORCE]
    missing = "".join(f"{line}\n" for line in workforce.missing()) if workforce is not None else ""
    if source.draining():
        return web.Response(status=503, text="draining: shunt is ending its clients' connections\n")
    if workforce is not None and not workforce.running():
        return web.Response(status=503, text="no worker runs: clients wait until one does\n" + missing)
    if not source.backend_up():
        return web.Response(
            status=503, text="the backend does not answer: clients are refused until it does\n" + missing
        )
    return web.Response(text="ready\n" + missing)


async def _metrics(request: web.Request) -> web.Response:
    """Rendered piece by piece, with a turn of the loop after each, so that clients wait for one piece at most."""
    renderer = Renderer()
    body = []
    workforce = request.app[_WORKFORCE]
    if workforce is not None:
        await workforce.refresh()
        body += [renderer.render(piece) for piece in workforce_pieces(workforce)]
    for piece in pieces(request.app[_SOURCE], VERSION):
        body.append(renderer.render(piece))
        await asyncio.sleep(0)
    process = await asyncio.to_thread(process_pieces, None if workforce is None else workforce.processes())
    body += [renderer.render(metric) for metric in process]
    return web.Response(body=b"".join(body), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


def _bind_problem(host: str, port: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    why = os.strerror(number).lower() if isinstance(number, int) and number > 0 else str(error)
    return f"--http {host}:{port}: can't listen there: {why}; choose another address or port"
