"""The effect of an exchange: the commands that change another Redis as this command has changed the source.

Knows: of each command that writes, how its arguments and its reply become commands that have the same effect whenever
they run: no relative time, no chance, no wait, no condition. Refuses to know: sockets, clocks, connections, and
whether the other Redis agrees (``feed`` looks at what it answers).

Redis does the same when it replicates; shunt sees less: only arguments and replies. What a pop took is removed **by
value** (LREM, ZREM, SREM) and not popped again: over several connections replies come in another order than Redis ran
the commands in, so a pop of the mirror's own could take another job. ``Order.least``: what such a removal must answer.

Rules are functions of one ``Done``; EFFECTS is the table. A command that writes and is not in it is not sent.
"""

# Over 300 lines: one table and its small functions, a family of commands each.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hiredis import HiredisError, Reader

Args: TypeAlias = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """A command for the mirror. ``least``: the number that its reply must reach, if it takes away what the source had;
    0: it may answer what it likes."""

    args: Args
    least: int = 0


@dataclass(frozen=True, slots=True)
class Effect:
    """``orders`` in turn. ``why``: why there are none although something may have happened; "": all is in the orders.
    ``unverifiable``: it is run again, and what that does nobody can tell from outside."""

    orders: tuple[Order, ...] = ()
    why: str = ""
    unverifiable: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """One command and its reply. ``args``: with the name in front; the name alone where the rest is not known.
    ``reply``: as hiredis reads it. ``now_ms``: when the reply came, by the wall clock."""

    args: Args
    reply: Any
    now_ms: int


class NoReply:
    """In the place of a reply: none was asked for (CLIENT REPLY)."""


class Unreadable:
    """In the place of a reply: it is not known whole."""


#: Replies as they are read: what Redis answers by an exception in other libraries is a value here.
Failed = HiredisError
Rule: TypeAlias = Callable[[Done], Effect]
NOTHING = Effect()
UNKNOWN_COMMAND = Effect(why="unknown-command")
#: Members in one SREM or ZREM.
MEMBERS_AT_ONCE = 500
#: Elements of one pop that are removed by their values.
VALUES_AT_ONCE = 100


def read_reply(frame: bytes) -> Any:
    """A whole reply as a value; Unreadable where it is none."""
    reader = Reader()
    try:
        reader.feed(frame)
        value = reader.gets()
    except (HiredisError, TypeError):  # a map whose keys are maps
        return Unreadable()
    return Unreadable() if value is False and not frame.startswith(b"#") else value


def effect(name: str, done: Done) -> Effect:
    """What the command ``name`` ("XGROUP CREATE") has done."""
    rule = EFFECTS.get(name)
    if rule is None:
        return UNKNOWN_COMMAND
    if isinstance(done.reply, Failed):
        return NOTHING
    if len(done.args) == 1 and rule is not as_it_is and name not in BY_REPLY_ALONE:
        return Effect(why="not-understood")
    if isinstance(done.reply, Unreadable) and rule not in BLIND:
        return Effect(why="reply-not-known")
    if isinstance(done.reply, NoReply) and rule not in BLIND:
        return Effect(why="no-reply")
    try:
        return rule(done)
    except (IndexError, ValueError, TypeError, AttributeError):  # arguments that are not known, or an unheard-of form
        return Effect(why="not-understood")


def _orders(*commands: Sequence[bytes], least: int = 0) -> Effect:
    return Effect(tuple(Order(tuple(command), least) for command in commands))


def _number(value: int) -> bytes:
    return b"%d" % value


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


# ---- as they are -----------------------------------------------------------------------------------------------------


def as_it_is(done: Done) -> Effect:
    if len(done.args) < 2 and done.args[0].upper() not in (b"FLUSHALL", b"FLUSHDB"):
        return Effect(why="not-understood")
    return _orders(done.args)


def if_any(done: Done) -> Effect:
    """As it is, if the reply is a number above 0."""
    return as_it_is(done) if done.reply > 0 else NOTHING


