"""The totals of several workers: everything is added, and what was added stays as it was."""

from __future__ import annotations

from dataclasses import fields

from proxy.engine.stats import CommandStats, EngineStats, merged
from tests.console.source import command


def full(name: str, number: int) -> CommandStats:
    """A command's totals in which every number is ``number``."""
    stats = command(name)
    for each in fields(stats):
        if each.name.endswith("_buckets"):
            setattr(stats, each.name, [number] * len(getattr(stats, each.name)))
        elif each.name != "command":
            setattr(stats, each.name, number)
    return stats


def engine(number: int, *commands: CommandStats) -> EngineStats:
    stats = EngineStats(list(commands))
    for each in fields(stats):
        if isinstance(getattr(stats, each.name), int):
            setattr(stats, each.name, number)
    stats.errors = {"WRONGTYPE": number, f"ERR{number}": 1}
    stats.plain_pipes = {"monitor": number}
    return stats


def test_every_number_of_every_command_is_added() -> None:
    whole = merged([engine(1, full("GET", 1), full("SET", 5)), engine(2, full("GET", 2))])
    assert {each.command: each for each in whole.commands} == {"GET": full("GET", 3), "SET": full("SET", 5)}


def test_every_total_and_every_counted_word_is_added() -> None:
    whole = merged([engine(1), engine(2)])
    assert whole.errors == {"WRONGTYPE": 3, "ERR1": 1, "ERR2": 1}
    assert whole.plain_pipes == {"monitor": 3}
    numbers = {name: value for each in fields(whole) if isinstance(value := getattr(whole, name := each.name), int)}
    assert numbers
    assert set(numbers.values()) == {3}


def test_what_is_merged_stays_as_it_was() -> None:
    one = engine(1, full("GET", 1))
    whole = merged([one, engine(2, full("GET", 2))])
    whole.errors["X"] = 1
    whole.commands[0].service_buckets[0] = 99
    assert one == engine(1, full("GET", 1))


def test_nothing_merged_is_nothing() -> None:
    assert merged([]) == EngineStats()
