"""Who of the clients that come is chosen by a split: a share, and addresses.

Knows: that the draw depends on a seed and a number alone, so it is the same whenever it is asked for, and who is drawn
for a share is drawn for each larger one. Refuses to know: names, which come later (``engine.canary``), and clients.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_WHOLE = 1 << 64


def drawn(seed: bytes, number: int, percent: float) -> bool:
    """Whether connection ``number`` is one of ``percent`` of all. ``seed``: at most 64 bytes."""
    digest = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=8, key=seed).digest()
    return int.from_bytes(digest, "big") < _WHOLE * percent / 100


@dataclass(frozen=True, slots=True)
class Addresses:
    """Clients' addresses: a network, or a pattern of what a listener calls a client (``10.0.0.5:40000``,
    ``[::1]:40000``, ``unix:3``) or of its host alone."""

    network: _Network | None
    pattern: re.Pattern[bytes] | None

    def fits(self, label: str) -> bool:
        """Whether this client is meant."""
        host = label.rpartition(":")[0].strip("[]")
        if self.network is not None:
            try:
                address = ipaddress.ip_address(host)
            except ValueError:
                return False  # of a unix socket
            return address in self.network
        assert self.pattern is not None
        return any(self.pattern.fullmatch(text.encode()) is not None for text in (label, host))


def network(text: str) -> _Network | None:
    """The network, or the one address, that is written so; None: it is none."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
