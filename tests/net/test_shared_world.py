"""Clients that share, in a world without sockets: what fuzzing found, and that it would find it again."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.fuzz import shared_world
from tests.fuzz.pooled import perform, phrase
from tests.fuzz.shared_world import ALL, Served, World, Wrong


@pytest.fixture
def world() -> Iterator[World]:
    world = World(0)
    yield world
    world.close()


def say(world: World, slot: int, text: str) -> None:
    asker = world.asker(slot)
    asker.unsent += phrase(text, asker.mark())
    asker.send(ALL)


#: Said by one client, one read after the other; it must hear what a Redis of its own would say.
SAID = {
    "a RESET that shunt refuses is skipped by Redis too": ["CLIENT REPLY SKIP|RESET x|HELLO|GET @"],
    "a WAIT that is skipped goes to Redis": ["SET @ 1", "CLIENT REPLY SKIP|WAIT 0 0|GET @|GET @"],
    "a WAIT in a transaction is queued": ["SET @ 1", "MULTI|WAIT 0 0|EXEC"],
    "replies go off in no transaction": ["MULTI x|CLIENT REPLY SKIP", "CLIENT INFO|PSUBSCRIBE @"],
    "a second MONITOR, which Redis does not answer": ["MONITOR", "MONITOR|CLIENT GETNAME|HELLO 3"],
    "a subscription in no transaction": ["MULTI x|PSUBSCRIBE @|SUBSCRIBE @ @2"],
    "a RESET where nothing is sure": ["MULTI", "MONITOR|RESET|MULTI|SET @ 1", "DISCARD"],
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
def test_a_client_hears_what_redis_says(said: list[str], world: World) -> None:
    for text in said:
        say(world, 0, text)
        world.settle()
    world.finish()


def test_a_connection_that_may_be_subscribed_is_nobody_elses(world: World) -> None:
    """MULTI was refused while SUBSCRIBE was on its way, as if it stood in a transaction."""
    say(world, 0, "MULTI x|SUBSCRIBE @")
    world.settle()
    say(world, 1, "WATCH @|GET @")
    world.settle()
    for served in world.served:
        served.push()
    world.finish()


def test_a_reply_that_comes_before_its_command_was_sent_is_nobodys(world: World) -> None:
    say(world, 0, "GET @")
    world.settle()
    [trunk] = world.served
    say(world, 0, "GET @")
    trunk.answers += b"+OK\r\n"
    trunk.say(ALL)
    world.faults = True  # that connection has ended, and its client with it
    world.settle()
    assert world.askers[0].transport.lost
    world.finish()


def test_a_hello_that_gets_no_connection_is_the_last_thing_that_its_client_hears() -> None:
    """Not as the BLPOP before it, which may be refused alone."""
    world = World(64 | 16)  # credentials in the backend's URL; one backend connection
    try:
        for slot, text in ((0, "BLPOP @ 1"), (1, "GET @")):  # the second one's trunk takes the place
            say(world, slot, text)
            world.settle()
        say(world, 0, "HELLO 3|GET @")
        world.loop.ring()
        world.settle()
        assert world.askers[0].refused
        assert world.askers[0].transport.lost
        world.finish()
    finally:
        world.close()


def test_an_idle_connection_that_is_ending_is_not_lent(world: World) -> None:
    say(world, 0, "WATCH @|UNWATCH")
    world.settle()
    [idle] = world.served
    idle.answers += b"+OK\r\n"
    idle.say(ALL)
    say(world, 0, "WATCH @|GET @")
    world.finish()


@pytest.mark.parametrize("setup", range(0, 256, 16))
def test_chance_finds_no_reply_that_is_not_its_clients(setup: int) -> None:
    dice = random.Random(setup)
    for _ in range(20):
        world = World(setup + dice.randrange(16))
        try:
            perform(world, dice.randbytes(2 * dice.randrange(5, 80)))
            world.finish()
        finally:
            world.close()


class Swapping(Served):
    """A backend that gives the first two answers of a read to each other's commands."""

    def _next_answers(self) -> list[bytes]:
        answers = super()._next_answers()
        if len(answers) > 1:
            answers[:2] = reversed(answers[:2])
        return answers


@pytest.mark.parametrize(("second", "what"), [(0, "and not"), (1, "another's")], ids=["its own", "another's"])
def test_two_answers_that_are_swapped_are_found(
    world: World, second: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_world, "Served", Swapping)
    say(world, 0, "GET @")
    say(world, second, "GET @")
    with pytest.raises(Wrong, match=what):
        world.settle()


#: Said, how often the backend serves what waits, and the commands by which it goes back, in this order.
LEFT = {
    "RPOP": ("RPOP @", 0, [b"RPUSH"]),
    "RPOP, GET, LPOP": ("RPOP @|GET @g|LPOP @l", 0, [b"LPUSH", b"RPUSH"]),
    "BRPOP": ("BRPOP @ 0", 1, [b"RPUSH"]),
    "BRPOP, BLPOP": ("BRPOP @ 0|BLPOP @l 0", 2, [b"LPUSH", b"RPUSH"]),
    "BRPOP, and BLPOP that is ended": ("BRPOP @ 0|BLPOP @l 0", 1, [b"RPUSH"]),
    "BRPOP that is ended": ("BRPOP @ 0", 0, []),
    "a write behind BRPOP": ("BRPOP @ 0|SET @ 1", 1, []),
    "a transaction": ("MULTI|RPOP @|EXEC", 0, []),
}


def pass_on(world: World) -> None:
    """All that happens without the backend's serving what waits."""
    for _ in range(20):
        world.pass_on(serving=False)


@pytest.mark.parametrize("before", ["GET @", "WATCH @"], ids=["shared", "private"])
@pytest.mark.parametrize(("said", "serves", "back"), LEFT.values(), ids=LEFT.keys())
def test_what_is_popped_for_a_client_that_broke_off_goes_back(
    world: World, before: str, said: str, serves: int, back: list[bytes]
) -> None:
    say(world, 0, before)
    world.settle()
    say(world, 0, said)
    for _ in range(5):
        world.loop.turn()
    world.asker(0).break_off()
    for _ in range(serves):
        for served in world.served:
            served.read()
            served.serve()
            served.say(ALL)
    pass_on(world)
    assert [command[0] for served in world.served for command in served.pushed] == back
    assert world.recorder.counters.given_back == len(back)
    assert world.orphans.in_flight == 0
    world.finish()


def test_a_reply_that_meets_a_client_that_is_being_broken_off_goes_back(world: World) -> None:
    """shunt has aborted the client, and its transport has not yet said so."""
    say(world, 0, "BRPOP @ 0")
    for _ in range(5):
        world.loop.turn()
    [served] = world.served
    served.read()
    world.askers[0].excused = True
    world.askers[0].transport.protocol.abort()
    served.serve()
    served.say(ALL)
    assert not served.pushed
    world.settle()
    assert [command[0] for command in served.pushed] + [command[0] for command in world.pushed] == [b"RPUSH"]
    world.finish()
