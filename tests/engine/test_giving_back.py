"""What a pop took for nobody, and the commands that put it back: cases."""

from __future__ import annotations

import random
from typing import Any

import pytest

from protocol.commands import table
from protocol.traits import TRAITS, Trait
from proxy.engine import giving_back
from proxy.engine.giving_back import AT_ONCE, WHY, GiveBack, Kept, Pop, Way, answer


def pop(command: str, reply: bytes | None, **more: Any) -> Pop:
    return Pop(**{"command": command, "db": 0, "key": None, "left": None, "reply": reply, **more})


def bulk(*values: bytes) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(value), value) for value in values)


def array(*values: bytes) -> bytes:
    return b"*%d\r\n" % len(values) + bulk(*values)


#: Pop, and what goes back: commands.
BACK = {
    "BRPOP": (pop("BRPOP", array(b"q", b"job")), [(b"RPUSH", b"q", b"job")]),
    "BLPOP": (pop("BLPOP", array(b"q", b"job")), [(b"LPUSH", b"q", b"job")]),
    "RPOP": (pop("RPOP", bulk(b"job"), key=b"q"), [(b"RPUSH", b"q", b"job")]),
    "LPOP": (pop("LPOP", bulk(b"job"), key=b"q"), [(b"LPUSH", b"q", b"job")]),
    "a job of nothing": (pop("LPOP", bulk(b""), key=b"q"), [(b"LPUSH", b"q", b"")]),
    "a key of nothing": (pop("LPOP", bulk(b"job"), key=b""), [(b"LPUSH", b"", b"job")]),
    "RPOP 2": (pop("RPOP", array(b"last", b"before"), key=b"q"), [(b"RPUSH", b"q", b"before", b"last")]),
    "LPOP 2": (pop("LPOP", array(b"first", b"next"), key=b"q"), [(b"LPUSH", b"q", b"next", b"first")]),
    "LMPOP LEFT": (pop("LMPOP", b"*2\r\n" + bulk(b"q") + array(b"a", b"b"), left=True), [(b"LPUSH", b"q", b"b", b"a")]),
    "BLMPOP RIGHT": (pop("BLMPOP", b"*2\r\n" + bulk(b"q") + array(b"c"), left=False), [(b"RPUSH", b"q", b"c")]),
    "any bytes": (pop("BRPOP", array(b"\r\n\xff", b"*1\r\n$1\r\n")), [(b"RPUSH", b"\r\n\xff", b"*1\r\n$1\r\n")]),
}  # fmt: skip


@pytest.mark.parametrize(("popped", "commands"), BACK.values(), ids=BACK.keys())
def test_a_list_gets_back_what_was_popped_at_the_end_it_came_from(
    popped: Pop, commands: list[tuple[bytes, ...]]
) -> None:
    back = answer(popped)
    assert isinstance(back, GiveBack)
    assert list(back.commands) == commands
    assert back.elements == sum(len(command) - 2 for command in commands)
    assert back.key == commands[0][1]


NOTHING = {
    "null array": pop("BRPOP", b"*-1\r\n"),
    "null bulk": pop("RPOP", b"$-1\r\n", key=b"q"),
    "null of RESP3": pop("BLMPOP", b"_\r\n", left=True),
    "an error": pop("LPOP", b"-WRONGTYPE no\r\n", key=b"q"),
    "LPOP 0": pop("LPOP", b"*0\r\n", key=b"q"),
    "no elements": pop("LMPOP", b"*2\r\n$1\r\nq\r\n*0\r\n", left=True),
}


@pytest.mark.parametrize("popped", NOTHING.values(), ids=NOTHING.keys())
def test_a_pop_that_took_nothing_gives_nothing_back(popped: Pop) -> None:
    assert answer(popped) is None


KEPT = {
    "begun": pop("BRPOP", array(b"q", b"job"), begun=True),
    "too-long": pop("BRPOP", None),
    "no-list": pop("ZPOPMIN", array(b"m", b"1"), key=b"z"),
    "transaction": pop("EXEC", b"*1\r\n" + bulk(b"job")),
    "key-unknown": pop("RPOP", bulk(b"job")),
    "unreadable": pop("BRPOP", array(b"q", b"job")[:-3]),
}


@pytest.mark.parametrize(("why", "popped"), KEPT.items(), ids=KEPT.keys())
def test_what_is_not_put_back_says_why(why: str, popped: Pop) -> None:
    assert answer(popped) == Kept(popped.command, why)


@pytest.mark.parametrize(
    ("command", "reply"),
    [("BRPOP", b"+OK\r\n"), ("BRPOP", array(b"q")), ("BRPOP", b":1\r\n"), ("LMPOP", array(b"q", b"job")),
     ("RPOP", b":1\r\n"), ("LPOP", b"*1\r\n:1\r\n"), ("BRPOP", b"nonsense\r\n"), ("RPOP", b"")],
)  # fmt: skip
def test_a_reply_of_another_shape_is_not_guessed_at(command: str, reply: bytes) -> None:
    assert answer(pop(command, reply, key=b"q", left=True)) == Kept(command, "unreadable")


def test_an_lmpop_whose_end_is_not_known_is_kept() -> None:
    popped = pop("LMPOP", b"*2\r\n" + bulk(b"q") + array(b"a"))
    assert answer(popped) == Kept("LMPOP", "key-unknown")


def test_every_reason_is_explained_and_one_is_not_decided_here() -> None:
    assert set(KEPT) | {"failed"} == set(WHY)


def test_no_command_that_gives_back_has_more_arguments_than_are_looked_at() -> None:
    taken = [b"%d" % n for n in range(2 * AT_ONCE + 1)]
    back = answer(pop("LPOP", array(*taken), key=b"q"))
    assert isinstance(back, GiveBack)
    assert [len(command) - 2 for command in back.commands] == [AT_ONCE, AT_ONCE, 1]
    assert [each for command in back.commands for each in command[2:]] == taken[::-1]


@pytest.mark.parametrize("command", ["LPOP", "RPOP"])
def test_pops_given_back_last_first_restore_the_list(command: str) -> None:
    dice = random.Random(command)
    for _ in range(100):
        whole = [b"%d" % n for n in range(dice.randrange(1, 20))]
        left, pops = list(whole), []
        while left and dice.random() < 0.8:
            taken = [left.pop(0 if command == "LPOP" else -1) for _ in range(dice.randrange(1, len(left) + 1))]
            pops.append(pop(command, array(*taken), key=b"q"))
        for back in map(answer, reversed(pops)):
            assert isinstance(back, GiveBack)
            for push, _, *elements in back.commands:
                for element in elements:
                    left.insert(0 if push == b"LPUSH" else len(left), element)
        assert left == whole


def test_every_pop_of_the_command_table_has_its_way() -> None:
    kept_elsewhere = {"LMOVE", "BLMOVE", "RPOPLPUSH", "BRPOPLPUSH", "XREADGROUP"}
    pops = TRAITS[Trait.POP]
    assert pops <= set(table().commands)
    assert {name for name in pops if giving_back.way(name) is Way.KEEPS} == kept_elsewhere
    assert {name for name in table().commands if giving_back.way(name)} == pops - kept_elsewhere
