"""Hash slots and hash tags against a live Redis, and against the rules as the cluster specification words them."""

from __future__ import annotations

import binascii
import random
import re
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.slots import enterprise_slot, enterprise_slots, enterprise_tag, hash_tag, slot
from tests.protocol.conftest import AskMany

BRACED = st.lists(st.sampled_from([b"{", b"}", b"a", b"user", b"\x00", b"\xff", b""]), max_size=12).map(b"".join)


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"foo{}{bar}", b"foo{}{bar}"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
        (b"foo}{bar", b"foo}{bar"),
        (b"", b""),
        (b"{", b"{"),
        (b"{}", b"{}"),
        (b"}{a}", b"a"),
    ],
)
def test_the_hash_tag_is_what_stands_between_the_first_brace_and_the_next_closing_one(key: bytes, tag: bytes) -> None:
    assert hash_tag(key) == tag


@given(st.binary(max_size=64) | BRACED)
def test_a_slot_is_crc16_xmodem_of_the_tag(key: bytes) -> None:
    assert slot(key) == binascii.crc_hqx(hash_tag(key), 0) % 16384


def test_slots_equal_what_redis_says_for_random_keys_with_braces(one_node_cluster: AskMany) -> None:
    rng = random.Random(4)
    pieces = [b"{", b"}", b"{}", b"a", b"queue:default", b"\x00", b"\xff\xfe", b"\r\n", b"{x}", b"0"]
    keys = [b"".join(rng.choices(pieces, k=rng.randrange(10))) for _ in range(4000)]
    keys += [rng.randbytes(rng.randrange(200)) for _ in range(1000)] + [b"x" * 100_000]
    answers = one_node_cluster([(b"CLUSTER", b"KEYSLOT", key) for key in keys])
    assert [slot(key) for key in keys] == answers


# ---- Redis Enterprise's standard hashing policy


@given(st.binary(max_size=32) | BRACED)
def test_an_enterprise_tag_is_what_the_policys_regular_expressions_find(key: bytes) -> None:
    found = re.fullmatch(rb".*\{(.*)\}.*", key, re.DOTALL)
    assert enterprise_tag(key) == (found[1] if found else key)
    assert enterprise_slot(key) == binascii.crc_hqx(enterprise_tag(key), 0) % 16384


def columns(commands: list[list[bytes]]) -> tuple[array[int], array[int], bytes, array[int], array[int]]:
    """Lists, ends, data, slots and key counts, as Arrow has them."""
    lists, ends = array("i", [0]), array("i", [0])
    for keys in commands:
        for key in keys:
            ends.append(ends[-1] + len(key))
        lists.append(lists[-1] + len(keys))
    data = b"".join(key for keys in commands for key in keys)
    slots = array("h", [whole({slot(key) for key in keys}) for keys in commands])
    return lists, ends, data, slots, array("i", map(len, commands))


def whole(slots: set[int]) -> int:
    return -1 if not slots else slots.pop() if len(slots) == 1 else -2


def many(commands: list[list[bytes]], **changed: array[int]) -> list[int]:
    lists, ends, data, slots, nkeys = columns(commands)
    slots, nkeys = changed.get("slots", slots), changed.get("nkeys", nkeys)
    made = enterprise_slots(*(memoryview(each) for each in (lists, ends, data, slots, nkeys)), 512)
    return memoryview(made).cast("h").tolist()


@given(st.lists(st.lists(BRACED, max_size=3), max_size=8))
def test_the_slots_of_many_commands_are_those_of_their_keys(commands: list[list[bytes]]) -> None:
    assert many(commands) == [whole({enterprise_slot(key) for key in keys}) for keys in commands]


def test_what_is_not_known_of_a_command_stays_as_it_is() -> None:
    odd = [b"{}a", b"{}b"]
    assert many([odd], nkeys=array("i", [3])) == [-2]
    assert many([odd], slots=array("h", [-3])) == [-3]
    assert many([[b"{}" + b"a" * 512, b"{}b"]]) == [-2]
    assert many([odd]) == [enterprise_slot(b"{}a")]
