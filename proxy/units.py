"""Durations and sizes as people write them: "800ms", "2h", "10GB", "64MiB".

Knows: the units and their factors. Refuses to guess: a unit that means two things to two people ("10G", "5k") is
an error that says what to write.
"""

from __future__ import annotations

import re
from decimal import Decimal

SECONDS: dict[str, Decimal] = {
    "us": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
BYTES: dict[str, Decimal] = {
    "b": Decimal(1),
    **{f"{prefix}b": Decimal(1000**power) for power, prefix in enumerate("kmgt", 1)},
    **{f"{prefix}ib": Decimal(1024**power) for power, prefix in enumerate("kmgt", 1)},
}

_NUMBER = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")


def parse_duration_s(text: str) -> float:
    """Seconds. A number without a unit is seconds. Raises ValueError with one line."""
    found = _NUMBER.fullmatch(text.strip())
    factor = SECONDS.get(found[2] or "s") if found else None
    if found is None or factor is None:
        raise ValueError("is no duration; write a number with us, ms, s, m, h or d, like 800ms or 2h")
    return float(Decimal(found[1]) * factor)


def parse_size_bytes(text: str) -> int:
    """Bytes. A number without a unit is bytes; kB is 1,000 and KiB is 1,024. Raises ValueError with one line."""
    found = _NUMBER.fullmatch(text.strip())
    factor = BYTES.get(found[2].lower() or "b") if found else None
    if found is None or factor is None:
        raise ValueError("is no size; write bytes, or a number with kB, MB, GB, KiB, MiB or GiB, like 10GB")
    return int(Decimal(found[1]) * factor)


def show_duration(seconds: float) -> str:
    """The shortest way to write a duration: 0.8 as ``800ms``, 7200 as ``2h``."""
    exact = Decimal(str(seconds))
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count = exact / SECONDS[unit]
        if count >= 1 and count == count.to_integral_value():
            return f"{int(count)}{unit}"
    return f"{seconds}s"


def show_size(size_bytes: int) -> str:
    """The shortest exact way to write a size: 10000000000 as ``10GB``."""
    for unit in ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB"):
        factor = int(BYTES[unit.lower()])
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)
