from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protocol.commands import CommandSpec

@dataclass(frozen=True)
class Keys:
    """The keys are known: their argument indexes. ``shard_channels``: they are channels, no keys."""

    indexes: tuple[int, ...]
    shard_channels: bool = False

@dataclass(frozen=True)
class Unknown:
    """The keys can't be told: ``why`` is an ``UnknownWhy`` number."""

    why: int

class CommandTable:
    """The command table as plain C. ``names[spec.id]`` is a command's name."""

    names: list[str]
    def __init__(self, commands: Mapping[str, CommandSpec]) -> None: ...

def find(args: Sequence[bytes], *, kept: int | None = None, cut: int | None = None) -> Keys | Unknown:
    """Which of ``args`` (bytes, the command's name first) are keys: ``Keys`` or ``Unknown``.

    Only the first ``kept`` arguments, and of each only ``cut`` bytes, are looked at: as if the rest had not been kept.
    """

def lookup_name(args: Sequence[bytes]) -> CommandSpec | None:
    """The ``CommandSpec`` of the command that ``args`` names, or None."""

def ask(args: Sequence[bytes], *, kept: int | None = None, cut: int | None = None) -> dict[str, int] | None:
    """The answers of the other questions, by name, or None when the command is not in the table."""

def look_up_repeatedly(args: Sequence[bytes], rounds: int) -> int:
    """Look the command up and find its keys ``rounds`` times, for measuring; returns the number of keys found."""
