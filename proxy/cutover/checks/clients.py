"""Checks of who is connected to the source, and whether fetches there can be ended. Pure."""

from __future__ import annotations

from protocol.commands import Trait, table
from proxy.capture.facts import BackendFacts, ClientGroup
from proxy.cutover.checks.said import Said, fail, good, many, unknown, warn
from proxy.cutover.server_facts import Right, Running, Unknown, World

_DO = (
    "Point them at shunt, or stop them: what they write to the source after the switch stays there. Tools that only "
    "read may stay."
)


def bypass(world: World) -> Said:
    """Clients that are connected to the source without shunt are not held, and not moved."""
    facts = world.clients
    if isinstance(facts, Unknown):
        return unknown("Who is connected to the source is not known", facts)
    if facts.listed is None:
        why = facts.unknown.get("CLIENT LIST") or facts.unknown.get("everything") or "CLIENT LIST was not answered"
        return _as_captured(world, f"Who is connected to the source is not known ({why})", ())
    groups, total = _lines(facts), _total(facts)
    if not total:
        own = len(world.running.sockets) if isinstance(world.running, Running) else 0
        return good(f"Nobody but shunt ({many(own, 'connection')}) is connected to the source." if own else
                    "Nobody is connected to the source for 2 s or longer.")  # fmt: skip
    if isinstance(world.running, Unknown):
        text = f"{many(total, 'connection')} to the source; which are shunt's is not known"
        return _as_captured(world, f"{text} ({world.running.why})", groups)
    return _past(facts, "are connected to the source past shunt", facts.unsure)


def _as_captured(world: World, text: str, groups: tuple[str, ...]) -> Said:
    """What the capture's last sample saw, where now it can't be told."""
    seen = None if world.use is None else world.use.facts
    if seen is None or seen.listed is None or seen.unsure:
        return unknown(text, "see the list", "", groups) if groups else unknown(text, "CLIENT LIST is needed for it")
    if _total(seen):
        return _past(seen, "went past shunt when the capture was made", text)
    return good(f"{text}. When the capture was made, nobody went past shunt.", groups)


def _past(facts: BackendFacts, how: str, note: str) -> Said:
    total = _total(facts)
    text = f"{many(total, 'client')} {how if total > 1 else how.replace('are connected', 'is connected')}"
    note = f" {note[0].upper()}{note[1:]}." if note else ""
    writers = [group for group in facts.others if _writes(group)]
    data = {"clients": total, "groups": [_data(group) for group in facts.others]}
    if writers and not facts.unsure:  # else they may be shunt's
        writing = sum(group.count for group in writers)
        who = "" if writing == total else f" {writing:,} of them"
        return fail(f"{text}, and{who} last sent a command that writes.{note}", _DO, _lines(facts), **data)
    return warn(f"{text}.{note}", _DO, _lines(facts), **data)


def _total(facts: BackendFacts) -> int:
    return sum(group.count for group in facts.others) + facts.others_more


def _writes(group: ClientGroup) -> bool:
    spec = table().commands.get(group.command.upper().replace("|", " "))
    return spec is not None and bool(spec.traits & Trait.WRITE)


def _lines(facts: BackendFacts) -> tuple[str, ...]:
    lines = [
        f"{group.address or 'unix socket'}: {many(group.count, 'connection')}"
        + (f" named {group.name}" if group.name else "")
        + (f", {group.library}" if group.library else "")
        + (f", last command {group.command.upper().replace('|', ' ')}" if group.command else "")
        for group in facts.others
    ]
    return (*lines, f"and {facts.others_more:,} more") if facts.others_more else tuple(lines)


def _data(group: ClientGroup) -> dict[str, object]:
    return {"address": group.address, "name": group.name, "count": group.count, "command": group.command}


def unblock(world: World) -> Said:
    """A hold ends blocked fetches by CLIENT UNBLOCK, and finds them by CLIENT LIST."""
    refused = [words for words in ("CLIENT UNBLOCK", "CLIENT LIST") if world.source.may.get(words) is Right.NO_COMMAND]
    if refused:
        return warn(
            f"The source's user may not run {' and '.join(refused)}: a hold has to wait for blocked fetches.",
            "Allow it on the source: ACL SETUSER … +client|unblock +client|list", refused=refused,
        )  # fmt: skip
    for words in ("CLIENT UNBLOCK", "CLIENT LIST"):
        may = world.source.may.get(words, Unknown("it was not asked"))
        if isinstance(may, Unknown):
            return unknown(f"Whether the source's user may run {words}, as a hold does, is not known", may)
    return good("The source's user may end blocked fetches, as a hold does.")
