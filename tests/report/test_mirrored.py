"""What a report says of mirrors."""

from __future__ import annotations

import json
from collections import Counter

from proxy.capture.mirrored import Mirrored, MirroredRead
from proxy.report.render_json import render_json
from proxy.report.render_text import render_text
from proxy.report.run import run
from tests.report.world import Rows, command


def rows() -> Rows:
    source = Rows([command("GET a")])
    reads = [
        MirroredRead("GET", "user:<id>", compared=50, differed=5, again=4, again_differed=1,
                     shapes=Counter({"null → string": 5}), source_ns=Counter({20: 50}), target_ns=Counter({28: 50})),
        MirroredRead("MGET", "a", compared=2, differed=2, target_errors=Counter(CROSSSLOT=2)),
    ]  # fmt: skip
    source.mirrored = [
        Mirrored("new:6379", "all", 10, ("user:*",), 1.0, answered=100, unverifiable=3, late=4,
                 missed=Counter(BRPOP=1), dropped=Counter({"queue-full": 7}), errors=[("RENAME", "MOVED", 9)],
                 reads=reads)
    ]  # fmt: skip
    return source


def test_what_only_the_target_refuses_comes_first() -> None:
    text = render_text(run(rows()))
    flat = " ".join(text.split())
    assert "Writes and reads were mirrored to new:6379, 10% of the keys, keys like user:*" in flat
    assert "3 scripts were run there again" in flat
    assert "7 were dropped: queue-full 7." in flat
    assert (
        "Of 52 reads that both answered, 7 differed. The source, asked 4 times again, differed from itself 1 time."
        in flat
    )
    order = [flat.index(word) for word in ("Errors that only new:6379 gives", "RENAME MOVED writes 9", "CROSSSLOT",
                                           "Taken on the source", "Reads side by side", "user:<id>")]  # fmt: skip
    assert order == sorted(order)


def test_the_json_has_all_of_it() -> None:
    [mirror] = json.loads(render_json(run(rows())))["mirrored"]
    assert (mirror["target"], mirror["missed"], mirror["reads"][0]["differed"]) == ("new:6379", {"BRPOP": 1}, 5)


def test_a_capture_without_a_mirror_says_nothing_of_one() -> None:
    assert "on the target" not in render_text(run(Rows([command("GET a")])))
