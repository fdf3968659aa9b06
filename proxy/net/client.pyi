"""The client's end of a connection; the story is in client.pyx."""

from collections.abc import Callable

from proxy.engine.session import Session
from proxy.net.backend import Backend
from proxy.net.endpoint import Endpoint, ReadBuffer, Traffic

class Client(Endpoint):
    """``on_made(client)`` when it is connected, ``on_lost(client)`` once, when the connection has ended; True: the
    backend connection is still read."""

    def __init__(
        self,
        session: Session,
        buffer: ReadBuffer,
        traffic: Traffic,
        on_made: Callable[[Client], None],
        on_lost: Callable[[Client], bool | None],
    ) -> None: ...
    def move(self, backend: Backend) -> None: ...
