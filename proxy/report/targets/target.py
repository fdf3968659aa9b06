"""What a target is: one kind of Redis that commands may be moved to, as plain facts, each with its source.

Knows: the shape of a target's TOML file (``load`` reads them), and which command names a fact covers. Refuses to know:
what a fact means for a row (``report.rules``), files.

A fact that is not known is a value too: ``Confidence`` says how far to trust it, and commands that nobody verified on a
target are of the kind ``UNVERIFIED``. An error text in parentheses describes what happens; any other is the exact text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Confidence(StrEnum):
    """How a fact is known, best first."""

    MEASURED = "measured"  # seen on a real server or proxy
    DOCUMENTED = "documented"  # the vendor's page or the source code says so
    INFERRED = "inferred"  # follows from something documented, unchecked
    MEMORY = "memory"  # remembered, unchecked


class Kind(StrEnum):
    """How a target behaves as a whole."""

    SINGLE = "single"  # like one Redis: no slots
    SHARDED = "sharded"
    PROXY = "proxy"  # a proxy that spreads keys over several Redis


class SlotFunction(StrEnum):
    """How a key becomes a slot (``protocol.slots``)."""

    NONE = "none"  # all keys in one place
    REDIS = "redis"
    ENTERPRISE = "enterprise"  # Redis Enterprise's standard hashing policy
    SERVER = "server"  # a proxy's own hash: keys of one tag are together, of others only by luck


class CommandKind(StrEnum):
    """What becomes of a command that the target does not simply run."""

    MISSING = "missing"  # an error; an application has use for it
    RESTRICTED = "restricted"  # an error; an administrator's
    UNVERIFIED = "unverified"  # nobody knows
    FINE = "fine"  # takes back what a target above it (``like``) says


class Fact(BaseModel):
    """Base: nothing is said without saying where it is known from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=8)
    confidence: Confidence
    note: str = ""


class Server(Fact):
    """What the commands are those of; newer ones are missing. Without it, newer ones are unverified."""

    name: Literal["Redis", "Valkey"]
    version: str = Field(pattern=r"^\d+\.\d+$")


class Slots(Fact):
    function: SlotFunction


class CrossSlot(Fact):
    """One command whose keys lie in several slots. ``allowed``: served all the same, outside transactions."""

    allowed: frozenset[str] = frozenset()
    others: Literal["error", "first-key"] = "error"  # first-key: runs where its first key is, without an error
    error: str = ""


class Transactions(Fact):
    """A transaction whose commands lie in several slots; ``error`` and the moment.

    ``spoiled``: what EXEC does after a command was refused when queued. ``refuses``: served, but not inside MULTI.
    """

    fails: Literal["exec", "queue"] = "exec"
    error: str = ""
    queue_error: str = ""  # of a command that crosses slots by itself, where it is not cross_slot's
    spoiled: Literal["aborts", "runs-the-rest"] = "aborts"
    refuses: frozenset[str] = frozenset()
    refuses_error: str = ""


class Watch(Fact):
    """WATCH in another slot than the transaction behind it."""

    apart: Literal["fine", "latent", "error"]
    error: str = ""


class Scripts(Fact):
    """``undeclared``: a script touches a key that is not among KEYS.

    latent: works while the key is local; error: refused; wrong-data: no error, another shard's data is missed.
    """

    undeclared: Literal["fine", "latent", "error", "wrong-data", "unknown"]
    undeclared_error: str = ""
    no_cluster_flag: bool = True  # the flag no-cluster is honoured
    load: Literal["everywhere", "node"] = "node"  # where SCRIPT LOAD reaches


class Databases(Fact):
    """``number``: how many there are; 0: as many as the target is configured to have.

    ``errors``: command to its error, where the command names another database (SELECT n, SWAPDB, MOVE, COPY … DB n).
    A command without an entry is served.
    """

    number: int = Field(ge=0)
    errors: dict[str, str] = {}


class Sort(Fact):
    """SORT with a BY or GET pattern that reads other keys. ``{option}`` in ``error``: BY or GET."""

    patterns: Literal["fine", "error", "unknown"]
    error: str = ""


class Keyspace(Fact):
    """Commands about the whole data set, and whether they see all of it."""

    scope: Literal["all", "node"]
    commands: frozenset[str] = frozenset()  # those that see one node only


class Notifications(Fact):
    """Keyspace notifications: of all keys, or of the connected node's."""

    scope: Literal["all", "node", "unknown"]


class Blocking(Fact):
    """Blocking commands; ``no`` and ``unknown`` are spelled out in ``commands`` too."""

    supported: Literal["yes", "no", "unknown"]


class Client(Fact):
    """What the client has to speak."""

    needs: Literal["any", "cluster"]
    tls: Literal["optional", "required"] = "optional"


class Only(Fact):
    """A target that serves these commands and no others. Names as in ``Commands``."""

    names: tuple[str, ...]
    error: str


class Commands(Fact):
    """Commands that the target does not simply run. A name ending in `` *`` covers its subcommands too.

    ``{command}`` in ``error`` is the name. ``instead``: what an application can send instead; empty: nothing.
    """

    names: tuple[str, ...] = Field(min_length=1)
    kind: CommandKind
    error: str = ""
    instead: str = ""

    @field_validator("names")
    @classmethod
    def _upper(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if low := [name for name in names if name != name.upper()]:
            raise ValueError(f"command names are upper case: {low[0]}")
        return names


class Target(BaseModel):
    """One target: all that is said of it, in one place."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    about: str
    kind: Kind
    aliases: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()  # the targets that it is like, nearest first
    server: Server | None = None
    slots: Slots
    cross_slot: CrossSlot
    transactions: Transactions
    watch: Watch
    scripts: Scripts
    databases: Databases
    sort: Sort
    keyspace: Keyspace
    notifications: Notifications
    blocking: Blocking
    client: Client
    only: Only | None = None
    commands: tuple[Commands, ...] = ()
    #: Full command name to what the target says of it; made by ``load``.
    refusals: dict[str, Commands] = {}

    @property
    def sharded(self) -> bool:
        """Whether keys can be apart."""
        return self.slots.function is not SlotFunction.NONE

    def names(self, kind: CommandKind) -> frozenset[bytes]:
        """Full names of the commands of one kind."""
        return frozenset(name.encode() for name, fact in self.refusals.items() if fact.kind is kind)

    def lacks(self, command: str) -> bool:
        """Whether the command ends in an error whatever its keys."""
        fact = self.refusals.get(command)
        return fact is not None and fact.kind in (CommandKind.MISSING, CommandKind.RESTRICTED)

    def facts(self) -> list[tuple[str, Fact]]:
        """Every fact of its own or of its parents, with its table's name, in the order of this class."""
        found: list[tuple[str, Fact]] = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Fact):
                found.append((name, value))
        return found + [("commands", each) for each in self.commands]
