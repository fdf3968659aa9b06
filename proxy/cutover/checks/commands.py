"""Checks of what is used: commands, users' rights, functions, scripts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.cutover.checks.said import Said, fail, good, known, many, named, unknown, warn
from proxy.cutover.server_facts import NOT_ASKED, OWN_QUESTIONS, Answer, Right, Unknown, World

_NO_CAPTURE = "Give --capture DIR with a recording of your traffic."


def missing(world: World) -> Said:
    """Commands that the source has or ran and the target lacks. What the capture used decides."""
    source, target = world.source.commands, world.target.commands
    if isinstance(target, Unknown):
        return unknown("The target's commands are not known", target)
    if world.use is not None:
        lacking = sorted(name for name in world.use.names if not _has(target, name))
        if not isinstance(source, Unknown):
            lacking = [name for name in lacking if _has(source, name)]
        if lacking:
            calls = {name: sum(used.count for used in world.use.commands if used.name == name) for name in lacking}
            return fail(
                f"The target lacks {many(len(lacking), 'command')} that the capture uses: {named(lacking)}.",
                "Choose a target that has them, or change who sends them: shunt report shows keys and clients.",
                [f"{name}: {many(count, 'time')} in the capture" for name, count in calls.items()], missing=lacking,
            )  # fmt: skip
    ran = world.source.used
    if not isinstance(ran, Unknown) and not isinstance(source, Unknown):
        ours = {name for name in ran if name in OWN_QUESTIONS}
        lacking = sorted(name for name in ran.keys() - ours if not _has(target, name) and _has(source, name))
        if lacking:
            return warn(
                f"The target lacks {many(len(lacking), 'command')} that the source has run: {named(lacking)}.",
                "Find out who sends them, if the capture does not have them: an administrator, or a rare job?",
                [f"{name}: {many(ran[name], 'time')} since the source started" for name in lacking], missing=lacking,
            )  # fmt: skip
    elif world.use is None:
        why = next(each for each in (ran, source) if isinstance(each, Unknown))
        return unknown("Which commands are used is not known", why, _NO_CAPTURE)
    return _all_there(world, target)


def _all_there(world: World, target: Mapping[str, object]) -> Said:
    by = "the capture uses" if world.use is not None else "the source has run since it started"
    source = world.source.commands
    others = [] if isinstance(source, Unknown) else sorted(name for name in source if not _has(target, name))
    text = f"The target has every command that {by}"
    if others:
        return good(f"{text}; it lacks {named(others)}, which nobody used.", unused=others)
    return good(f"{text}.")


def _has(commands: Mapping[str, object], name: str) -> bool:
    """A subcommand of a server that tells no subcommands counts as there with its container."""
    container = name.split(" ")[0]
    if name in commands:
        return True
    return " " in name and container in commands and not any(each.startswith(container + " ") for each in commands)


def acl(world: World) -> Said:
    """What the target lets the user do that clients will be."""
    rights = world.target.rights
    if isinstance(rights, Unknown):
        return unknown(
            "Whether the target's user may run what you run is not known", rights,
            "Ask with an administrator's URL, and name the user with --target-user.",
        )  # fmt: skip
    if not rights.answers:
        return unknown("Whether the target's user may run what you run is not known", "nothing is known to be used",
                       _NO_CAPTURE)  # fmt: skip
    refused = [answer for answer in rights.answers if isinstance(answer.right, Right) and answer.right != Right.ALLOWED]
    unsure = [answer for answer in rights.answers if isinstance(answer.right, Unknown)]
    data: dict[str, Any] = {
        "user": rights.user, "how": rights.how, "asked": len(rights.answers), "refused": len(refused),
        "unknown": len(unsure), "left_out": rights.left_out,
    }  # fmt: skip
    by = "in the capture" if world.use is not None else "that the source has run (keys are not known)"
    if refused:
        names = list(dict.fromkeys(answer.used.name for answer in refused))
        level = warn if world.use is None else fail  # without a capture it may be an administrator's
        return level(
            f"The target's user {rights.user} would be refused (NOPERM) {many(len(names), 'command')} {by}: "
            f"{named(names)}.",
            f"Give the user the rights, on the target: ACL SETUSER {rights.user} {_lacking(refused)}",
            [_refusal(answer) for answer in refused], **data,
        )  # fmt: skip
    left_out = rights.left_out + (0 if world.use is None else world.use.left_out)
    losses = 0 if world.use is None else world.use.losses
    if unsure or left_out or losses:
        whys = list(dict.fromkeys(f"{a.used.name}: {a.right.why}" for a in unsure if isinstance(a.right, Unknown)))
        if left_out:
            whys.append(f"not asked about: {many(left_out, 'rarer pattern')} of keys")
        if losses:
            whys.append(f"the capture has {many(losses, 'damaged place')}")
        sure = len(rights.answers) - len(unsure)
        return unknown(
            f"The target's user {rights.user} may run {sure:,} of {many(len(rights.answers), 'command')} {by}",
            "of the rest it is not known", "", whys, **data,
        )  # fmt: skip
    return good(
        f"The target's user {rights.user} may run everything {by} ({rights.how} of {len(rights.answers):,}).", **data
    )


def _lacking(refused: Sequence[Answer]) -> str:
    """ACL SETUSER's words for what is refused; patterns are to be filled in."""
    words = [f"+{answer.used.name.lower().replace(' ', '|')}" for answer in refused if answer.right is Right.NO_COMMAND]
    words += ["~KEYS"] * any(answer.right is Right.NO_KEY for answer in refused)
    words += ["&CHANNELS"] * any(answer.right is Right.NO_CHANNEL for answer in refused)
    return " ".join(dict.fromkeys(words))


