def slot(key: bytes) -> int:
    """The hash slot (0 to 16383) of ``key``."""

def hash_tag(key: bytes) -> bytes:
    """The part of ``key`` that decides its slot: its hash tag, or all of it."""
