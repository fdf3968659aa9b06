"""``shunt run``: the flags out of the configuration's fields, the worker under uvloop, the live line, the report.

Knows: what a person at a terminal sees. Refuses to know: what the options mean (``config``) and what the worker
does (``app``).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import click
import uvloop
from rich.console import Console
from rich.live import Live
from rich.text import Text

from proxy import config as options
from proxy.address import Address
from proxy.cli import logs
from proxy.cli.main import EXIT_INTERRUPTED, VERBS
from proxy.config import ConfigError, RunConfig
from proxy.console.http import ConsoleError
from proxy.console.metrics import Source
from proxy.console.status import Look
from proxy.version import VERSION

#: Seconds between two drawings of the live line.
LIVE_S = 1.0
#: Hosts that listen everywhere, and what a client on this machine calls them.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}

_log = logging.getLogger(__name__)
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _with_options(command: _Command) -> _Command:
    """One click option for each field of RunConfig; values go on as text, so that ``config`` reads them all alike."""
    for name, field in reversed(RunConfig.model_fields.items()):
        declared = f"{options.flag(name)}/{options.flag('no_' + name)}" if options.is_switch(name) else None
        command = click.option(
            declared or options.flag(name),
            name,
            default=None,
            multiple=name in ("listen", "backends", "classes"),
            metavar=None if declared else options.shape(name),
            help=f"{field.description}  [{options.default_text(name)}]",
        )(command)
    return command


@click.command("run", short_help=VERBS["run"].help)
@_with_options
def run_command(**flags: Any) -> int:
    """Stand between clients and Redis: forward everything, record every command.

    An option comes from its flag, else from the environment (SHUNT_CAPTURE_ARGS for --capture-args), else from the
    TOML file that --config names. SIGTERM or Ctrl-C ends it once the commands under way are answered; a second one at
    once.
    """
    try:
        config = options.load({name: _plain(value) for name, value in flags.items() if value not in (None, ())})
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    logs.setup(config.log_format, config.log_level)
    before = _files(config.capture)
    code = _serve(config)
    if config.capture is not None and _wants_report(config):
        _report(sorted(_files(config.capture) - before))
    return code


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _serve(config: RunConfig) -> int:
    # The compiled data path is not needed for --help or to refuse a configuration.
    if config.workers > 1:
        from proxy.supervisor.supervise import serve
    else:
        from proxy.app import serve

    async def whole_run() -> int:
        drawing: asyncio.Task[None] | None = None

        def on_ready(source: Source) -> None:
            nonlocal drawing
            if not sys.stderr.isatty():
                _log.info("clients: export REDIS_URL=%s", _client_url(config.listen[0]))
                return
            for line in _next_steps(config):
                click.echo(line, err=True)
            drawing = asyncio.create_task(_draw(source))

        try:
            return await serve(config, on_ready=on_ready)
        finally:
            if drawing is not None:
                drawing.cancel()
                await asyncio.gather(drawing, return_exceptions=True)

    try:
        code: int = uvloop.run(whole_run())
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (ConfigError, ConsoleError) as error:
        raise click.UsageError(str(error)) from None
    return code


async def _draw(source: Source) -> None:
    """Draws the live line on stderr, below whatever else is written there, until it is cancelled."""
    look = Look()
    last = monotonic()
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(LIVE_S)
            now = monotonic()
            line = look.line(source, now - last)
            last = now
            live.update(Text(line, no_wrap=True, overflow="ellipsis", style="bold"), refresh=True)


def _next_steps(config: RunConfig) -> list[str]:
    """What a person wants to know once shunt listens."""
    listens = ", ".join(str(address) for address in config.listen)
    lines = [
        f"shunt {VERSION} listens on {listens} and forwards to {config.backend}",
        f"  point clients at it   export REDIS_URL={_client_url(config.listen[0])}",
    ]
    if config.capture is not None:
        lines.append(f"  records into          {config.capture} (arguments: {config.capture_args})")
    if config.http is not None:
        lines.append(f"  metrics               http://{config.http}/metrics")
    report = " and prints the report" if config.capture is not None and _wants_report(config) else ""
    return [*lines, f"  Ctrl-C                ends it{report}"]


def _client_url(address: Address) -> str:
    """What a client on this machine puts into REDIS_URL; credentials are not shown."""
    host = _EVERYWHERE.get(address.host, address.host)
    return str(Address(address.scheme, host, address.port, address.path, address.user, address.password))


def _wants_report(config: RunConfig) -> bool:
    return sys.stdout.isatty() if config.report_on_exit is None else config.report_on_exit


def _files(directory: Path | None) -> set[Path]:
    return set() if directory is None else {path for path in directory.rglob("*") if path.is_file()}


def _report(paths: list[Path]) -> None:
    """Prints the report on ``paths`` on stdout; it can't change how the run ended."""
    if not paths:
        click.echo("Nothing was recorded: no report.")
        return
    from proxy.cli.report import report_command

    try:
        report_command.main([str(path) for path in paths], prog_name="shunt report", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"shunt: the report failed: {error.format_message()}", err=True)
    except (SystemExit, click.Abort):
        pass
