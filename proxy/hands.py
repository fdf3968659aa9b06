"""What a switch does to the clients of one worker: ``cutover.switching.Hands`` over the worker's parts.

Knows: which parts change when traffic goes to another Redis. Refuses to know: in what order, and why (``cutover``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from proxy import wiring
from proxy.address import Address
from proxy.config import RunConfig
from proxy.cutover.switching import Target
from proxy.engine.access import Access
from proxy.engine.guarded import GuardedSession
from proxy.engine.pooled import PooledSession
from proxy.engine.recorder import Recorder
from proxy.engine.session import Session
from proxy.net.holding import Holding
from proxy.net.moving import CantMove, Moving, Place
from proxy.net.reception import Entrance, Reception
from proxy.net.upstream import Upstream
from proxy.routing.gate import Budget, State
from proxy.routing.route import Moved

#: Of the time in which a hold must become quiet, what open transactions get to finish.
TRANSACTIONS_SHARE = 2 / 3


class WorkerHands:
    """``config`` is the one in use; ``adopt`` gets it with another backend, and the epoch, once traffic goes there."""

    def __init__(
        self,
        config: RunConfig,
        reception: Reception,
        upstream: Upstream,
        entrances: Sequence[Entrance],
        holding: Holding,
        recorder: Recorder,
        adopt: Callable[[RunConfig, int], None],
    ) -> None:
        self._config = config
        self._reception = reception
        self._upstream = upstream
        self._entrances = entrances
        self._holding = holding
        self._recorder = recorder
        self._adopt = adopt
        self._moving: Moving | None = None
        self._to: Upstream | None = None
        self._last: tuple[int, Moved] | None = None

    @property
    def gate(self) -> State:
        """Whether traffic is held."""
        return self._holding.gate.state

    @property
    def held_clients(self) -> int:
        """Clients that are held now."""
        return self._holding.clients

    async def warm(self, address: Address) -> int:
        """Open connections to ``address`` for all clients. Raises CantMove."""
        await self.abandon()
        _must_be_alike(self._config, address)
        config = self._config.model_copy(update={"backend": address})
        self._to = Upstream(address, wiring.backend_tls(config), config.connect_timeout, lambda up: None)
        access = wiring.access(config.listen[0], address)
        login = () if access is None else tuple(each for each in access.prelude if each[0] == b"AUTH")
        self._moving = Moving(self._reception, Place(self._to, login, address.db or 0))
        return await self._moving.warm()

    async def hold(self, quiet_s: float, limit_s: float, progress: Callable[[str], None]) -> tuple[int, float]:
        """Hold all traffic. Returns how many clients, and how long it took. Raises CantMove."""
        budget = Budget(quiet_s, limit_s, transactions_s=quiet_s * TRANSACTIONS_SHARE)
        outcome = await self._holding.hold(budget, progress)
        if not outcome.held:
            raise CantMove(outcome.why)
        return outcome.clients, outcome.seconds

    async def introduce(self) -> None:
        """Bring the connections into the clients' state. Raises CantMove."""
        await self._under_way().introduce()

    async def scripts(self) -> list[bytes]:
        """The bodies of the scripts that clients have sent."""
        return self._recorder.script_bodies()

    async def spoil(self) -> None:
        """Have EXEC after WATCH answer nil. Raises CantMove."""
        await self._under_way().spoil()

    async def pin(self) -> None:
        """Keep traffic held until the release. Raises CantMove."""
        if not self._holding.pin():
            raise CantMove("traffic is not held any more: it took too long")

    async def move(self, address: Address, epoch: int) -> Moved:
        """Have all commands go to ``address``."""
        if self._last is not None and self._last[0] == epoch:
            return self._last[1]
        moving, to = self._under_way(), self._to
        assert to is not None
        self._config = self._config.model_copy(update={"backend": address})
        self._upstream.become(to)
        for entrance, listen in zip(self._entrances, self._config.listen, strict=True):
            entrance.access = wiring.access(listen, address) or _nothing(entrance.access)
        for client in self._reception.clients:
            _admit(client.session, address)
        moved = moving.go()
        self._moving = self._to = None
        self._last = (epoch, moved)
        self._adopt(self._config, epoch)
        return moved

    async def release(self) -> int:
        """Let everything go on. Returns how many clients had left meanwhile."""
        before = self._holding.counts.gone
        self._holding.release()
        return self._holding.counts.gone - before

    async def abandon(self) -> None:
        """Close the connections to the target."""
        moving, self._moving = self._moving, None
        to, self._to = self._to, None
        if moving is not None:
            moving.abandon()
        if to is not None:
            await to.close()

    def _under_way(self) -> Moving:
        if self._moving is None:
            raise CantMove("this worker was not told of the target; try again")
        return self._moving


def _must_be_alike(config: RunConfig, target: Address) -> None:
    """Whether clients' AUTH can be treated at the target as it was at the source. Raises CantMove."""
    for listen in config.listen:
        if wiring.access(listen, config.backend) is not None or wiring.access(listen, target) is None:
            continue
        raise CantMove(
            f"the URL of {target.label} has credentials or a database, and {config.backend.label}'s has none: what "
            "clients have sent to log in there is not known here; give --backend the same kind of URL, and start again"
        )


def _nothing(access: Access | None) -> Access | None:
    """An access that edits nothing, for clients that began with one."""
    return None if access is None else replace(access, prelude=(), db=0, answers=access.protected)


def _admit(session: Session, address: Address) -> None:
    if not isinstance(session, GuardedSession | PooledSession):
        return
    access = session.access_now
    if access is not None:
        session.admit(_at(access, address))


def _at(access: Access, address: Address) -> Access:
    """The listener's credentials as before, the backend's as its URL has them."""
    new = wiring.access(Address("unix", path="/"), address)
    answers = access.protected or address.has_credentials
    if new is None:
        return replace(access, prelude=(), db=0, answers=answers)
    return replace(access, prelude=new.prelude, db=new.db, answers=answers)


class LocalHands:
    """``cutover.switching.Hands`` where there is one worker."""

    def __init__(self, worker: WorkerHands) -> None:
        self._worker = worker

    async def warm(self, target: Target) -> int:
        """Open connections for all clients."""
        return await self._worker.warm(target.server.address)

    async def scripts(self) -> list[bytes]:
        """The bodies of the scripts that clients have sent."""
        return await self._worker.scripts()

    async def hold(self, quiet_s: float, limit_s: float, progress: Callable[[str], None]) -> None:
        """Hold all traffic."""
        await self._worker.hold(quiet_s, limit_s, progress)

    async def introduce(self) -> None:
        """Bring the connections into the clients' state."""
        await self._worker.introduce()

    async def spoil(self) -> None:
        """Have EXEC after WATCH answer nil."""
        await self._worker.spoil()

    async def pin(self) -> None:
        """Keep traffic held until the release."""
        await self._worker.pin()

    async def move(self, target: Target, epoch: int) -> Moved:
        """Have all commands go to the target."""
        return await self._worker.move(target.server.address, epoch)

    async def release(self) -> None:
        """Let everything go on."""
        await self._worker.release()

    async def abandon(self) -> None:
        """Close the connections to the target."""
        await self._worker.abandon()
