"""A session before a class that is held: what goes on, what waits, and what is in flight of a class."""

from __future__ import annotations

import random

import pytest

from proxy.engine.routed import Gates
from proxy.routing.gate import Budget, Census, Gate, Order, State
from tests.engine.held import BITS, TABLE, Driven, Words, classes_of
from tests.engine.playbook import encode

#: What is done, a line each: "> COMMAND" (sent by the client), "hold NAME", "free NAME", "answer" (the oldest command
#: in flight), "= COMMAND, COMMAND" (what has reached a backend since the last such line), "busy NAMES" (the classes
#: that have something in flight), "open NAMES" (those in an open transaction), "waits", "reads".
CASES = {
    "a command of a held class waits, and so does what comes behind it": """
        hold q
        > INCR a:1
        = INCR a:1
        > INCR q:1
        > INCR a:2
        =
        waits
        free q
        = INCR q:1, INCR a:2
        reads""",
    "commands of other classes go on": """
        hold q
        > INCR r:1
        > MGET a:1 r:1
        > PING
        = INCR r:1, MGET a:1 r:1, PING
        reads""",
    "a command with keys of two classes waits for both": """
        hold q
        hold r
        > MGET r:1 q:1
        free q
        =
        waits
        free r
        = MGET r:1 q:1""",
    "the class of keys that fit no pattern is one too": """
        hold default
        > INCR q:1
        > INCR a:1
        = INCR q:1
        waits""",
    "what is for another backend waits where it is": """
        hold f
        > INCR f:1
        > INCR q:1
        =
        free f
        answer
        = INCR f:1, INCR q:1""",
    "a class is held while the client waits to go over": """
        > INCR q:1
        = INCR q:1
        > INCR f:1
        hold f
        answer
        =
        waits
        free f
        = INCR f:1""",
    "keys that can't be told are those of any class": """
        hold q
        > EVAL return(1) 0
        waits
        free q
        = EVAL return(1) 0""",
    "a script with keys is taken at its word": """
        hold q
        > EVAL return(1) 1 r:1
        = EVAL return(1) 1 r:1""",
    "what each class has in flight": """
        > INCR q:1
        > INCR r:1
        busy q r
        answer
        busy r
        > MGET q:1 a:1
        busy q r default
        answer
        busy q default
        answer
        busy""",
    "who sends others without end is not busy with what was answered": """
        > INCR q:1
        > INCR r:1
        > INCR r:2
        answer
        > INCR r:3
        busy r
        answer
        > INCR r:4
        busy r""",
    "what has keys that can't be told is in flight of every class": """
        > FLUSHALL
        > INCR r:1
        busy q r f default
        answer
        busy r""",
    "at another backend": """
        > INCR f:1
        > INCR q:1
        busy f
        answer
        busy q""",
    "a refused command is in flight of none, and is not held": """
        hold f
        > MGET q:1 f:1
        > INCR q:1
        = PING, INCR q:1
        busy q""",
    "an open transaction of the class finishes": """
        > MULTI
        > INCR q:1
        answer
        answer
        hold q
        open q
        busy
        > INCR q:2
        > INCR r:1
        > EXEC
        > INCR q:3
        = MULTI, INCR q:1, INCR q:2, INCR r:1, EXEC
        open
        busy q r
        waits
        answer
        answer
        answer
        busy""",
    "an open transaction of other classes waits before the first command of the held one": """
        > MULTI
        > INCR r:1
        hold q
        > INCR q:1
        > EXEC
        = MULTI, INCR r:1
        waits
        open r
        free q
        = INCR q:1, EXEC""",
    "an open transaction of one held class does not begin with another": """
        > MULTI
        > INCR q:1
        hold q
        hold r
        > INCR q:2
        > INCR r:1
        = MULTI, INCR q:1, INCR q:2
        waits
        open q""",
    "a script without keys in a transaction may be of any class": """
        > MULTI
        > EVAL return(1) 0
        hold q
        open q r f default
        > INCR q:1
        > EXEC
        = MULTI, EVAL return(1) 0, INCR q:1, EXEC""",
    "a transaction of the held class lets a script without keys go on": """
        > MULTI
        > INCR q:1
        hold q
        > EVAL return(1) 0
        = MULTI, INCR q:1, EVAL return(1) 0""",
    "the transaction behind it begins anew": """
        > MULTI
        > INCR q:1
        > EXEC
        > MULTI
        hold q
        > INCR q:2
        = MULTI, INCR q:1, EXEC, MULTI
        waits
        answer
        answer
        answer
        open
        busy""",
    "a transaction that is discarded": """
        > MULTI
        > INCR q:1
        > DISCARD
        answer
        answer
        answer
        open
        busy
        hold q
        > PING
        = MULTI, INCR q:1, DISCARD, PING""",
    "a transaction behind WATCH waits before its first command of the held class": """
        > WATCH q:1
        answer
        hold q
        > MULTI
        > INCR q:1
        = WATCH q:1, MULTI
        waits
        > EXEC
        free q
        = INCR q:1, EXEC""",
    "a transaction taken along to another backend": """
        hold q
        > MULTI
        > INCR f:1
        answer
        answer
        = MULTI, DISCARD, MULTI, INCR f:1
        open f""",
    "what shunt itself tells a backend is of no class": """
        > INCR q:1
        answer
        > MULTI
        > INCR f:1
        answer
        busy f
        open f""",
}


