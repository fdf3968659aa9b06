"""A small world for switches: two servers, clients that write, a disk, a virtual clock; any of it may fail at any time.

Knows: what a Redis does with REPLICAOF, how a reply gets lost, what a kill -9 leaves behind. Refuses to know: what must
come out of it (``test_switching``).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.exceptions import ConnectionError as Lost
from redis.exceptions import ResponseError

from proxy.address import Address
from proxy.cutover.failpoints import Failpoints
from proxy.cutover.record import RealDisk, Recorded, RouteFile
from proxy.cutover.replication import Server
from proxy.cutover.switching import CAP_S, Moved, Switching, Target
from proxy.routing.route import Backend, Route


class Crash(BaseException):
    """kill -9 of the process: nothing of it goes on."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its clock jumps to the next timer when nothing else is to be done."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


class Redis:
    """A server. A follower has what its leader has, a moment later; ``log`` is everything that was ever written."""

    def __init__(self, world: World, name: str, port: int) -> None:
        self.world, self.name, self.port = world, name, port
        self.log: list[int] = []
        self.leader: Redis | None = None

    def write(self, what: int) -> None:
        if self.leader is not None:
            raise ResponseError("READONLY You can't write against a read only replica.")
        self.log.append(what)

    def pull(self) -> None:
        if self.leader is not None:
            self.log = list(self.leader.log)

    def target(self) -> Target:
        address = Address("redis", "10.0.0.1", self.port)
        return Target(Backend(self.name, address.bare), Server(address, lambda: Control(self)))  # type: ignore[arg-type, return-value]


class Control:
    """A connection for shunt's own commands. Now and then it fails, before or behind what it was to do."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def _reached(self, act: Callable[[], Any]) -> Any:
        await self._redis.world.delay()
        fate = self._redis.world.fate(0.02)
        if fate == "before":
            raise Lost("Connection refused")
        done = act()
        if fate == "behind":
            raise Lost("Connection closed by server.")
        return done

    async def info(self, section: str) -> dict[str, Any]:
        redis = self._redis

        def act() -> dict[str, Any]:
            if section == "server":
                return {"run_id": redis.name}
            if section == "keyspace":
                return {"db0": {"keys": len(redis.log)}} if redis.log else {}
            if redis.leader is None:
                return {"role": "master", "master_repl_offset": len(redis.log)}
            if redis.world.rng.random() < 0.7:
                redis.pull()
            return {
                "role": "slave", "master_host": "10.0.0.1", "master_port": redis.leader.port,
                "master_link_status": "up", "slave_repl_offset": len(redis.log),
            }  # fmt: skip

        return await self._reached(act)  # type: ignore[no-any-return]

    async def execute_command(self, *words: str) -> Any:
        redis = self._redis

        def act() -> str:
            if words[1:] == ("NO", "ONE"):
                redis.leader = None
            else:
                redis.leader = next(each for each in redis.world.servers if str(each.port) == words[2])
            return "OK"

        return await self._reached(act)

    async def aclose(self) -> None:
        return


class Disk(RealDisk):
    """Without waiting for a real one."""

    def __init__(self, world: World) -> None:
        self._world = world

    def write(self, path: Path, data: bytes) -> None:
        self._fail()
        path.write_bytes(data)

    def rename(self, path: Path, to: Path) -> None:
        self._fail()
        path.rename(to)

    def sync(self, folder: Path) -> None:
        self._fail()

    def _fail(self) -> None:
        if self._world.fate(0.01) is not None:
            raise OSError(28, "No space left on device")


@dataclass
class Process:
    """One life of shunt: where its clients' commands go, and whether they are held."""

    world: World
    goes_to: Redis
    held: bool = False
    pinned: bool = False
    warm: Redis | None = None
    introduced: bool = False
    alive: bool = True
    moved_at: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    # ---- what a switch does to clients: cutover.switching.Hands -----------------------------------------------------

    async def _part(self, what: str) -> None:
        await self.world.delay()
        if self.world.fate(0.02) is not None:
            raise RuntimeError(f"{what} failed")

    async def warm_up(self, target: Target) -> int:
        await self._part("warm")
        self.warm = self.world.named(target)
        return 1

    async def hold(self, quiet_s: float, limit_s: float, progress: Callable[[str], None]) -> None:
        assert quiet_s <= limit_s <= CAP_S
        self.held = True
        self.tasks.append(asyncio.get_running_loop().create_task(self._expire(limit_s)))
        try:
            await self._part("hold")
        except RuntimeError:
            self.held = False
            raise

    async def _expire(self, limit_s: float) -> None:
        await asyncio.sleep(limit_s)
        if not self.pinned:
            self.held = False

    async def scripts(self) -> list[bytes]:
        return []

    async def introduce(self) -> None:
        await self._part("introduce")
        self.introduced = True

    async def spoil(self) -> None:
        await self._part("spoil")

    async def pin(self) -> None:
        if not self.held:
            raise RuntimeError("traffic is not held any more")
        self.pinned = True

    async def move(self, target: Target, epoch: int) -> Moved:
        await self._part("move")
        if self.moved_at != epoch:
            assert self.held
            assert self.warm is self.world.named(target)
            assert self.introduced
            self.goes_to, self.warm, self.introduced, self.moved_at = self.world.named(target), None, False, epoch
        return Moved(1, ())

    async def release(self) -> None:
        self.held = self.pinned = False

    async def abandon(self) -> None:
        self.warm, self.introduced = None, False


