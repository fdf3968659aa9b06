"""``shunt replay``: a capture's commands, sent to another Redis.

Knows: options, the progress line, how it ends. Refuses to know: the target (``replay_target``), what is sent and when,
and what is compared (``proxy.replay``).
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import signal
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.live import Live
from rich.text import Text

from proxy.capture.filters.filtered import Filter, Filtered
from proxy.capture.reader import Capture, CaptureError, SegmentInfo
from proxy.cli.filters import doubts, where_option
from proxy.cli.replay_target import ReplayRefused, Target, greet, target_address
from proxy.net.tls import BackendTls
from proxy.replay.captured import InOrder, Stream
from proxy.replay.driver import Replay
from proxy.replay.planner import Planner
from proxy.replay.render import render
from proxy.replay.schedule import Pace
from proxy.replay.summary import LAG_WARNED_S, Setting, document, exit_code
from proxy.replay.tally import Tally
from proxy.replay.unit import Unit
from proxy.units import parse_duration_s

_SPEED = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)x")
_PROGRESS_S = 0.25
#: Files that the process needs besides its connections.
_OTHER_FILES = 64
INTERRUPTED = "interrupted"
EXIT_INTERRUPTED = 130
_WIDTH = 200  # where no terminal says how wide a line may be


class _Speed(click.ParamType[float | None]):
    """``1x``, ``10x``, ``0.5x`` as a number; ``max`` as None."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        found = _SPEED.fullmatch(value)
        if value != "max" and (found is None or float(found[1]) == 0):
            self.fail(f"{value!r} is no speed; write 1x, 10x, 0.5x or max", param, ctx)
        return float(found[1]) if found else None


