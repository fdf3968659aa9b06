"""How a row passes a threshold of ``rules.costs``, in SQL: too slow, too many arguments, too much in one reply.

Knows: what each measure looks at. Refuses to know: tables, and what is said of a measure.

Comparing names for each row is dear, comparing numbers is not. So each text is made for the commands that a chunk has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from protocol.deprecations import deprecations
from proxy.capture.format import Flag, ReplyKind
from proxy.report.rules import costs as bounds
from proxy.report.rules.costs import Measure
from proxy.report.studies.patterns import KIND, SERVICE

#: Arguments before the members, and arguments of each member.
READ_BATCHES = {
    "MGET": (1, 1), "HMGET": (2, 1), "GEOPOS": (2, 1), "GEOHASH": (2, 1), "ZMSCORE": (2, 1), "SMISMEMBER": (2, 1),
    "EXISTS": (1, 1), "TOUCH": (1, 1),
}  # fmt: skip
WRITE_BATCHES = {
    "SADD": (2, 1), "SREM": (2, 1), "RPUSH": (2, 1), "LPUSH": (2, 1), "ZADD": (2, 2), "ZREM": (2, 1), "HSET": (2, 2),
    "HMSET": (2, 2), "HDEL": (2, 1), "MSET": (1, 2), "PFADD": (2, 1), "GEOADD": (2, 3), "DEL": (1, 1),
    "UNLINK": (1, 1),
}  # fmt: skip
WHOLE_READS = (
    "SMEMBERS", "HGETALL", "HKEYS", "HVALS", "LRANGE", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE",
    "ZRANGEBYLEX", "ZREVRANGEBYLEX", "SUNION", "SINTER", "SDIFF", "ZUNION", "ZINTER", "ZDIFF", "XRANGE", "XREVRANGE",
    "SORT", "SORT_RO",
)  # fmt: skip
SCANS = ("SCAN", "HSCAN", "SSCAN", "ZSCAN")
#: Where the radius stands among the arguments, the unit behind it.
RADII = {"GEORADIUS": 5, "GEORADIUS_RO": 5, "GEORADIUSBYMEMBER": 4, "GEORADIUSBYMEMBER_RO": 4}
METRES = {"m": 1, "km": 1000, "ft": 0.3048, "mi": 1609.34}

#: A service time, without what shunt itself held back.
TOOK = "(latency_ns - held_ns)"
_ANSWERED = f"flags & {int(Flag.REPLIED_BY_PROXY)} = 0"
_SERVED = f"{KIND} = {SERVICE}"

#: Elements of a reply; a hash's fields and values, which come one behind the other in RESP2, count once.
_ITEMS = f"""(CASE WHEN command = 'HGETALL'::BLOB AND reply = {int(ReplyKind.ARRAY)} THEN reply_items // 2
    ELSE reply_items END)"""
_ALL_ASKED = "(len(args) >= 4 AND args[3] = '0'::BLOB AND args[4] = '-1'::BLOB)"
_WORDS = "list_transform(args, lambda word: upper(word::VARCHAR))"
_COUNT = f"""(CASE WHEN list_contains({_WORDS}, 'COUNT')
    THEN TRY_CAST(args[list_position({_WORDS}, 'COUNT') + 1]::VARCHAR AS BIGINT) END)"""


def _blobs(names: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{name}'::BLOB" for name in names) + ")"


def _members(batches: Mapping[str, tuple[int, int]]) -> str:
    cases = " ".join(f"WHEN '{name}'::BLOB THEN (nargs - {first}) // {each}" for name, (first, each) in batches.items())
    return f"(CASE command {cases} END)"


def _metres(at: str) -> str:
    """The number at argument ``at`` (from 1) in metres, by the unit behind it."""
    factors = " ".join(f"WHEN '{unit}' THEN {factor}" for unit, factor in METRES.items())
    return f"(TRY_CAST(args[{at}]::VARCHAR AS DOUBLE) * CASE lower(args[{at} + 1]::VARCHAR) {factors} END)"


_BY_RADIUS = f"""(CASE WHEN list_contains({_WORDS}, 'BYRADIUS')
    THEN {_metres(f"(list_position({_WORDS}, 'BYRADIUS') + 1)")} END)"""
_RADIUS = (
    "(CASE command "
    + " ".join(f"WHEN '{name}'::BLOB THEN {_metres(str(at))}" for name, at in RADII.items())
    + f" WHEN 'GEOSEARCH'::BLOB THEN {_BY_RADIUS} END)"
)
_GEO = (*RADII, "GEOSEARCH")


@dataclass(frozen=True)
class _How:
    """``commands``: that the measure is for (empty: for all). ``where``: which of their rows. ``worst``: by what one
    row is worse than another, a whole number."""

    commands: tuple[str, ...]
    where: str
    worst: str


_SCRIPT = f"flags & {int(Flag.SCRIPT)}"
_VALUE = "greatest(request_bytes, reply_bytes)"
_HOW = {
    Measure.KEYS: _How(("KEYS",), "true", "greatest(reply_items, 0)"),
    Measure.WHOLE: _How(
        WHOLE_READS,
        f"{_ITEMS} >= CASE WHEN {_ALL_ASKED} THEN {bounds.WHOLE_ITEMS_ASKED} ELSE {bounds.WHOLE_ITEMS} END",
        _ITEMS,
    ),
    Measure.READ_BATCH: _How(
        tuple(READ_BATCHES), f"{_members(READ_BATCHES)} > {bounds.BATCH_MEMBERS}", _members(READ_BATCHES)
    ),
    Measure.WRITE_BATCH: _How(
        tuple(WRITE_BATCHES), f"{_members(WRITE_BATCHES)} > {bounds.BATCH_MEMBERS}", _members(WRITE_BATCHES)
    ),
    Measure.SCAN_COUNT: _How(SCANS, f"{_COUNT} > {bounds.SCAN_COUNT}", _COUNT),
    Measure.SCAN_REPLY: _How(SCANS, f"len(args) = 0 AND reply_bytes >= {bounds.SCAN_REPLY_BYTES}", "reply_bytes"),
    Measure.DEL: _How(("DEL",), f"{_SERVED} AND took >= {bounds.DEL_NS}", "took"),
    Measure.SCRIPT: _How((), f"{_SCRIPT} <> 0 AND {_SERVED} AND took >= {bounds.SCRIPT_NS}", "took"),
    Measure.VALUE: _How(
        (),
        f"""{_VALUE} >= {bounds.VALUE_BYTES} AND nargs < {bounds.VALUE_ITEMS} AND reply_items < {bounds.VALUE_ITEMS}
            AND {_SCRIPT} = 0 AND command NOT IN {_blobs(["KEYS", "EXEC", *SCANS])}""",
        _VALUE,
    ),
    Measure.TXN: _How(("EXEC",), f"reply_items > {bounds.TXN_COMMANDS}", "reply_items"),
    Measure.RADIUS: _How(_GEO, f"{_RADIUS} >= {bounds.RADIUS_M}", "greatest(reply_items, 0)"),
}


def _present(names: Iterable[str], commands: Collection[bytes]) -> list[str]:
    return [name for name in names if name.encode() in commands]


def slow(slow_ns: int) -> str:
    """What a slow command is, of the rows that ``costly`` copies."""
    return f"{_SERVED} AND took >= {slow_ns}"


def costly(slow_ns: int, commands: Collection[bytes]) -> str:
    """Makes the table ``costly`` of the chunk's rows that any measure could want."""
    shortest = min(slow_ns, bounds.DEL_NS, bounds.SCRIPT_NS)
    parts = [
        f"(latency_ns >= {shortest} AND {_SERVED} AND {TOOK} >= {shortest})",
        f"nargs > {bounds.TXN_COMMANDS}",
        f"reply_items >= {bounds.WHOLE_ITEMS_ASKED}",
        f"request_bytes >= {bounds.SCAN_REPLY_BYTES}",
        f"reply_bytes >= {bounds.SCAN_REPLY_BYTES}",
    ]
    if names := _present(("KEYS", *SCANS, *_GEO), commands):
        parts.append(f"command IN {_blobs(names)}")
    return f"""CREATE OR REPLACE TEMP TABLE costly AS SELECT command, template, client_addr, client_name, cid, seq, ts,
        {TOOK} AS took, latency_ns, request_bytes, reply_bytes, reply, reply_items, nargs, flags, script, args
    FROM chunk WHERE ({" OR ".join(parts)}) AND {_ANSWERED}"""


