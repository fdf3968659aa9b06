"""What a capture uses of a server, as a noun: commands with a sample of their keys, databases, scripts.

Knows: the shape. Refuses to know: how it is found (``report.used``) and what it is good for (``cutover``).
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.capture.facts import BackendFacts


@dataclass(frozen=True, slots=True)
class UsedCommand:
    """One command on one pattern of first keys, with one exchange of it as the sample.

    ``name`` as in the capture, "CLIENT SETNAME". ``template``: of its first key; empty: it had none, or none is
    recorded. ``keys`` may be fewer than ``nkeys``. ``nargs``: arguments of the sample, the name included; 0: not known.
    ``args``: all of them, the name first; empty: not recorded.
    """

    name: str
    template: bytes = b""
    count: int = 1
    keys: tuple[bytes, ...] = ()
    nkeys: int = 0
    nargs: int = 0
    args: tuple[bytes, ...] = ()

    @property
    def keys_known(self) -> bool:
        return len(self.keys) >= self.nkeys


@dataclass(frozen=True, slots=True)
class CaptureUse:
    """``exchanges``: commands that the backend did not answer with an error; the rest is about these.

    ``left_out``: commands and patterns beyond the bound. ``scripts``: SHA-1 of what EVALSHA named. ``sidekiq``: whether
    Sidekiq's keys are there. ``facts``: the last sample of what the backend knows. ``losses``: damaged places.
    """

    exchanges: int = 0
    commands: tuple[UsedCommand, ...] = ()
    left_out: int = 0
    databases: tuple[int, ...] = ()
    scripts: frozenset[str] = frozenset()
    sidekiq: bool = False
    facts: BackendFacts | None = None
    losses: int = 0

    @property
    def names(self) -> frozenset[str]:
        """The commands, without patterns."""
        return frozenset(used.name for used in self.commands)
