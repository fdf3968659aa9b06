"""What ACL GETUSER says, read as Redis reads it, and held against a real server's ACL DRYRUN."""

from __future__ import annotations

import asyncio

import pytest

from proxy.address import Address
from proxy.capture.use import UsedCommand
from proxy.cutover import ask
from proxy.cutover.acl_rules import AclUser, acl_user, right
from proxy.cutover.reach import control
from proxy.cutover.server_facts import Place, Right, Unknown
from tests.servers import RedisServer

CATEGORIES = {
    "GET": frozenset({"read", "fast"}),
    "SET": frozenset({"write", "slow"}),
    "FLUSHALL": frozenset({"write", "dangerous"}),
    "CLIENT": frozenset({"slow"}),
    "CLIENT ID": frozenset({"slow", "connection"}),
}

#: rules, keys, command, its key; what the user may
CASES = {
    "all": ("+@all", "*", "GET", "a", Right.ALLOWED),
    "nothing": ("-@all", "*", "GET", "a", Right.NO_COMMAND),
    "a category": ("-@all +@read", "*", "GET", "a", Right.ALLOWED),
    "not this category": ("-@all +@read", "*", "SET", "a", Right.NO_COMMAND),
    "the last rule counts": ("+@all -@dangerous", "*", "FLUSHALL", "", Right.NO_COMMAND),
    "in their order": ("-@dangerous +@all", "*", "FLUSHALL", "", Right.ALLOWED),
    "a subcommand": ("-@all +client|id", "", "CLIENT ID", "", Right.ALLOWED),
    "a subcommand of an allowed container": ("-@all +client", "", "CLIENT ID", "", Right.ALLOWED),
    "a key of the pattern": ("+@all", "queue:* stat:?", "GET", "queue:a", Right.ALLOWED),
    "a key of no pattern": ("+@all", "queue:* stat:?", "GET", "stat:10", Right.NO_KEY),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_rules_add_up_in_their_order(case: tuple[str, str, str, str, Right]) -> None:
    rules, patterns, name, key, expected = case
    user = AclUser(tuple(rules.split()), tuple(patterns.split()))
    keys = (key.encode(),) if key else ()
    assert right(user, UsedCommand(name, keys=keys, nkeys=len(keys)), CATEGORIES) is expected


def test_what_a_selector_may_allow_is_unknown() -> None:
    user = acl_user({"flags": [b"on"], "commands": b"-@all", "keys": b"~a", "selectors": [[b"commands", b"+get"]]})
    assert isinstance(right(user, UsedCommand("GET", keys=(b"a",), nkeys=1), CATEGORIES), Unknown)


def test_servers_of_two_ages_are_read_alike() -> None:
    newer = {"flags": [b"on"], "commands": b"+@all", "keys": b"~a* ~b", "selectors": []}
    older = {"flags": [b"on"], "commands": b"+@all", "keys": [b"a*", b"b"]}
    assert acl_user(newer) == acl_user(older) == AclUser(("+@all",), ("a*", "b"))


def test_a_real_server_refuses_the_same(redis: RedisServer) -> None:
    redis.call(
        "ACL", "SETUSER", "app", "on", "nopass", "~queue:*", "+@all", "-@dangerous", "+info", "-client", "-lpush"
    )
    told = {}
    with redis.talk() as talk:
        talk.call("HELLO", "2")

    async def read() -> tuple[dict[str, object], dict[str, frozenset[str]]]:
        asking = control(Place(Address.parse(redis.url)))
        answer = await ask.raw(asking, "ACL", "GETUSER", "app")
        categories = await ask.commands(asking)
        await asking.aclose()
        return {key.decode(): value for key, value in zip(answer[::2], answer[1::2], strict=True)}, dict(categories)

    told, categories = asyncio.run(read())
    user = acl_user(told)
    for name, line in (
        ("GET", ("GET", "queue:a")), ("GET", ("GET", "x")), ("LPUSH", ("LPUSH", "queue:a", "1")), ("INFO", ("INFO",)),
        ("KEYS", ("KEYS", "*")), ("CLIENT ID", ("CLIENT", "ID")), ("BRPOP", ("BRPOP", "queue:a", "queue:b", "1")),
        ("CONFIG GET", ("CONFIG", "GET", "x")), ("ACL WHOAMI", ("ACL", "WHOAMI")),
    ):  # fmt: skip
        keys = tuple(word.encode() for word in line[1:] if name in ("GET", "LPUSH", "BRPOP") and not word.isdigit())
        mine = right(user, UsedCommand(name, keys=keys, nkeys=len(keys)), categories)
        allowed = redis.call("ACL", "DRYRUN", "app", *line) == b"+OK\r\n"
        assert (mine is Right.ALLOWED) == allowed, (name, mine)
