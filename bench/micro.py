"""Nanoseconds per command of the compiled parts, called from Python where they can be.

    python bench/micro.py [--repeat 5] [--update-readme]

Where the loop over commands runs compiled, the number is the part's own; where each call crosses from Python, or builds
Python objects for the caller, the table says so: the data path pays neither. A part that can't be imported is named,
and gets no number.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
import machine
import readme
from peers.launch import REPOSITORY
from terminal import console, show

LEAST_S = 0.05
HEADER = ("part", "ns each", "what else is in the number")

Round = Callable[[int], object]  # runs that many rounds


def frame(*args: bytes) -> bytes:
    """A command as a client sends it."""
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(arg), arg) for arg in args)


VALUE = b"x" * 100
SET = (b"SET", b"key:000000012345", VALUE)
BRPOP = (b"BRPOP", b"queue:critical", b"queue:default", b"queue:low", b"2")
EVALSHA = (b"EVALSHA", b"6" * 40, b"2", b"queue:default", b"schedule", b"1700000000.123")
BATCH = 1000


def repeated(call: Callable[[], object]) -> Round:
    """A round that is one Python call."""

    def rounds(count: int) -> object:
        for _ in range(count):
            call()
        return None

    return rounds


def slot(module: Any) -> Round:
    return repeated(lambda: module.slot(SET[1]))


def tagged_slot(module: Any) -> Round:
    return repeated(lambda: module.slot(b"{tenant:42}:queue:default"))


def lookup(args: tuple[bytes, ...]) -> Callable[[Any], Round]:
    return lambda module: lambda count: module.look_up_repeatedly(args, count)


def commands(args: tuple[bytes, ...]) -> Callable[[Any], Round]:
    def prepare(module: Any) -> Round:
        data = frame(*args) * BATCH
        return repeated(lambda: module.CommandReader().feed(data))

    return prepare


def replies(reply: bytes) -> Callable[[Any], Round]:
    def prepare(module: Any) -> Round:
        data = reply * BATCH
        return repeated(lambda: module.ReplyReader().feed(data))

    return prepare


@dataclass(frozen=True)
class Probe:
    """`prepare(module)` gives a round; `each` is how many commands, replies or keys one round is."""

    part: str
    module: str
    prepare: Callable[[Any], Round]
    each: int
    besides: str


CALL = "one Python call each"
OBJECTS = "Python objects for each argument"
TUPLES = "a Python tuple each"
NOTHING = "nothing: the loop is compiled"
PROBES = (
    Probe("slot of a 16-byte key", "protocol.slots", slot, 1, CALL),
    Probe("slot of a key with a hash tag", "protocol.slots", tagged_slot, 1, CALL),
    Probe("command looked up, keys found: SET", "protocol.keyspecs", lookup(SET), 1, NOTHING),
    Probe("command looked up, keys found: BRPOP of 3", "protocol.keyspecs", lookup(BRPOP), 1, NOTHING),
    Probe("command looked up, keys found: EVALSHA of 2", "protocol.keyspecs", lookup(EVALSHA), 1, NOTHING),
    Probe("command scanned: SET of 100 bytes", "protocol.resp", commands(SET), BATCH, OBJECTS),
    Probe("command scanned: BRPOP of 3", "protocol.resp", commands(BRPOP), BATCH, OBJECTS),
    Probe("reply scanned: +OK", "protocol.resp", replies(b"+OK\r\n"), BATCH, TUPLES),
    Probe("reply scanned: bulk of 100 bytes", "protocol.resp", replies(b"$100\r\n" + VALUE + b"\r\n"), BATCH, TUPLES),
)


def timed(rounds: Round, count: int) -> float:
    started = time.perf_counter()
    rounds(count)
    return time.perf_counter() - started


def nanoseconds(probe: Probe, module: Any, repeat: int) -> float:
    """The least of `repeat` measurements, each at least LEAST_S long: what disturbs a run only adds to it."""
    rounds, count = probe.prepare(module), 1
    while timed(rounds, count) < LEAST_S:
        count *= 4
    return min(timed(rounds, count) for _ in range(repeat)) / count / probe.each * 1e9


def row(probe: Probe, repeat: int) -> list[str]:
    try:
        return [probe.part, f"{nanoseconds(probe, importlib.import_module(probe.module), repeat):.0f}", probe.besides]
    except (ImportError, AttributeError) as error:
        return [probe.part, "–", f"can't be measured: {error}"]


@click.command()
@click.option("--repeat", default=5, show_default=True, type=click.IntRange(1))
@click.option("--update-readme", is_flag=True, help="Write the table into bench/README.md.")
def main(repeat: int, update_readme: bool) -> None:
    """Time the scanner, the command table and the slot function."""
    sys.path.append(str(REPOSITORY))
    rows = [row(probe, repeat) for probe in PROBES]
    show(f"Least of {repeat} runs", HEADER, rows)
    console.print("times of one run on one machine: compare them only with another run on it", style="dim")
    if update_readme:
        readme.update("micro", "\n\n".join([readme.table(HEADER, rows), machine.sentence(machine.describe([]))]))


if __name__ == "__main__":
    main()
