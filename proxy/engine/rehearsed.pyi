"""A session that rehearses a target; the story is in rehearsed.pyx."""

from proxy.engine.access import Access
from proxy.engine.guarded import GuardedSession
from proxy.engine.pooled import PooledSession
from proxy.engine.pooling import Tables
from proxy.engine.recorder import Recorder
from proxy.engine.rehearsal import Rehearsing
from proxy.engine.session import Session

OUTCOMES: tuple[str, ...]

class RehearsedSession(GuardedSession):
    """A rehearsing client with a backend connection of its own."""

    def __init__(self, recorder: Recorder, addr: bytes, access: Access, rehearsing: Rehearsing) -> None: ...

class RehearsedPooledSession(PooledSession):
    """A rehearsing client that shares backend connections."""

    def __init__(
        self,
        recorder: Recorder,
        addr: bytes,
        access: Access | None,
        tables: Tables,
        first_id: int,
        rehearsing: Rehearsing,
    ) -> None: ...

def session(recorder: Recorder, addr: bytes, access: Access | None, rehearsing: Rehearsing | None) -> Session:
    """The session of a client in session mode, rehearsing if it is one of those chosen."""

def pooled_session(
    recorder: Recorder,
    addr: bytes,
    access: Access | None,
    tables: Tables,
    first_id: int,
    rehearsing: Rehearsing | None,
) -> PooledSession:
    """The same for a client that shares backend connections."""
