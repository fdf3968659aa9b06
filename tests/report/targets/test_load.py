"""Targets out of documents: inheritance, names spelled out, and what is refused with one line."""

from __future__ import annotations

import copy
import tomllib
from importlib.resources import files
from typing import Any

import pytest

from proxy.report.targets import TARGETS, CommandKind, SlotFunction, TargetError, find
from proxy.report.targets.load import targets_of

SOURCE = {"source": "a page that says so", "confidence": "documented"}


def shipped(name: str) -> dict[str, Any]:
    return tomllib.loads(files("proxy.report.targets").joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def family(**child: Any) -> dict[str, Any]:
    return {"parent": {**shipped("redis-cluster"), "aliases": []}, "child": {"like": "parent", **TITLE, **child}}


TITLE = {"title": "A child", "about": "As its parent."}


def test_a_child_takes_over_what_its_parent_says() -> None:
    made = targets_of(family())
    assert made["child"].cross_slot == made["parent"].cross_slot
    assert made["child"].parents == ("parent",)
    assert (made["child"].title, made["child"].aliases) == ("A child", ())


def test_a_childs_table_is_laid_over_its_parents_and_names_its_own_source() -> None:
    databases = targets_of(family(databases={"number": 0, **SOURCE}))["child"].databases
    assert (databases.number, databases.source) == (0, SOURCE["source"])
    assert databases.errors["SELECT"] == "ERR SELECT is not allowed in cluster mode"


def test_a_parents_note_is_not_taken_over_by_a_table_that_differs() -> None:
    assert targets_of(family(sort={"patterns": "fine", **SOURCE}))["child"].sort.note == ""


def test_a_parents_version_is_no_promise_of_its_child() -> None:
    made = targets_of(family())
    assert made["parent"].refusals["VADD"].kind is CommandKind.MISSING
    assert made["child"].refusals["VADD"].kind is CommandKind.UNVERIFIED


def test_a_later_word_on_a_command_goes_first() -> None:
    words = [
        {"names": ["CONFIG *"], "kind": "restricted", "error": "no {command}", **SOURCE},
        {"names": ["CONFIG GET"], "kind": "fine", **SOURCE},
    ]
    child = targets_of(family(commands=words))["child"]
    assert child.lacks("CONFIG SET")
    assert child.lacks("REPLICAOF")
    assert not child.lacks("CONFIG GET")


def test_a_target_that_serves_a_list_lacks_everything_else() -> None:
    only = {"names": ["GET", "SET", "CONFIG *"], "error": "NOPERM", **SOURCE}
    child = targets_of(family(only=only))["child"]
    assert child.lacks("BRPOP")
    assert child.lacks("VADD")
    assert not child.lacks("CONFIG SET")


def without(name: str) -> dict[str, Any]:
    documents = family(sort={"patterns": "fine", **SOURCE})
    del documents["child"]["sort"][name]
    return documents


@pytest.mark.parametrize(
    ("documents", "line"),
    [
        (without("source"), "child.toml: [sort] names no source"),
        (family(sort={"patterns": "sometimes", **SOURCE}), "child.toml: sort.patterns: Input should be"),
        (family(sort={"patterns": "fine", "else": 1, **SOURCE}), "child.toml: sort.else: Extra inputs"),
        (family(sort={"patterns": "fine", "source": "short", "confidence": "memory"}), "child.toml: sort.source: "),
        (family(commands=[{"names": ["NOSUCH"], "kind": "fine", **SOURCE}]), "child.toml: NOSUCH: the command table"),
        (family(commands=[{"names": ["NOSUCH *"], "kind": "fine", **SOURCE}]), "child.toml: NOSUCH *: there is no"),
        (family(commands=[{"names": ["get"], "kind": "fine", **SOURCE}]), "child.toml: commands.2.names: Value error"),
        (family(aliases=["parent"]), "child.toml: alias 'parent' is taken"),
        ({"a": {"like": "b"}, "b": {"like": "a"}}, "a.toml: like goes in a circle: a → b → a"),
        ({"a": {"like": "b"}}, "a.toml: like = 'b': there is no such file"),
        ({"a": {**TITLE}}, "a.toml: kind: Field required"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_with_its_place(documents: dict[str, Any], line: str) -> None:
    with pytest.raises(TargetError) as caught:
        targets_of(copy.deepcopy(documents))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_target_is_found_by_its_id_and_by_its_other_names() -> None:
    assert find("redis-cluster-7") is find("redis-cluster") is TARGETS["redis-cluster"]
    with pytest.raises(TargetError, match=r"^unknown target 'x'; there is: active-active, "):
        find("x")


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("redis-cluster", SlotFunction.REDIS),
        ("redis-enterprise", SlotFunction.ENTERPRISE),
        ("redis-cloud-pro", SlotFunction.REDIS),
        ("redis-cloud-pro-oss-api", SlotFunction.ENTERPRISE),
        ("single", SlotFunction.NONE),
        ("twemproxy", SlotFunction.SERVER),
    ],
)
def test_targets_differ_in_their_slot_function(name: str, function: SlotFunction) -> None:
    assert TARGETS[name].slots.function is function


@pytest.mark.parametrize(
    ("name", "command", "lacked"),
    [
        ("single-redis-6.2", "FCALL", True),
        ("single-redis-7.0", "FCALL", False),
        ("single-redis-7.0", "HEXPIRE", True),
        ("single", "HEXPIRE", False),
        ("single", "VADD", True),
        ("single-redis-8", "VADD", False),
        ("single-valkey-8", "HEXPIRE", True),
        ("single-valkey-8", "COMMANDLOG GET", True),
        ("valkey-cluster-9", "COMMANDLOG GET", False),
        ("valkey-cluster", "CLIENT SETINFO", False),
        ("elasticache", "CONFIG SET", True),
        ("redis-enterprise", "MONITOR", False),
        ("envoy", "BRPOP", True),
        ("envoy", "EXPIRE", False),
        ("twemproxy", "MULTI", True),
        ("twemproxy", "RPOPLPUSH", False),
    ],
)
def test_a_target_lacks_what_came_later_and_what_it_says(name: str, command: str, lacked: bool) -> None:
    assert TARGETS[name].lacks(command) == lacked
