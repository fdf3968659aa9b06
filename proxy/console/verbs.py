"""The verbs that exist: a table, and an async function each.

Knows: what each verb asks of the world, and how its answer is put together. Refuses to know: sockets, RESP and HTTP
(``resp``, ``http``), and how anything is done (``world``).
"""

# Over 300 lines: the verbs, a function each, and what they share.
from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from proxy.console.audit import Audit
from proxy.console.metrics import Source
from proxy.console.mirror_verbs import mirror_verbs
from proxy.console.split_verbs import split_verbs
from proxy.console.verb import Answer, BadArguments, Call, Table, Value, Verb, VerbError
from proxy.console.world import Aim, Routes, Switched, World
from proxy.engine.stats import BUCKETS, quantile_ns
from proxy.units import parse_duration_s

#: SHOW STATS looks twice, this far apart, unless told otherwise, seconds.
STATS_S = 1.0
STATS_LONGEST_S = 60.0
#: A hold's times, seconds: ``routing.gate.Budget`` says why.
HOLD_QUIET_S = 0.3
HOLD_LIMIT_S = 0.8
HOLD_LONGEST_S = 60.0
#: What SHOW STATS tells of outages (docs/outage.md).
RIDES = ("outages", "ridden", "resent", "ambiguous_fetches", "ambiguous_writes", "given_up")
#: How long a planned outage may last, unless told otherwise, seconds.
MAINTENANCE_S = 60.0
MAINTENANCE_LONGEST_S = 3600.0
HISTORY_LINES = 20
#: Of the clients that a switch had to close, so many are named.
CLOSED_NAMED = 20
HISTORY_MOST = 1000


def table(world: World, audit: Audit, more: Iterable[Verb] = ()) -> Table:
    """All verbs: those of this module, and ``more``."""
    verbs = Verbs(world, audit)
    verbs.table = Table((*verbs.all(), *mirror_verbs(world), *split_verbs(world), *more))
    return verbs.table