def removal(done: Done) -> Effect:
    """LREM, ZREM: as it is; the mirror must find as much."""
    return _orders(done.args, least=done.reply) if done.reply > 0 and len(done.args) > 2 else NOTHING


def script(done: Done) -> Effect:
    """What a script does can't be told from outside: it is run again."""
    return Effect((Order(done.args),), unverifiable=True) if len(done.args) > 2 else Effect(why="not-understood")


def _has(args: Sequence[bytes], *words: bytes) -> bool:
    return any(arg.upper() in words for arg in args)


def stores(done: Done) -> Effect:
    """SORT, GEORADIUS: they write only with STORE."""
    return as_it_is(done) if _has(done.args[2:], b"STORE", b"STOREDIST") else NOTHING


def bitfield(done: Done) -> Effect:
    return as_it_is(done) if _has(done.args[2:], b"SET", b"INCRBY") else NOTHING


# ---- strings, keys, time ---------------------------------------------------------------------------------------------

#: A word that says when something expires -> (milliseconds in its unit, whether it counts from now).
_WHEN = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}


def _moment(word: bytes, number: bytes, now_ms: int) -> int:
    unit_ms, from_now = _WHEN[word]
    return int(number) * unit_ms + (now_ms if from_now else 0)


def _absolute(args: Sequence[bytes], now_ms: int, *leave_out: bytes) -> list[bytes]:
    """Options with any time as PXAT, and some words left out."""
    out: list[bytes] = []
    at = 0
    while at < len(args):
        word = args[at].upper()
        if word in _WHEN:
            out += [b"PXAT", _number(_moment(word, args[at + 1], now_ms))]
            at += 2
            continue
        if word not in leave_out:
            out.append(args[at])
        at += 1
    return out


