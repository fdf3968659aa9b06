"""A command line that asks for the same rights as a recorded command: for ACL DRYRUN, which wants a whole one.

Knows: how key specifications place keys among arguments. Refuses to know: servers and sockets. The line is never run.
A line that was made is read again by ``protocol.keyspecs``: if that does not find the same keys, there is no line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from protocol.commands import CommandSpec, KeySpec, table
from protocol.keyspecs import Keys, find
from proxy.capture.use import UsedCommand

#: In the place of arguments that are not known. A number: also where a count of keys stands.
FILLER = b"0"
#: Where keys are not recorded: one key or two.
_STAND_INS = ((FILLER,), (FILLER, FILLER))
#: Words without which a command's keys are not found.
_HEADS = {"XREADGROUP": [b"XREADGROUP", b"GROUP", FILLER, FILLER]}


def command_line(used: UsedCommand) -> tuple[bytes, ...] | None:
    """The recorded arguments, else a line with the same keys; None: it can't be written.

    Where no key is recorded, FILLER stands for them: what is said of its keys means nothing then.
    """
    if used.args:
        return used.args
    words = _HEADS.get(used.name) or used.name.encode().split(b" ")
    spec = table().commands.get(used.name)
    if spec is None:
        return None if used.nkeys else _filled(words, max(used.nargs, len(words)))
    for keys in (used.keys, *(() if used.keys else _STAND_INS)):
        for line in _candidates(spec, words, keys, used.nargs):
            if _keys_of(line) == sorted(keys):
                return tuple(line)
    return None


def _candidates(spec: CommandSpec, words: list[bytes], keys: tuple[bytes, ...], nargs: int) -> Iterator[list[bytes]]:
    """With as many arguments as were recorded, then with as few as will do."""
    line = _placed(spec, list(words), keys)
    fewest = abs(spec.arity) if not keys or spec.arity > 0 else max(abs(spec.arity), len(line))
    for length in (nargs, fewest):
        if length >= len(line):
            yield list(_filled(line, length))


def _placed(spec: CommandSpec, line: list[bytes], keys: Sequence[bytes]) -> list[bytes]:
    """``line`` with the keys where the specifications in turn have them."""
    left = list(keys)
    for each in spec.key_specs:
        if not left:
            break
        begin = each.start
        if each.begin == "keyword" and each.start > 0:
            _put(line, begin, each.keyword.encode())
            begin += 1
        elif each.begin != "index":
            continue
        if each.find == "range":
            left = _range(line, begin, each, left)
        elif each.find == "keynum":
            _put(line, begin + each.last, b"%d" % len(left))
            for place, key in enumerate(left):
                _put(line, begin + each.first + place * each.step, key)
            left = []
    return line


def _range(line: list[bytes], begin: int, spec: KeySpec, keys: list[bytes]) -> list[bytes]:
    """Places the keys of one range; returns those that are left for others."""
    here = keys if spec.last < 0 else keys[: spec.last // spec.step + 1]
    for place, key in enumerate(here):
        _put(line, begin + place * spec.step, key)
    if spec.last < 0:
        line += [FILLER] * (spec.step - 1 - spec.last - 1)
        line += [FILLER] * (len(here) * (spec.limit - 1) if spec.limit > 1 else 0)
    return keys[len(here) :]


def _put(line: list[bytes], place: int, value: bytes) -> None:
    line += [FILLER] * (place + 1 - len(line))
    line[place] = value


def _filled(line: Sequence[bytes], length: int) -> tuple[bytes, ...]:
    return (*line, *[FILLER] * (length - len(line)))


def _keys_of(line: Sequence[bytes]) -> list[bytes] | None:
    found = find(line)
    return sorted(line[place] for place in found.indexes) if isinstance(found, Keys) else None
