"""Where classes of keys are, after a start with other flags than the record's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy import config
from proxy.config import ConfigError
from proxy.console.verb import VerbError
from proxy.cutover.classes import agree
from proxy.cutover.record import RecordError
from proxy.routing.route import Backend
from proxy.routing.table import KeyClass
from proxy.switchboard import Switchboard

URLS = {"main": "redis://10.0.0.1:6379", "a": "redis://10.0.0.2:6379", "b": "redis://10.0.0.3:6379"}
ON_A = (("q", Backend("a", URLS["a"])),)


def classes(*texts: str) -> list[KeyClass]:
    return [KeyClass.parse(text) for text in texts]


def test_what_the_record_does_not_know_is_as_the_flags_have_it() -> None:
    agreed = agree(classes("q=a:q:*", "r=b:r"), (), URLS)
    assert [each.backend for each in agreed.classes] == ["a", "b"]
    assert agreed.record == (*ON_A, ("r", Backend("b", URLS["b"])))
    assert agreed.notes == ()


def test_the_record_wins_and_the_log_says_so() -> None:
    agreed = agree(classes("q=b:q:*"), ON_A, URLS)
    assert [str(each) for each in agreed.classes] == ["q=a:q:*"]
    assert agreed.record == ON_A
    assert "q is on a" in agreed.notes[0]


def test_a_backend_may_get_another_name() -> None:
    agreed = agree(classes("q=new:q:*"), ON_A, {"main": URLS["main"], "new": URLS["a"]})
    assert agreed.record == (("q", Backend("new", URLS["a"])),)
    assert agreed.notes == ()


@pytest.mark.parametrize(
    ("wanted", "urls", "part"),
    [
        (["q=b:q:*"], {"main": URLS["main"], "b": URLS["b"]}, "--backends does not name that Redis"),
        ([], URLS, "--classes does not name it"),
    ],
)
def test_where_keys_would_be_looked_for_elsewhere_nothing_starts(
    wanted: list[str], urls: dict[str, str], part: str
) -> None:
    with pytest.raises(RecordError, match=part) as error:
        agree(classes(*wanted), ON_A, urls)
    assert "\n" not in str(error.value)


def test_a_class_whose_keys_are_at_main_may_be_left_out() -> None:
    assert agree([], (("q", Backend("main", URLS["main"])),), URLS).record == ()


def board(folder: Path, *named: str, **options: object) -> Switchboard:
    return Switchboard(
        config.load({
            "backend": URLS["main"], "backends": [f"a={URLS['a']}", f"b={URLS['b']}"], "classes": list(named),
            "route_file": str(folder / "route.json"), **options,
        })
    )  # fmt: skip


async def test_a_restart_reads_the_record(tmp_path: Path) -> None:
    first = board(tmp_path, "q=a:q:*")
    assert first.route.epoch == 1
    assert first.routes()[0]["class q"] == "a: q:*"
    await first.close()
    again = board(tmp_path, "q=b:q:*|more")
    assert [str(each) for each in again.routed.classes] == ["q=a:q:*|more"]
    assert again.route.epoch == 1
    with pytest.raises(VerbError, match="can't be switched"):
        await again.switch("a", 0.3, False, "a test", lambda line: None)
    await again.close()
    assert json.loads((tmp_path / "route.json").read_text())["format"] == 2
    with pytest.raises(ConfigError, match="--classes does not name it"):
        board(tmp_path)


async def test_without_a_file_the_flags_decide(tmp_path: Path) -> None:
    one = board(tmp_path, "q=a:q:*", route_file="off")
    assert one.route.epoch == 0
    assert one.routes()[0]["class q"] == "a: q:*"


async def test_a_record_without_classes_is_as_it_always_was(tmp_path: Path) -> None:
    one = board(tmp_path)
    await one.close()
    assert not (tmp_path / "route.json").exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"classes": ["q=c:q"]}, "--backends names no c"),
        ({"classes": ["q=a:q", "q=b:r"]}, "q is there twice"),
        ({"classes": ["q=a:q"], "backends": ["a=redis://h:1/2"]}, "different databases"),
        ({"classes": ["q=a:q"], "backends": ["a=redis://:secret@h:1"]}, "has credentials"),
        ({"classes": ["q=a:q"], "pool": "shared"}, "needs --pool session"),
        ({"classes": ["q=a:q"], "rehearse": "redis-cluster"}, "rehearsed"),
        ({"classes": ["q=a:q"], "ride_through": "30s"}, "ride-through"),
        ({"split_keys": True}, "is for --classes"),
        ({"classes": ["q=a:*"]}, "every key"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(options: dict[str, object], part: str) -> None:
    with pytest.raises(ConfigError, match=part.replace("*", r"\*")) as error:
        config.load({"backend": URLS["main"], "backends": [f"a={URLS['a']}", f"b={URLS['b']}"], **options})
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
