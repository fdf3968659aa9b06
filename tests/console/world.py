"""A shunt that is not there: a ``World`` whose clients a test sets, and consoles of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from proxy.console.audit import Audit, Caller
from proxy.console.desk import Desk
from proxy.console.verb import Answer, Call, Table, Value, Verb, VerbError
from proxy.console.verbs import table
from proxy.console.world import (
    Aim,
    ClientRow,
    Held,
    Killed,
    MirrorAsk,
    MirrorShown,
    Progress,
    Released,
    Reread,
    SplitAsk,
)
from tests.console.source import FakeSource, FakeWorkforce

WHO = Caller("unix", uid=0, pid=42)


def client(id: str = "0:1", addr: str = "127.0.0.1:5000", name: str = "web", **more: object) -> ClientRow:
    facts = {"db": 0, "age": 12, "idle": 3, "in_flight": 0, "state": "plain", "phase": "own"} | more
    return ClientRow(id=id, addr=addr, name=name, **facts)  # type: ignore[arg-type]


@dataclass
class FakeWorld:
    source: FakeSource = field(default_factory=FakeSource)
    workforce: FakeWorkforce | None = None
    rows: list[ClientRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stuck: set[str] = field(default_factory=set)  # ids of clients that reach no command boundary
    refuses: str | None = None  # why RELOAD can't be done
    done: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def board(self) -> None:
        return None

    def state(self) -> dict[str, Value]:
        return {"version": "0.1.0", "backend": "redis://10.0.0.5:6379", "capture": None}

    def options(self) -> list[dict[str, Value]]:
        return [{"option": "backend", "value": "redis://:***@10.0.0.5:6379", "origin": "environment"}]

    async def refresh(self) -> None:
        self.done.append(("refresh",))

    async def clients(self) -> tuple[list[ClientRow], list[str]]:
        return self.rows, self.notes

    async def sockets(self) -> tuple[list[str], list[str]]:
        return ["127.0.0.1:40001", "127.0.0.1:40002"], self.notes

    async def kill(self, aim: Aim, at_once: bool, progress: Progress) -> tuple[Killed, list[str]]:
        self.done.append(("kill", str(aim), "now" if at_once else "at a boundary"))
        found = aim.fits(self.rows)
        left = [row for row in found if row.id in self.stuck and not at_once]
        progress(f"{len(found)} clients")
        self.rows = [row for row in self.rows if row not in found or row in left]
        cut_off = sum(row.state == "blocked" for row in found) if at_once else 0
        return Killed(len(found) - len(left), tuple(row.addr for row in left), cut_off), self.notes

    async def hold(self, quiet_s: float, limit_s: float, classes: tuple[str, ...], progress: Progress) -> Held:
        if self.refuses is not None:
            raise VerbError(self.refuses)
        self.done.append(("hold", str(quiet_s), str(limit_s), *classes))
        progress("3 commands in flight")
        return Held(len(self.rows), 0.0123)

    async def release(self, classes: tuple[str, ...] = ()) -> Released:
        self.done.append(("release", *classes))
        return Released(len(self.rows), 1 if self.stuck else 0, bool(self.rows))

    async def mirror_start(self, ask: MirrorAsk, progress: Progress) -> str:
        if self.refuses is not None:
            raise VerbError(self.refuses)
        self.done.append(("mirror", str(ask)))
        return f"mirrors {ask.what}"

    async def mirror_stop(self, progress: Progress) -> str:
        self.done.append(("mirror", "stop"))
        return "stopped"

    async def mirror_shown(self) -> MirrorShown:
        return MirrorShown({"state": "up"}, [{"command": "EVAL"}], [{"command": "GET"}])

    async def split_start(self, ask: SplitAsk, progress: Progress) -> tuple[str, list[str]]:
        if self.refuses is not None:
            raise VerbError(self.refuses)
        self.done.append(("split", str(ask)))
        return f"{ask.said} read there", self.notes

    async def split_end(self, progress: Progress) -> str:
        self.done.append(("split", "end"))
        return "ended"

    async def split_shown(self) -> tuple[dict[str, Value], list[str]]:
        return {"state": "on"}, self.notes

    async def reload(self, progress: Progress) -> list[Reread]:
        if self.refuses is not None:
            raise VerbError(self.refuses)
        progress("half of it")
        return [Reread("log-level", "info -> debug")]

    async def maintain(self, limit_s: float, to: str | None, by: str, progress: Progress) -> list[dict[str, Value]]:
        if self.refuses is not None:
            raise VerbError(self.refuses)
        self.done.append(("maintain", str(limit_s), str(to)))
        progress("hold traffic")
        return [{"step": "release", "at_s": 1.5, "took_s": 0.1, "said": "traffic goes on"}]

    def end_maintenance(self, is_done: bool) -> None:
        if self.refuses is not None:
            raise VerbError(self.refuses)
        self.done.append(("end", "done" if is_done else "abort"))

    async def shutdown(self, at_once: bool, progress: Progress) -> str:
        self.done.append(("shutdown", "now" if at_once else "drain"))
        return "shunt has ended"


class Slow:
    """A verb of a later machine: it is under way until a test lets it go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, call: Call) -> Answer:
        call.progress("begun")
        self.begun.set()
        await self.go.wait()
        return Answer("done at last")

    def verb(self) -> Verb:
        return Verb("WAIT", "Waits.", self, "[URL]", changes=True)


async def desk(world: FakeWorld, path: Path | None = None, *more: Verb) -> tuple[Desk, Audit]:
    audit = Audit(path)
    await audit.open()
    verbs: Table = table(world, audit, more)
    return Desk(verbs, audit), audit
