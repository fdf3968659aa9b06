"""What is asked of a server before anything is moved. It only reads: no command here writes, to data or settings.

Knows: the questions, one at a time, each bounded and each with its own "unknown": managed services refuse many.
Refuses to know: what an answer means (``checks``), how a server is reached (``reach``), ACL (``rights``).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from proxy.cutover.reach import line
from proxy.cutover.server_facts import Jobs, Offset, T, Unknown

#: Longest time for one question, seconds.
QUESTION_S = 10.0
#: PINGs that make a round trip's median and p99, and the time that they get, seconds.
PINGS = 200
PINGS_S = 2.0
CLOCK_LOOKS = 5
#: Keys that SCAN looks at in one turn, and turns for each database: 200,000 keys.
SCAN_COUNT = 1000
SCAN_TURNS = 200
SETTINGS = (
    "maxclients", "databases", "maxmemory", "maxmemory-policy", "min-replicas-to-write", "save",
    "stop-writes-on-bgsave-error",
)  # fmt: skip
_QUEUE = re.compile(rb"(?:.+:)?queue:.+", re.DOTALL)
_WAITING = (b"schedule", b"retry")


class Asker:
    """One connection's questions. Once it has broken, or a question got no answer in time, nothing more is asked.

    ``lost``: why nothing is asked from the start.
    """

    def __init__(self, control: Redis, lost: str = "") -> None:
        self._control = control
        self._lost = lost

    async def ask(self, name: str, question: Callable[[Redis], Awaitable[T]]) -> T | Unknown:
        """The answer, or why there is none. Never raises but for cancellation."""
        if self._lost:
            return Unknown(self._lost)
        try:
            async with asyncio.timeout(QUESTION_S):
                return await question(self._control)
        except ResponseError as error:
            return Unknown(f"{name} is refused: {line(error)}")
        except (TimeoutError, RedisTimeout):
            self._lost = f"{name} got no answer in time"
        except (RedisError, OSError) as error:
            self._lost = f"the connection ended at {name}: {line(error)}"
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            return Unknown(f"{name} got an answer that can't be read ({type(error).__name__})")
        return Unknown(self._lost)


async def info(control: Redis) -> Mapping[str, Any]:
    """INFO's default sections, by field."""
    told: Mapping[str, Any] = await control.info()
    return told


async def cluster(control: Redis) -> Mapping[str, str]:
    """CLUSTER INFO, by field."""
    told = _text(await raw(control, "CLUSTER", "INFO"))
    return dict(each.split(":", 1) for each in told.splitlines() if ":" in each)


def setting(name: str) -> Callable[[Redis], Awaitable[str]]:
    """CONFIG GET of one parameter."""

    async def ask(control: Redis) -> str:
        told = await control.config_get(name)
        return str(told[name] or "")

    return ask


async def user(control: Redis) -> str:
    """ACL WHOAMI."""
    return _text(await raw(control, "ACL", "WHOAMI"))


async def commands(control: Redis) -> Mapping[str, frozenset[str]]:
    """COMMAND: each command and subcommand, upper case, with its ACL categories (Redis 6 and up; else none)."""
    found: dict[str, frozenset[str]] = {}
    waiting = list(await raw(control, "COMMAND"))
    while waiting:
        entry = waiting.pop()
        name = _text(entry[0]).upper().replace("|", " ")
        found[name] = frozenset(_text(each).removeprefix("@") for each in entry[6]) if len(entry) > 6 else frozenset()
        waiting += entry[9] if len(entry) > 9 else []
    return found


async def used(control: Redis) -> Mapping[str, int]:
    """INFO commandstats: calls by command, without those that were refused or failed."""
    told = await control.info("commandstats")
    calls = {
        name.removeprefix("cmdstat_").upper().replace("|", " "): stats["calls"] - stats.get("failed_calls", 0)
        for name, stats in told.items()
    }
    return {name: count for name, count in calls.items() if count > 0}


async def libraries(control: Redis) -> frozenset[str]:
    """FUNCTION LIST: the libraries' names."""
    told = await raw(control, "FUNCTION", "LIST")
    return frozenset(_text(entry[entry.index(b"library_name") + 1]) for entry in told)


def scripts_missing(shas: Iterable[str]) -> Callable[[Redis], Awaitable[tuple[str, ...]]]:
    """SCRIPT EXISTS: which of these are not in its cache."""
    asked = sorted(shas)

    async def ask(control: Redis) -> tuple[str, ...]:
        if not asked:
            return ()
        there = await raw(control, "SCRIPT", "EXISTS", *asked)
        return tuple(sha for sha, exists in zip(asked, there, strict=True) if not exists)

    return ask


