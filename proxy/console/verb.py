"""A verb of the console, and the table of them: the noun that every room may give the console more of.

Knows: a verb's name, its arguments and its help, how a line of words finds its verb, and what an answer looks like as
lines. Refuses to know: what any verb does, and who asks (RESP, HTTP).

An answer is plain data: a list of objects (a table), an object (facts) or a line of text. Its ``notes`` say what is
missing in it. Numbers keep their units in their names (``p99_ms``).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

Value = str | int | float | bool | None
Data = list[dict[str, Value]] | dict[str, Value] | str


class VerbError(Exception):
    """A verb that could not be done: one line, with what to do now."""


class UnknownVerb(VerbError):
    """There is no such verb: the line names those that exist."""


class BadArguments(VerbError):
    """The verb can't be called like this: the line says how."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a verb. ``progress(line)`` tells who asked how far it is; it never waits and never fails. ``by``: who
    asked, in a word or two."""

    arguments: tuple[str, ...] = ()
    progress: Callable[[str], None] = lambda line: None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    data: Data
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people, one item a line: ``addr=127.0.0.1:5000 name=web`` of a table, ``uptime_s: 12`` of facts."""
        if isinstance(self.data, str):
            lines = [self.data]
        elif isinstance(self.data, dict):
            lines = [f"{key}: {shown(value)}" for key, value in self.data.items()]
        else:
            lines = [" ".join(f"{key}={_word(value)}" for key, value in row.items()) for row in self.data]
        return [printable(line) for line in [*lines, *(f"note: {note}" for note in self.notes)]]


@dataclass(frozen=True, slots=True)
class Verb:
    """``name``: words in capitals. ``arguments``: how they are written, ``[…]`` may be left out, ``…`` repeats.
    ``changes``: it is written into the audit log. ``run`` returns when the thing is done; raises VerbError."""

    name: str
    help: str
    run: Callable[[Call], Awaitable[Answer]] = field(repr=False)
    arguments: str = ""
    changes: bool = False

    @property
    def usage(self) -> str:
        return f"{self.name} {self.arguments}".rstrip()

    def check(self, arguments: Sequence[str]) -> None:
        """Raises BadArguments where there are too many or too few."""
        words = self.arguments.split()
        least = len(re.sub(r"\[[^\]]*\]…?", "", self.arguments).split())
        most = len(arguments) if words and words[-1].strip("[]").endswith("…") else len(words)
        if len(arguments) < least or len(arguments) > most:
            raise BadArguments(f"write {self.usage}: {self.help}")


class Table:
    """Verbs by name."""

    def __init__(self, verbs: Iterable[Verb]) -> None:
        self.verbs: dict[str, Verb] = {}
        for verb in verbs:
            if verb.name in self.verbs:
                raise ValueError(f"the verb {verb.name} is there twice")
            self.verbs[verb.name] = verb
        self._most_words = max((len(name.split()) for name in self.verbs), default=1)

    def find(self, words: Sequence[str]) -> tuple[Verb, tuple[str, ...]]:
        """The verb that ``words`` begin with, in any case, and its arguments. Raises UnknownVerb, BadArguments."""
        for count in range(min(self._most_words, len(words)), 0, -1):
            verb = self.verbs.get(" ".join(words[:count]).upper())
            if verb is not None:
                arguments = tuple(words[count:])
                verb.check(arguments)
                return verb, arguments
        said = printable(" ".join(words)[:60])
        raise UnknownVerb(f"there is no verb '{said}'; there are {', '.join(self.verbs)}")


def shown(value: Value) -> str:
    """A value as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.3f}".rstrip("0").rstrip(".").replace(",", "") if isinstance(value, float) else str(value)


def printable(text: str) -> str:
    """``text`` in one line that can do nothing to a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _word(value: Value) -> str:
    text = shown(value)
    return f'"{text}"' if " " in text else text