class _Gap(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


_PATH = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("replay")
@click.argument("path", metavar="CAPTURE", type=click.Path(path_type=Path))
@click.argument("url", metavar="TARGET")
@click.option(
    "--speed", type=_Speed(), default="1x", show_default=True, metavar="SPEED",
    help="1x: the captured pace; 10x: ten times as fast; max: as fast as the captured order allows.",
)  # fmt: skip
@click.option(
    "--max-gap", "max_gap_s", type=_Gap(), default="5s", show_default=True, metavar="DURATION",
    help="Shorten captured pauses to this, before --speed.",
)  # fmt: skip
@click.option("--allow-writes", is_flag=True, help="Send every command; without it only what is flagged readonly.")
@where_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--tls-ca", type=_PATH, metavar="FILE", help="For rediss://: authorities to trust.  [the system's]")
@click.option("--tls-cert", type=_PATH, metavar="FILE", help="For rediss://: the certificate to show.")
@click.option("--tls-key", type=_PATH, metavar="FILE", help="For rediss://: its key.")
@click.option(
    "--tls-verify", type=click.Choice(["full", "ca", "none"]), default="full", show_default=True,
    help="For rediss://: what is checked of the target's certificate.",
)  # fmt: skip
@click.pass_context
def replay_command(
    ctx: click.Context, path: Path, url: str, speed: float | None, max_gap_s: float, allow_writes: bool,
    where: Filter | None, as_json: bool, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None,
    tls_verify: Any,
) -> None:  # fmt: skip
    """Send a capture's commands to TARGET in their captured order, and compare its answers with the captured ones.

    CAPTURE was made with --capture-args full. Exit codes: 0 answered as captured, 1 TARGET gives errors that the
    capture does not have, or no answer, 2 nothing was sent, 130 interrupted. docs/replay.md says what is sent.
    """
    capture = _capture(path)
    infos = capture.segments()
    _refuse_without_arguments(path, infos)
    address = target_address(url)
    target = Target(address, BackendTls(tls_verify, tls_ca, tls_cert, tls_key) if address.tls else None)
    scripts = greet(target, capture, allow_writes, _warn)
    sources = _streams(capture, infos, where)
    rows = InOrder([stream for stream, _ in sources])
    tally = Tally()
    planner = Planner(Pace(speed, int(max_gap_s * 1e9)), allow_writes=allow_writes, most_connections=_most_files())
    try:
        replay = Replay(_planned(rows, planner), address, target.context(), tally)
    except (OSError, ssl.SSLError) as error:
        raise ReplayRefused(f"--tls-ca, --tls-cert or --tls-key can't be used: {error}") from None
    said = "max" if speed is None else f"{speed:g}x"
    uvloop.run(_run(replay, planner, said))
    setting = Setting(
        address.label, said, max_gap_s, allow_writes, scripts,
        where.text if where else "",
    )  # fmt: skip
    losses = sum(len(read.losses) for _, read in sources)
    shown = document(
        setting, planner.counts, planner.schedule, tally, elapsed_s=replay.elapsed_s, stopped=replay.stopped,
        misplaced=rows.misplaced.rows, losses=losses,
    )  # fmt: skip
    for _, read in sources:
        if isinstance(read, Filtered) and (line := doubts(read.left_out)):
            click.echo(line, err=True)
    _print(shown, as_json)
    ctx.exit(EXIT_INTERRUPTED if replay.stopped == INTERRUPTED else exit_code(shown))


# ---- before anything is sent


def _capture(path: Path) -> Capture:
    try:
        return Capture([path])
    except (CaptureError, OSError) as error:
        raise ReplayRefused(str(error)) from None


def _refuse_without_arguments(path: Path, infos: list[SegmentInfo]) -> None:
    """Only arguments can be sent again: what a capture lacks is never guessed."""
    modes = sorted({info.args for info in infos if info.rows and info.args})
    if not modes:
        raise ReplayRefused(f"{path} has no rows that can be read; shunt capture verify says why")
    if "full" not in modes:
        raise ReplayRefused(
            f"{path} has no arguments to send: it was made with --capture-args {' and '.join(modes)}; "
            "record again with --capture-args full"
        )


def _streams(
    capture: Capture, infos: list[SegmentInfo], where: Filter | None
) -> list[tuple[Stream, Capture | Filtered]]:
    """One stream for each worker of each run: their rows are in the order of replies, and their times overlap."""
    files: dict[tuple[str, int], list[SegmentInfo]] = {}
    for info in infos:
        files.setdefault((info.run, info.worker), []).append(info)
    streams: list[tuple[Stream, Capture | Filtered]] = []
    for group in files.values():
        part = Capture([info.path for info in group])
        source = Filtered(part, where) if where else part
        first_ns = min((info.first_ns for info in group if info.first_ns is not None), default=0)
        streams.append((Stream(first_ns, source), source))
    return streams


def _most_files() -> int:
    """How many connections may be open: as many as files, once the soft limit is the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return 100_000 if soft == resource.RLIM_INFINITY else max(1, min(soft - _OTHER_FILES, 100_000))


# ---- while it runs


def _planned(rows: InOrder, planner: Planner) -> Iterator[list[Unit]]:
    for some in rows:
        yield planner.plan(some)
    planner.end()


async def _run(replay: Replay, planner: Planner, speed: str) -> None:
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        replay.stop(INTERRUPTED)
        loop.remove_signal_handler(signal.SIGINT)  # who asks twice does not want to wait

    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, replay.stop, INTERRUPTED)
    with _live() as live:
        showing = asyncio.create_task(_show(replay, planner, speed, live))
        try:
            await replay.run()
        finally:
            showing.cancel()


async def _show(replay: Replay, planner: Planner, speed: str, live: Live | None) -> None:
    """The progress line, and one warning when the replay falls behind."""
    warned = False
    before = 0
    while True:
        await asyncio.sleep(_PROGRESS_S)
        behind_s = replay.behind_ns / 1e9
        if behind_s > LAG_WARNED_S and not warned:
            warned = True
            line = f"{behind_s:.1f} s behind the captured schedule: target or this machine is too slow for {speed}"
            _warn(line, live)
        if live is not None:
            live.update(Text(_line(replay, planner, before, behind_s), no_wrap=True, overflow="ellipsis"), refresh=True)
        before = replay.tally.answered


def _line(replay: Replay, planner: Planner, before: int, behind_s: float) -> str:
    tally, counts = replay.tally, planner.counts
    parts = [
        f"{tally.answered:,} answered",
        f"{(tally.answered - before) / _PROGRESS_S:,.0f}/s",
        f"{counts.skipped.total():,} not sent",
        f"{tally.only_target():,} errors only there",
        f"{planner.schedule.captured_ns / 1e9:,.0f} s of the capture",
    ]
    return " · ".join(parts + ([f"{behind_s:.1f} s behind"] if behind_s > LAG_WARNED_S else []))


@contextmanager
def _live() -> Iterator[Live | None]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield live


def _warn(line: str, live: Live | None = None) -> None:
    if live is None:
        click.echo(f"shunt: {line}", err=True)
    else:
        live.console.print(Text(f"shunt: {line}"))  # above the progress line


def _print(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    render(shown, console)
    sys.stdout.flush()
