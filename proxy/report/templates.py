"""Key templates: key names with their changing parts folded away, so that a report groups what belongs together.

Knows: what changing parts look like (UUIDs, dates, hexadecimal ids, numbers). Refuses to know: any application's names.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

#: (pattern, what stands for it), applied in this order. Words shorter than 10 letters of a-f are left alone.
_FOLDS = (
    (r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}", "<uuid>"),
    (r"\b(?:19|20)[0-9]{2}-[01][0-9]-[0-3][0-9](?:[T ][0-9:.]+Z?)?", "<date>"),
    (r"\b(?:[0-9]+|[0-9a-f]{10,}|[0-9A-F]{10,})\b", "<id>"),
    (r"[0-9]+", "<n>"),
)


def fold(keys: pa.Array) -> pa.Array:
    """The templates of binary ``keys``, one for one. Bytes that are no UTF-8 pass."""
    folded = keys
    for pattern, replacement in _FOLDS:
        folded = pc.replace_substring_regex(folded, pattern, replacement)
    return folded


def fold_one(key: bytes) -> bytes:
    """The template of one key."""
    template: bytes = fold(pa.array([key], pa.binary()))[0].as_py()
    return template