class Verbs:
    """The functions of the table; each takes a Call and returns an Answer when the thing is done."""

    def __init__(self, world: World, audit: Audit) -> None:
        self._world = world
        self._audit = audit
        self.table = Table(())

    def all(self) -> tuple[Verb, ...]:
        """The table."""
        return (
            Verb("HELP", "All verbs, or how one is written.", self._help, "[VERB]"),
            Verb("SHOW HELP", "As HELP, which redis-cli keeps for itself.", self._help, "[VERB]"),
            Verb(
                "SHOW CLIENTS",
                "Each client: address, name and database, seconds since it came and since it last sent something, "
                "commands in flight, state, and whose backend connection it uses.",
                self._clients,
            ),
            Verb("SHOW BACKENDS", "Each backend: whether it answers, connections, failed attempts.", self._backends),
            Verb(
                "SHOW SOCKETS",
                "The address of each connection to the backend, as this machine has it: which ones in the backend's "
                "CLIENT LIST are shunt's.",
                self._sockets,
            ),
            Verb("SHOW ROUTES", "Where traffic goes, and where it went before, newest first.", self._routes),
            Verb(
                "SHOW STATS",
                "Rates and latency over the next second (or DURATION; 0: none), and totals since the start.",
                self._stats,
                "[DURATION]",
            ),
            Verb("SHOW CONFIG", "Every option, its value, and where that came from. No secret is shown.", self._config),
            Verb("SHOW STATE", "Version, process, uptime, addresses, workers, and what is wrong now.", self._state),
            Verb("SHOW HISTORY", "The last changes (20, or COUNT), as in the audit log.", self._history, "[COUNT]"),
            Verb(
                "KILL",
                "End the client with this address, or the clients with this name (addr=…, name=… or id=… as in SHOW "
                "CLIENTS), once their commands are answered; NOW: at once.",
                self._kill,
                "CLIENT [NOW]",
                changes=True,
            ),
            Verb(
                "HOLD",
                "Dispatch nothing new, and answer when nothing is in flight (within QUIET, 300ms). Released by itself "
                "after LIMIT (800ms: clients give up from 1 s on, and try again). CLASS: only commands with keys of "
                "these classes, and those whose keys can't be told.",
                self._hold,
                "[QUIET] [LIMIT] [CLASS NAME]…",
                changes=True,
            ),
            Verb(
                "SWITCH",
                "Move all traffic to TARGET (a name of --backends, or a URL) within BUDGET (300ms), or leave it where "
                "it is. FOLLOW: the target first follows the source, and the source the target afterwards.",
                self._switch,
                "TARGET [BUDGET] [FOLLOW]",
                changes=True,
            ),
            Verb(
                "ROLLBACK",
                "Move all traffic back to where it went before the last switch, by replication if that was so.",
                self._rollback,
                "[BUDGET]",
                changes=True,
            ),
            Verb(
                "MAINTENANCE",
                "Walk through a planned outage: stop fetches, hold, wait for the backend (within LIMIT, 60s), compare, "
                "release. TARGET (a name or a URL): traffic goes there afterwards.",
                self._maintain,
                "[LIMIT] [TARGET]",
                changes=True,
            ),
            Verb(
                "MAINTENANCE DONE",
                "The backend is back, although it does not look so: go on to the release.",
                self._maintenance_done,
                changes=True,
            ),
            Verb("MAINTENANCE ABORT", "End it at once; traffic goes on.", self._maintenance_abort, changes=True),
            Verb(
                "RELEASE",
                "Let whatever is held go on. CLASS: only these classes.",
                self._release,
                "[CLASS NAME]…",
                changes=True,
            ),
            Verb(
                "RELOAD",
                "Read certificates, log level and HTTP tokens again, reopen the audit log; says what needs a restart.",
                self._reload,
                changes=True,
            ),
            Verb(
                "SHUTDOWN",
                "End shunt as SIGTERM does: commands under way are answered, within --drain-timeout; NOW: at once.",
                self._shutdown,
                "[NOW]",
                changes=True,
            ),
        )  # fmt: skip

    async def _help(self, call: Call) -> Answer:
        verbs = list(self.table.verbs.values())
        if call.arguments:
            word = call.arguments[0].upper()
            verbs = [verb for verb in verbs if word in verb.name.split()]
        if not verbs:
            self.table.find(call.arguments)  # says which there are
        return Answer([{"verb": verb.usage, "help": verb.help, "changes": verb.changes} for verb in verbs])

    async def _clients(self, call: Call) -> Answer:
        rows, notes = await self._world.clients()
        return Answer([asdict(row) for row in rows], tuple(notes))

    async def _backends(self, call: Call) -> Answer:
        await self._world.refresh()
        source, state = self._world.source, self._world.state()
        row: dict[str, Value] = {
            "addr": state["backend"],
            "up": source.backend_up(),
            "connections": source.backends(),
            "clients": source.clients(),
            "connect_errors": source.counters().get("backend_connect_errors", 0),
        }
        pool = source.pool()
        if pool is not None:
            row |= {"shared": pool.shared, "private": pool.private, "idle": pool.idle, "waiting": pool.waiting}
        return Answer([row])

    async def _sockets(self, call: Call) -> Answer:
        found, notes = await self._world.sockets()
        return Answer([{"addr": each} for each in found], tuple(notes))

    async def _stats(self, call: Call) -> Answer:
        over_s = _duration_s(call.arguments[0]) if call.arguments else STATS_S
        facts: dict[str, Value] = {}
        await self._world.refresh()
        if over_s:
            first, began = _look(self._world.source), time.monotonic()
            await asyncio.sleep(over_s)
            await self._world.refresh()
            facts |= _look(self._world.source).since(first, time.monotonic() - began)
        return Answer(facts | _totals(self._world.source))

    async def _config(self, call: Call) -> Answer:
        return Answer(self._world.options())

    async def _state(self, call: Call) -> Answer:
        await self._world.refresh()
        source, workforce = self._world.source, self._world.workforce
        facts = self._world.state() | {
            "backend_up": source.backend_up(),
            "draining": source.draining(),
            "clients": source.clients(),
        }
        classes = source.held_classes()
        if classes:
            facts["held_classes"] = _held(classes, None if workforce is None else workforce.running())
        capture = source.capture()
        if capture is not None:
            facts["capture_failing"] = capture.failing
        if workforce is None:
            return Answer(facts | {"workers": 1})
        pids = " ".join(f"{name}:{pid}" for name, pid in workforce.processes().items() if name != "supervisor")
        facts |= {"workers": workforce.running(), "workers_serving": workforce.serving(), "worker_pids": pids}
        facts |= {f"workers_replaced_{why}": count for why, count in workforce.restarts().items()}
        return Answer(facts, tuple(workforce.missing()))

    async def _history(self, call: Call) -> Answer:
        count = _count(call.arguments[0]) if call.arguments else HISTORY_LINES
        return Answer([entry.row() for entry in self._audit.last(count)])

    async def _kill(self, call: Call) -> Answer:
        aim, at_once = _aim(call.arguments[0]), _is_now(call.arguments[1:])
        killed, notes = await self._world.kill(aim, at_once, call.progress)
        if killed.left:
            names = ", ".join(killed.left[:5]) + (", …" if len(killed.left) > 5 else "")
            raise VerbError(
                f"{killed.ended} ended; still under way: {names}; each ends as soon as its commands are answered, "
                f"KILL {aim} NOW ends it at once"
            )
        if not killed.ended and notes:
            raise VerbError(f"no client {aim} was found; {'; '.join(notes)}; look at SHOW CLIENTS")
        said = f"{_many(killed.ended, 'client')} ended"
        if killed.pops:
            said += f"; {_many(killed.pops, 'fetch', 'fetches')} cut off, whose jobs may be lost"
        return Answer(said if killed.ended else f"no client {aim} is connected", tuple(notes))

    async def _hold(self, call: Call) -> Answer:
        words, classes = _classes(call.arguments)
        if len(words) > 2:
            raise BadArguments("write HOLD [QUIET] [LIMIT] [CLASS NAME]…")
        quiet_s, limit_s = (*map(_duration_s, words), *(HOLD_QUIET_S, HOLD_LIMIT_S)[len(words) :])
        if not 0 < quiet_s <= HOLD_LONGEST_S or not quiet_s <= limit_s <= HOLD_LONGEST_S:
            raise VerbError(f"QUIET and LIMIT are above 0 and at most {HOLD_LONGEST_S:g} s, LIMIT not below QUIET")
        held = await self._world.hold(quiet_s, limit_s, classes, call.progress)
        quiet = f"quiet after {held.seconds * 1000:.0f} ms"
        said = f"held: {_many(held.clients, 'client')}, {quiet}"
        if classes:
            said = f"held: class {', '.join(dict.fromkeys(classes))}, {quiet}; {_many(held.clients, 'client')} waiting"
        note = f"released by itself {limit_s:g} s after HOLD, or by RELEASE"
        return Answer(said, (note,))

    async def _release(self, call: Call) -> Answer:
        words, classes = _classes(call.arguments)
        if words:
            raise BadArguments("write RELEASE [CLASS NAME]…")
        released = await self._world.release(classes)
        said = f"released: {_many(released.clients, 'client')}" if released.held else "nothing was held"
        return Answer(said + (f"; {released.gone} had left meanwhile and were closed" if released.gone else ""))

    async def _maintain(self, call: Call) -> Answer:
        words = list(call.arguments)
        limit_s = MAINTENANCE_S
        if words and words[0][:1].isdigit():
            limit_s = _duration_s(words.pop(0), MAINTENANCE_LONGEST_S)
        if len(words) > 1:
            raise BadArguments("write MAINTENANCE [LIMIT] [TARGET], LIMIT like 60s")
        return Answer(await self._world.maintain(limit_s, words[0] if words else None, call.by, call.progress))

    async def _maintenance_done(self, call: Call) -> Answer:
        self._world.end_maintenance(True)
        return Answer("it goes on to the release as soon as the backend answers")

    async def _maintenance_abort(self, call: Call) -> Answer:
        self._world.end_maintenance(False)
        return Answer("aborted: traffic goes on")

    async def _routes(self, call: Call) -> Answer:
        return Answer(self._board().routes())

    async def _switch(self, call: Call) -> Answer:
        words = [word.upper() for word in call.arguments[1:]]
        follow = "FOLLOW" in words
        budget_s = _budget_s([word for word in call.arguments[1:] if word.upper() != "FOLLOW"])
        return _switched(await self._board().switch(call.arguments[0], budget_s, follow, call.by, call.progress))

    async def _rollback(self, call: Call) -> Answer:
        return _switched(await self._board().rollback(_budget_s(call.arguments), call.by, call.progress))

    def _board(self) -> Routes:
        if self._world.board is None:
            raise VerbError("this process has no routes; ask the supervisor's console")
        return self._world.board

    async def _reload(self, call: Call) -> Answer:
        return Answer([asdict(each) for each in await self._world.reload(call.progress)])

    async def _shutdown(self, call: Call) -> Answer:
        return Answer(await self._world.shutdown(_is_now(call.arguments), call.progress))


