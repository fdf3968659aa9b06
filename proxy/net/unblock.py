"""Ending commands that wait in Redis without losing what they may have popped: CLIENT UNBLOCK, asked until it is over.

Knows: how a backend connection is named to Redis. Refuses to know: why it must end, and until when.

Answered 1, the pop did not happen and the client reads a nil, as after its own timeout: that command is left alone from
then on, since what waits behind it would be met. Answered 0, its reply is on
the way or the command has not been run yet: it is asked again until the connection has nothing in flight. Closing a
connection that waits in BRPOP instead can lose a job that was just popped for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy.engine.session import Session
from proxy.net.routing import RoutedBackend
from proxy.net.upstream import Upstream

_log = logging.getLogger(__name__)

#: CLIENT UNBLOCK is asked again after this long, doubling, seconds.
ASK_FIRST_S = 0.005
ASK_LONGEST_S = 0.2


class Blocked(Protocol):
    """A client, or what is left of one: its conversation, and its backend connection (an Endpoint, or None)."""

    @property
    def session(self) -> Session: ...
    @property
    def peer(self) -> Any: ...


async def unblock(clients: Collection[Blocked], upstream: Upstream, otherwise: str) -> None:
    """End the fetches that wait, again and again until cancelled; one control connection to each backend.

    ``clients`` may change meanwhile: whose fetch is over, or who is no longer among them, is left alone. Where Redis
    does not let us, a warning says so and what happens ``otherwise``.
    """
    controls: dict[Upstream, Redis] = {}
    ended: dict[Blocked, int] = {}
    delay_s = ASK_FIRST_S
    this = asyncio.current_task()
    assert this is not None
    try:
        while clients and not this.cancelling():  # redis-py goes on if it is cancelled while it connects
            for place, blocked in _by_upstream(clients, upstream).items():
                control = controls[place] = controls.get(place) or place.control()
                for backend_id, client in (await _ids(control, blocked)).items():
                    if this.cancelling():
                        return
                    number = client.session.oldest
                    if not client.session.blocked or client not in clients or ended.get(client) == number:
                        continue
                    if await control.client_unblock(backend_id, error=False):
                        ended[client] = number
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, ASK_LONGEST_S)
    except (RedisError, OSError) as error:
        _log.warning("can't end blocked commands with CLIENT UNBLOCK: %s; %s", error, otherwise)
    finally:
        for control in controls.values():
            await control.aclose()


def _by_upstream(clients: Collection[Blocked], upstream: Upstream) -> dict[Upstream, list[Blocked]]:
    """The clients that wait, by where they do."""
    found: dict[Upstream, list[Blocked]] = {}
    for client in clients:
        if client.session.blocked:
            place = client.peer.upstream if isinstance(client.peer, RoutedBackend) else None
            found.setdefault(place or upstream, []).append(client)
    return found


async def _ids(control: Redis, blocked: list[Blocked]) -> dict[int, Blocked]:
    """These connections by their ids in the backend: as HELLO told, else by our socket's address in CLIENT LIST."""
    known = {client.session.backend_id: client for client in blocked if client.session.backend_id > 0}
    unknown = {_own_address(client): client for client in blocked if client.session.backend_id <= 0}
    unknown.pop("", None)
    if unknown:
        listed = await control.client_list()
        known |= {int(entry["id"]): unknown[entry["addr"]] for entry in listed if entry["addr"] in unknown}
    return known


def _own_address(client: Blocked) -> str:
    """Our end of the backend connection, as CLIENT LIST shows it; "" where that names no single connection."""
    if client.peer is None or client.peer.transport is None:
        return ""
    place = client.peer.transport.get_extra_info("sockname")
    if not isinstance(place, tuple):
        return ""
    host, port = place[0], place[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
