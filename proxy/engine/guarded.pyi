"""A session with credentials or a database in one of the URLs; the story is in guarded.pyx."""

from proxy.engine.access import Access
from proxy.engine.recorder import Recorder
from proxy.engine.session import Session

class GuardedSession(Session):
    """``access``: the credentials of both sides."""

    def __init__(self, recorder: Recorder, addr: bytes, access: Access) -> None: ...
    @property
    def access_now(self) -> Access: ...
    def admit(self, access: Access) -> None: ...

def session(recorder: Recorder, addr: bytes, access: Access | None) -> Session:
    """The session that a client needs: guarded where ``access`` says something, else a plain one."""