def _classes(words: Sequence[str]) -> tuple[Sequence[str], tuple[str, ...]]:
    """What stands before ``CLASS NAME CLASS NAME …``, and the names. Raises BadArguments."""
    at = next((number for number, word in enumerate(words) if word.upper() == "CLASS"), len(words))
    pairs = words[at:]
    if len(pairs) % 2 or any(word.upper() != "CLASS" for word in pairs[::2]):
        raise BadArguments("write CLASS NAME, as often as there are classes, behind everything else")
    return words[:at], tuple(pairs[1::2])


def _switched(done: Switched) -> Answer:
    facts: dict[str, Value] = {
        "epoch": done.epoch, "traffic_goes_to": done.url, "held_ms": done.held_ms, "clients_moved": done.clients,
        "clients_closed": len(done.closed),
    }  # fmt: skip
    closed = [f"closed between two commands: {each}" for each in done.closed[:CLOSED_NAMED]]
    return Answer(facts, (*done.notes, *closed))


def _budget_s(words: Sequence[str]) -> float:
    if len(words) > 1:
        raise BadArguments("write SWITCH TARGET [BUDGET] [FOLLOW], BUDGET like 300ms")
    budget_s = _duration_s(words[0]) if words else HOLD_QUIET_S
    if not 0 < budget_s <= HOLD_LIMIT_S:
        raise VerbError(
            f"BUDGET is above 0 and at most {HOLD_LIMIT_S * 1000:g}ms: clients give up from 1 s on, and try again"
        )
    return budget_s


