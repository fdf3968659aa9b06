"""What an ACL user may do, read off ACL GETUSER: for servers of Redis 6, which have no ACL DRYRUN.

Knows: how rules about commands add up in their order, and which keys patterns cover. Refuses to know: servers, and
selectors (Redis 7): what only a selector may allow is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxy.capture.glob import Glob
from proxy.capture.use import UsedCommand
from proxy.cutover.server_facts import Right, Unknown


@dataclass(frozen=True, slots=True)
class AclUser:
    """``rules``: "+@all", "-flushall", "+client|id" in order. ``keys``: patterns that it may read and write.
    ``partial``: there are keys that it may only read or only write, or selectors."""

    rules: tuple[str, ...]
    keys: tuple[str, ...]
    partial: bool = False


def acl_user(told: Mapping[str, object]) -> AclUser:
    """Out of ACL GETUSER's fields. Raises KeyError, TypeError."""
    keys = _words(told["keys"])
    patterns = tuple(word.removeprefix("~") for word in keys if not word.startswith("%"))
    if "allkeys" in _words(told["flags"]):
        patterns = ("*", *patterns)
    partial = bool(told.get("selectors")) or any(word.startswith("%") for word in keys)
    return AclUser(tuple(_words(told["commands"])), patterns, partial)


def right(user: AclUser, used: UsedCommand, categories: Mapping[str, frozenset[str]]) -> Right | Unknown:
    """Whether ``user`` may run it on its sample's keys. ``categories``: of each command that the server has."""
    if used.name not in categories and used.name.split(" ")[0] not in categories:
        return Unknown("the target does not have it")
    found: Right | Unknown = _command(user, used.name, categories)
    if found is Right.ALLOWED:
        found = _keys(user, used)
    if user.partial and found is not Right.ALLOWED:
        return Unknown(
            "a selector or a pattern for reading alone may allow it; ACL GETUSER does not say for which keys"
        )
    return found


def _command(user: AclUser, name: str, categories: Mapping[str, frozenset[str]]) -> Right:
    container = name.split(" ")[0]
    full = name.lower().replace(" ", "|")
    own = categories.get(name, categories.get(container, frozenset()))
    allowed = False
    for rule in user.rules:
        sign, what = rule[:1], rule[1:].lower()
        if what in ("@all", full, container.lower()) or (what[:1] == "@" and what[1:] in own):
            allowed = sign == "+"
    return Right.ALLOWED if allowed else Right.NO_COMMAND


def _keys(user: AclUser, used: UsedCommand) -> Right | Unknown:
    if not used.nkeys or "*" in user.keys:
        return Right.ALLOWED
    try:
        patterns = [re.compile(Glob.of(each).regex, re.DOTALL) for each in user.keys]
    except ValueError:
        return Unknown("the user has a pattern of keys that can't be read")
    for key in used.keys:
        if not any(pattern.fullmatch(key) for pattern in patterns):
            return Right.NO_KEY
    return Right.ALLOWED if used.keys_known else Unknown("its keys are not recorded")


def _words(value: object) -> list[str]:
    """A list, or a line of words, as servers of different ages have it."""
    if isinstance(value, bytes | str):
        return _text(value).split()
    if isinstance(value, Sequence):
        return [_text(each) for each in value]
    raise TypeError(type(value).__name__)


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
