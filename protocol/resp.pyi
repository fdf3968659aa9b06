"""Frame scanner: what Python sees of it (the engine uses the C functions in resp.pxd)."""

class CommandReader:
    """The commands in a client's bytes, however they are cut."""

    bad: bool
    too_big: bool
    def __init__(self, max_frame: int = 0) -> None: ...
    def feed(self, data: bytes) -> list[tuple[list[bytes | None], int, bool]]:
        """(arguments, bytes of the frame in this feed, inline) of each command that ``data`` completes."""

class ReplyReader:
    """The frames in a backend's bytes, however they are cut."""

    bad: bool
    def feed(self, data: bytes) -> list[tuple[str, bool, int]]:
        """(first byte, null, bytes of the frame) of each frame that ``data`` completes."""
