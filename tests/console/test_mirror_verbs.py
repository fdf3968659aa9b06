"""MIRROR START in words, and what the console passes on."""

from __future__ import annotations

import pytest

from proxy.console.mirror_verbs import asked
from proxy.console.verb import BadArguments, VerbError
from proxy.console.world import MirrorAsk
from tests.console.world import WHO, FakeWorld, desk


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", MirrorAsk()),
        ("redis://new ALL", MirrorAsk("redis://new", "all")),
        ("reads sample 10%", MirrorAsk(None, "reads", 10)),
        ("rediss://new SAMPLE 5 CLASS a* class b*", MirrorAsk("rediss://new", "writes", 5, ("a*", "b*"))),
    ],
)
def test_the_words_say_what_is_to_be_mirrored(words: str, wanted: MirrorAsk) -> None:
    assert asked(tuple(words.split())) == wanted


@pytest.mark.parametrize(
    "words", ["nonsense", "SAMPLE", "SAMPLE 0%", "SAMPLE 101%", "SAMPLE x", "CLASS", "ALL redis://late"]
)
def test_other_words_are_refused_with_how_to_write_it(words: str) -> None:
    with pytest.raises(BadArguments, match=r"write MIRROR START \[TARGET\]"):
        asked(tuple(words.split()))


async def test_a_mirror_is_started_shown_and_stopped() -> None:
    world = FakeWorld()
    at, audit = await desk(world)
    url = "redis://:hunter2@new:6379"
    assert (await at.call(["MIRROR", "START", url, "ALL"], WHO)).data == "mirrors all"
    assert (await at.call(["SHOW", "MIRROR"], WHO)).data == {"state": "up"}
    assert (await at.call(["SHOW", "MIRROR", "ERRORS"], WHO)).data == [{"command": "EVAL"}]
    assert (await at.call(["SHOW", "MIRROR", "READS"], WHO)).data == [{"command": "GET"}]
    assert (await at.call(["mirror", "stop"], WHO)).data == "stopped"
    assert world.done == [("mirror", str(MirrorAsk(url, "all"))), ("mirror", "stop")]
    assert [entry.verb for entry in audit.last(5)] == ["MIRROR START", "MIRROR STOP"]
    assert "hunter2" not in str(audit.last(5))


async def test_why_nothing_is_mirrored_is_said() -> None:
    at, _ = await desk(FakeWorld(refuses="it is the backend itself"))
    with pytest.raises(VerbError, match="it is the backend itself"):
        await at.call(["MIRROR", "START", "redis://x"], WHO)
