"""Having one Redis follow another: REPLICAOF, waiting for its data, comparing offsets, promoting.

Knows: what must be so that following loses nothing. Refuses to know: when each is done (``switching``).

Following deletes what the follower holds. So a server that holds keys is never made to follow, unless it follows
already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from proxy.address import Address

#: Between two looks at a follower that copies, and at one that is nearly there, seconds.
LOOK_S = 0.1
LOOK_CLOSE_S = 0.002
#: A link that is not up after this long, for no reason that the follower tells, is given up, seconds.
LINK_S = 20.0
#: A follower that is no further behind has the rest in no time.
CLOSE_BYTES = 16_384
#: Bytes that a source's stream grows by without anybody's write: a PING for its followers.
PING_BYTES = 14


class CantFollow(Exception):
    """One server can't follow the other: one line, with what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """A Redis: where it is, and how to get a connection for commands of shunt's own, which the caller closes."""

    address: Address
    control: Callable[[], Redis]

    @property
    def label(self) -> str:
        return self.address.label


async def follows(follower: Server, leader: Server) -> bool:
    """Whether it follows the other already, by what it says. Raises CantFollow."""
    told = await _replication(follower)
    return told.get("role") == "slave" and (
        str(told.get("master_host")), int(told.get("master_port", 0))
    ) == (leader.address.host, leader.address.port)  # fmt: skip


async def follow(follower: Server, leader: Server, progress: Callable[[str], None]) -> None:
    """Have it follow, and wait until it has all of the data and the link is up. Raises CantFollow."""
    if leader.address.scheme == "unix":
        raise CantFollow(f"{leader.label} is a unix socket, which no other server can reach; name it by host and port")
    if not await follows(follower, leader):
        await _must_hold_nothing_else(follower, leader)
        await _lend_credentials(follower, leader)
        await _ask(follower, "REPLICAOF", leader.address.host, str(leader.address.port))
    waited_s = 0.0
    while True:
        told = await _replication(follower)
        if told.get("master_link_status") == "up" and not int(told.get("master_sync_in_progress", 0)):
            return await _catch_up(follower, leader, progress)
        left = int(told.get("master_sync_left_bytes", 0))
        copying = bool(int(told.get("master_sync_in_progress", 0)))
        progress(
            f"{follower.label} copies {leader.label}: {left:,} bytes left" if copying else "the link is not up yet"
        )
        waited_s = 0.0 if copying else waited_s + LOOK_S
        if waited_s > LINK_S:
            raise CantFollow(
                f"{follower.label} can't follow {leader.label}: the link is not up after {LINK_S:g} s; look into "
                f"{follower.label}'s log, and whether it reaches {leader.label}"
            )
        await asyncio.sleep(LOOK_S)


async def _catch_up(follower: Server, leader: Server, progress: Callable[[str], None]) -> None:
    """Wait until it is so close behind that clients need not wait long for the rest. Raises CantFollow."""
    waited_s = 0.0
    while True:
        wanted = _offset(await _replication(leader), "master_repl_offset")
        behind = wanted - _offset(await _replication(follower), "slave_repl_offset")
        if behind <= CLOSE_BYTES:
            return
        progress(f"{follower.label} is {behind:,} bytes behind {leader.label}")
        if waited_s > LINK_S:
            raise CantFollow(
                f"{follower.label} does not catch up with {leader.label}: it is {behind:,} bytes behind; try again at "
                "a quieter moment, or find out what holds it up"
            )
        await asyncio.sleep(LOOK_S)
        waited_s += LOOK_S


async def match(follower: Server, leader: Server) -> int:
    """Wait until the follower has every write of the leader, to whom nobody writes. Returns that offset.

    Not bounded: the caller's time is. Raises CantFollow.
    """
    ahead, behind = leader.control(), follower.control()
    try:
        while True:
            wanted = _offset(await _info(ahead, leader), "master_repl_offset")
            while _offset(await _info(behind, follower), "slave_repl_offset") < wanted:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(LOOK_CLOSE_S)
            if _offset(await _info(ahead, leader), "master_repl_offset") == wanted:
                return wanted
    finally:
        await ahead.aclose()
        await behind.aclose()


async def promote(follower: Server) -> None:
    """Have it take writes, with what it has. Raises CantFollow."""
    await _ask(follower, "REPLICAOF", "NO", "ONE")
    told = await _replication(follower)
    if told.get("role") != "master":
        raise CantFollow(f"{follower.label} still says that it is a {told.get('role')} after REPLICAOF NO ONE")


async def fence(source: Server, target: Server, offset: int) -> int:
    """Have the source follow the target. Returns how many bytes of writes the source got from elsewhere since the
    ``offset``, keys that expired among them: they are lost by this. Raises CantFollow: try again."""
    strayed = 0
    if not await follows(source, target):
        told = await _replication(source)
        if told.get("role") == "master" and offset:
            grown = _offset(told, "master_repl_offset") - offset
            strayed = grown if grown % PING_BYTES else 0
        await _lend_credentials(source, target)
        await _ask(source, "REPLICAOF", target.address.host, str(target.address.port))
    return strayed


# ---- one server ------------------------------------------------------------------------------------------------------


async def follow_again(follower: Server, leader: Server) -> None:
    """Have it follow a leader whose data it has got. Raises CantFollow."""
    await _ask(follower, "REPLICAOF", leader.address.host, str(leader.address.port))


async def _must_hold_nothing_else(follower: Server, leader: Server) -> None:
    """It holds no key, or has been promoted out of following this leader and nobody has written to it since."""
    told, of = await _replication(follower), await _replication(leader)
    was_following = "master_replid" in of and told.get("master_replid2") == of["master_replid"]
    if was_following and _offset(told, "master_repl_offset") == _offset(told, "second_repl_offset") - 1:
        return
    control = follower.control()
    try:
        held = await control.info("keyspace")
    except (RedisError, OSError) as error:
        raise CantFollow(f"{follower.label} does not tell what it holds: {error}") from None
    finally:
        await control.aclose()
    keys = sum(int(each["keys"]) for each in held.values() if isinstance(each, dict))
    if keys:
        raise CantFollow(
            f"{follower.label} holds {keys:,} keys, and following would delete them; FLUSHALL it if nobody needs them"
        )


async def _lend_credentials(follower: Server, leader: Server) -> None:
    """The follower logs in with what the leader's URL says."""
    if leader.address.password is None:
        return
    password = leader.address.password.get_secret_value()
    await _ask(follower, "CONFIG", "SET", "masterauth", password)
    await _ask(follower, "CONFIG", "SET", "masteruser", leader.address.user or "")


async def _ask(server: Server, *words: str) -> Any:
    control: Any = server.control()  # without types in redis-py
    try:
        return await control.execute_command(*words)
    except ResponseError as error:
        what = " ".join(words[:3]) if words[0] == "CONFIG" else words[0]
        raise CantFollow(f"{server.label} refuses {what}: {error}; switch without --follow, or allow it") from None
    except (RedisError, OSError) as error:
        raise CantFollow(f"{server.label} does not answer: {error}") from None
    finally:
        await control.aclose()


async def _replication(server: Server) -> dict[str, Any]:
    control = server.control()
    try:
        return await _info(control, server)
    finally:
        await control.aclose()


async def _info(control: Redis, server: Server) -> dict[str, Any]:
    try:
        return dict(await control.info("replication"))
    except (RedisError, OSError) as error:
        raise CantFollow(f"{server.label} does not tell its state of replication: {error}") from None


def _offset(told: dict[str, Any], name: str) -> int:
    return int(told.get(name, -1))