def rows(slow_ns: int, commands: Collection[bytes]) -> str:
    """The costly rows of each measure: measure, command, template, client, time, sizes, and what they are the worst
    by."""
    found = [_rows(Measure.SLOW, "costly", slow(slow_ns), "took")]
    for measure, how in _HOW.items():
        if not how.commands:
            found.append(_rows(measure, "costly", how.where, how.worst))
        elif names := _present(how.commands, commands):
            found.append(_rows(measure, "costly", f"command IN {_blobs(names)} AND {how.where}", how.worst))
    return " UNION ALL ".join(found)


def deprecated(commands: Collection[bytes]) -> str:
    """The same of the chunk's deprecated commands; empty if it has none."""
    names = _present(deprecations(), commands)
    if not names:
        return ""
    return _rows(Measure.DEPRECATED, "chunk", f"command IN {_blobs(names)} AND {_ANSWERED}", "0", TOOK)


def _rows(measure: Measure, source: str, where: str, worst: str, took: str = "took") -> str:
    template = "template"
    if measure is Measure.SCRIPT:  # which script it was says more than its keys
        template = "CASE WHEN script <> ''::BLOB THEN script || ' '::BLOB || template ELSE template END"
    return f"""SELECT '{measure}' AS measure, command, {template} AS template, client_addr, client_name, cid, seq, ts,
        greatest({took}, 0) AS took, request_bytes, reply_bytes, ({worst})::BIGINT AS worst
    FROM {source} WHERE {where}"""
