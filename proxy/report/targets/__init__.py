"""The targets: kinds of Redis that commands may be moved to, one TOML file each, beside this page.

Knows: every target by its id and its other names. Refuses to know: rules and rows (``report.rules``). A lower room's
noun: ``shunt run`` checks ``--target`` by it.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.report.targets.load import TargetError, read_targets
from proxy.report.targets.target import CommandKind, Confidence, Fact, Kind, SlotFunction, Target

__all__ = [
    "DEFAULT", "TARGETS", "CommandKind", "Confidence", "Fact", "Kind", "SlotFunction", "Target", "TargetError", "find",
]  # fmt: skip

TARGETS: Mapping[str, Target] = read_targets()

#: What is judged, and rehearsed, where nobody names a target.
DEFAULT = "redis-cluster"

_BY_NAME = {alias: target.id for target in TARGETS.values() for alias in target.aliases}


def find(name: str) -> Target:
    """The target of this id or alias. Raises TargetError with one line that names those there are."""
    target = TARGETS.get(_BY_NAME.get(name, name))
    if target is None:
        raise TargetError(f"unknown target {name!r}; there is: {', '.join(TARGETS)}")
    return target
