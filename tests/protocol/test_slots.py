"""Hash slots and hash tags against a live Redis, and against the rules as the cluster specification words them."""

from __future__ import annotations

import binascii
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.slots import hash_tag, slot
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