def set_(done: Done) -> Effect:
    """SET: without its condition, with an absolute time."""
    key, value, options = done.args[1], done.args[2], done.args[3:]
    returns_old = _has(options, b"GET")
    if _has(options, b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE") and returns_old:
        return Effect((Order((b"SET", key, value, *_absolute(options, done.now_ms))),), unverifiable=True)
    if returns_old and _has(options, b"NX"):
        ran = done.reply is None
    elif returns_old:
        ran = done.reply is not None or not _has(options, b"XX")
    else:
        ran = done.reply is not None
    if not ran:
        return NOTHING
    kept: list[bytes] = []
    at = 0
    while at < len(options):  # a condition's value may look like a word
        word = options[at].upper()
        takes_value = word in _WHEN or word in (b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE")
        if word in _WHEN:
            kept += [b"PXAT", _number(_moment(word, options[at + 1], done.now_ms))]
        elif word == b"KEEPTTL":
            kept.append(word)
        at += 2 if takes_value else 1
    return _orders((b"SET", key, value, *kept))


def setex(done: Done) -> Effect:
    name, key, time, value = done.args
    word = b"PX" if name.upper() == b"PSETEX" else b"EX"
    return _orders((b"SET", key, value, b"PXAT", _number(_moment(word, time, done.now_ms))))


def setnx(done: Done) -> Effect:
    return _orders((b"SET", *done.args[1:3])) if done.reply else NOTHING


def msetnx(done: Done) -> Effect:
    return _orders((b"MSET", *done.args[1:])) if done.reply and len(done.args) > 2 else NOTHING


def msetex(done: Done) -> Effect:
    end = 2 + 2 * int(done.args[1])
    options = _absolute(done.args[end:], done.now_ms, b"NX", b"XX")
    return _orders((*done.args[:end], *options)) if done.reply else NOTHING


def incrbyfloat(done: Done) -> Effect:
    return _orders((b"SET", done.args[1], _as_bytes(done.reply), b"KEEPTTL"))


#: A command's own unit, as for an option of SET.
_EXPIRES = {b"EXPIRE": b"EX", b"PEXPIRE": b"PX", b"EXPIREAT": b"EXAT", b"PEXPIREAT": b"PXAT"}


def expire(done: Done) -> Effect:
    name, key, time = done.args[:3]
    if not done.reply:
        return NOTHING
    moment = _moment(_EXPIRES[name.upper()], time, done.now_ms)
    return _orders((b"DEL", key) if moment <= done.now_ms else (b"PEXPIREAT", key, _number(moment)))


def getex(done: Done) -> Effect:
    key, options = done.args[1], done.args[2:]
    if done.reply is None or not options:
        return NOTHING
    if options[0].upper() == b"PERSIST":
        return _orders((b"PERSIST", key))
    moment = _moment(options[0].upper(), options[1], done.now_ms)
    return _orders((b"DEL", key) if moment <= done.now_ms else (b"PEXPIREAT", key, _number(moment)))


def getdel(done: Done) -> Effect:
    return _orders((b"DEL", done.args[1])) if done.reply else NOTHING


def getdel_value(done: Done) -> Effect:
    """GETDEL answers the value, which may be empty."""
    return _orders((b"DEL", done.args[1])) if done.reply is not None else NOTHING


def restore(done: Done) -> Effect:
    _, key, ttl, dump, *options = done.args
    if int(ttl) and not _has(options, b"ABSTTL"):
        ttl, options = _number(int(ttl) + done.now_ms), [*options, b"ABSTTL"]
    return _orders((b"RESTORE", key, ttl, dump, *options))


def renamenx(done: Done) -> Effect:
    return _orders((b"RENAME", *done.args[1:3])) if done.reply else NOTHING


def migrate(done: Done) -> Effect:
    """The keys have gone elsewhere."""
    if done.reply == b"NOKEY" or _has(done.args[6:], b"COPY"):
        return NOTHING
    keys = (done.args[3],) if done.args[3] else done.args[_index(done.args, b"KEYS", 6) + 1 :]
    return _orders((b"DEL", *keys))


def _index(args: Sequence[bytes], word: bytes, start: int) -> int:
    return [arg.upper() for arg in args].index(word, start)


# ---- lists, sets, sorted sets ----------------------------------------------------------------------------------------


def _take(key: bytes, values: Sequence[bytes], from_left: bool) -> Effect:
    """These elements are gone, each from the list's end that it was popped from. Many are popped: their number must not
    become as many commands."""
    if len(values) > VALUES_AT_ONCE:
        return _orders((b"LPOP" if from_left else b"RPOP", key, _number(len(values))))
    count = b"1" if from_left else b"-1"
    return Effect(tuple(Order((b"LREM", key, count, value), least=1) for value in values))


def pop(done: Done) -> Effect:
    """LPOP, RPOP, with or without a count."""
    if done.reply is None:
        return NOTHING
    values = done.reply if isinstance(done.reply, list) else [done.reply]
    return _take(done.args[1], values, done.args[0].upper() == b"LPOP")


def blocking_pop(done: Done) -> Effect:
    """BLPOP, BRPOP: the reply names the key that served."""
    if done.reply is None:
        return NOTHING
    key, value = done.reply
    return _take(key, [value], done.args[0].upper() == b"BLPOP")


def pop_many(done: Done) -> Effect:
    """LMPOP, BLMPOP."""
    if done.reply is None:
        return NOTHING
    counted = 2 if done.args[0].upper() == b"BLMPOP" else 1
    side = done.args[counted + 1 + int(done.args[counted])].upper()
    return _take(done.reply[0], done.reply[1], side == b"LEFT")


def move(done: Done) -> Effect:
    """LMOVE and those that wait: without the wait."""
    if done.reply is None:
        return NOTHING
    name, source, target = done.args[:3]
    if name.upper() in (b"RPOPLPUSH", b"BRPOPLPUSH"):
        return _orders((b"LMOVE", source, target, b"RIGHT", b"LEFT"))
    return _orders((b"LMOVE", source, target, *done.args[3:5]))


def _without(command: bytes, key: bytes, members: Sequence[Any]) -> Effect:
    chunks = [members[at : at + MEMBERS_AT_ONCE] for at in range(0, len(members), MEMBERS_AT_ONCE)]
    return Effect(tuple(Order((command, key, *map(_as_bytes, chunk)), least=len(chunk)) for chunk in chunks))


def spop(done: Done) -> Effect:
    if done.reply is None:
        return NOTHING
    members = done.reply if isinstance(done.reply, (list, set)) else [done.reply]
    return _without(b"SREM", done.args[1], list(members))


def _members(pairs: Any) -> list[bytes]:
    """Of members with scores: flat in RESP2 and without a count, pairs else."""
    if isinstance(pairs, dict):
        return list(pairs)
    return [pair[0] for pair in pairs] if pairs and isinstance(pairs[0], (list, tuple)) else list(pairs[::2])


def zpop(done: Done) -> Effect:
    return _without(b"ZREM", done.args[1], _members(done.reply or []))


def blocking_zpop(done: Done) -> Effect:
    return NOTHING if done.reply is None else _without(b"ZREM", done.reply[0], [done.reply[1]])


def zpop_many(done: Done) -> Effect:
    return NOTHING if done.reply is None else _without(b"ZREM", done.reply[0], _members(done.reply[1]))


# ---- hashes ----------------------------------------------------------------------------------------------------------


def hsetnx(done: Done) -> Effect:
    return _orders((b"HSET", *done.args[1:4])) if done.reply else NOTHING


def hincrbyfloat(done: Done) -> Effect:
    return _orders((b"HSET", done.args[1], done.args[2], _as_bytes(done.reply)))


def _fields(args: Sequence[bytes], start: int) -> Args:
    """The names behind FIELDS and their count."""
    at = _index(args, b"FIELDS", start)
    return tuple(args[at + 2 : at + 2 + int(args[at + 1])])


def hexpire(done: Done) -> Effect:
    """HEXPIRE and the like answer for each field: 1 set, 2 deleted because the time is past."""
    name, key, time = done.args[:3]
    answers = list(zip(_fields(done.args, 3), done.reply, strict=True))
    changed = [field for field, answer in answers if answer == 1]
    deleted = [field for field, answer in answers if answer == 2]
    moment = _number(_moment(_EXPIRES[name.upper()[1:]], time, done.now_ms))
    commands: list[Sequence[bytes]] = []
    if changed:
        commands.append((b"HPEXPIREAT", key, moment, b"FIELDS", _number(len(changed)), *changed))
    if deleted:
        commands.append((b"HDEL", key, *deleted))
    return _orders(*commands)


def hgetex(done: Done) -> Effect:
    key, option = done.args[1], done.args[2].upper()
    if option == b"FIELDS" or done.reply is None:
        return NOTHING
    fields = [each for each, value in zip(_fields(done.args, 2), done.reply, strict=True) if value is not None]
    if not fields:
        return NOTHING
    count = _number(len(fields))
    if option == b"PERSIST":
        return _orders((b"HPERSIST", key, b"FIELDS", count, *fields))
    moment = _moment(option, done.args[3], done.now_ms)
    if moment <= done.now_ms:
        return _orders((b"HDEL", key, *fields))
    return _orders((b"HPEXPIREAT", key, _number(moment), b"FIELDS", count, *fields))


def hgetdel(done: Done) -> Effect:
    fields = [each for each, value in zip(_fields(done.args, 2), done.reply, strict=True) if value is not None]
    return _orders((b"HDEL", done.args[1], *fields)) if fields else NOTHING


def hsetex(done: Done) -> Effect:
    at = _index(done.args, b"FIELDS", 2)
    options = _absolute(done.args[2:at], done.now_ms, b"FNX", b"FXX")
    return _orders((*done.args[:2], *options, *done.args[at:])) if done.reply else NOTHING


# ---- streams ---------------------------------------------------------------------------------------------------------


def xadd(done: Done) -> Effect:
    """With the id that it got."""
    if done.reply is None:
        return NOTHING
    at = 2
    while at < len(done.args):
        word = done.args[at].upper()
        if word in (b"NOMKSTREAM", b"KEEPREF", b"DELREF", b"ACKED"):
            at += 1
        elif word in (b"MAXLEN", b"MINID"):
            at += 3 if done.args[at + 1] in (b"=", b"~") else 2
        elif word == b"LIMIT":
            at += 2
        else:
            break
    if at >= len(done.args) - 2:
        return Effect(why="not-understood")
    return _orders((*done.args[:at], done.reply, *done.args[at + 1 :]))


def xreadgroup(done: Done) -> Effect:
    """Each entry that was delivered is pending for the consumer; NOACK only moves the group on."""
    at = _index(done.args, b"STREAMS", 4)
    streams = done.args[at + 1 :]
    asked = dict(zip(streams[: len(streams) // 2], streams[len(streams) // 2 :], strict=True))
    group, consumer = done.args[2:4]
    silent = _has(done.args[4:at], b"NOACK")
    commands: list[Sequence[bytes]] = []
    served = done.reply.items() if isinstance(done.reply, dict) else done.reply or []
    for key, entries in served:
        if asked[key] != b">" or not entries:
            continue
        last = entries[-1][0]
        if silent:
            commands.append((b"XGROUP", b"SETID", key, group, last))
            continue
        ids = tuple(entry[0] for entry in entries)
        claim = (b"XCLAIM", key, group, consumer, b"0", *ids, b"TIME", _number(done.now_ms))
        commands.append((*claim, b"RETRYCOUNT", b"1", b"FORCE", b"JUSTID", b"LASTID", last))
    return _orders(*commands)


#: Options of XCLAIM, and how many arguments each has.
_CLAIM_OPTIONS = {b"IDLE": 1, b"TIME": 1, b"RETRYCOUNT": 1, b"LASTID": 1, b"FORCE": 0, b"JUSTID": 0}


def xclaim(done: Done) -> Effect:
    """Without JUSTID the source counts one more delivery of each entry; so must the mirror, whose reply is not looked
    at. How long an entry has been idle counts from now, so TIME replaces IDLE."""
    key, group, consumer = done.args[1:4]
    ids = _ids(done.reply)
    kept: list[bytes] = []
    at = next((at for at in range(5, len(done.args)) if done.args[at].upper() in _CLAIM_OPTIONS), len(done.args))
    moment = done.now_ms
    while at < len(done.args):
        word = done.args[at].upper()
        if word == b"TIME":
            moment = int(done.args[at + 1])
        elif word == b"IDLE":
            moment = done.now_ms - int(done.args[at + 1])
        elif word in (b"RETRYCOUNT", b"LASTID"):
            kept += [word, done.args[at + 1]]
        elif word == b"JUSTID":
            kept.append(word)
        at += 1 + _CLAIM_OPTIONS[word]
    if not ids:
        return NOTHING
    return _orders((b"XCLAIM", key, group, consumer, b"0", *ids, b"TIME", _number(moment), *kept, b"FORCE"))


def _ids(entries: Sequence[Any]) -> Args:
    return tuple(each if isinstance(each, bytes) else each[0] for each in entries if each is not None)


def xautoclaim(done: Done) -> Effect:
    """What was claimed, and what was struck off because its entry is gone."""
    key, group, consumer = done.args[1:4]
    justid = (b"JUSTID",) if _has(done.args[6:], b"JUSTID") else ()
    commands: list[Sequence[bytes]] = []
    if ids := _ids(done.reply[1]):
        claim = (b"XCLAIM", key, group, consumer, b"0", *ids, b"TIME", _number(done.now_ms))
        commands.append((*claim, *justid, b"FORCE"))
    if len(done.reply) > 2 and done.reply[2]:
        commands.append((b"XACK", key, group, *done.reply[2]))
    return _orders(*commands)


# ---- the table -------------------------------------------------------------------------------------------------------


def _rows(rule: Rule, names: str) -> Iterator[tuple[str, Rule]]:
    return ((name.replace("_", " "), rule) for name in names.split())


#: A command's name -> its rule; "_" stands for a space.
EFFECTS: dict[str, Rule] = dict(
    (
        *_rows(
            as_it_is,
            "APPEND BITOP DECR DECRBY DEL UNLINK FLUSHALL FLUSHDB FUNCTION_DELETE FUNCTION_FLUSH FUNCTION_LOAD "
            "FUNCTION_RESTORE GEOADD GEOSEARCHSTORE GETSET HDEL HINCRBY HMSET HPERSIST HSET INCR INCRBY LPUSH LPUSHX "
            "LSET LTRIM MSET PFADD PFMERGE RENAME RPUSH RPUSHX SADD SCRIPT_FLUSH SCRIPT_LOAD SDIFFSTORE SETBIT "
            "SETRANGE SINTERSTORE SREM SUNIONSTORE SWAPDB VADD VREM VSETATTR XACKDEL XDELEX XGROUP_CREATE "
            "XGROUP_CREATECONSUMER XGROUP_DELCONSUMER XGROUP_DESTROY XGROUP_SETID XSETID XTRIM ZADD ZDIFFSTORE "
            "ZINCRBY ZINTERSTORE ZRANGESTORE ZUNIONSTORE",
        ),
        *_rows(
            if_any,
            "COPY LINSERT MOVE PERSIST SMOVE XACK XDEL ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE",
        ),
        *_rows(removal, "LREM ZREM"),
        *_rows(script, "EVAL EVALSHA FCALL"),
        *_rows(stores, "SORT GEORADIUS GEORADIUSBYMEMBER"),
        *_rows(bitfield, "BITFIELD"),
        *_rows(set_, "SET"),
        *_rows(setex, "SETEX PSETEX"),
        *_rows(setnx, "SETNX"),
        *_rows(msetnx, "MSETNX"),
        *_rows(msetex, "MSETEX"),
        *_rows(incrbyfloat, "INCRBYFLOAT"),
        *_rows(expire, "EXPIRE PEXPIRE EXPIREAT PEXPIREAT"),
        *_rows(getex, "GETEX"),
        *_rows(getdel_value, "GETDEL"),
        *_rows(getdel, "DELEX DELIFEQ"),
        *_rows(restore, "RESTORE RESTORE-ASKING"),
        *_rows(renamenx, "RENAMENX"),
        *_rows(migrate, "MIGRATE"),
        *_rows(pop, "LPOP RPOP"),
        *_rows(blocking_pop, "BLPOP BRPOP"),
        *_rows(pop_many, "LMPOP BLMPOP"),
        *_rows(move, "LMOVE BLMOVE RPOPLPUSH BRPOPLPUSH"),
        *_rows(spop, "SPOP"),
        *_rows(zpop, "ZPOPMIN ZPOPMAX"),
        *_rows(blocking_zpop, "BZPOPMIN BZPOPMAX"),
        *_rows(zpop_many, "ZMPOP BZMPOP"),
        *_rows(hsetnx, "HSETNX"),
        *_rows(hincrbyfloat, "HINCRBYFLOAT"),
        *_rows(hexpire, "HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT"),
        *_rows(hgetex, "HGETEX"),
        *_rows(hgetdel, "HGETDEL"),
        *_rows(hsetex, "HSETEX"),
        *_rows(xadd, "XADD"),
        *_rows(xreadgroup, "XREADGROUP"),
        *_rows(xclaim, "XCLAIM"),
        *_rows(xautoclaim, "XAUTOCLAIM"),
    )
)
#: Rules that need no reply but that there was no error: a command that asked for none is taken to have run.
BLIND: frozenset[Rule] = frozenset({as_it_is, script, stores, bitfield, setex})
#: Commands that write and are never mirrored, with why.
LEFT_OUT = {"PFDEBUG": "for Redis' own tests"}
#: Commands that say by their reply alone what they took: also where they were sent before anybody listened.
BY_REPLY_ALONE = frozenset({"BLPOP", "BRPOP", "BZPOPMIN", "BZPOPMAX", "ZMPOP", "BZMPOP"})