async def clock(control: Redis) -> Offset:
    """TIME, a few times: the one with the shortest way counts; half of its round trip is the error."""
    best: Offset | None = None
    for _ in range(CLOCK_LOOKS):
        sent = time.time()
        seconds, micros = map(int, await raw(control, "TIME"))
        error_s = (time.time() - sent) / 2
        if best is None or error_s < best.error_s:
            best = Offset(seconds + micros / 1e6 - (sent + error_s), error_s)
    if best is None:
        raise ValueError("no look at the clock")
    return best


async def pings(control: Redis) -> tuple[float, ...]:
    """Round trips of PING in seconds, one after another."""
    times: list[float] = []
    end = time.monotonic() + PINGS_S
    while len(times) < PINGS and (not times or time.monotonic() < end):
        began = time.monotonic()
        await raw(control, "PING")
        times.append(time.monotonic() - began)
    return tuple(times)


def keys(told: Mapping[str, Any] | Unknown) -> Mapping[int, int] | Unknown:
    """Keys by database, out of INFO."""
    if isinstance(told, Unknown):
        return told
    found = {name: value for name, value in told.items() if re.fullmatch(r"db\d+", name) and isinstance(value, dict)}
    return {int(name.removeprefix("db")): int(value["keys"]) for name, value in found.items() if "keys" in value}


def dbsize(db: int) -> Callable[[Redis], Awaitable[Mapping[int, int]]]:
    """DBSIZE of the database that the connection is in, ``db``: for where INFO has no keyspace."""

    async def ask(control: Redis) -> Mapping[int, int]:
        return {db: int(await raw(control, "DBSIZE"))}

    return ask


def selects(databases: Iterable[int], back: int) -> Callable[[Redis], Awaitable[Mapping[int, str]]]:
    """SELECT each of these, then ``back``: the error of each, empty where there is none."""
    asked = sorted(databases)

    async def ask(control: Redis) -> Mapping[int, str]:
        refusals = {db: await _refusal(control, "SELECT", db) for db in asked if db != back}
        if refusals:
            await raw(control, "SELECT", back)
        return {db: refusals.get(db, "") for db in asked}

    return ask


async def has_sidekiq(control: Redis) -> bool:
    """Whether the connection's database has Sidekiq's set of queues or of processes."""
    return bool(await raw(control, "EXISTS", "queues", "processes"))


def jobs(databases: Iterable[int], back: int) -> Callable[[Redis], Awaitable[Jobs]]:
    """What Sidekiq's keys hold in these databases: lists ``queue:…`` under any namespace, ``schedule``, ``retry``."""
    asked = sorted(databases)

    async def ask(control: Redis) -> Jobs:
        waiting: dict[str, int] = {}
        complete, here = True, back
        for db in asked:
            if db != here:
                await raw(control, "SELECT", db)
                here = db
            found, whole = await _queues(control)
            complete &= whole
            for key in (*found, *_WAITING):
                count = await _length(control, key)
                if count:
                    waiting[f"{db}/{key.decode('utf-8', 'backslashreplace')}"] = count
        if here != back:
            await raw(control, "SELECT", back)
        return Jobs(waiting, complete)

    return ask


async def _queues(control: Redis) -> tuple[list[bytes], bool]:
    """Keys that are named like queues, and whether all keys were looked at."""
    found: set[bytes] = set()
    for name in await _members(control):
        found.add(b"queue:" + name)
    cursor = b"0"
    for _ in range(SCAN_TURNS):
        cursor, some = await raw(control, "SCAN", cursor, "MATCH", "*queue:*", "COUNT", SCAN_COUNT)
        found.update(key for key in some if _QUEUE.fullmatch(key))
        if cursor == b"0":
            break
    return sorted(found), cursor == b"0"


async def _members(control: Redis) -> list[bytes]:
    try:
        _, names = await raw(control, "SSCAN", "queues", 0, "COUNT", SCAN_COUNT)
    except ResponseError:
        return []  # no set: not Sidekiq's
    return list(names)


async def _length(control: Redis, key: bytes) -> int:
    try:
        return int(await raw(control, "ZCARD" if key in _WAITING else "LLEN", key))
    except ResponseError:
        return 0  # of another type: not Sidekiq's


async def _refusal(control: Redis, *words: Any) -> str:
    try:
        await raw(control, *words)
    except NoPermissionError:
        raise  # it says nothing of what was asked for
    except ResponseError as error:
        return line(error)
    return ""


async def raw(control: Redis, *words: Any) -> Any:
    """The answer as the server gave it, where redis-py would make something else of it."""
    pool: Any = control.connection_pool  # without types in redis-py
    connection = await pool.get_connection()
    try:
        await connection.send_command(*words)
        return await connection.read_response()  # ends the connection if it is cancelled
    finally:
        await pool.release(connection)


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
