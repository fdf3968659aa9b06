"""What is known of the two servers before anything is moved. Pure data.

Knows: the shape of each fact; what could not be asked is ``Unknown`` with its reason. Refuses to know: how it is asked
(``reach``, ``ask``) and what it means (``checks``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from proxy.address import Address
from proxy.capture.facts import BackendFacts
from proxy.capture.use import CaptureUse, UsedCommand
from proxy.net.tls import BackendTls

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that could not be learnt. ``why``: the second half of a sentence."""

    why: str


#: What a preflight itself asks and applications hardly do: a server's statistics have it for that alone.
OWN_QUESTIONS = frozenset(
    {
        "ACL DRYRUN", "ACL GETUSER", "ACL WHOAMI", "CLIENT ID", "CLIENT LIST", "CLUSTER INFO", "COMMAND", "CONFIG GET",
        "FUNCTION LIST", "INFO", "SCRIPT EXISTS", "TIME",
    }
)  # fmt: skip
NOT_ASKED = Unknown("it was not asked")


@dataclass(frozen=True, slots=True)
class Place:
    """One of the two servers as it was named. ``tls`` counts where the address is rediss://."""

    address: Address
    tls: BackendTls = field(default_factory=BackendTls)


class Stage(StrEnum):
    """How far a connection came."""

    NAME = "name"
    CONNECT = "connect"
    TLS = "tls"
    CREDENTIALS = "credentials"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Reach:
    """``failed``: the stage that failed, and ``why`` in a line; None: it answers. ``connect_s``: name, TCP and TLS."""

    failed: Stage | None = None
    why: str = ""
    connect_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """``expires_s``: seconds since the epoch; ``days_left`` by this machine's clock."""

    expires_s: float
    days_left: float


@dataclass(frozen=True, slots=True)
class Offset:
    """A server's clock before (+) this machine's, in seconds, and how wrong that may be."""

    seconds: float
    error_s: float


@dataclass(frozen=True, slots=True)
class Jobs:
    """What waits in Sidekiq's lists and sorted sets, by database and key. ``looked_at_all``: else only some keys."""

    waiting: Mapping[str, int]
    looked_at_all: bool = True


class Right(StrEnum):
    """What a server says of a user and a command."""

    ALLOWED = "allowed"
    NO_COMMAND = "may not run it"
    NO_KEY = "may not touch the key"
    NO_CHANNEL = "may not use the channel"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server says of one used command: ``right``, or why that is not known."""

    used: UsedCommand
    right: Right | Unknown


@dataclass(frozen=True, slots=True)
class Rights:
    """What the user may. ``how``: "ACL DRYRUN" or "ACL GETUSER". ``left_out``: commands that were not asked."""

    user: str
    how: str
    answers: tuple[Answer, ...]
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server. ``info``: INFO by its own names; ``config``: CONFIG GET, each by itself. ``commands``: name to
    its ACL categories. ``used``: calls by command since it started. ``keys``: count by database. ``selects``: the
    error of SELECT by database, empty: it can be selected. ``may``: rights of the user in its URL by command line."""

    place: Place
    reach: Reach = Reach()
    certificate: Certificate | Unknown | None = None
    user: str | Unknown = NOT_ASKED
    info: Mapping[str, Any] | Unknown = NOT_ASKED
    config: Mapping[str, str | Unknown] = field(default_factory=dict)
    cluster: Mapping[str, str] | Unknown | None = None
    commands: Mapping[str, frozenset[str]] | Unknown = NOT_ASKED
    used: Mapping[str, int] | Unknown = NOT_ASKED
    libraries: frozenset[str] | Unknown = NOT_ASKED
    scripts_missing: tuple[str, ...] | Unknown = NOT_ASKED
    clock: Offset | Unknown = NOT_ASKED
    pings_s: tuple[float, ...] | Unknown = NOT_ASKED
    keys: Mapping[int, int] | Unknown = NOT_ASKED
    selects: Mapping[int, str] | Unknown = NOT_ASKED
    jobs: Jobs | Unknown = NOT_ASKED
    sidekiq: bool | Unknown = NOT_ASKED
    may: Mapping[str, Right | Unknown] = field(default_factory=dict)
    rights: Rights | Unknown = NOT_ASKED

    @property
    def reached(self) -> bool:
        return self.reach.failed is None

    @property
    def label(self) -> str:
        return self.place.address.label

    def text(self, name: str) -> str | Unknown:
        """A field of INFO."""
        if isinstance(self.info, Unknown):
            return self.info
        value = self.info.get(name)
        return Unknown(f"INFO does not tell {name}") if value is None else str(value)

    def number(self, name: str) -> int | Unknown:
        """A field of INFO that is a whole number."""
        text = self.text(name)
        if isinstance(text, Unknown):
            return text
        return int(text) if text.lstrip("-").isdigit() else Unknown(f"INFO's {name} is no number")

    def setting(self, name: str, info: str = "") -> str | Unknown:
        """CONFIG's ``name``, else INFO's ``info``: managed services refuse CONFIG, old servers lack the field."""
        told = self.text(info) if info else NOT_ASKED
        return self.config.get(name, NOT_ASKED) if isinstance(told, Unknown) else told

    def setting_number(self, name: str, info: str = "") -> int | Unknown:
        text = self.setting(name, info)
        if isinstance(text, Unknown):
            return text
        return int(text) if text.isdigit() else Unknown(f"{name} is no number")

    @property
    def clustered(self) -> bool | Unknown:
        enabled = self.text("cluster_enabled")
        return enabled if isinstance(enabled, Unknown) else enabled == "1"


@dataclass(frozen=True, slots=True)
class Judged:
    """What the report says of the capture on a kind of Redis. ``unsure``: it can't tell."""

    target: str
    compatible: bool
    unsure: bool
    words: str
    reason: str


@dataclass(frozen=True, slots=True)
class Running:
    """What the console of a running shunt says: where its backend is, where its connections there are as its sockets
    have them, and why some may be missing."""

    backend: str
    sockets: frozenset[str]
    incomplete: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """All that is known. ``use``: of the capture; None: there is none. ``judged``: None: not judged. ``clients``: who
    is connected to the source; ``running``: a shunt on this machine. ``follow``: the switch is to use replication."""

    source: ServerFacts
    target: ServerFacts
    use: CaptureUse | None = None
    judged: Judged | Unknown | None = None
    clients: BackendFacts | Unknown = NOT_ASKED
    running: Running | Unknown = NOT_ASKED
    follow: bool = False
