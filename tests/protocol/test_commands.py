"""The command table: equal to the server it was taken from, whole, and the same numbers in Python and C."""

from __future__ import annotations

import json
import re
from enum import IntEnum, IntFlag
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from protocol import traits
from protocol.commands import CommandSpec, Kind, Replies, Trait, load, table
from protocol.deprecations import deprecations
from protocol.keyspecs import lookup_name
from proxy.capture.format import UnknownWhy
from proxy.cli.commands import commands_command
from tests.protocol.conftest import AskMany

PXD = files("protocol").joinpath("keyspecs.pxd").read_text(encoding="utf-8")


def spec(name: str) -> CommandSpec:
    return table().commands[name]


@pytest.mark.parametrize(
    ("prefix", "enum"), [("KIND", Kind), ("TRAIT", Trait), ("REPLIES", Replies), ("WHY", UnknownWhy)]
)
def test_the_c_constants_equal_pythons(prefix: str, enum: type[IntEnum] | type[IntFlag]) -> None:
    in_c = {name: int(number) for name, number in re.findall(rf"^    {prefix}_(\w+) = (\d+)$", PXD, re.MULTILINE)}
    assert in_c == {member.name: member.value for member in enum}


def test_the_finders_numbers_equal_the_compiled_ones() -> None:
    source = files("protocol").joinpath("keyspecs.pyx").read_text(encoding="utf-8")
    in_c = {name: int(number) for name, number in re.findall(r"^    FINDER_(\w+) = (\d+)$", source, re.MULTILINE)}
    assert in_c == {member.name: member.value for member in traits.Finder}


def test_the_table_equals_what_the_live_server_of_the_same_version_says(
    live: AskMany, live_url: str, tmp_path: Path
) -> None:
    out = tmp_path / "commands.json"
    done = CliRunner().invoke(commands_command, ["--from", live_url, "-o", str(out)])
    assert done.exit_code == 0, done.output
    fresh = json.loads(out.read_text())
    ours = json.loads(files("protocol").joinpath("commands.json").read_text(encoding="utf-8"))
    if (fresh["server"], fresh["version"]) != (ours["server"], ours["version"]):
        pytest.skip(f"the table is of {ours['server']} {ours['version']}, this server is {fresh['version']}")
    assert fresh["commands"] == ours["commands"]
    assert live([(b"COMMAND", b"COUNT")])[0] == sum(" " not in entry["name"] for entry in ours["commands"])


def test_deprecated_commands_equal_what_the_live_server_of_the_same_version_says(live_url: str) -> None:
    done = CliRunner().invoke(commands_command, ["--from", live_url, "--deprecated"])
    assert done.exit_code == 0, done.output
    fresh = json.loads(done.output)
    ours = json.loads(files("protocol").joinpath("deprecated.json").read_text(encoding="utf-8"))
    if (fresh["server"], fresh["version"]) != (ours["server"], ours["version"]):
        pytest.skip(f"the list is of {ours['server']} {ours['version']}, this server is {fresh['version']}")
    assert fresh["commands"] == ours["commands"]


def test_deprecated_commands_are_commands_and_the_newer_list_has_none_that_the_server_tells() -> None:
    lists = [
        {
            entry["name"]
            for entry in json.loads(files("protocol").joinpath(name).read_text(encoding="utf-8"))["commands"]
        }
        for name in ("deprecated.json", "deprecated_newer.json")
    ]
    assert not lists[0] & lists[1]
    assert lists[0] | lists[1] == set(deprecations())
    assert set(deprecations()) <= set(table().commands)
    assert "!" not in "".join(each.instead for each in deprecations().values())


def test_regenerating_twice_gives_the_same_text(live_url: str) -> None:
    first, second = (CliRunner().invoke(commands_command, ["--from", live_url]).output for _ in range(2))
    assert first == second
    assert first.startswith('{"server": "redis", "version": ')


def test_a_server_that_is_not_there_is_one_line_without_the_password() -> None:
    done = CliRunner().invoke(commands_command, ["--from", "redis://u:geheim@127.0.0.1:1"])
    assert done.exit_code == 1
    assert done.output.startswith("Error: cannot read the command table of redis://127.0.0.1:1: ")
    assert len(done.output.splitlines()) == 1
    assert "geheim" not in done.output


def test_newer_commands_are_marked_and_never_replace_the_live_servers() -> None:
    assert spec("CLIENT SETINFO").newer
    assert spec("HEXPIRE").newer
    assert not spec("GET").newer
    live = {"server": "s", "version": "1", "date": "d", "commands": [_entry("GET", 7)]}
    newer = json.loads(files("protocol").joinpath("commands_newer.json").read_text(encoding="utf-8"))
    newer["commands"].append(_entry("GET", 8))
    with pytest.raises(ValueError, match=r"traits\.py names commands that no table has: ACL SETUSER, AUTH, "):
        load(live, newer)
    assert load(live).commands["GET"].arity == 7


def _entry(name: str, arity: int) -> dict[str, object]:
    return {"name": name, "arity": arity, "flags": [], "categories": [], "tips": [], "key_specs": []}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("get a", "GET"),
        ("GeT", "GET"),
        ("client SETname x", "CLIENT SETNAME"),
        ("client", "CLIENT"),
        ("command", "COMMAND"),
        ("debug sleep 0", "DEBUG"),
        ("restore-asking a b c", "RESTORE-ASKING"),
        ("client nosuch", None),
        ("nosuch", None),
        ("", None),
        ("get" * 50, None),
        ("client " + "x" * 100, None),
    ],
)
def test_a_command_is_found_by_name_in_any_case(line: str, name: str | None) -> None:
    found = lookup_name(line.encode().split())
    assert (found.name if found else None) == name


def test_a_subcommands_full_name_in_one_argument_is_no_command() -> None:
    assert lookup_name([b"CLIENT SETNAME", b"x"]) is None
    assert lookup_name([b""]) is None


def test_every_command_of_the_table_is_found_under_its_own_name() -> None:
    for name, command in table().commands.items():
        assert lookup_name(name.encode().split(b" ")) is command


def test_what_no_server_tells_is_in_the_table() -> None:
    assert spec("SUBSCRIBE").replies is Replies.PER_CHANNEL
    assert spec("MONITOR").replies is Replies.STREAM
    assert spec("PSYNC").replies is Replies.RAW
    assert spec("BRPOP").traits & (Trait.BLOCKING | Trait.POP | Trait.SERVED_FIRST | Trait.WRITE)
    assert Trait.BLOCKING not in spec("XREAD").traits
    assert Trait.MAYBE_BLOCKING in spec("XREAD").traits
    assert Trait.SHARD_CHANNEL in spec("SPUBLISH").traits
    assert Trait.SHARD_CHANNEL not in spec("PUBLISH").traits
    assert Trait.WRITE in spec("EVAL").traits
    assert Trait.READONLY in spec("EVAL_RO").traits


def test_every_command_that_the_server_calls_blocking_is_blocking_or_maybe_blocking() -> None:
    ours = {name for name, each in table().commands.items() if each.traits & (Trait.BLOCKING | Trait.MAYBE_BLOCKING)}
    theirs = {name for name, each in table().commands.items() if "blocking" in each.flags}
    assert ours - theirs == {"WAIT"}  # 7.0 does not flag it
    assert theirs - ours == set()
