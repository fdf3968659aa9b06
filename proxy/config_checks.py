"""Which options of ``shunt run`` fit together: one function per subject, each looking at a whole configuration.

Knows: what must not be combined, and what to do instead. Refuses to know: where a value came from (``config``). What
a check finds is a ``PydanticCustomError`` that names the option; ``config`` makes the line out of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from proxy.report.targets import TargetError, find
from proxy.routing.table import MOST_CLASSES, doubled

if TYPE_CHECKING:
    from proxy.address import Address
    from proxy.config import RunConfig

#: Longest path that fits into Linux's sockaddr_un, with its closing zero.
UNIX_PATH_MAX_BYTES = 107


def _problem(option: str, text: str) -> PydanticCustomError:
    return PydanticCustomError("shunt", "{text}", {"option": option, "text": text})


def listen(config: RunConfig) -> None:
    if not config.listen:
        raise _problem("listen", "names no address; give at least one, like redis://127.0.0.1:6380")
    seen: set[str] = set()
    for address in config.listen:
        if address.db is not None:
            raise _problem("listen", f"{address}: clients choose their database; drop the database from the URL")
        if address.label in seen and address.port != 0:
            raise _problem("listen", f"{address} is there twice; keep one")
        seen.add(address.label)
        if address.scheme == "unix":
            _check_socket_path("listen", address.path)
            parent = Path(address.path).parent
            if not os.access(parent, os.W_OK | os.X_OK):
                raise _problem("listen", f"{parent} is no directory to make a socket in; make it or name another")


def backend(config: RunConfig) -> None:
    backend = config.backend
    if backend.scheme == "unix":
        _check_socket_path("backend", backend.path)
    elif backend.port == 0:
        raise _problem("backend", "port 0 can't be connected to; name the port of your Redis, like 6379")
    if any(address.label == backend.label for address in config.listen):
        raise _problem("backend", f"{backend} is where shunt itself listens; name your Redis or another --listen")


def backends(config: RunConfig) -> None:
    names = ["main"]
    for named in config.backends:
        if named.name in names:
            raise _problem("backends", f"the name {named.name} is there twice (main is --backend's); choose another")
        names.append(named.name)
        if named.address.scheme == "unix":
            _check_socket_path("backends", named.address.path)
        if any(address.label == named.address.label for address in config.listen):
            raise _problem("backends", f"{named} is where shunt itself listens; name another Redis")
    if config.route_file is not None and config.route_file.is_dir():
        raise _problem("route_file", f"{config.route_file} is a directory; name a file in it")


def classes(config: RunConfig) -> None:
    if not config.classes:
        if config.split_keys:
            raise _problem("split_keys", "is for --classes: without them all keys are on one backend")
        return
    if len(config.classes) > MOST_CLASSES:
        raise _problem("classes", f"there may be {MOST_CLASSES} classes; give one of them several patterns, A=B:x*|y*")
    twice = doubled(config.classes)
    if twice is not None:
        raise _problem("classes", twice)
    named = {"main": config.backend} | {each.name: each.address for each in config.backends}
    for each in config.classes:
        if each.backend not in named:
            raise _problem("classes", f"{each.name}: --backends names no {each.backend}; give {each.backend}=URL there")
        address = named[each.backend]
        if (address.db or 0) != (config.backend.db or 0):
            raise _problem("classes", f"{each.backend} and --backend name different databases; name the same in both")
        logs_in = config.backend.has_credentials or all(one.has_credentials for one in config.listen)
        if address.has_credentials and not logs_in:
            raise _problem(
                "classes", f"the URL of {each.backend} has credentials, and who asks for it was asked for none: give "
                "--backend or --listen credentials too"
            )  # fmt: skip
    if config.pool == "shared":
        raise _problem("classes", "needs --pool session: with --pool shared all keys are on one backend")
    if config.rehearse is not None:
        raise _problem("classes", "can't be rehearsed at the same time; leave out --rehearse")


def _check_socket_path(option: str, path: str) -> None:
    if len(os.fsencode(path)) > UNIX_PATH_MAX_BYTES:
        raise _problem(option, f"the socket's path is longer than {UNIX_PATH_MAX_BYTES} bytes; choose a shorter one")


def tls(config: RunConfig) -> None:
    for side, addresses in (("listen", config.listen), ("backend", _all_backends(config))):
        options = {part: f"{side}_tls_{part}" for part in ("ca", "cert", "key")}
        files: dict[str, Path | None] = {part: getattr(config, name) for part, name in options.items()}
        tls = any(address.tls for address in addresses)
        given = [part for part, path in files.items() if path is not None]
        if given and not tls:
            raise _problem(options[given[0]], f"is given, but no --{side} is rediss://; write rediss:// there")
        if (files["cert"] is None) != (files["key"] is None):
            there, missing = ("cert", "key") if files["key"] is None else ("key", "cert")
            raise _problem(options[there], f"needs its other half; give {_flag(options[missing])} too")
        if side == "listen" and tls and files["cert"] is None:
            raise _problem("listen", "a rediss:// listener needs a certificate; give --listen-tls-cert and -key")
        for part in given:
            if not os.access(files[part] or "", os.R_OK) or not Path(files[part] or "").is_file():
                raise _problem(options[part], f"{files[part]} is no readable file; name a PEM file that is")
    if "backend_tls_verify" in config.model_fields_set and not any(each.tls for each in _all_backends(config)):
        raise _problem("backend_tls_verify", "is given, but --backend is not rediss://; write rediss:// there")


def _all_backends(config: RunConfig) -> list[Address]:
    return [config.backend, *(named.address for named in config.backends)]


def openness(config: RunConfig) -> None:
    if config.allow_open or not any(address.has_credentials for address in _all_backends(config)):
        return
    for address in config.listen:
        if not address.has_credentials and not address.is_local:
            raise _problem(
                "listen",
                f"{address} would let anyone use the backend's credentials; put user:password@ into it, "
                "listen on 127.0.0.1, or say --allow-open",
            )


def capture(config: RunConfig) -> None:
    if config.capture is not None and config.capture.exists() and not config.capture.is_dir():
        raise _problem("capture", f"{config.capture} is no directory; name one, it will be made")
    if config.capture_segment_bytes > config.capture_max_bytes:
        raise _problem(
            "capture_segment_bytes", "is more than --capture-max-bytes; a capture must hold at least one segment"
        )


def workers(config: RunConfig) -> None:
    for option in ("max_clients", "max_backend_connections"):
        limit: int | None = getattr(config, option)
        if limit is not None and limit < config.workers:
            raise _problem(
                option,
                f"{limit} is less than --workers {config.workers}, and each worker needs a share of at least one; "
                "raise it or lower --workers",
            )


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def pool(config: RunConfig) -> None:
    if config.pool == "session" and config.max_backend_connections is not None:
        raise _problem(
            "max_backend_connections", "is for --pool shared; in session mode every client has one: use --max-clients"
        )


def ride_through(config: RunConfig) -> None:
    if config.ride_through is None:
        return
    if config.pool == "shared":
        raise _problem(
            "ride_through", "needs --pool session: on a shared connection nobody can tell whose command was under way; "
            "drop --pool shared, or --ride-through"
        )  # fmt: skip
    if config.rehearse is not None:
        raise _problem("ride_through", "can't be had with --rehearse, which answers in the backend's place; drop one")
    if config.classes:
        raise _problem("ride_through", "can't be had with --classes: a client then has several backends; drop one")


def target(config: RunConfig) -> None:
    try:
        find(config.target)
    except TargetError as error:
        raise _problem("target", str(error)) from None


def console(config: RunConfig) -> None:
    place = config.console
    if place is None or place == "off":
        return
    if place.db is not None:
        raise _problem("console", f"{place}: the console has no databases; drop the database from the URL")
    if place.scheme == "unix":
        _check_socket_path("console", place.path)
    elif place.tls:
        raise _problem("console", "the console speaks no TLS; use a unix socket, or redis:// on an address you trust")
    elif not place.has_credentials:
        raise _problem(
            "console", f"{place} would let anyone who reaches it end this shunt; write redis://:password@host:port, "
            "or use unix:///path"
        )  # fmt: skip
    taken = {address.label for address in (*config.listen, config.backend)}
    if place.label in taken and (place.scheme == "unix" or place.port != 0):
        raise _problem("console", f"{place} is the place of another option; name a place of its own")


def tokens(config: RunConfig) -> None:
    if config.http_token_file is not None and config.http is None:
        raise _problem("http_token_file", "is given, but there is no HTTP; give --http HOST:PORT too")


CHECKS: tuple[Callable[[RunConfig], None], ...] = (
    listen,
    backend,
    backends,
    classes,
    tls,
    openness,
    capture,
    pool,
    ride_through,
    workers,
    target,
    console,
    tokens,
)
