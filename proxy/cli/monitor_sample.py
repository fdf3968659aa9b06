"""``shunt monitor-sample``: MONITOR for a short time, and the keys that scripts really touched.

Knows: the connection, the two bounds, what is printed. Refuses to know: which line belongs to which script
(``report.touched``).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import click
import redis

from proxy.address import Address, AddressError
from proxy.capture.monitor_lines import LUA, parse_line
from proxy.report.render_touched import render_touched
from proxy.report.touched import TouchedKeys
from proxy.units import parse_duration_s

CONNECT_TIMEOUT_S = 5.0
MOST_SECONDS = 600.0


class SampleFailed(click.ClickException):
    """One line: what, where, what now."""

    exit_code = 2


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = parse_duration_s(str(value))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)
        if not 0 < seconds <= MOST_SECONDS:
            self.fail(f"{value!r} is not within 10 minutes; MONITOR costs the server throughput", param, ctx)
        return seconds


@click.command("monitor-sample")
@click.argument("backend", metavar="BACKEND_URL")
@click.option(
    "--for", "seconds", type=_Duration(), default="10s", show_default=True, metavar="DURATION",
    help="How long to watch, at most 10 minutes.",
)  # fmt: skip
@click.option(
    "--lines", type=click.IntRange(1, 10_000_000), default=200_000, show_default=True, help="Stop after so many lines."
)
@click.option(
    "-o", "output", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    help="Write here (mode 0600: key names are in it) instead of to standard output.",
)  # fmt: skip
def monitor_sample_command(backend: str, seconds: float, lines: int, output: Path | None) -> None:
    """Watch a server with MONITOR for a short time, and say which keys scripts really touched.

    MONITOR costs the server throughput, up to a half of it while it runs. Only key templates are kept and shown.
    """
    try:
        address = Address.parse(backend)
    except AddressError as error:
        raise SampleFailed(f"BACKEND_URL: {error}") from None
    click.echo(f"shunt: MONITOR on {address.label} for {seconds:g} s: it costs the server throughput", err=True)
    touched = TouchedKeys()
    commands = unreadable = 0
    started_s = time.monotonic()
    try:
        for raw in _monitor(backend, started_s + seconds, lines):
            line = parse_line(raw)
            if line is None:
                unreadable += 1
                continue
            commands += line.source != LUA
            (touched.inside if line.source == LUA else touched.command)(line.args)
    except (redis.RedisError, OSError, ValueError) as error:
        raise SampleFailed(f"cannot watch {address.label}: {error}") from None
    head = f"{time.monotonic() - started_s:.1f} s of {address.label}: {commands:,} commands of clients"
    head += f"; {unreadable:,} lines could not be read\n\n" if unreadable else "\n\n"
    _write(head + render_touched(touched.result(), touched.unattached), output)


def _monitor(url: str, until_s: float, most: int) -> Iterator[bytes]:
    """MONITOR's lines as they came. redis-py's own Monitor decodes and splits them, and takes ``\\"`` for an end."""
    client = redis.Redis.from_url(url, protocol=2, socket_connect_timeout=CONNECT_TIMEOUT_S, decode_responses=False)
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("MONITOR")  # type: ignore[no-untyped-call]
        if connection.read_response() != b"OK":
            raise redis.RedisError("it did not begin to MONITOR")
        while most > 0 and (left_s := until_s - time.monotonic()) > 0:
            if connection.can_read(timeout=left_s):
                yield connection.read_response()
                most -= 1
    finally:
        connection.disconnect()  # type: ignore[no-untyped-call]
        client.close()


def _write(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchmod(fd, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise SampleFailed(f"cannot write {output}: {error.strerror}") from None
