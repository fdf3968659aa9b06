"""What only the backend knows, as a capture keeps it: one sample of it, taken by shunt on a connection of its own.

Knows: the noun, and its JSON. Refuses to know: how it is asked (``net.backend_facts``), frames, files (``segments``).

What could not be asked is *unknown* with its reason, never a guess. Nothing here is a secret: no arguments, no keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ClientGroup:
    """Connections of the backend's that are not this shunt's, from one address (without port) under one name.
    ``command``: the last one of the youngest; ``oldest_s``: age of the oldest, seconds."""

    address: str
    name: str
    count: int
    command: str = ""
    library: str = ""
    oldest_s: int = 0


@dataclass(frozen=True, slots=True)
class BackendFacts:
    """One sample. ``moment``: start, sample or end. ``info``: fields of INFO by their names there, and ``maxclients``.

    ``listed``: connections that CLIENT LIST showed, ``own``: those of them that are this shunt's, None: not known.
    ``others``: the rest, the largest groups first; ``others_more``: connections in groups that were left out.
    ``unsure``: why some of ``others`` may be this shunt's, or be missing; empty: they are certain.
    ``unknown``: what could not be asked, with its reason.
    """

    ts_ns: int
    moment: str
    backend: str
    info: dict[str, str | int] = field(default_factory=dict)
    listed: int | None = None
    own: int | None = None
    others: tuple[ClientGroup, ...] = ()
    others_more: int = 0
    unsure: str = ""
    unknown: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What a frame and a compacted file's metadata hold."""
        return {**asdict(self), "others": [asdict(group) for group in self.others]}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> BackendFacts:
        """The inverse. Raises KeyError, TypeError or ValueError. Fields that a newer shunt added are left out."""
        known = {name: data[name] for name in cls.__slots__ if name in data and name != "others"}
        names = ClientGroup.__slots__
        groups = ({name: each[name] for name in names if name in each} for each in data.get("others", ()))
        return cls(**known, others=tuple(ClientGroup(**each) for each in groups))
