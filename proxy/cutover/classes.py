"""Which backend each class of keys is on: the flags' word and the record's, brought together at start.

Knows: that the record wins, and what must not be started. Refuses to know: patterns, and how the record is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from proxy.cutover.record import RecordError
from proxy.routing.route import MAIN, Backend
from proxy.routing.table import KeyClass

Recorded = tuple[tuple[str, Backend], ...]


@dataclass(frozen=True, slots=True)
class Agreed:
    """``classes``: as they are in force; ``record``: what the record is to say of them; ``notes``: for the log."""

    classes: tuple[KeyClass, ...]
    record: Recorded
    notes: tuple[str, ...]


def agree(wanted: Sequence[KeyClass], recorded: Recorded, urls: Mapping[str, str]) -> Agreed:
    """``wanted``: as the flags have them; ``urls``: each backend's name and its URL without credentials. Raises
    RecordError, with one line, where keys would be looked for elsewhere than they are."""
    known = dict(recorded)
    names = {url: name for name, url in reversed(list(urls.items()))}
    classes, notes = [], []
    for each in wanted:
        there = known.pop(each.name, None)
        if there is None:
            classes.append(each)
            continue
        name = each.backend if urls[each.backend] == there.url else names.get(there.url)
        if name is None:
            raise RecordError(
                f"the class {each.name} is on {there.url}, as the route record says, and --backends does not name that"
                " Redis; name it there"
            )
        if name != each.backend:
            notes.append(f"the class {each.name} is on {name}, as the route record says, and not on {each.backend}")
        classes.append(replace(each, backend=name))
    for name, there in known.items():
        if there.url != urls[MAIN]:
            raise RecordError(
                f"the class {name} is on {there.url}, as the route record says, and --classes does not name it: its "
                f"keys would be looked for at --backend; name it, or, when they are there, shunt route set "
                f"{name}={urls[MAIN]}"
            )
    record = tuple((each.name, Backend(each.backend, urls[each.backend])) for each in classes)
    return Agreed(tuple(classes), record, tuple(notes))
