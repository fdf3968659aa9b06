def slot(key: bytes) -> int:
    """The hash slot (0 to 16383) of ``key``."""

def hash_tag(key: bytes) -> bytes:
    """The part of ``key`` that decides its slot: its hash tag, or all of it."""

def enterprise_slot(key: bytes) -> int:
    """The hash slot of ``key`` under Redis Enterprise's standard hashing policy."""

def enterprise_tag(key: bytes) -> bytes:
    """The part of ``key`` that decides its slot under Redis Enterprise's standard hashing policy; may be empty."""

def enterprise_slots(
    lists: memoryview, ends: memoryview, data: memoryview, slots: memoryview, nkeys: memoryview, cut: int
) -> bytearray:
    """The slots of many commands under Redis Enterprise's policy, as bytes of int16; -2: several slots.

    ``lists``: where each command's keys begin in ``ends``, one more than commands; ``ends``: where each key begins in
    ``data``. Commands whose keys are not all there (``nkeys`` says how many), or whose keys are ``cut`` bytes and
    longer, or whose slot is not known (-3) keep what ``slots`` says.
    """
