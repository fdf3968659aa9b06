"""Ending connections without losing what is under way: SIGTERM's work for all of them, KILL's for some.

Knows: command boundaries, and how a fetch that waits in Redis is ended so that no job is lost. Refuses to know: who
asked for it, and listeners.

Each client is closed as soon as it stands at a command boundary: nothing in flight, nothing half sent, no MULTI. A
blocked fetch gets its own timeout first (all of Sidekiq's are 2 s). What still waits after UNBLOCK_SHARE of the time is
ended with CLIENT UNBLOCK: answered 1, the pop did not happen and the client reads a nil; answered 0, its reply is on
the way or the command is not there yet, so it is asked again until the connection has nothing in flight. Closing a
connection that waits in BRPOP instead can lose a job that was just popped for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection

from redis.asyncio import Redis
from redis.exceptions import RedisError

from proxy.net.client import Client
from proxy.net.endpoint import HOLD_DRAIN
from proxy.net.upstream import Upstream

_log = logging.getLogger(__name__)

#: Of the drain's time, the part that blocked commands get for their own timeouts.
UNBLOCK_SHARE = 0.6
#: CLIENT UNBLOCK is asked again after this long, doubling, seconds.
ASK_FIRST_S = 0.005
ASK_LONGEST_S = 0.2
#: How often it is looked whether a connection has become quiet without a reply to tell so, seconds.
LOOK_S = 0.02


async def drain(clients: Collection[Client], upstream: Upstream, timeout_s: float, stop_now: asyncio.Event) -> int:
    """Close every client at a command boundary, until the time is over. Returns how many pops are under way then."""
    began = time.monotonic()
    for client in list(clients):
        _begin(client)
    unblocking: asyncio.Task[None] | None = None
    while clients and not stop_now.is_set() and time.monotonic() - began < timeout_s:
        for client in list(clients):
            _look(client)
        if unblocking is None and time.monotonic() - began >= timeout_s * UNBLOCK_SHARE:
            unblocking = asyncio.create_task(_unblock(clients, upstream))
        try:
            await asyncio.wait_for(stop_now.wait(), LOOK_S)
        except TimeoutError:
            continue
    if unblocking is not None:
        unblocking.cancel()
        await asyncio.gather(unblocking, return_exceptions=True)
    return sum(client.session.open_pops for client in clients)


def _begin(client: Client) -> None:
    session = client.session
    session.drain()
    if session.listening and not session.piped and session.in_flight == 0:
        client.close()  # a subscription has no boundary: now is as good as later
        return
    _look(client)


def _look(client: Client) -> None:
    """Close a client at a boundary; keep one between two commands from sending another."""
    session = client.session
    if session.quiet and not session.piped:
        client.close()
    elif not (session.half_sent or session.in_transaction or session.piped):
        client.hold_reading(HOLD_DRAIN)


async def _unblock(clients: Collection[Client], upstream: Upstream) -> None:
    """End the fetches that still wait, one control connection for all."""
    control = upstream.control()
    delay_s = ASK_FIRST_S
    try:
        while clients:
            ids = await _ids(control, [client for client in clients if client.session.blocked])
            for backend_id in ids:
                await control.client_unblock(backend_id, error=False)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, ASK_LONGEST_S)
    except (RedisError, OSError) as error:
        _log.warning("can't end blocked commands with CLIENT UNBLOCK: %s; they are cut off at --drain-timeout", error)
    finally:
        await control.aclose()


async def _ids(control: Redis, blocked: list[Client]) -> list[int]:
    """The backend's client ids of these connections: as HELLO told, else by our socket's address in CLIENT LIST."""
    known = [client.session.backend_id for client in blocked if client.session.backend_id > 0]
    unknown = {_own_address(client) for client in blocked if client.session.backend_id <= 0}
    unknown.discard("")
    if unknown:
        known += [int(entry["id"]) for entry in await control.client_list() if entry["addr"] in unknown]
    return known


def _own_address(client: Client) -> str:
    """Our end of the backend connection, as CLIENT LIST shows it; "" where that names no single connection."""
    if client.peer is None or client.peer.transport is None:
        return ""
    place = client.peer.transport.get_extra_info("sockname")
    if not isinstance(place, tuple):
        return ""
    host, port = place[0], place[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
