"""The gate: every event in every state, playbooks, and a world with a virtual clock."""

from __future__ import annotations

import random
from itertools import product

import pytest

from proxy.routing.gate import TRANSITIONS, Budget, Census, Event, Gate, IllegalEvent, Order, State

BUDGET = Budget(quiet_s=0.3, hold_s=0.8, patience_s=0.1, transactions_s=0.2)
QUIET = Census()
BUSY = Census(in_flight=3)
FETCHING = Census(in_flight=2, blocked=2)
IN_MULTI = Census(transactions=1)


def gate(state: State = State.OPEN) -> Gate:
    """A gate in this state, asked to hold at second 0."""
    made = Gate()
    if state is not State.OPEN:
        made.hold(BUDGET, 0.0)
    if state in (State.HELD, State.PINNED):
        made.look(QUIET, 0.0)
    if state is State.PINNED:
        assert made.pin()
    assert made.state is state
    return made


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_each_event_in_each_state_is_a_transition_or_fails_loudly(state: State, event: Event) -> None:
    made = gate(state)
    if (state, event) in TRANSITIONS:
        made._happens(event)
        assert made.state is TRANSITIONS[state, event][0]
    else:
        with pytest.raises(IllegalEvent, match=rf"event {event} in state {state}"):
            made._happens(event)
        assert made.state is state


def test_whoever_stops_dispatching_dispatches_again_before_the_gate_is_open() -> None:
    for (state, _), (following, orders) in TRANSITIONS.items():
        opens = state is not State.OPEN and following is State.OPEN
        assert (Order.RESUME in orders) == opens
        assert (Order.STOP in orders) == (state is State.OPEN and following is not State.OPEN)


#: Looks at the world: (seconds after the hold, what stands in the way, orders that follow).
PLAYBOOKS = {
    "quiet at once": [(0.0, QUIET, [Order.SAY_HELD])],
    "quiet after its replies": [(0.0, BUSY, []), (0.05, BUSY, []), (0.06, QUIET, [Order.SAY_HELD])],
    "fetches get their patience, then they are ended": [
        (0.09, FETCHING, []),
        (0.1, FETCHING, [Order.END_BLOCKED]),
        (0.15, FETCHING, []),
        (0.2, QUIET, [Order.SAY_HELD]),
    ],
    "a transaction may finish": [(0.1, IN_MULTI, []), (0.19, QUIET, [Order.SAY_HELD])],
    "a transaction that does not finish is closed": [
        (0.1, IN_MULTI, []),
        (0.2, IN_MULTI, [Order.END_TRANSACTIONS]),
        (0.21, QUIET, [Order.SAY_HELD]),
    ],
    "too slow: released": [(0.2, BUSY, []), (0.3, BUSY, [Order.RESUME, Order.SAY_TOO_SLOW]), (0.4, BUSY, [])],
    "held too long: released": [
        (0.0, QUIET, [Order.SAY_HELD]),
        (0.79, QUIET, []),
        (0.8, QUIET, [Order.RESUME, Order.SAY_TOO_LONG]),
    ],
    "quiet counts even when it comes late": [(0.35, QUIET, [Order.SAY_HELD])],
    "a half sent command is waited for": [
        (0.1, Census(half_sent=1), []),
        (0.3, Census(half_sent=1), [Order.RESUME, Order.SAY_TOO_SLOW]),
    ],
}


def test_a_pinned_gate_is_released_by_nobody_but_by_the_release() -> None:
    made = gate(State.PINNED)
    assert made.look(BUSY, 100.0) == ()
    assert made.state is State.PINNED
    assert made.release() == (Order.RESUME, Order.SAY_RELEASED)


@pytest.mark.parametrize("state", [State.OPEN, State.CLOSING])
def test_only_a_held_gate_can_be_pinned(state: State) -> None:
    made = gate(state)
    assert not made.pin()
    assert made.state is state


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_playbook(name: str) -> None:
    made = gate()
    assert made.hold(BUDGET, 0.0) == (Order.STOP,)
    for after, census, orders in PLAYBOOKS[name]:
        assert list(made.look(census, after)) == orders, after


