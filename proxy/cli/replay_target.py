"""Where a replay goes: what is asked of the target, and refused, before anything is sent.

Knows: the target's URL and TLS, whether it is the captured server, the scripts that it must have. Refuses to know: what
is replayed (``cli.replay``).
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from proxy.address import Address, AddressError
from proxy.capture.reader import Capture
from proxy.net.tls import BackendTls
from proxy.replay.driver import CONNECT_S

Warn = Callable[[str], None]


class ReplayRefused(click.ClickException):
    """Nothing was sent. One line: what, where, what now."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, what its INFO says, and how TLS is done there."""

    address: Address
    tls: BackendTls | None

    def context(self) -> ssl.SSLContext | None:
        return None if self.tls is None else self.tls.context()

    def client(self) -> redis.Redis:
        """A connection of the replay's own, for what is asked before it begins."""
        address = self.address
        options: dict[str, Any] = {
            "username": address.user,
            "password": None if address.password is None else address.password.get_secret_value(),
            "socket_timeout": CONNECT_S, "socket_connect_timeout": CONNECT_S, "retry": Retry(NoBackoff(), 0),
        }  # fmt: skip
        if address.scheme == "unix":
            return redis.Redis(unix_socket_path=address.path, **options)
        extra = {} if self.tls is None else {"ssl": True, **self.tls.redis_options()}
        return redis.Redis(host=address.host, port=address.port, **options, **extra)


def target_address(url: str) -> Address:
    try:
        address = Address.parse(url)
    except AddressError as error:
        raise ReplayRefused(f"TARGET: {error}") from None
    if address.db is not None:
        raise ReplayRefused("TARGET: leave the database out of its URL; each command goes to its captured database")
    return address


def greet(target: Target, capture: Capture, allow_writes: bool, warn: Warn) -> int:
    """Ask the target who it is, say what is doubtful, and give it the captured scripts. Returns how many."""
    label = target.address.label
    try:
        with target.client() as client:
            try:
                info: dict[str, Any] = client.info("everything")
            except redis.ResponseError:
                client.ping()
                info = {}
            _refuse_source(capture, info, label, allow_writes, warn)
            keys = sum(int(db["keys"]) for name, db in info.items() if re.fullmatch(r"db[0-9]+", name))
            if allow_writes and keys:
                warn(f"{label} holds {keys:,} keys already: replayed writes mix with them")
            return _load_scripts(client, capture) if allow_writes else 0
    except (redis.RedisError, OSError, ssl.SSLError) as error:
        raise ReplayRefused(f"TARGET {label} does not answer: {' '.join(str(error).split())}") from None


def _refuse_source(capture: Capture, info: dict[str, Any], label: str, allow_writes: bool, warn: Warn) -> None:
    facts = capture.early_facts()
    sources = {str(sample.info["run_id"]) for sample in facts if "run_id" in sample.info}
    run_id = str(info.get("run_id", ""))
    if run_id and run_id in sources:
        same = f"TARGET {label} is the server that the capture was made from (its run_id)"
        if allow_writes:
            raise ReplayRefused(f"{same}: its writes would be repeated on it; name another server")
        warn(f"{same}: it serves the captured reads again, beside its clients")
    elif label in {sample.backend for sample in facts}:
        warn(f"TARGET {label} has the address of the server that the capture was made from: is it another one now?")
    elif not sources or not run_id:
        whose = "the capture does not say which server it was made from" if not sources else f"{label} tells no run_id"
        warn(f"{whose}: make sure that TARGET is not that one")


def _load_scripts(client: redis.Redis, capture: Capture) -> int:
    """EVALSHA finds in the target what was loaded before the capture began. A function's library is no script."""
    loaded = 0
    for body in capture.scripts().values():
        if not body.startswith(b"#!lua name="):
            with suppress(redis.ResponseError):  # EVALSHA's own error will say that it is not there
                client.script_load(body)
                loaded += 1
    return loaded