def _refusal(answer: Answer) -> str:
    used = answer.used
    where = f" {_printable(used.keys[0])}" if used.keys else ""
    return f"{used.name}{where}: {answer.right} ({many(used.count, 'time')})"


def _printable(key: bytes) -> str:
    text = key.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def functions(world: World) -> Said:
    """Libraries of FUNCTION LOAD are data of the server: they don't move by themselves."""
    source, target = world.source.libraries, world.target.libraries
    if isinstance(source, Unknown):
        if not isinstance(world.source.commands, Unknown) and "FUNCTION" not in world.source.commands:
            return good("The source has no functions: it is older than Redis 7.")
        return unknown("Which functions the source has is not known", source)
    if not source:
        return good("The source has no functions.")
    lacking = sorted(source if isinstance(target, Unknown) else source - target)
    noun, nouns = "function library", "function libraries"
    if not lacking:
        return good(f"The target has the source's {many(len(source), noun, nouns)}.")
    text = f"The target lacks {many(len(lacking), noun, nouns)} ({named(lacking)})"
    hindered = _copying(world)
    if not hindered:
        return good(f"{text}; shunt switch copies them.", lacking, missing=lacking)
    text = f"{text}, and shunt switch can't copy them: {named(hindered)}"
    do = "Load them: FUNCTION DUMP on the source, FUNCTION RESTORE on the target."
    if world.use is not None and world.use.names & {"FCALL", "FCALL_RO"}:
        return fail(f"{text}; the capture calls functions.", do, lacking, missing=lacking)
    return warn(f"{text}.", do, lacking, missing=lacking)


def _copying(world: World) -> list[str]:
    """What is in the way of FUNCTION DUMP and RESTORE, or may be."""
    if world.follow:
        return []  # they come with the data
    hindered = []
    if not isinstance(world.target.commands, Unknown) and "FUNCTION" not in world.target.commands:
        return ["the target has no functions"]
    for side, server, words in (
        ("source", world.source, "FUNCTION DUMP"),
        ("target", world.target, "FUNCTION RESTORE"),
    ):
        may = server.may.get(words, NOT_ASKED)
        if may is not Right.ALLOWED:
            why = f"not known ({may.why})" if isinstance(may, Unknown) else "refused"
            hindered.append(f"{words} on the {side} is {why}")
    return hindered


def scripts(world: World) -> Said:
    """EVALSHA of a script that the target does not have is answered with NOSCRIPT."""
    if world.use is None:
        return unknown("Which scripts are called by their SHA-1 is not known", "there is no capture", _NO_CAPTURE)
    called = many(len(world.use.scripts), "script")
    if not world.use.scripts:
        return good("The capture calls no script by its SHA-1.")
    lacking = known(world.target.scripts_missing, "Whether the target has the capture's scripts is not known")
    if not lacking:
        return good(f"The target has all {called} that the capture calls by SHA-1.")
    text = f"The target lacks {len(lacking):,} of {called} that the capture calls by SHA-1"
    data: dict[str, Any] = {"missing": list(lacking)}
    may = world.target.may.get("SCRIPT LOAD", NOT_ASKED)
    allowed = "is refused" if isinstance(may, Right) else "is not known to be allowed"
    if may is Right.ALLOWED:
        return good(f"{text}; shunt switch loads those whose bodies it has recorded since its start.", lacking, **data)
    return warn(
        f"{text}, and SCRIPT LOAD {allowed}: EVALSHA is answered with NOSCRIPT.",
        "Sidekiq and most libraries then send the script itself; for others: SCRIPT LOAD on the target.",
        lacking, **data,
    )  # fmt: skip