def test_a_second_hold_changes_neither_time_nor_budget() -> None:
    made = gate(State.CLOSING)
    assert made.hold(Budget(quiet_s=9, hold_s=9), 0.2) == ()
    assert made.look(BUSY, 0.3) == (Order.RESUME, Order.SAY_TOO_SLOW)
    made = gate(State.HELD)
    assert made.hold(Budget(hold_s=9), 0.5) == (Order.SAY_HELD,)
    assert made.look(QUIET, 0.8) == (Order.RESUME, Order.SAY_TOO_LONG)


def test_release_is_right_at_any_time() -> None:
    assert gate(State.OPEN).release() == (Order.SAY_RELEASED,)
    assert gate(State.CLOSING).release() == (Order.RESUME, Order.SAY_RELEASED)
    assert gate(State.HELD).release() == (Order.RESUME, Order.SAY_RELEASED)


def test_a_new_hold_begins_with_its_own_budget_and_asks_again_for_everything() -> None:
    made = gate(State.CLOSING)
    made.look(FETCHING, 0.15)
    made.release()
    made.hold(Budget(quiet_s=5, hold_s=9, patience_s=1), 200.0)
    assert made.look(FETCHING, 200.9) == ()
    assert made.look(FETCHING, 201.0) == (Order.END_BLOCKED,)


@pytest.mark.parametrize(
    ("census", "words"),
    [
        (QUIET, "quiet"),
        (BUSY, "3 commands in flight"),
        (FETCHING, "2 commands in flight, 2 connections wait in Redis"),
        (Census(1, 2, 3, 0), "1 commands in flight; 2 commands half sent; 3 transactions open"),
    ],
)
def test_what_is_waited_for_is_said(census: Census, words: str) -> None:
    assert census.words("commands") == words


class World:
    """Clients with commands in flight, a virtual clock, somebody who holds and releases; obeys the gate's orders."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.gate = Gate()
        self.stopped = False
        self.work: list[float] = []  # when each command in flight ends; a fetch ends at infinity
        self.since: float | None = None
        self.budget = Budget()

    def obey(self, orders: tuple[Order, ...]) -> None:
        for order in orders:
            if order is Order.STOP:
                assert not self.stopped
                self.stopped, self.since = True, self.now
            elif order is Order.RESUME:
                assert self.stopped
                self.stopped, self.since = False, None
            elif order is Order.END_BLOCKED:
                self.work = [min(end, self.now + self.rng.uniform(0, 0.05)) for end in self.work]
            elif order is Order.SAY_HELD:
                assert self.stopped
                assert not self.work

    def turn(self) -> None:
        self.now += self.rng.choice([0.001, 0.01, 0.1])
        self.work = [end for end in self.work if end > self.now]
        dice = self.rng.random()
        if dice < 0.1:
            self.budget = Budget(*(self.rng.uniform(0, 1) for _ in range(4)))
            self.obey(self.gate.hold(self.budget, self.now))
        elif dice < 0.15:
            self.obey(self.gate.release())
        elif not self.stopped:
            self.work += [self.now + self.rng.choice([0.001, 0.05, float("inf")])] * self.rng.randrange(3)
        blocked = sum(end == float("inf") for end in self.work)
        self.obey(self.gate.look(Census(in_flight=len(self.work), blocked=blocked), self.now))


@pytest.mark.parametrize("seeds", [range(start, start + 1000) for start in range(0, 10_000, 1000)])
def test_in_ten_thousand_worlds_a_held_gate_is_quiet_and_no_hold_outlives_its_budget(seeds: range) -> None:
    for seed in seeds:
        world = World(seed)
        for _ in range(60):
            world.turn()
            assert world.stopped == (world.gate.state is not State.OPEN), seed
            if world.gate.state is State.HELD:
                assert not world.work, seed
            if world.since is not None:
                longest = max(world.gate.budget.quiet_s, world.gate.budget.hold_s)
                assert world.now - world.since <= longest + 0.1, seed