class HandsOf:
    """The process's hands, by the names that a switch calls them."""

    def __init__(self, process: Process) -> None:
        self.warm = process.warm_up
        for name in ("scripts", "hold", "introduce", "spoil", "pin", "move", "release", "abandon"):
            setattr(self, name, getattr(process, name))


class Crashing(Failpoints):
    """The process dies at any step, now and then."""

    def __init__(self, world: World) -> None:
        super().__init__({})
        self._world = world

    async def reach(self, place: str) -> None:
        if self._world.rng.random() < self._world.crash_chance:
            raise Crash(place)


class World:
    """``acknowledged``: writes that clients were told are done, by the order in which that was."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.fail_scale = self.rng.choice([0, 1, 1, 4])
        self.crash_chance = self.rng.choice([0, 0.02, 0.08])
        self.path = folder / "route.json"
        self.path.unlink(missing_ok=True)
        self.main = Redis(self, "main", 1)
        self.new = Redis(self, "new", 2)
        self.servers = (self.main, self.new)
        self.acknowledged: list[int] = []
        self.written = 0
        self.process: Process
        self.switching: Switching

    # ---- chance --------------------------------------------------------------------------------------------------

    def fate(self, chance: float) -> str | None:
        if self.rng.random() >= chance * self.fail_scale:
            return None
        return self.rng.choice(["before", "behind"])

    async def delay(self) -> None:
        await asyncio.sleep(self.rng.choice([0, 0.001, 0.001, 0.02, 0.3 if self.rng.random() < 0.1 else 0.002]))

    # ---- life ----------------------------------------------------------------------------------------------------

    def named(self, target: Target) -> Redis:
        return next(each for each in self.servers if each.name == target.backend.name)

    def start(self) -> None:
        """A new process, which knows nothing but what the record says."""
        file = RouteFile(self.path, Disk(self))
        recorded = file.read() or Recorded(Route(0, self.main.target().backend))
        self.process = Process(self, self.of(recorded.route.backend))
        self.switching = Switching(
            HandsOf(self.process), file, recorded, lambda backend: self.of(backend).target(), _nothing,
            Crashing(self), _at_once,
        )  # fmt: skip

    def of(self, backend: Backend) -> Redis:
        return next(each for each in self.servers if each.name == backend.name)

    async def clients(self) -> None:
        """They write whatever happens, and remember what was acknowledged."""
        while True:
            await asyncio.sleep(self.rng.choice([0.001, 0.005, 0.02]))
            process = self.process
            if process.alive and not process.held:
                self.written += 1
                try:
                    process.goes_to.write(self.written)
                except ResponseError:
                    continue  # the client reads READONLY: nothing was acknowledged
                self.acknowledged.append(self.written)
            for server in self.servers:
                if self.rng.random() < 0.3:
                    server.pull()


async def _nothing(source: Target, target: Target, follow: bool) -> list[str]:
    return []


async def _at_once(work: Callable[..., None], *arguments: Any) -> None:
    work(*arguments)


def run(scene: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scene)
