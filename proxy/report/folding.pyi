def fold(offsets: memoryview, data: memoryview) -> tuple[bytearray, bytearray]:
    """Templates of ``len(offsets) - 1`` keys, key i being ``data[offsets[i]:offsets[i + 1]]``."""

def fold_first(lists: memoryview, offsets: memoryview, data: memoryview) -> tuple[bytearray, bytearray]:
    """The same for the first key of each of ``len(lists) - 1`` lists of keys; an empty list has the empty template."""
