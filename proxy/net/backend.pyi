"""The backend's end of a connection; the story is in backend.pyx."""

from collections.abc import Callable
from typing import Protocol

from proxy.engine.session import Session
from proxy.net.endpoint import Endpoint, ReadBuffer, Traffic

class Reader(Protocol):
    """Who reads a backend connection whose client has gone."""

    def received(self, data: bytes, now_ns: int) -> None: ...
    def ended(self) -> None: ...

class Backend(Endpoint):
    """One backend connection, of one client."""

    def __init__(self, session: Session | None, buffer: ReadBuffer, traffic: Traffic) -> None: ...
    def start_prelude(self, on_prelude: Callable[[], object]) -> None:
        """Send AUTH and SELECT if the backend's URL says so; ``on_prelude`` is called when that is through."""
    def flush_early(self) -> None:
        """The client's end is attached: pass on what came before it."""
    def tell(self, words: bytes, on_bytes: Callable[[bytes], None]) -> None: ...
    def adopt(self, session: Session) -> None: ...
    def keep_for(self, orphan: Reader | None) -> None:
        """The client has gone: what comes goes to ``orphan``; None: nobody's."""
