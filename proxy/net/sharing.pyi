"""The ends of a connection where clients share backend connections; the story is in sharing.pyx."""

from collections.abc import Callable, Sequence
from typing import Protocol

from proxy.engine.pooled import PooledSession
from proxy.engine.pooling import Key
from proxy.net.backend import Backend
from proxy.net.client import Client
from proxy.net.endpoint import Endpoint, ReadBuffer, Traffic
from proxy.net.pool import Pool

class Onlooker(Protocol):
    """Who waits for the replies of a client that has gone."""

    def look(self, now_ns: int) -> None: ...
    def ended(self) -> None: ...

class Trunk(Endpoint):
    """One shared backend connection."""

    key: Key
    failure: str | None
    waiting: int
    out_length: int
    used_ns: int
    first: bool
    def __init__(self, session: None, buffer: ReadBuffer, traffic: Traffic, pool: Pool, key: Key) -> None: ...
    @property
    def usable(self) -> bool: ...
    @property
    def busy(self) -> bool: ...
    def owed(self, client: PooledClient) -> int: ...
    def introduce(self, commands: Sequence[tuple[bytes, ...]]) -> None: ...
    def fail(self, why: str, reply: bytes | None = None) -> None: ...

class PrivateBackend(Backend):
    """A backend connection that belongs to one client at a time."""

    state: Key | None
    def __init__(self, session: None, buffer: ReadBuffer, traffic: Traffic, pool: Pool, state: Key | None) -> None: ...
    @property
    def usable(self) -> bool: ...
    def give(self, state: Key | None) -> None: ...
    def retire(self) -> None: ...

class PooledClient(Client):
    """A client that shares."""

    session: PooledSession
    waiting: bool
    def __init__(
        self,
        session: PooledSession,
        buffer: ReadBuffer,
        traffic: Traffic,
        on_made: Callable[[Client], None],
        on_lost: Callable[[Client], bool | None],
        pool: Pool,
    ) -> None: ...
    def leased(self, backend: PrivateBackend, commands: list[tuple[bytes, ...]]) -> None: ...
    def move(self, backend: Backend) -> None: ...
    @property
    def trunk(self) -> Trunk | None: ...
    orphan: Onlooker | None
    def send_own(self, data: bytes, replies: int) -> None: ...
    def not_leased(self, reply: bytes | None) -> None: ...
