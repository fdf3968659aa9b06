"""A target in words: one statement per fact, with its source and how far to trust it. Pure.

Knows: the sentences. Refuses to know: how they are shown (``cli.targets``, ``page``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from proxy.report.targets.target import CommandKind, Commands, Confidence, Fact, SlotFunction, Target

#: So many command names are spelled out; the file has all.
_NAMES = 12


@dataclass(frozen=True)
class Statement:
    """One fact in words."""

    topic: str
    text: str
    confidence: Confidence
    source: str


def explain(target: Target) -> list[Statement]:
    """Everything that is said of a target."""
    return [*_about(target), *_about_commands(target)]


def _about(target: Target) -> Iterator[Statement]:
    for topic, name, sentence in _SENTENCES:
        fact: Fact | None = getattr(target, name)
        if fact is not None:
            yield _statement(topic, sentence(target), fact)


def _statement(topic: str, text: str, fact: Fact) -> Statement:
    return Statement(topic, " ".join(f"{text} {fact.note}".split()), fact.confidence, fact.source)


def _server(target: Target) -> str:
    server = target.server
    return f"Serves the commands of {server.name} {server.version}; newer ones are missing." if server else ""


def _slots(target: Target) -> str:
    return {
        SlotFunction.NONE: "All keys are in one place: there are no slots.",
        SlotFunction.REDIS: "Redis Cluster's slots: CRC16 of the key, or of its hash tag (first { to the next }).",
        SlotFunction.ENTERPRISE: "CRC16 of the key, or of its hash tag from the last { to the last }, {} included.",
        SlotFunction.SERVER: "A hash of its own chooses the server.",
    }[target.slots.function]


def _cross_slot(target: Target) -> str:
    if not target.sharded:
        return "Commands may name any keys."
    facts = target.cross_slot
    allowed = f"Over several slots it serves {_listed(facts.allowed)}. " if facts.allowed else ""
    return f"{allowed}{'Other' if allowed else 'All'} commands with keys in several slots: {facts.error}."


def _transactions(target: Target) -> str:
    if target.lacks("EXEC"):
        return "There are no transactions."
    if not target.sharded:
        return "Transactions may name any keys."
    facts = target.transactions
    moment = "when the first command that leaves it is queued" if facts.fails == "queue" else "at EXEC"
    text = f"All keys of a transaction must be in one slot; else, {moment}: {facts.error.rstrip('.')}."
    if facts.refuses:
        text += f" Inside MULTI it refuses {_listed(facts.refuses)}: {facts.refuses_error}."
    return f"{text} After a refused command EXEC {'aborts' if facts.spoiled == 'aborts' else 'runs the rest'}."


def _watch(target: Target) -> str:
    return {
        "fine": "WATCH may name any key.",
        "latent": f"WATCH in another slot than the transaction works by luck of the layout: {target.watch.error}.",
        "error": f"WATCH in another slot than the transaction is refused: {target.watch.error}.",
    }[target.watch.apart]


def _scripts(target: Target) -> str:
    facts = target.scripts
    undeclared = {
        "fine": "Scripts may touch keys that they do not declare.",
        "latent": f"Undeclared keys work while they are local; else: {facts.undeclared_error}.",
        "error": f"Undeclared keys are refused: {facts.undeclared_error}.",
        "wrong-data": f"Undeclared keys: {facts.undeclared_error}.",
        "unknown": "Undeclared keys: not known.",
    }[facts.undeclared]
    declared = "Declared keys must be in one slot. " if target.sharded else ""
    load = "everywhere" if facts.load == "everywhere" else "one node only"
    return f"{declared}{undeclared} SCRIPT LOAD reaches {load}."


def _databases(target: Target) -> str:
    number = target.databases.number
    counts = {0: "As many databases as it is configured to have.", 1: "Database 0 only."}
    count = counts.get(number, f"{number} databases.")
    errors = "; ".join(f"{name}: {text.rstrip('.')}" for name, text in target.databases.errors.items())
    return f"{count} {errors}." if errors else count


def _sort(target: Target) -> str:
    return {
        "fine": "SORT with BY and GET patterns works.",
        "error": f"SORT with a BY or GET pattern: {target.sort.error.replace('{option}', 'BY').rstrip('.')}.",
        "unknown": "SORT with a BY or GET pattern: not verified.",
    }[target.sort.patterns]


def _keyspace(target: Target) -> str:
    if target.keyspace.scope == "all":
        return "KEYS, SCAN, DBSIZE, FLUSH* and RANDOMKEY, where they are served, see all data."
    return "KEYS, SCAN, DBSIZE, FLUSH* and RANDOMKEY see the connected node only."


def _notifications(target: Target) -> str:
    return {
        "all": "Keyspace notifications of all keys arrive.",
        "node": "Keyspace notifications of the connected node's keys arrive only.",
        "unknown": "Whose keyspace notifications arrive is not known.",
    }[target.notifications.scope]


def _blocking(target: Target) -> str:
    return {
        "yes": "Blocking commands are served" + (", with keys in one slot." if target.sharded else "."),
        "no": "Blocking commands are not served.",
        "unknown": "Whether blocking commands are served is not verified.",
    }[target.blocking.supported]


def _client(target: Target) -> str:
    client = "The client must speak cluster" if target.client.needs == "cluster" else "Any client"
    return f"{client}{', with TLS.' if target.client.tls == 'required' else '.'}"


def _only(target: Target) -> str:
    only = target.only
    return f"Serves {len(only.names)} commands and no others: {only.error}." if only else ""


_SENTENCES: tuple[tuple[str, str, Callable[[Target], str]], ...] = (
    ("client", "client", _client),
    ("commands", "server", _server),
    ("commands", "only", _only),
    ("slots", "slots", _slots),
    ("several keys", "cross_slot", _cross_slot),
    ("transactions", "transactions", _transactions),
    ("WATCH", "watch", _watch),
    ("scripts", "scripts", _scripts),
    ("databases", "databases", _databases),
    ("SORT", "sort", _sort),
    ("blocking", "blocking", _blocking),
    ("all keys", "keyspace", _keyspace),
    ("notifications", "notifications", _notifications),
)

_WHAT = {
    CommandKind.MISSING: "missing",
    CommandKind.RESTRICTED: "an administrator's, refused",
    CommandKind.UNVERIFIED: "not verified",
}


def _about_commands(target: Target) -> Iterator[Statement]:
    """What is said of single commands, as far as it is still in force."""
    by_fact: dict[int, tuple[Commands, list[str]]] = {}
    for name, fact in target.refusals.items():
        if fact in target.commands:
            by_fact.setdefault(target.commands.index(fact), (fact, []))[1].append(name)
    for _, (fact, names) in sorted(by_fact.items()):
        error = f": {fact.error.rstrip('.')}" if fact.error else ""
        instead = f" Instead: {fact.instead}." if fact.instead else ""
        text = f"{_listed(names)} ({_WHAT[fact.kind]}){error}.{instead}"
        yield _statement("commands", text, fact)


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")
