"""What a server lets a user do: asked by ACL DRYRUN, which runs nothing, else read off ACL GETUSER.

Knows: DRYRUN's answers. Refuses to know: which commands are asked about, and what follows from a refusal (``checks``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from proxy.capture.use import UsedCommand
from proxy.cutover.acl_rules import acl_user, right
from proxy.cutover.ask import Asker, raw
from proxy.cutover.command_lines import command_line
from proxy.cutover.reach import line
from proxy.cutover.server_facts import Answer, Right, Rights, Unknown

#: Commands that are asked about, the most frequent first, and how many in one turn.
MOST = 2_000
AT_ONCE = 100


async def rights(
    asker: Asker, user: str, used: Sequence[UsedCommand], categories: Mapping[str, frozenset[str]] | Unknown
) -> Rights | Unknown:
    """What ``user`` may do of ``used``."""
    chosen = sorted(used, key=lambda each: -each.count)[:MOST]
    left_out = len(used) - len(chosen)
    answers: list[Answer] = []
    for start in range(0, len(chosen), AT_ONCE):
        some = await asker.ask("ACL DRYRUN", _dry_run(user, chosen[start : start + AT_ONCE]))
        if isinstance(some, Unknown):
            return await _read(asker, user, chosen, categories, some)
        answers += some
    return Rights(user, "ACL DRYRUN", tuple(answers), left_out)


async def may(asker: Asker, user: str | Unknown, words: Sequence[str]) -> Right | Unknown:
    """Whether ``user`` may run one command line."""
    if isinstance(user, Unknown):
        return user

    async def ask(control: Redis) -> Right | Unknown:
        return _right(await raw(control, "ACL", "DRYRUN", user, *words))

    return await asker.ask("ACL DRYRUN", ask)


def _dry_run(user: str, used: Sequence[UsedCommand]) -> Any:
    """The question about a few commands, sent at once. Raises ResponseError if DRYRUN itself is refused."""

    async def ask(control: Redis) -> list[Answer]:
        lines = [command_line(each) for each in used]
        pool: Any = control.connection_pool  # without types in redis-py
        connection = await pool.get_connection()
        try:
            asked = [("ACL", "DRYRUN", user, *each) for each in lines if each is not None]
            if asked:
                await connection.send_packed_command(connection.pack_commands(asked))
            replies = iter([await _reply(connection) for _ in asked])
        finally:
            await pool.release(connection)
        return [Answer(each, _UNWRITABLE if made is None else _known(each, next(replies))) for each, made in
                zip(used, lines, strict=True)]  # fmt: skip

    return ask


_UNWRITABLE = Unknown("no command line can be made out of what the capture holds of it")
#: Errors about DRYRUN itself, not about the command that it was asked about.
_ABOUT_ITSELF = ("acl|dryrun", "acl' command", "unknown subcommand", "unknown command", "User '")


async def _reply(connection: Any) -> Right | Unknown:
    try:
        return _right(await connection.read_response())
    except ResponseError as error:
        if any(each in str(error) for each in _ABOUT_ITSELF):
            await connection.disconnect()  # the other answers are not read
            raise
        return Unknown(f"ACL DRYRUN says: {line(error)}")


def _right(answer: bytes) -> Right | Unknown:
    text = answer.decode("utf-8", "backslashreplace")
    if text == "OK":
        return Right.ALLOWED
    for words, found in ((" to run ", Right.NO_COMMAND), (" key", Right.NO_KEY), (" channel", Right.NO_CHANNEL)):
        if words in text:
            return found
    return Unknown(f"ACL DRYRUN says: {text[:200]}")


def _known(used: UsedCommand, found: Right | Unknown) -> Right | Unknown:
    """A refusal of keys or channels counts only where they are the recorded ones."""
    if found is Right.NO_KEY and not used.args and not used.keys:
        return Unknown("its keys are not recorded, and the user may not touch all keys")
    if found is Right.NO_CHANNEL and not used.args:
        return Unknown("its channels are not recorded, and the user may not use all channels")
    return found


async def _read(
    asker: Asker,
    user: str,
    used: Sequence[UsedCommand],
    categories: Mapping[str, frozenset[str]] | Unknown,
    why: Unknown,
) -> Rights | Unknown:
    async def ask(control: Redis) -> Mapping[str, object]:
        told = await raw(control, "ACL", "GETUSER", user)
        return {key.decode(): value for key, value in zip(told[::2], told[1::2], strict=True)}

    told = await asker.ask("ACL GETUSER", ask)
    if isinstance(told, Unknown):
        return Unknown(f"{why.why}; {told.why}")
    if isinstance(categories, Unknown):
        return Unknown(f"{why.why}; {categories.why}")
    try:
        read = acl_user(told)
    except (KeyError, TypeError):
        return Unknown(f"{why.why}; ACL GETUSER got an answer that can't be read")
    return Rights(user, "ACL GETUSER", tuple(Answer(each, right(read, each, categories)) for each in used))
