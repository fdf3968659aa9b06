"""The parts of a worker that are made out of the configuration alone.

Knows: which options make up a part, and what to say when they can't. Refuses to know: how the parts work together
(``app``).
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.address import Address
from proxy.capture.retention import CaptureLimits
from proxy.capture.segments import SegmentHeader, run_name
from proxy.capture.writer import CaptureWriter
from proxy.config import ConfigError, RunConfig
from proxy.engine import pooling
from proxy.engine.access import Access
from proxy.engine.rehearsal import Rehearsing, suspects
from proxy.net.pool import Limits
from proxy.net.reception import Entrance, Reception, Sharing
from proxy.net.routing import Way, Ways
from proxy.net.sampling import Sampler
from proxy.net.tls import BackendTls, server_context
from proxy.net.upstream import Upstream
from proxy.report.targets import find
from proxy.report.targets.rehearse import refusals
from proxy.routing.route import MAIN
from proxy.routing.table import Table
from proxy.version import VERSION

#: Descriptors that are not for clients: capture, HTTP, probes, libraries.
SPARE_FILES = 64


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's place among several; the supervisor gives it out.

    ``number`` and ``run`` name its capture. ``sockets``: what it listens on, for each of the configuration's addresses.
    ``owns``: whether they are its own from the start; else another worker still accepts there, and ``App.take_over``
    says when. ``epoch``: of the route in force. ``watched``: someone looks at findings. ``tell`` is called when its
    state has changed.
    """

    number: int
    run: str
    started_ns: int
    owns: bool
    watched: bool
    epoch: int = 0
    sockets: list[list[socket.socket]] = field(default_factory=list)
    tell: Callable[[], None] = lambda: None


def on_terminal() -> bool:
    """Whether someone looks at the live line, which shows findings."""
    return os.isatty(2)


def raise_file_limit(max_clients: int | None) -> int:
    """Raise the soft limit of open files to the hard one. Returns how many clients may come: by option or by limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return max_clients or max((soft - SPARE_FILES) // 2, 1)


def access(listen: Address, backend: Address) -> Access | None:
    """None: nothing of credentials or databases stands in the URLs, and nothing is ever edited."""
    prelude: list[tuple[bytes, ...]] = []
    if backend.password is not None:
        password = backend.password.get_secret_value().encode()
        prelude.append((b"AUTH", backend.user.encode(), password) if backend.user else (b"AUTH", password))
    if backend.db:
        prelude.append((b"SELECT", b"%d" % backend.db))
    if listen.password is None and not prelude:
        return None
    return Access(
        user=listen.user.encode() if listen.user else None,
        password=None if listen.password is None else listen.password.get_secret_value().encode(),
        prelude=tuple(prelude),
        answers=listen.password is not None or backend.password is not None,
        db=backend.db or 0,
    )


def login(config: RunConfig) -> tuple[tuple[tuple[bytes, ...], ...], int]:
    """What a new backend connection is told first, and the database that it is in then."""
    own = access(config.listen[0], config.backend)
    auth = () if own is None else tuple(each for each in own.prelude if each[0] == b"AUTH")
    return auth, config.backend.db or 0


def sharing(config: RunConfig, commands: CommandTable, worker: int = 0) -> Sharing | None:
    """How clients share backend connections; None: with --pool session they don't."""
    if config.pool == "session":
        return None
    most = config.max_backend_connections
    limits = Limits(
        size=config.pool_size,
        most=None if most is None else max(most // config.workers, 1),
        wait_s=config.pool_wait,
        client_buffer=config.client_buffer,
    )
    own = access(config.listen[0], config.backend)
    login = () if own is None else own.prelude
    return Sharing(limits, pooling.tables(commands), login, pooling.FIRST_ID + worker * pooling.IDS_PER_WORKER)


def rehearsal(config: RunConfig) -> Rehearsing | None:
    """What is refused as a target would refuse it; None: nothing."""
    if config.rehearse is None:
        return None
    rules = refusals(find(config.rehearse.target))
    return Rehearsing(rules, config.rehearse.percent, suspects(rules, table().commands.values()))


def ways(config: RunConfig, upstream: Upstream, capture: CaptureWriter | None, epoch: int) -> Ways | None:
    """Where the classes of keys are; None: all keys are on ``upstream``."""
    if not config.classes:
        return None
    named = {MAIN: config.backend} | {each.name: each.address for each in config.backends}
    table = Table(epoch, tuple(config.classes))
    found = []
    for name in table.backends:
        address = named[name]
        to = upstream
        if name != MAIN:
            tls = backend_tls(config.model_copy(update={"backend": address}))
            to = Upstream(address, tls, config.connect_timeout, lambda up: None)
        own = access(Address("unix", path="/"), address)
        mark = 0 if capture is None else capture.backend(address.label)
        found.append(Way(to, () if own is None else own.prelude, mark))
    return Ways(table, found, config.backend.db or 0, config.split_keys)


def entrances(config: RunConfig) -> list[Entrance]:
    """How the clients of each listener are received. Raises ConfigError."""
    return [Entrance(access(each, config.backend), listen_tls(config, each)) for each in config.listen]


def listen_tls(config: RunConfig, address: Address) -> ssl.SSLContext | None:
    """The TLS context of a rediss:// listener, None for others. Raises ConfigError."""
    if not address.tls:
        return None
    if config.listen_tls_cert is None or config.listen_tls_key is None:
        raise ConfigError(f"--listen {address}: needs --listen-tls-cert and --listen-tls-key")
    try:
        return server_context(config.listen_tls_cert, config.listen_tls_key, config.listen_tls_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--listen-tls-cert, -key or -ca can't be used: {error}; give PEM files") from None


def backend_tls(config: RunConfig) -> BackendTls | None:
    """How a rediss:// backend is checked, None for others. Raises ConfigError."""
    if not config.backend.tls:
        return None
    tls = BackendTls(config.backend_tls_verify, config.backend_tls_ca, config.backend_tls_cert, config.backend_tls_key)
    try:
        tls.context()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--backend-tls-ca, -cert or -key can't be used: {error}; give PEM files") from None
    return tls


def sampler(
    config: RunConfig, writer: CaptureWriter | None, upstream: Upstream, reception: Reception
) -> Sampler | None:
    """What asks for backend facts; None: nothing is captured, or they are not wanted."""
    if writer is None or config.backend_facts is None:
        return None
    return Sampler(upstream, reception, writer.add_facts, config.backend_facts)


def capture(config: RunConfig, seat: Seat | None) -> CaptureWriter | None:
    """The capture's writer, not yet started; None: nothing is to be captured."""
    if config.capture is None:
        return None
    started_ns = time.time_ns() if seat is None else seat.started_ns
    run, number = (run_name(started_ns), 0) if seat is None else (seat.run, seat.number)
    header = SegmentHeader(run, number, started_ns, VERSION, config.capture_args, (config.backend.label,))
    limits = CaptureLimits(
        segment_bytes=config.capture_segment_bytes,
        max_bytes=config.capture_max_bytes,
        max_age_s=config.capture_max_age,
        flush_s=config.capture_flush,
        writers=config.workers,
    )
    return CaptureWriter(config.capture, header, limits)
