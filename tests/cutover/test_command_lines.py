"""Command lines for ACL DRYRUN: the recorded keys stand where Redis looks for them."""

from __future__ import annotations

import pytest

from protocol.keyspecs import Keys, find
from proxy.capture.use import UsedCommand
from proxy.cutover.command_lines import command_line

#: command, keys, recorded arguments (0: not known); the line
LINES = {
    "one key": ("GET", "a", 2, "GET a"),
    "more arguments than keys": ("SET", "a", 5, "SET a 0 0 0"),
    "keys and a timeout": ("BRPOP", "a b", 4, "BRPOP a b 0"),
    "every second one": ("MSET", "a b", 5, "MSET a 0 b 0"),
    "two places": ("LMOVE", "a b", 5, "LMOVE a b 0 0"),
    "a count of keys": ("EVALSHA", "a b", 6, "EVALSHA 0 2 a b 0"),
    "a count of no keys": ("EVALSHA", "", 3, "EVALSHA 0 0"),
    "a destination, then a count": ("ZUNIONSTORE", "d a b", 5, "ZUNIONSTORE d 2 a b"),
    "behind a word": ("XREADGROUP", "s", 7, "XREADGROUP GROUP 0 0 STREAMS s 0"),
    "behind a word, several": ("XREAD", "s t", 6, "XREAD STREAMS s t 0 0"),
    "a subcommand": ("XGROUP CREATE", "s", 5, "XGROUP CREATE s 0 0"),
    "no key": ("PUBLISH", "", 3, "PUBLISH 0 0"),
    "arguments not counted": ("LPUSH", "a", 0, "LPUSH a 0"),
    "keys not recorded": ("GET", "", 0, "GET 0"),
    "a command that nobody knows": ("JSON.RESP", "", 2, "JSON.RESP 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES.values(), ids=LINES.keys())
def test_a_line_has_the_recorded_keys_in_their_places(case: tuple[str, str, int, str]) -> None:
    name, keys, nargs, expected = case
    recorded = tuple(keys.encode().split())
    line = command_line(UsedCommand(name, keys=recorded, nkeys=len(recorded), nargs=nargs))
    assert line is not None
    assert b" ".join(line).decode() == expected
    found = find(line)
    if recorded:
        assert isinstance(found, Keys)
        assert sorted(line[place] for place in found.indexes) == sorted(recorded)


def test_recorded_arguments_are_taken_as_they_are() -> None:
    args = (b"SET", b"a", b"b", b"EX", b"1")
    assert command_line(UsedCommand("SET", b"a", 1, (b"a",), 1, 5, args)) == args


@pytest.mark.parametrize(("name", "keys"), [("SORT", (b"a", b"b")), ("GET", (b"a", b"b")), ("FOO.BAR", (b"a",))])
def test_there_is_no_line_where_the_keys_have_no_place(name: str, keys: tuple[bytes, ...]) -> None:
    assert command_line(UsedCommand(name, keys=keys, nkeys=len(keys))) is None
