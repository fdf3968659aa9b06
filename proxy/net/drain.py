"""Ending connections without losing what is under way: SIGTERM's work for all of them, KILL's for some.

Knows: command boundaries, and when a fetch that waits in Redis must end. Refuses to know: how one is ended
(``unblock``), who asked for it, and listeners.

Each client is closed as soon as it stands at a command boundary: nothing in flight, nothing half sent, no MULTI. A
blocked fetch gets its own timeout first (all of Sidekiq's are 2 s). What still waits after UNBLOCK_SHARE of the time is
ended with CLIENT UNBLOCK.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from proxy.net.client import Client
from proxy.net.endpoint import HOLD_DRAIN
from proxy.net.unblock import unblock
from proxy.net.upstream import Upstream

#: Of the drain's time, the part that blocked commands get for their own timeouts.
UNBLOCK_SHARE = 0.6
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
            unblocking = asyncio.create_task(unblock(clients, upstream, "they are cut off at --drain-timeout"))
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
