"""The client's end of a connection; the story is in client.pyx."""

from collections.abc import Callable

from proxy.engine.session import Session
from proxy.net.endpoint import Endpoint, ReadBuffer, Traffic

class Client(Endpoint):
    """``on_lost(client)`` is called once, when the connection has ended."""

    def __init__(
        self, session: Session, buffer: ReadBuffer, traffic: Traffic, on_lost: Callable[[Client], None]
    ) -> None: ...