@dataclass(frozen=True, slots=True)
class _Look:
    """Totals at one moment."""

    commands: int
    errors: int
    bytes_in: int
    bytes_out: int
    service: list[int]

    def since(self, before: _Look, over_s: float) -> dict[str, Value]:
        """Rates, and the latency of what was answered between two looks."""
        buckets = [now - then for now, then in zip(self.service, before.service, strict=True)]
        facts: dict[str, Value] = {"over_s": round(over_s, 3)}
        for name in ("commands", "errors", "bytes_in", "bytes_out"):
            facts[f"{name}_per_s"] = round((getattr(self, name) - getattr(before, name)) / over_s, 1)
        return facts | {"p50_ms": _ms(buckets, 0.5), "p99_ms": _ms(buckets, 0.99)}


def _look(source: Source) -> _Look:
    commands, counters = source.engine().commands, source.counters()
    service = [sum(each) for each in zip(*(command.service_buckets for command in commands), strict=True)]
    return _Look(
        sum(command.count for command in commands), sum(command.errors for command in commands),
        counters.get("client_rx_bytes", 0), counters.get("client_tx_bytes", 0), service or [0] * BUCKETS,
    )  # fmt: skip


def _held(classes: dict[str, int], workers: int | None) -> Value:
    """The names of those that are held; ``workers``: how many there are, None: one."""
    held = [
        name if workers in (None, count) else f"{name} (in {count} of {workers} workers)"
        for name, count in classes.items()
        if count
    ]
    return ", ".join(held) or None


def _totals(source: Source) -> dict[str, Value]:
    look, engine, capture = _look(source), source.engine(), source.capture()
    facts: dict[str, Value] = {
        "clients": source.clients(),
        "total_commands": look.commands,
        "total_errors": look.errors,
        "total_bytes_in": look.bytes_in,
        "total_bytes_out": look.bytes_out,
        "total_p50_ms": _ms(look.service, 0.5),
        "total_p99_ms": _ms(look.service, 0.99),
        "lost_replies": engine.lost_replies,
        "lost_fetches": engine.open_pops,
        "undelivered_pops": engine.undelivered,
        "given_back_pops": engine.given_back,
    }
    counters = source.counters()
    facts |= {name: counters[name] for name in RIDES if name in counters}
    if capture is not None:
        facts |= {"captured_rows": capture.rows, "captured_bytes": capture.bytes, "lost_rows": capture.gap_rows}
        facts["capture_failing"] = capture.failing
    return facts | {f"finding_{rule}": count for rule, count in source.findings().items() if count}


def _ms(buckets: list[int], q: float) -> Value:
    """None where nothing was measured."""
    return round(quantile_ns(buckets, q) / 1e6, 4) if any(buckets) else None


def _aim(text: str) -> Aim:
    kind, equals, rest = text.partition("=")
    if equals and kind.lower() in ("addr", "name", "id"):
        return Aim(rest, kind.lower())
    return Aim(text)


def _is_now(arguments: tuple[str, ...]) -> bool:
    if arguments and arguments[0].upper() != "NOW":
        raise BadArguments(f"'{arguments[0][:20]}' means nothing here; write NOW, or nothing")
    return bool(arguments)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text[:9]) <= HISTORY_MOST:
        raise BadArguments(f"write a number of lines from 1 to {HISTORY_MOST}")
    return int(text)


def _duration_s(text: str, longest_s: float = STATS_LONGEST_S) -> float:
    try:
        seconds = parse_duration_s(text)
    except ValueError as error:
        raise BadArguments(f"'{text[:20]}' {error}") from None
    if seconds > longest_s:
        raise BadArguments(f"write a duration of at most {longest_s:g}s")
    return seconds


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"
