"""``shunt route``: where traffic goes, where it went, and correcting the record while shunt is not running.

Knows: which of these asks a running shunt, and which writes its file. Refuses to know: how traffic is moved
(``shunt switch``).
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import click

from proxy.address import Address, AddressError, Named
from proxy.cli.control import NotDone, ask, console_options, show
from proxy.config import ENV_PREFIX
from proxy.cutover.record import Recorded, RecordError, RouteFile
from proxy.routing.route import MAIN, Backend, Fence, Route


@click.group("route", short_help="Show where a running shunt's traffic goes, or correct its record.")
def route_command() -> None:
    """Where traffic goes. shunt switch moves it; this shows it, and corrects the record of a shunt that is not
    running."""


@route_command.command("show")
@console_options
def show_route(console: str | None, as_json: bool) -> None:
    """Where the traffic of a running shunt goes."""
    said = ask(console, ["SHOW", "ROUTES"])
    show(said["answer"][0], as_json)


@route_command.command("history")
@console_options
def history(console: str | None, as_json: bool) -> None:
    """Where it goes, and where it went before, newest first."""
    show(ask(console, ["SHOW", "ROUTES"])["answer"], as_json)


@route_command.command("set")
@click.argument("url", metavar="[CLASS=]URL")
@click.option("--route-file", metavar="FILE", required=True, envvar=ENV_PREFIX + "ROUTE_FILE",
              help="The record, as shunt run has it.")  # fmt: skip
def set_route(url: str, route_file: str) -> None:
    """Have a shunt that is not running send its traffic to URL when it is started again; with CLASS=, that class's.

    For when the record and the truth have parted: nothing is held, copied or checked. URL is without credentials; they
    are taken from --backend or --backends, whichever has the same address.
    """
    try:
        named = Named.parse(url) if "=" in url and "://" not in url.partition("=")[0] else None
        address = Address.parse(url) if named is None else named.address
    except AddressError as error:
        raise click.UsageError(f"URL: {error}") from None
    if address.has_credentials:
        raise click.UsageError("URL: leave out the credentials, which would end up in a file; --backends has them")
    backend = Backend(address.bare, address.bare)
    file = RouteFile(Path(route_file))
    try:
        file.lock()
        there = file.read()
        if there is None and named is not None:
            raise NotDone(f"--route-file {route_file}: there is no record yet; until there is, --classes decides")
        recorded = there or Recorded(Route(0, Backend(MAIN, "unknown")))
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        by = f"uid {os.getuid()}"
        if named is None:
            route = recorded.route.to(backend, fence=Fence.NONE, at=at, by=by)
        else:
            kept = {**dict(recorded.route.classes), named.name: backend}
            route = recorded.route.having(tuple(kept.items()), at=at, by=by)
        file.prepare(recorded.then(route))
        file.commit()
    except RecordError as error:
        raise NotDone(str(error)) from None
    finally:
        file.unlock()
    said = {"epoch": recorded.route.epoch + 1, "url": backend.url}
    click.echo(json.dumps(said if named is None else {**said, "class": named.name}))
