"""The steps of a switch: every event in every step, what is undone, and what can't be."""

from __future__ import annotations

import pytest

from proxy.cutover.switch import FOLLOWING, URGENT, Event, IllegalEvent, State, Step, Switch, Undo

BEFORE = [step for step in Step if list(Step).index(step) <= list(Step).index(Step.COMMIT)]
BEHIND = [step for step in Step if step not in BEFORE]


def switch(step: Step, *, follow: bool = True) -> Switch:
    """A switch whose steps before this one are done."""
    made = Switch(follow)
    while made.step is not step:
        made.happens(Event.DONE)
    return made


def over(state: State) -> Switch:
    made = switch(Step.FENCE if state is State.DONE else Step.HOLD)
    made.happens(Event.DONE if state is State.DONE else Event.FAILED)
    assert made.state is state
    return made


def test_done_leads_through_all_steps_in_their_order() -> None:
    made, seen = Switch(follow=True), []
    while made.state is not State.DONE:
        seen.append(made.step)
        made.happens(Event.DONE)
    assert seen == list(Step)


def test_without_following_there_is_no_replication() -> None:
    made, seen = Switch(follow=False), []
    while made.state is not State.DONE:
        seen.append(made.step)
        made.happens(Event.DONE)
    assert seen == [step for step in Step if step not in FOLLOWING]


@pytest.mark.parametrize("event", [Event.FAILED, Event.CANCELLED])
@pytest.mark.parametrize("step", BEFORE)
def test_what_fails_before_the_commit_is_undone_with_all_that_came_before_it(step: Step, event: Event) -> None:
    made = switch(step)
    undo = made.happens(event)
    reached = list(Step)[: list(Step).index(step) + 1]
    assert made.state is State.ABORTED
    assert (Undo.RELEASE in undo) == (Step.HOLD in reached)
    assert (Undo.ABANDON in undo) == (Step.WARM in reached)
    assert (Undo.DISCARD in undo) == (Step.PREPARE in reached)
    assert (Undo.FOLLOW_ON in undo) == (Step.FOLLOW in reached)


def test_clients_are_let_go_before_anything_else_is_undone() -> None:
    undo = switch(Step.COMMIT).happens(Event.FAILED)
    assert set(undo[: len(URGENT)]) == URGENT
    assert undo[len(URGENT) :] == (Undo.DISCARD, Undo.ABANDON, Undo.FOLLOW_ON)


@pytest.mark.parametrize("event", [Event.FAILED, Event.CANCELLED])
@pytest.mark.parametrize("step", BEHIND)
def test_what_fails_behind_the_commit_is_tried_again(step: Step, event: Event) -> None:
    made = switch(step)
    assert made.happens(event) == ()
    assert made.step is step
    assert made.state is State.ROLLING


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("state", [State.DONE, State.ABORTED])
def test_nothing_happens_to_a_switch_that_is_over(state: State, event: Event) -> None:
    with pytest.raises(IllegalEvent, match=f"event {event} in state {state}"):
        over(state).happens(event)
