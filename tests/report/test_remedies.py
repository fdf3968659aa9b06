"""Hash tags: which families there are, which tag each gets, and that nothing crosses slots afterwards."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.slots import slot
from proxy.capture.format import Flag
from proxy.report.remedies import SLOTS, KeyWeight, Remedies, Use, Weight, find_tags, price
from proxy.report.render_text import render_text
from proxy.report.run import run
from proxy.report.templates import fold, fold_one
from tests.report.world import Rows, command, transaction


def fold_all(keys: list[bytes]) -> list[bytes]:
    folded: list[bytes] = fold(pa.array(keys, pa.binary())).to_pylist()
    return folded


def uses(*texts: str) -> list[Use]:
    """Each text is a command and its keys."""
    split = [text.encode().split() for text in texts]
    return [Use(name, tuple(keys)) for name, *keys in split]


def renamed(*texts: str) -> list[list[str]]:
    """The keys of each use, as the tags found for all of them rename them."""
    asked = uses(*texts)
    remedies = Remedies(find_tags(asked, fold_all), None, None, 0, 0)
    return [[remedies.rename(fold_one(key), key).decode() for key in use.keys] for use in asked]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        pytest.param(["MGET {t}a {t}b"], [["{t}a", "{t}b"]], id="nothing to do where nothing crosses"),
        pytest.param(
            ["SINTER cart:42 order:42", "SINTER cart:7 order:7"],
            [["cart:{42}", "order:{42}"], ["cart:{7}", "order:{7}"]],
            id="a part that all keys have in common",
        ),
        pytest.param(
            ["MGET user:1:a:9 user:1:b:8", "MGET user:2:a:9 user:2:b:7"],
            [["user:{1}:a:9", "user:{1}:b:8"], ["user:{2}:a:9", "user:{2}:b:7"]],
            id="the part that they have in common, not the other",
        ),
        pytest.param(
            ["BRPOP queue:low queue:high"], [["{queue}:low", "{queue}:high"]], id="a constant, where names differ"
        ),
        pytest.param(
            ["MGET user:1 user:2"], [["{user}:1", "{user}:2"]], id="a constant, where the changing parts differ"
        ),
        pytest.param(
            ["EXEC queues queue:low"], [["{queue}:queues", "{queue}:queue:low"]], id="a prefix, without a common word"
        ),
        pytest.param(["RENAME a:b b"], [["{a}:a:b", "{a}:b"]], id="a prefix for all, lest two keys become one"),
        pytest.param(
            ["SDIFF a b", "SDIFF b c", "SDIFF x y"],
            [["{a}:a", "{a}:b"], ["{a}:b", "{a}:c"], ["{x}:x", "{x}:y"]],
            id="families are joined by what they share, and kept apart otherwise",
        ),
        pytest.param(
            ["SDIFF {old}a b", "SDIFF {old}a {old}c"],
            [["{b}:{old}a", "{b}:b"], ["{b}:{old}a", "{b}:{old}c"]],
            id="who shares a tag today moves along",
        ),
        pytest.param(
            ["SINTER {x}:1:a b:1", "SINTER {x}:2:a b:2"],
            [["{1}:{x}:1:a", "b:{1}"], ["{2}:{x}:2:a", "b:{2}"]],
            id="a key with braces gets its tag in front",
        ),
        pytest.param(
            ["SDIFF user:a user:b", "SDIFF user-x y"],
            [["{user}:a", "{user}:b"], ["{user-x}:user-x", "{user-x}:y"]],
            id="two families have two tags",
        ),
    ],
)
def test_the_tags_of(texts: list[str], names: list[list[str]]) -> None:
    assert renamed(*texts) == names


_keys = st.builds(
    lambda word, number, more: f"{word}{number}{more}".encode(),
    st.sampled_from(["a", "b", "a:b", "user", "{t}", "x{y}z", "queue"]),
    st.sampled_from(["", ":0", ":1", ":a", ":b"]),
    st.sampled_from(["", ":1", ":2", ":0f8fad5b-d9cb-469f-a165-70867728950e", "}", "{"]),
)


@given(st.lists(st.lists(_keys, min_size=2, max_size=4, unique=True).map(lambda keys: Use(b"MGET", tuple(keys)))))
def test_afterwards_nothing_crosses_slots_and_no_two_keys_have_become_one(some: list[Use]) -> None:
    remedies = Remedies(find_tags(some, fold_all), None, None, 0, 0)
    names = {key: remedies.rename(fold_one(key), key) for use in some for key in use.keys}
    assert all(len({slot(names[key]) for key in use.keys}) == 1 for use in some)
    assert len(set(names.values())) == len(names)


def test_a_family_that_could_be_sent_key_by_key_says_so() -> None:
    (tag,) = find_tags(uses("MGET a b", "DEL a b"), fold_all)
    assert tag.splittable
    (tag,) = find_tags(uses("MGET a b", "RENAME a b"), fold_all)
    assert not tag.splittable
    assert dict(tag.uses) == {b"MGET": 1, b"RENAME": 1}


def test_the_price_is_the_share_of_operations_and_bytes_in_the_hottest_slot() -> None:
    tags = find_tags(uses("MGET a:1 a:2", "MGET a:1 a:3"), fold_all)
    weights = [Weight(b"a:<id>", 90, 900), Weight(b"other", 10, 9_100)]
    keys = [KeyWeight(b"a:1", b"a:<id>", 45, 450), KeyWeight(b"other", b"other", 10, 9_100)]
    found = price(Remedies(tags, None, None, 2, 2), weights, keys)
    assert found.before is not None
    assert found.after is not None
    assert (found.before.slot, found.before.slot_name) == (slot(b"a:1"), b"a:1")
    assert found.before.slot_share == pytest.approx(0.45, abs=45 / SLOTS)  # the other 45 lie anywhere
    assert (found.after.slot, found.after.slot_name, found.after.slot_share) == (slot(b"a"), b"{a}", 0.9)
    assert found.after.bytes_share == pytest.approx(0.91)
    for shards in (3, 6, 12):
        assert sum(found.after.shards[shards]) == pytest.approx(1)
        assert found.after.shards[shards][slot(b"a") * shards // SLOTS] >= 0.9


def test_a_report_proposes_tags_for_commands_transactions_and_scripts() -> None:
    rows = [
        command("GET plain"),
        command("RENAME job:1 done:1"),
        command("RENAME job:2 done:2"),
        *transaction("SADD queues", "LPUSH queue:low"),
        command("EVALSHA lock:a lock:b", flags=Flag.SCRIPT),
    ]
    report = run(Rows(rows))
    assert {tag.templates for tag in report.remedies.tags} == {
        (b"done:<id>", b"job:<id>"),
        (b"queue:low", b"queues"),
        (b"lock:a", b"lock:b"),
    }
    assert (report.remedies.checked, report.remedies.seen) == (4, 4)
    text = render_text(report)
    assert "done:{<id>}" in text
    assert "{lock}:a" in text


def test_a_capture_in_which_nothing_crosses_has_no_section_on_tags() -> None:
    assert "Hash tags" not in render_text(run(Rows([command("GET a"), command("MGET {t}a {t}b")])))


def test_tags_in_sidekiqs_own_keys_are_marked_as_what_an_application_cannot_do() -> None:
    heartbeat = transaction("SADD processes", "EXISTS web-1:42:0123456789ab", "RPOP web-1:42:0123456789ab-signals")
    report = run(Rows([*heartbeat, command("BRPOP queue:a queue:b", conn=2)]))
    by_family = {bool(tag.fixed): tag for tag in report.remedies.tags}
    assert b"processes" in by_family[True].templates
    assert by_family[False].templates == (b"queue:a", b"queue:b")
    assert "can't rename" in render_text(report)
