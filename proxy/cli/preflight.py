"""``shunt preflight``: whether traffic may be moved from one Redis to another, before anything is.

Knows: options, where URLs, capture and console are found, the exit code. Refuses to know: the checks
(``proxy.cutover``), and how findings look (``cli.preflight_text``).
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click
from redis.asyncio import Redis
from rich.console import Console
from rich.status import Status

from proxy.address import Address, AddressError
from proxy.capture.facts import BackendFacts
from proxy.capture.reader import Capture, CaptureError
from proxy.capture.use import CaptureUse
from proxy.cli.control import NoConsole, NotDone, ask
from proxy.cli.preflight_text import render
from proxy.config import ENV_PREFIX
from proxy.cutover.finding import Preflight
from proxy.cutover.preflight import Beside, preflight
from proxy.cutover.server_facts import Judged, Place, Running, Unknown
from proxy.net import backend_facts
from proxy.net.tls import BackendTls
from proxy.report.analysis import Analysis
from proxy.report.document import Verdict
from proxy.report.used import used

#: Columns where standard output is no terminal, and at most on one.
WIDTH = 100
WIDEST = 120
_FROM_ENVIRONMENT = "env:"
_TLS = {
    "ca": ("FILE", "Authorities that may sign the {side}'s certificate (PEM).  [the system's]"),
    "cert": ("FILE", "Certificate chain shown to the {side} (PEM)."),
    "key": ("FILE", "Private key of that certificate (PEM)."),
    "verify": ("full|ca|none", "Check authority and host name, the authority only, or nothing.  [full]"),
}
_Command = TypeVar("_Command", bound=Callable[..., Any])


class PreflightRefused(click.ClickException):
    """It could not be called like this: one line."""

    exit_code = 2


def _tls_options(command: _Command) -> _Command:
    for side in ("target", "source"):
        for part, (shape, text) in reversed(_TLS.items()):
            name = f"{side}_tls_{part}"
            names = [ENV_PREFIX + name.upper()]
            if side == "source":  # it is the backend of shunt run
                names.append(f"{ENV_PREFIX}BACKEND_TLS_{part.upper()}")
            command = click.option(
                f"--{side}-tls-{part}", name, envvar=names, metavar=shape,
                type=click.Choice(["full", "ca", "none"]) if part == "verify" else click.Path(path_type=Path),
                help=text.format(side=side),
            )(command)  # fmt: skip
    return command


@click.command("preflight")
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@click.option(
    "--capture", metavar="DIR", type=click.Path(path_type=Path),
    help="A capture of the traffic that is to be moved: commands, keys and databases that the target must take.",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="The switch is to use replication: what that needs must be so.")
@click.option(
    "--target-user", metavar="NAME", default="",
    help="Whose rights on the target count.  [the user in TARGET, as after a switch]",
)  # fmt: skip
@_tls_options
@click.option("--console", metavar="URL", help="Of the running shunt in front of SOURCE.  [the usual place]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (docs/preflight.md).")
def preflight_command(
    source: str,
    target: str,
    capture: Path | None,
    follow: bool,
    target_user: str,
    console: str | None,
    as_json: bool,
    **tls: Any,
) -> int:
    """Say whether traffic may be moved from SOURCE to TARGET. Writes nothing to either.

    SOURCE and TARGET are URLs, redis://[user:password@]host[:port][/db], rediss://… or unix:///path. A command line can
    be read by every user of the machine: env:NAME takes a URL from the environment variable NAME. Exit codes: 0 ready
    (warnings are not failures), 1 not ready, 2 usage.
    """
    places = _place("SOURCE", source, "source", tls), _place("TARGET", target, "target", tls)
    with _status("reading the capture") as status:
        captured = None if capture is None else _used(capture, status)
        running = _running(console, places[0].address)
        if status is not None:
            status.update("asking source and target")
        beside = Beside(
            captured, "" if capture is None else str(capture), _judge(capture), _sample(places[0], running), running,
            target_user,
        )  # fmt: skip
        found = asyncio.run(preflight(*places, beside, follow=follow))
    _print(found, as_json)
    return found.exit_code


def _place(argument: str, url: str, side: str, tls: dict[str, Any]) -> Place:
    """A server out of its URL and its TLS options. Raises PreflightRefused."""
    if url.startswith(_FROM_ENVIRONMENT):
        name = url.removeprefix(_FROM_ENVIRONMENT)
        argument = f"{argument} ({url})"
        url = os.environ.get(name, "")
        if not url:
            raise PreflightRefused(f"{argument}: the environment has no {name}; export it first")
    try:
        address = Address.parse(url)
    except AddressError as error:
        raise PreflightRefused(f"{argument}: {error}") from None
    if address.scheme != "unix" and address.port == 0:
        raise PreflightRefused(f"{argument}: port 0 can't be connected to; name the port, like 6379")
    given = {part: tls[f"{side}_tls_{part}"] for part in _TLS if tls[f"{side}_tls_{part}"] is not None}
    if given and not address.tls:
        asked_for = click.get_current_context().get_parameter_source(f"{side}_tls_{next(iter(given))}")
        if asked_for is click.core.ParameterSource.COMMANDLINE:
            raise PreflightRefused(
                f"--{side}-tls-{next(iter(given))}: {argument} is not rediss://; write rediss:// there"
            )
        given = {}
    return Place(address, _checked(side, given))


def _checked(side: str, given: dict[str, Any]) -> BackendTls:
    for one, other in (("cert", "key"), ("key", "cert")):
        if one in given and other not in given:
            raise PreflightRefused(f"--{side}-tls-{one}: needs its other half; give --{side}-tls-{other} too")
    made = BackendTls(**given)
    try:
        made.context()
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(f"--{side}-tls-{part} {given[part]}" for part in ("ca", "cert", "key") if part in given)
        why = error.strerror or str(error)
        raise PreflightRefused(f"{files}: can't be used: {why}; name PEM files that fit together") from None
    return made


def _used(directory: Path, status: Status | None) -> CaptureUse:
    def show(rows: int) -> None:
        if status is not None:
            status.update(f"reading the capture: {rows:,} commands")

    try:
        found = used(Capture([directory]), show)
    except CaptureError as error:
        raise PreflightRefused(f"--capture: {error}") from None
    if not found.exchanges:
        raise PreflightRefused(
            f"--capture: {directory} holds no command that a backend answered; record some traffic first"
        )
    return found


def _running(console: str | None, source: Address) -> Running | Unknown:
    """What a running shunt says of its connections to the source."""
    try:
        backend = next(row["url"] for row in ask(console, ["SHOW", "ROUTES"])["answer"] if row["in_force"])
        said = ask(console, ["SHOW", "SOCKETS"])
        running = Running(backend, frozenset(row["addr"] for row in said["answer"]), "; ".join(said["notes"]))
    except (NoConsole, NotDone) as error:
        if console is not None:
            raise PreflightRefused(f"--console: {error.format_message()}") from None
        return Unknown("no running shunt was found on this machine; where it runs, its console tells")
    except (LookupError, TypeError, ValueError, StopIteration):
        return Unknown("the running shunt's console gave an answer that can't be read")
    if Address.parse(running.backend).label != source.label:
        return Unknown(f"the running shunt forwards to {running.backend}, not to the source as it is named here")
    return running


def _sample(place: Place, running: Running | Unknown) -> Callable[[Redis], Any]:
    """Who is connected to the source."""
    own, why = (running.sockets, running.incomplete) if isinstance(running, Running) else (frozenset(), "")

    async def sample(control: Redis) -> BackendFacts:
        return await backend_facts.sample(control, place.address.label, own, "preflight", why)

    return sample


def _judge(capture: Path | None) -> Callable[[str], Any] | None:
    if capture is None:
        return None

    def judged(target: str) -> Judged | Unknown:
        try:
            source = Capture([capture])
            with Analysis(source, targets=(target,)) as analysis:
                losses = tuple(str(loss) for loss in source.losses)
                found = analysis.judging.target(target, analysis.overview().commands, losses)
        except CaptureError as error:
            return Unknown(str(error))
        unsure = found.verdict is Verdict.CANNOT_TELL
        return Judged(target, found.verdict is Verdict.COMPATIBLE, unsure, found.words, found.reason)

    async def judge(target: str) -> Judged | Unknown:
        return await asyncio.to_thread(judged, target)

    return judge


def _status(text: str) -> AbstractContextManager[Status | None]:
    """What is being done, on a terminal's stderr."""
    console = Console(stderr=True)
    return console.status(text) if console.is_terminal else nullcontext()


def _print(found: Preflight, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found.as_json(), ensure_ascii=False, indent=2))
        return
    terminal = sys.stdout.isatty()
    width = min(os.get_terminal_size(sys.stdout.fileno()).columns, WIDEST) if terminal else WIDTH
    click.echo(render(found, color=terminal and "NO_COLOR" not in os.environ, width=width), nl=False)
