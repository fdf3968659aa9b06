"""Ten thousand switches and rollbacks in a world where anything fails and shunt is killed anywhere."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from proxy.cutover.switching import SwitchFailed
from proxy.routing.route import Fence
from tests.cutover.simulated import Crash, Redis, World, run

TURNS = 3


async def ended(world: World) -> None:
    """kill -9: what the process had under way is gone with it."""
    world.process.alive = False
    for task in world.process.tasks:
        task.cancel()
    await world.switching.close()


async def turn(world: World) -> str:
    """A switch to the other server; a process that dies is started again. What came of it, in a word."""
    here = world.process.goes_to
    there = world.new if here is world.main else world.main
    try:
        await world.switching.switch(there.target(), budget_s=0.3, follow=True, by="test")
    except SwitchFailed:
        return "failed"
    except Crash:
        await ended(world)
        world.start()
        return "died"
    return "done"


def check(world: World, before: Redis, outcome: str, seed: int) -> None:
    route, process = world.switching.recorded.route, world.process
    assert process.goes_to.name == route.backend.name, f"seed {seed}: traffic is not where the record says"
    assert not process.held, f"seed {seed}: clients wait for ever"
    if outcome == "failed":
        assert process.goes_to is before, f"seed {seed}: a failed switch left traffic elsewhere"
        assert process.warm is None, f"seed {seed}: connections were left open"
        assert process.goes_to.leader is None, f"seed {seed}: the source does not take writes"
    if outcome == "done":
        assert process.goes_to is not before, f"seed {seed}: a switch that is done moved nothing"
    missing = set(world.acknowledged) - set(process.goes_to.log)
    assert not missing, f"seed {seed}: {len(missing)} acknowledged writes are lost, first {min(missing)}"
    assert len(set(process.goes_to.log)) == len(process.goes_to.log), f"seed {seed}: a write was doubled"


async def play(seed: int, folder: Path) -> list[str]:
    world = World(seed, folder)
    world.start()
    writing = asyncio.create_task(world.clients())
    outcomes = []
    for _ in range(TURNS):
        await asyncio.sleep(0.05)
        before = world.process.goes_to
        outcome = await turn(world)
        outcomes.append(outcome)
        check(world, before, outcome, seed)
        await settled(world)
        check(world, before, "settled", seed)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await ended(world)
    return outcomes


async def settled(world: World) -> None:
    """What was left to do is done: the server that was left follows, whoever dies meanwhile."""
    while world.switching.recorded.route.fence is Fence.PENDING:
        await world.switching.close()
        with contextlib.suppress(Crash):
            await world.switching.finish()
            continue
        await ended(world)
        world.start()


@pytest.mark.parametrize("seeds", [range(start, start + 500) for start in range(0, 3500, 500)])
def test_no_acknowledged_write_is_lost_or_doubled_and_traffic_is_where_the_record_says(
    seeds: range, tmp_path: Path
) -> None:
    outcomes: list[str] = []

    async def all_of(seed: int) -> None:
        outcomes.extend(await play(seed, tmp_path))

    for seed in seeds:
        run(all_of(seed))
    for outcome in ("done", "failed", "died"):
        assert outcomes.count(outcome) > len(seeds) // 20, f"{outcome} is hardly tried: {outcomes.count(outcome)}"
