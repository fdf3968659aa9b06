"""A session that shares backend connections; the story is in pooled.pyx."""

from proxy.engine.access import Access
from proxy.engine.pooling import Key, Person, Tables
from proxy.engine.recorder import Recorder
from proxy.engine.session import Session

class PooledSession(Session):
    """``access``: the credentials of both sides, None if no URL has any; ``first_id``: CLIENT ID of connection 0."""

    person: Person

    private: bool
    wants_private: bool
    blocks: bool
    reset: bool
    def __init__(
        self, recorder: Recorder, addr: bytes, access: Access | None, tables: Tables, first_id: int
    ) -> None: ...
    @property
    def access_now(self) -> Access | None: ...
    def admit(self, access: Access) -> None: ...
    def key(self) -> Key:
        """What a backend connection must be like to serve it: (RESP3, database, credentials of its own)."""
    def refuse_private(self, reply: bytes, now_ns: int) -> bool:
        """No private connection is to be had: answer the command that needs one. True: the client must be closed."""
    @property
    def keeps_private(self) -> bool: ...
    @property
    def is_neutral(self) -> bool:
        """Whether any backend connection would do for it now, and nothing is in flight."""