def play(script: str, driven: Driven, gates: Gates) -> None:
    seen = 0
    for line in map(str.strip, script.strip().splitlines()):
        word, _, rest = line.partition(" ")
        if word == ">":
            driven.say(rest)
        elif word == "hold":
            gates.held |= BITS[rest]
        elif word == "free":
            gates.held &= ~BITS[rest]
            driven.look_again()
        elif word == "answer":
            assert driven.answer(), script
        elif word == "=":
            came, seen = driven.log[seen:], len(driven.log)
            assert ", ".join(" ".join(words) for words in came) == rest, line
        elif word == "busy":
            assert [name for name in BITS if driven.session.busy(BITS[name])] == rest.split(), line
        elif word == "open":
            assert [name for name in BITS if driven.session.queues(BITS[name])] == rest.split(), line
        else:
            assert driven.session.waits == {"waits": True, "reads": False}[word], line


@pytest.mark.parametrize("what", CASES)
def test_case(what: str) -> None:
    gates = Gates()
    play(CASES[what], Driven(gates), gates)


@pytest.mark.parametrize(
    "line",
    [
        "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "EVAL return(1) 0", "FCALL f 0", "NOSUCH x", "DEBUG RELOAD",
        "FUNCTION FLUSH", "REPLICAOF h 1", "PSYNC ? -1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", TABLE.names)
def test_what_may_change_any_key_waits_for_every_class(line: str, name: str) -> None:
    gates = Gates()
    gates.held = BITS[name]
    driven = Driven(gates)
    driven.say(line)
    assert (driven.session.waits, driven.log) == (True, [])
    gates.held = 0
    driven.look_again()
    assert driven.log == [tuple(line.split())]


@pytest.mark.parametrize("line", ["PING", "SCAN 0", "DBSIZE", "KEYS *", "MULTI", "EXEC", "INFO", "SUBSCRIBE q:1"])
def test_what_has_no_key_and_changes_none_never_waits(line: str) -> None:
    gates = Gates()
    gates.held = sum(BITS.values())
    driven = Driven(gates)
    driven.say(line)
    assert (driven.session.waits, driven.log) == (False, [tuple(line.split())])


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_command_in_pieces_is_held_as_soon_as_its_keys_are_known_and_goes_on_once(step: int) -> None:
    gates = Gates()
    gates.held = BITS["q"]
    driven = Driven(gates)
    data = encode("SET", "q:1", "x" * 3000) + encode("INCR", "r:1")
    for at in range(0, len(data), step):
        driven.send(data[at : at + step])
    assert (driven.session.waits, driven.log, driven.session.in_flight) == (True, [], 0)
    gates.held = 0
    driven.look_again()
    assert driven.log == [("SET", "q:1", "x" * 3000), ("INCR", "r:1")]


def test_a_large_command_of_a_held_class_is_not_kept_until_it_is_whole() -> None:
    gates = Gates()
    gates.held = BITS["q"]
    driven = Driven(gates)
    driven.send(encode("SET", "q:1", "x" * 100_000)[:1000])
    assert driven.session.waits


def test_a_command_that_is_half_sent_when_its_class_is_held_is_in_flight_until_it_is_answered() -> None:
    gates = Gates()
    driven = Driven(gates)
    data = encode("SET", "q:1", "x" * 1000)
    driven.send(data[:500])
    gates.held = BITS["q"]
    assert (driven.session.busy(BITS["q"]), driven.session.half_of(BITS["q"])) == (True, True)
    assert (driven.session.busy(BITS["r"]), driven.session.half_of(BITS["r"])) == (False, False)
    driven.send(data[500:] + encode("INCR", "q:1"))
    assert (driven.session.waits, driven.session.half_of(BITS["q"]), len(driven.log)) == (True, False, 1)
    assert driven.answer()
    assert not driven.session.busy(BITS["q"])


def test_a_command_that_is_sent_in_parts_waits_as_a_whole_and_is_in_flight_as_a_whole() -> None:
    gates = Gates()
    gates.held = BITS["f"]
    driven = Driven(gates, splits=True)
    driven.say("DEL q:1 f:1")
    assert (driven.session.waits, driven.log) == (True, [])
    gates.held = 0
    driven.look_again()
    assert driven.log == [("DEL", "q:1")]
    gates.held = BITS["f"]
    assert all(driven.session.busy(BITS[name]) for name in "qf")
    assert driven.answer()
    assert driven.session.busy(BITS["q"])
    assert driven.answer()
    assert (driven.log, driven.heard) == ([("DEL", "q:1"), ("DEL", "f:1")], b":2\r\n")
    assert not any(driven.session.busy(bit) for bit in BITS.values())


def test_a_command_to_be_sent_in_parts_that_is_overtaken_by_a_hold_waits() -> None:
    gates = Gates()
    driven = Driven(gates, splits=True)
    driven.say("INCR a:1")
    driven.say("DEL q:1 f:1")
    gates.held = BITS["q"]
    assert driven.answer()
    assert (driven.session.waits, driven.log) == (True, [("INCR", "a:1")])
    gates.held = 0
    driven.look_again()
    while driven.answer():
        pass
    assert driven.log == [("INCR", "a:1"), ("DEL", "q:1"), ("DEL", "f:1")]


def test_who_was_never_held_has_used_what_it_has_used() -> None:
    driven = Driven(Gates())
    driven.say("INCR q:1")
    assert [name for name in BITS if driven.session.has_used(BITS[name])] == ["q"]
    driven.say("FLUSHALL")
    assert all(driven.session.has_used(bit) for bit in BITS.values())


# ---- gates, sessions and backends together, with a virtual clock ----------------------------------------------------


class World:
    """Clients that send at random, backends that answer at random, a gate for each class, somebody who holds and frees.

    ``OfClass`` in ``net.class_holding`` does with sockets what ``obey`` and ``look`` do here.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.gates = Gates()
        self.by_class = {name: Gate() for name in TABLE.names}
        self.clients = [Driven(self.gates) for _ in range(self.chance.randrange(1, 4))]
        self.sent: dict[Driven, list[Words]] = {each: [] for each in self.clients}
        self.made = 0

    def obey(self, name: str, orders: tuple[Order, ...]) -> None:
        for order in orders:
            if order is Order.STOP:
                self.gates.held |= BITS[name]
            elif order is Order.RESUME:
                self.gates.held &= ~BITS[name]
                for each in list(self.clients):
                    self.watched(each, each.look_again)
            elif order is Order.END_TRANSACTIONS:
                self.clients = [each for each in self.clients if not each.session.queues(BITS[name])]
            elif order is Order.SAY_HELD:
                assert not any(each.in_flight(name) for each in self.clients)

    def look(self) -> None:
        for name, gate in self.by_class.items():
            sessions = [each.session for each in self.clients]
            census = Census(
                sum(each.busy(BITS[name]) for each in sessions),
                sum(each.half_of(BITS[name]) for each in sessions),
                sum(each.queues(BITS[name]) for each in sessions),
            )
            self.obey(name, gate.look(census, self.now))

    def watched(self, client: Driven, does: object) -> None:
        """Do something that may dispatch, and look at what went out."""
        before = len(client.log)
        does()  # type: ignore[operator]
        for words in client.log[before:]:
            for name in classes_of(words):
                assert self.by_class[name].state is not State.HELD, words

    def turn(self) -> None:
        self.now += self.chance.choice([0.001, 0.01, 0.1])
        client = self.chance.choice(self.clients) if self.clients else None
        dice = self.chance.random()
        name = self.chance.choice(TABLE.names)
        if dice < 0.06:
            budget = Budget(*(self.chance.uniform(0, 1) for _ in range(4)))
            self.obey(name, self.by_class[name].hold(budget, self.now))
        elif dice < 0.10:
            self.obey(name, self.by_class[name].release())
        elif client is not None and dice < 0.5 and not client.session.waits and client.session.want < 0:
            some = [self.command() for _ in range(self.chance.randrange(1, 5))]
            self.sent[client] += some
            data = b"".join(encode(*words) for words in some)
            cut = self.chance.randrange(len(data) + 1) if self.chance.random() < 0.1 else len(data)
            for piece in (data[:cut], data[cut:]):
                if piece:
                    self.watched(client, lambda piece=piece: client.send(piece))
        elif client is not None:
            self.watched(client, client.answer)
        self.look()

    def command(self) -> Words:
        """No two with keys are alike."""
        self.made += 1
        key = f"{self.chance.choice('qqrfa')}:{self.made}"
        return self.chance.choice([
            ("INCR", key), ("INCR", key), ("GET", key), ("SET", key, "x" * 50), ("PING",), ("MULTI",), ("EXEC",),
            ("EXEC",), ("DISCARD",), ("EVAL", f"return {self.made}", "0"), ("EVAL", "return 1", "1", key),
            ("MGET", f"q:{self.made}", f"r:{self.made}"), ("WATCH", key), ("UNWATCH",),
        ])  # fmt: skip

    def end(self) -> None:
        """Everything is released and answered."""
        for name, gate in self.by_class.items():
            self.obey(name, gate.release())
        for each in self.clients:
            while each.answer():
                pass


@pytest.mark.parametrize("seeds", [range(start, start + 500) for start in range(0, 2000, 500)])
def test_in_two_thousand_worlds_a_held_class_stands_still_and_nothing_is_lost_or_overtakes(seeds: range) -> None:
    held = 0
    for seed in seeds:
        world = World(seed)
        for _ in range(60):
            world.turn()
            for name, gate in world.by_class.items():
                assert bool(world.gates.held & BITS[name]) == (gate.state is not State.OPEN), seed
                if gate.state is State.HELD:
                    held += 1
                    assert not any(each.in_flight(name) for each in world.clients), (seed, name)
        world.end()
        for client in world.clients:
            assert (client.session.waits, client.session.in_flight) == (False, 0), seed
            sent, came = _own(world.sent[client]), _own(client.log)
            refused = client.heard.count(b"-CROSSBACKEND keys") + client.heard.count(b"-CROSSBACKEND watched")
            assert came == [words for words in sent if words in came], seed
            assert len(sent) - len(came) <= refused, seed
    assert held > 500


def _own(commands: list[Words]) -> list[Words]:
    """What has keys: MULTI and DISCARD are also sent when a client goes over, PING in the place of what is refused."""
    return [words for words in commands if words[0] not in ("MULTI", "EXEC", "DISCARD", "PING", "WATCH", "UNWATCH")]
