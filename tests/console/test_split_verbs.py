"""SPLIT in words, and what the console passes on."""

from __future__ import annotations

import pytest

from proxy.console.split_verbs import asked
from proxy.console.verb import BadArguments, VerbError
from proxy.console.world import SplitAsk
from tests.console.world import WHO, FakeWorld, desk


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("redis://new 10%", SplitAsk("redis://new", 10)),
        ("redis://new 0.5", SplitAsk("redis://new", 0.5)),
        ("redis://new 100% name web* addr 10.0.0.0/8", SplitAsk("redis://new", 100, "web*", "10.0.0.0/8")),
        ("redis://new 1 ADDR ::1", SplitAsk("redis://new", 1, None, "::1")),
    ],
)
def test_the_words_say_whose_reads_go_where(words: str, wanted: SplitAsk) -> None:
    assert asked(tuple(words.split())) == wanted


@pytest.mark.parametrize(
    "words",
    ["new 10%", "redis://new 0%", "redis://new 101%", "redis://new x", "redis://new 1e1", "redis://new 5 NAME",
     "redis://new 5 NAME a NAME b", "redis://new 5 CLASS a"],
)  # fmt: skip
def test_other_words_are_refused_with_how_to_write_it(words: str) -> None:
    with pytest.raises(BadArguments, match="write SPLIT TARGET PERCENT"):
        asked(tuple(words.split()))


async def test_a_split_is_begun_shown_and_ended() -> None:
    world = FakeWorld()
    at, audit = await desk(world)
    url = "redis://:hunter2@new:6379"
    assert (await at.call(["SPLIT", url, "10%", "NAME", "web*"], WHO)).data == "10% with a name like web* read there"
    assert (await at.call(["SHOW", "SPLIT"], WHO)).data == {"state": "on"}
    assert (await at.call(["split", "end"], WHO)).data == "ended"
    assert world.done == [("split", str(SplitAsk(url, 10.0, "web*"))), ("split", "end")]
    assert [entry.verb for entry in audit.last(5)] == ["SPLIT", "SPLIT END"]
    assert "hunter2" not in str(audit.last(5))


async def test_why_nothing_is_split_is_said() -> None:
    at, _ = await desk(FakeWorld(refuses="no mirror runs"))
    with pytest.raises(VerbError, match="no mirror runs"):
        await at.call(["SPLIT", "redis://x", "5%"], WHO)
