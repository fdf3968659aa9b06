"""Riding through an outage: every event in every state, what becomes of commands, and a world with a virtual clock."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import product

import pytest

from protocol.commands import table
from protocol.traits import Trait
from proxy.routing.ride import (
    AGAIN_LONGEST_S,
    RELAPSE_S,
    TRANSITIONS,
    Event,
    Fate,
    IllegalEvent,
    Nature,
    Order,
    Ride,
    Sent,
    State,
    Verdict,
    nature,
    refused,
    resolve,
)

WAY: dict[State, tuple[Event, ...]] = {
    State.CALM: (),
    State.AWAY: (Event.TROUBLE,),
    State.RETURNING: (Event.TROUBLE, Event.ANSWERS),
    State.GONE: (Event.TROUBLE, Event.TOO_LONG),
}


def ride(state: State = State.CALM, limit_s: float | None = 30.0) -> Ride:
    made = Ride(limit_s)
    for event in WAY[state]:
        made.happens(event, 0.0)
    assert made.state is state
    return made


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_each_event_in_each_state_is_a_transition_or_fails_loudly(state: State, event: Event) -> None:
    made = ride(state)
    if (state, event) in TRANSITIONS:
        following, orders = TRANSITIONS[state, event]
        assert made.happens(event, 1.0) == orders
        assert made.state is following
    else:
        with pytest.raises(IllegalEvent, match=rf"event {event} in state {state}"):
            made.happens(event, 1.0)
        assert made.state is state


def test_whoever_begins_ends() -> None:
    for (state, _), (following, orders) in TRANSITIONS.items():
        assert (Order.BEGIN in orders) == (state is State.CALM)
        assert (Order.SAY_OVER in orders) == (state is State.RETURNING and following is State.CALM)
        assert (Order.GIVE_UP in orders) == (state is not State.GONE and following is State.GONE)


def test_the_limit_counts_from_the_first_trouble() -> None:
    made = ride(State.AWAY, 2.0)
    made.happens(Event.TROUBLE, 1.9)
    assert made.look(1.99) == ()
    assert made.look(2.0) == (Order.GIVE_UP,)
    assert not made.takes


def test_a_relapse_goes_on_with_its_limit_and_its_pauses() -> None:
    made = ride(State.RETURNING, 2.0)
    before = made.pause(1.0)
    made.happens(Event.CARRIED, 1.5)
    made.happens(Event.TROUBLE, 1.6)
    assert made.relapse
    assert made.pause(1.0) == before * 2
    assert made.look(2.0) == (Order.GIVE_UP,)
    made = ride(State.RETURNING, 2.0)
    made.happens(Event.CARRIED, 1.5)
    made.happens(Event.TROUBLE, 1.6 + RELAPSE_S)
    assert not made.relapse
    assert made.left_s(1.6 + RELAPSE_S) == pytest.approx(2.0)


def test_pauses_double_up_to_the_longest() -> None:
    made = ride(State.AWAY)
    pauses = [made.pause(1.0) for _ in range(8)]
    assert pauses[:3] == [0.05, 0.1, 0.2]
    assert pauses[-1] == AGAIN_LONGEST_S
    assert made.pause(0.0) == AGAIN_LONGEST_S / 2


def test_a_plan_lets_clients_wait_where_nothing_else_does() -> None:
    made = ride(limit_s=None)
    assert not made.takes
    made.plan(60.0)
    assert made.takes
    assert made.longest_s == 60.0
    made.plan(None)
    assert not made.takes


# ---- commands --------------------------------------------------------------------------------------------------------


def sent(line: str) -> Sent:
    """A command by its name in the table; "!": with BLOCK."""
    name = line.rstrip("!")
    command = table().commands[name]
    blocking = bool(command.traits & Trait.BLOCKING) or line.endswith("!")
    return Sent(name, int(command.traits), blocking)


NATURES = {
    "GET": Nature.READ, "HGETALL": Nature.READ, "SELECT": Nature.READ, "PING": Nature.READ, "XREAD": Nature.READ,
    "BRPOP": Nature.FETCH, "BLMOVE": Nature.FETCH, "XREADGROUP!": Nature.FETCH, "XREAD!": Nature.LISTEN,
    "WAIT": Nature.WRITE, "LPUSH": Nature.WRITE, "RPOP": Nature.WRITE, "EVALSHA": Nature.WRITE, "PUBLISH": Nature.WRITE,
    "CONFIG SET": Nature.WRITE, "SCRIPT LOAD": Nature.WRITE, "XREADGROUP": Nature.WRITE,
}  # fmt: skip


@pytest.mark.parametrize("name", NATURES)
def test_what_sending_it_twice_would_mean(name: str) -> None:
    assert nature(sent(name)) is NATURES[name]


def test_no_command_that_may_write_is_taken_for_a_read() -> None:
    for name, command in table().commands.items():
        if command.traits & (Trait.WRITE | Trait.SCRIPT):
            assert nature(Sent(name, int(command.traits))) is not Nature.READ


NO = b"-READONLY You can't write against a read only replica.\r\n"
OK, QUEUED, ABORT = b"+OK\r\n", b"+QUEUED\r\n", b"-EXECABORT Transaction discarded because of previous errors.\r\n"
A, N = Fate.AGAIN, Fate.NIL
WROTE = "the reply to LPUSH never came, and it may have run"

#: What was sent, the replies that came, whether the connection broke; what becomes of it.
CASES: dict[str, tuple[str, list[bytes], bool, Verdict]] = {
    "nothing under way": ("", [], True, Verdict(0)),
    "a read that broke": ("GET", [], True, Verdict(0, (A,))),
    "the first of two reads was answered": ("GET,GET", [OK], True, Verdict(1, (A,))),
    "a fetch that broke": ("BRPOP", [], True, Verdict(0, (N,), None, 1)),
    "a listener that broke": ("XREAD!", [], True, Verdict(0, (N,))),
    "a fetch behind a read": ("GET,BRPOP", [], True, Verdict(0, (A, N), None, 1)),
    "a write that broke": ("LPUSH", [], True, Verdict(0, (), WROTE, 0, 1)),
    "a write that was answered, and a read that wasn't": ("LPUSH,GET", [OK], True, Verdict(1, (A,))),
    "a read and a write that broke": ("GET,LPUSH", [], True, Verdict(0, (), WROTE, 0, 1)),
    "a write that was refused": ("LPUSH", [NO], False, Verdict(0, (A,))),
    "a read before the refusal": ("GET,LPUSH", [OK, NO], False, Verdict(1, (A,))),
    "a later one ran": ("LPUSH,GET", [NO, OK], False, Verdict(2)),
    "a later one ran, the last was refused": ("LPUSH,GET,LPUSH", [NO, OK, NO], False, Verdict(2, (A,))),
    "both were refused": ("LPUSH,LPUSH", [NO, NO], False, Verdict(0, (A, A))),
    "refused, then broken": ("LPUSH,LPUSH", [NO], True, Verdict(0, (), WROTE, 0, 1)),
    "refused, then a read that broke": ("LPUSH,GET", [NO], True, Verdict(0, (A, A))),
    "a script that was refused": ("EVALSHA", [NO], False, Verdict(1)),
    "a transaction that was refused": ("MULTI,LPUSH,EXEC", [OK, NO, ABORT], False, Verdict(0, (A, A, A))),
    "a transaction that ran": ("MULTI,LPUSH,EXEC", [OK, QUEUED, b"*1\r\n"], False, Verdict(3)),
    "a transaction that its client spoiled": ("MULTI,LPUSH,EXEC", [OK, b"-ERR\r\n", ABORT], False, Verdict(3)),
    "a transaction that broke": (
        "MULTI,LPUSH,EXEC", [OK, QUEUED], True,
        Verdict(0, (), "the reply to EXEC never came, and it may have run", 0, 1),
    ),
    "a transaction without its end": ("MULTI,LPUSH", [OK], True, Verdict(0, (), "it stood in a transaction")),
    "a waiting fetch that somebody unblocked": (
        "BRPOP", [b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"], False, Verdict(1),
    ),
    "a waiting fetch of a master that became a replica": (
        "BRPOP", [b"-UNBLOCKED force unblock from blocking operation\r\n"], False, Verdict(0, (A,)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_becomes_of(name: str) -> None:
    line, replies, broken, verdict = CASES[name]
    assert resolve([sent(each) for each in line.split(",") if each], replies, broken) == verdict


def test_an_open_transaction_ends_and_only_an_exec_under_way_is_in_doubt() -> None:
    assert resolve([sent("LPUSH")], [], True, in_transaction=True) == Verdict(0, (), "it stood in a transaction")
    assert resolve([sent("EXEC")], [], True, in_transaction=True).ambiguous_writes == 1


# ---- a world ---------------------------------------------------------------------------------------------------------

LIMITS_S = (0.3, 1.0, 30.0)
STEP_S = 0.05
END_S = 12.0
LINES = ("GET", "LPUSH", "BRPOP", "EVALSHA", "MULTI,LPUSH,LPUSH,EXEC", "GET,LPUSH", "LPUSH,GET,LPUSH", "GET,GET")


@dataclass
class Redis:
    """Up, down or a replica. ``ran``: how often each write ran."""

    mode: str = "up"
    ran: Counter[int] = field(default_factory=Counter)

    def run(self, commands: list[tuple[int, Sent]]) -> list[bytes]:
        replies: list[bytes] = []
        refused_inside = in_multi = False
        for number, command in commands:
            writes = bool(command.traits & Trait.WRITE)
            if command.name == "MULTI":
                in_multi, refused_inside = True, False
                replies.append(OK)
            elif command.name == "EXEC":
                replies.append(ABORT if refused_inside else b"*2\r\n")
                self.ran[number] += not refused_inside
                in_multi = False
            elif writes and self.mode == "replica":
                refused_inside = in_multi
                replies.append(NO)
            else:
                replies.append(QUEUED if in_multi else OK)
                self.ran[number] += writes and not in_multi
        return replies


@dataclass
class Client:
    """What one client has sent and heard. ``since_s``: when it began to wait."""

    under_way: list[tuple[int, Sent]] = field(default_factory=list)
    answered: dict[int, bytes] = field(default_factory=dict)
    waiting: bool = False
    closed: bool = False
    doubtful: int = 0
    since_s: float = 0.0


class Run:
    """One client, one Redis, one outage after the other."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.redis, self.client = Redis(), Client()
        self.ride = Ride(self.rng.choice(LIMITS_S))
        self.now_s, self.ask_s, self.number = 0.0, 0.0, 0
        self.longest_wait_s = 0.0
        moments = sorted(self.rng.uniform(0, END_S / 2) for _ in range(self.rng.randint(1, 6)))
        self.changes = [(at, self.rng.choice(("up", "down", "replica"))) for at in moments] + [(END_S / 2, "up")]

    def play(self) -> None:
        while self.now_s < END_S:
            while self.changes and self.changes[0][0] <= self.now_s:
                self.change(self.changes.pop(0)[1])
            self.step()
            self.now_s += STEP_S

    def change(self, mode: str) -> None:
        if mode == "down" and self.redis.mode != "down":
            under_way = [] if self.client.waiting or self.client.closed else self.client.under_way
            ran = self.redis.run(under_way[: self.rng.randint(0, len(under_way))])
            if not self.client.closed and not self.client.waiting:
                self.settle(ran[: self.rng.randint(0, len(ran))], broken=True)
        self.redis.mode = mode

    def step(self) -> None:
        client = self.client
        if not client.closed and not client.waiting:
            if client.under_way and self.redis.mode != "down" and self.rng.random() < 0.7:
                self.settle(self.redis.run(client.under_way), broken=False)
            elif not client.under_way and self.rng.random() < 0.6:
                if self.redis.mode == "down":
                    self.settle([], broken=True)
                else:
                    self.send()
        if self.ride.state is not State.CALM and self.now_s >= self.ask_s:
            self.obey(self.ride.look(self.now_s))
            self.ask()
            self.ask_s = self.now_s + self.ride.pause(self.rng.random())

    def send(self) -> None:
        for name in self.rng.choice(LINES).split(","):
            self.number += 1
            self.client.under_way.append((self.number, sent(name)))

    def settle(self, replies: list[bytes], broken: bool) -> None:
        client = self.client
        commands = [command for _, command in client.under_way]
        refusals = any(refused(each, said) for each, said in zip(commands, replies, strict=False))
        if not broken and not (refusals and self.ride.takes):
            self.answer(replies)
            return
        verdict = resolve(commands, replies, broken)
        self.answer(replies[: verdict.passed])
        client.doubtful += verdict.ambiguous_writes
        if verdict.close or (broken and not self.ride.takes):
            client.closed = True
            return
        if not broken and not verdict.fates:
            return
        for (number, _), fate in zip(client.under_way, verdict.fates, strict=True):
            if fate is Fate.NIL:
                client.answered[number] = b"*-1\r\n"
        client.under_way = [each for each in client.under_way if each[0] not in client.answered]
        client.waiting, client.since_s = True, self.now_s
        self.obey(self.ride.happens(Event.TROUBLE, self.now_s))

    def answer(self, replies: list[bytes]) -> None:
        for said in replies:
            self.client.answered[self.client.under_way.pop(0)[0]] = said

    def ask(self) -> None:
        if self.ride.state in (State.AWAY, State.GONE):
            # what a probe can't tell: a replica answers too
            answers = self.redis.mode == "up" or (self.redis.mode == "replica" and self.rng.random() < 0.5)
            self.obey(self.ride.happens(Event.ANSWERS if answers else Event.SILENT, self.now_s))
        if self.ride.state is State.RETURNING:
            if self.client.waiting and self.rng.random() < 0.8:
                self.client.waiting = False
                self.longest_wait_s = max(self.longest_wait_s, self.now_s - self.client.since_s)
            self.obey(self.ride.happens(Event.STUCK if self.client.waiting else Event.CARRIED, self.now_s))

    def obey(self, orders: tuple[Order, ...]) -> None:
        if Order.BEGIN in orders:
            self.ask_s = self.now_s
        if Order.GIVE_UP in orders and self.client.waiting:
            self.client.waiting, self.client.closed = False, True
            self.longest_wait_s = max(self.longest_wait_s, self.now_s - self.client.since_s)


def test_no_write_runs_twice_and_nobody_waits_for_ever_in_ten_thousand_outages() -> None:
    calm = closed = waited = 0
    for seed in range(10_000):
        run = Run(seed)
        run.play()
        client, ran = run.client, run.redis.ran
        assert max(ran.values(), default=0) <= 1, seed
        in_doubt = sum(1 for number, times in ran.items() if times and number not in client.answered)
        assert in_doubt <= client.doubtful + len(client.under_way), seed
        assert list(client.answered) == sorted(client.answered), seed
        for number, said in client.answered.items():
            assert not (said == NO and ran[number]), seed
        assert not client.waiting, seed
        assert run.longest_wait_s <= run.ride.longest_s + AGAIN_LONGEST_S + 2 * STEP_S, seed
        assert run.ride.state is State.CALM, seed
        calm += not client.closed
        closed += client.closed
        waited += run.longest_wait_s > 0
    assert min(calm, closed) > 1_000, (calm, closed)
    assert waited > 3_000
