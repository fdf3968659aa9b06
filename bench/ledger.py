"""The job ledger, the long way: what holds, switches and kill -9 cost a real Sidekiq under load; Redis alone beside it.

Each subject gets a Redis with an append-only file and a Sidekiq of its own (tests/system/ledger). Every job is
accounted for: the audit names each that is lost or doubled, and puts it to the kill in which it was under way; a job
that no kill explains ends the run with an error.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import which
from statistics import median
from typing import TypeVar

import click
import machine
import readme
from peers.launch import REPOSITORY, BenchError, end_on_sigterm, version
from terminal import console, show

sys.path.insert(0, str(REPOSITORY))

from tests.servers import redis_server, shunt
from tests.system.ledger.auditor import Audit
from tests.system.ledger.crash import Toll
from tests.system.ledger.failures import (
    Failures,
    a_server_fails_at_every_step,
    every_step_fails,
    shunt_dies_at_every_step,
    the_record_cannot_be_written,
)
from tests.system.ledger.holds import done_while_held, hold_often
from tests.system.ledger.kills import Outcome, Subject, killed_redis, killed_shunt, killed_under_load, killed_worker
from tests.system.ledger.load import JobLoad
from tests.system.ledger.outages import maintain_often
from tests.system.ledger.switches import switch_often, switchable

PAGE = REPOSITORY / "docs/guarantee.md"
T = TypeVar("T")
POOLS = ("session", "shared")
KILLED: dict[str, Callable[[], AbstractContextManager[Subject]]] = {
    "shunt, session": lambda: killed_shunt("--pool", "session"),
    "shunt, shared": lambda: killed_shunt("--pool", "shared"),
    "one of 2 workers": killed_worker,
    "Redis alone, always": lambda: killed_redis("always"),
    "Redis alone, everysec": lambda: killed_redis("everysec"),
}
FAILED: dict[str, Callable[[Path, str], Failures]] = {
    "each step fails once": every_step_fails,
    "each step takes 2 s once": partial(every_step_fails, action="hang"),
    "the source stands still for 2 s, at each step": partial(a_server_fails_at_every_step, whose="source", kill=False),
    "the target stands still for 2 s, at each step": partial(a_server_fails_at_every_step, whose="target", kill=False),
    "kill -9 of the source, at each step while held": partial(a_server_fails_at_every_step, whose="source", kill=True),
    "kill -9 of the target, at each step while held": partial(a_server_fails_at_every_step, whose="target", kill=True),
    "kill -9 of shunt, at each step while held": shunt_dies_at_every_step,
    "the record can't be written": the_record_cannot_be_written,
}
FAILED_HEADER = ("what goes wrong in a switch", "pool", "times", "aborted", "switched", "pushed", "lost", "doubled")
FAILED_HEADER += ("no answer", "complaints")
CARRIED_HEADER = ("", "pushed", "lost", "doubled", "no answer", "overtaken", "complaints", "ms: median", "p99", "most")
KILL_HEADER = ("killed", "kills", "pushed", "no answer", "lost: pops", "lost in the worker", "doubled: pushes")
KILL_HEADER += ("forgotten or revived", "in flight per kill: pops", "pushes", "oldest reply ms", "away s")


@dataclass(frozen=True)
class Carried:
    """A load through shunt, ``what`` was done to it, how long each time took in ms, and what came of the jobs."""

    pool: str
    what: str
    times_ms: list[float]
    audit: Audit
    complaints: int


def held(pool: str, count: int, jobs: int, directory: Path) -> Carried:
    """A load of at least ``jobs`` runs, with ``count`` holds."""
    socket = directory / "console"
    with (
        redis_server() as server,
        shunt(server.url, "--pool", pool, "--console", f"unix://{socket}") as through,
        JobLoad(through.url, directory / "load") as load,
    ):
        load.wait_for(got=100)
        holder = hold_often(socket, load, count)
        if (more := jobs - load.counts()["got"]) > 0:
            load.wait_for(got=more, within_s=600)
        load.stop()
        if early := done_while_held(holder):
            raise BenchError(f"{len(early)} pushes were answered during a hold: {early[0]}")
        what = f"{len(holder.held)} holds" if count else "nothing done to it"
        return Carried(pool, what, [*map(float, holder.quiet_after_ms)], load.audit([server]), len(load.complaints()))


def switched(pool: str, count: int, directory: Path) -> Carried:
    """A load that is switched to another server and back."""
    with (
        switchable(directory, "--pool", pool) as (through, source, target),
        JobLoad(through.url, directory / "load") as load,
    ):
        load.wait_for(got=100)
        made = switch_often(directory, load, count)
        load.stop()
        what = f"{len(made.held_ms)} switches"
        return Carried(pool, what, made.held_ms, load.audit([source, target]), len(load.complaints()))


def maintained(count: int, directory: Path) -> Carried:
    """A load during planned outages: the server dies and starts while traffic is held."""
    with (
        redis_server("--appendonly", "yes", "--appendfsync", "always") as server,
        shunt(server.url, "--console", f"unix://{directory}/s") as through,
        JobLoad(through.url, directory / "load") as load,
    ):
        load.wait_for(got=100)
        waited = maintain_often(server, directory, load, count)
        load.stop()
        what = f"{count} planned outages"
        return Carried("session", what, waited, load.audit([server]), len(load.complaints()))


def killed(name: str, kills: int, directory: Path) -> Outcome:
    """BenchError if a loss is not explained by what was under way at a kill."""
    with KILLED[name]() as subject:
        outcome = killed_under_load(subject, directory, kills=kills)
    if wrong := outcome.explained.unexplained:
        raise BenchError(f"{name}: {len(wrong)} jobs that no kill explains: {wrong}")
    return outcome


def carried_row(each: Carried) -> list[str]:
    audit, times = each.audit, sorted(each.times_ms)
    counts = (audit.intended, len(audit.lost), len(audit.doubled), len(audit.ambiguous), len(audit.overtaken))
    spread = [f"{value:.0f}" for value in (median(times), times[-1 - len(times) // 100], times[-1])] if times else []
    name = f"shunt, {each.pool}, {each.what}"
    return [name, *(f"{count:,}" for count in counts), str(each.complaints), *(spread or ["–"] * 3)]


def failed_row(name: str, pool: str, directory: Path) -> list[str]:
    """BenchError if a job is lost or doubled."""
    made = FAILED[name](directory, pool)
    if made.audit.faults:
        raise BenchError(f"{name}, {pool}: {made.audit.faults}")
    audit = made.audit
    counts = (made.injected, len(made.aborted), made.switched, audit.intended, len(audit.lost), len(audit.doubled))
    return [name, pool, *(f"{count:,}" for count in (*counts, len(audit.ambiguous), len(made.complaints)))]


def kill_row(name: str, outcome: Outcome) -> list[str]:
    audit, tolls = outcome.audit, outcome.explained.tolls
    sums = (total(tolls, what) for what in ("pops", "hands", "pushes"))
    memory = total(tolls, "forgotten") + total(tolls, "revived")
    away = median(kill.back - kill.began for kill in outcome.kills)
    row = [name, str(len(tolls)), f"{audit.intended:,}", f"{len(audit.ambiguous):,}", *map(str, sums), str(memory)]
    oldest = f"{1000 * max(toll.oldest_s for toll in tolls):.0f}"
    return [*row, span(toll.popping for toll in tolls), span(toll.pushing for toll in tolls), oldest, f"{away:.2f}"]


def total(tolls: Sequence[Toll], what: str) -> int:
    return sum(len(getattr(toll, what)) for toll in tolls)


def span(counts: Iterator[int]) -> str:
    """Least to most."""
    found = sorted(counts)
    return f"{found[0]}–{found[-1]}"


def in_a_folder(what: Callable[[Path], T]) -> T:
    with tempfile.TemporaryDirectory(prefix="shunt-ledger-") as directory:
        return what(Path(directory))


@click.command()
@click.option("--kills", default=20, show_default=True, type=click.IntRange(1), help="Of each subject.")
@click.option("--holds", default=100, show_default=True, type=click.IntRange(1), help="Of each pool.")
@click.option("--switches", default=50, show_default=True, type=click.IntRange(1), help="Of each pool.")
@click.option("--outages", default=20, show_default=True, type=click.IntRange(1), help="Planned ones.")
@click.option("--jobs", default=10_000, show_default=True, type=click.IntRange(100), help="Of the plain loads.")
@click.option("--update-readme", is_flag=True, help="Write the tables into docs/guarantee.md.")
def main(kills: int, holds: int, switches: int, outages: int, jobs: int, update_readme: bool) -> None:
    """Account for every job of a real Sidekiq: under load, held, switched, and with shunt or Redis killed."""
    end_on_sigterm()
    try:
        if absent := [name for name in ("sidekiq", "ruby", "redis-server") if not which(name)]:
            raise BenchError(f"{absent[0]} is not installed: apt-get install ruby-sidekiq redis-server")
        carried_rows = []
        for pool in POOLS:
            for do in (partial(held, pool, 0, jobs), partial(held, pool, holds, 0), partial(switched, pool, switches)):
                carried_rows.append(carried_row(in_a_folder(do)))
                console.print(carried_rows[-1], style="dim")
        carried_rows.append(carried_row(in_a_folder(partial(maintained, outages))))
        console.print(carried_rows[-1], style="dim")
        failed_rows = []
        for name in FAILED:
            for pool in POOLS:
                failed_rows.append(in_a_folder(partial(failed_row, name, pool)))
                console.print(failed_rows[-1], style="dim")
        kill_rows = []
        for name in KILLED:
            kill_rows.append(kill_row(name, in_a_folder(partial(killed, name, kills))))
            console.print(kill_rows[-1], style="dim")
    except (BenchError, AssertionError) as error:
        console.print(f"bench: {error}", style="red")
        sys.exit(1)
    show("Through shunt", CARRIED_HEADER, carried_rows)
    show("Switches that go wrong", FAILED_HEADER, failed_rows)
    show("kill -9 under load", KILL_HEADER, kill_rows)
    if update_readme:
        facts = {**machine.describe([]), "Sidekiq": version(["sidekiq", "--version"])}
        tables = [
            readme.table(CARRIED_HEADER, carried_rows),
            readme.table(FAILED_HEADER, failed_rows),
            readme.table(KILL_HEADER, kill_rows),
            machine.sentence(facts),
        ]
        readme.update("ledger", "\n\n".join(tables), PAGE)


if __name__ == "__main__":
    main()
