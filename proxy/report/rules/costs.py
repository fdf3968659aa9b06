"""Advice on what is slow and costly today: deprecated commands, reads and writes of too much at once, chatter.

Knows: the thresholds, and what to say of a *site*: one command on one key pattern that passed a threshold, with the
clients that sent it. Refuses to know: how sites are found (``studies.costs``, ``studies.chatter``).
"""
# Over 300 lines: each rule is its own documentation, and they are read side by side.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from protocol.deprecations import deprecations
from proxy.report.printable import printable, shorten
from proxy.report.rules.advice import Advice, AdviceRule, Example, Level

MS = 1_000_000

SLOW_NS = 10 * MS
DEL_NS = 5 * MS
SCRIPT_NS = 5 * MS
WHOLE_ITEMS = 1_000
WHOLE_ITEMS_ASKED = 100
BATCH_MEMBERS = 1_000
SCAN_COUNT = 1_000
SCAN_REPLY_BYTES = 100_000
VALUE_BYTES = 256 * 1024
VALUE_ITEMS = 100
TXN_COMMANDS = 100
RADIUS_M = 20_000_000
RUN_READS = 10
RUN_PAUSE_NS = 10 * MS
RUNS_READS = 100
SAME_READS = 100
HOT_SHARE = 0.10
HOT_PER_S = 100

#: For the page: name, value as people read it, what it bounds.
THRESHOLDS = (
    ("SLOW_NS", "10 ms", "a slow command, unless --slow says otherwise; Redis' own slowlog has the same default"),
    ("DEL_NS", "5 ms", "a slow DEL"),
    ("SCRIPT_NS", "5 ms", "a long script"),
    ("WHOLE_ITEMS", "1,000", "elements of a reply to a command that reads a whole collection"),
    ("WHOLE_ITEMS_ASKED", "100", "the same, where recorded arguments say 0 -1"),
    ("BATCH_MEMBERS", "1,000", "keys or members of one command"),
    ("SCAN_COUNT", "1,000", "COUNT of a scan"),
    ("SCAN_REPLY_BYTES", "100 kB", "a scan's reply, where arguments were not recorded"),
    ("VALUE_BYTES", "256 KiB", "a request or reply of a command with few arguments and few elements"),
    ("VALUE_ITEMS", "100", "few: fewer arguments and elements than this"),
    ("TXN_COMMANDS", "100", "commands of one transaction"),
    ("RADIUS_M", "20,000 km", "a radius that covers everything: half the earth's circumference is 20,037 km"),
    ("RUN_READS", "10", "reads of one pattern in a row, each sent after the reply to the one before"),
    ("RUN_PAUSE_NS", "10 ms", "between a reply and the next read, on average over a run: longer is no loop over keys"),
    ("RUNS_READS", "100", "reads in such runs, before anything is said"),
    ("SAME_READS", "100", "reads of one key by one connection within a sample of 100,000 commands"),
    ("HOT_SHARE", "10 %", "of all commands on one key"),
    ("HOT_PER_S", "100 a second", "commands on one key, before it is called hot"),
)


class Measure(StrEnum):
    """By what a command passed a threshold."""

    SLOW = "slow"
    DEPRECATED = "deprecated"
    RADIUS = "radius"
    KEYS = "keys"
    WHOLE = "whole"
    READ_BATCH = "read batch"
    WRITE_BATCH = "write batch"
    SCAN_COUNT = "scan count"
    SCAN_REPLY = "scan reply"
    DEL = "del"
    SCRIPT = "script"
    VALUE = "value"
    TXN = "transaction"
    RUNS = "runs"
    SAME = "same"


@dataclass(frozen=True)
class Site:
    """One command on keys of one pattern, over a threshold. ``worst``: the highest of what was measured (ns, bytes,
    elements, members). ``clients``: (address or name, occurrences), most first. ``template``: of scripts, the SHA-1
    before it."""

    measure: Measure
    command: bytes
    template: bytes
    count: int
    worst: int
    total_ns: int = 0
    first_ts: int = 0
    last_ts: int = 0
    clients: tuple[tuple[bytes, int], ...] = ()
    examples: tuple[Example, ...] = ()
    runs: int = 0  # of RUNS: how many


@dataclass(frozen=True)
class HotKey:
    """A key with its share of all commands, and how many a second."""

    key: bytes
    count: int
    share: float
    per_s: float


@dataclass(frozen=True)
class CostFacts:
    """What the rules of this family look at."""

    sites: tuple[Site, ...] = ()
    hot: tuple[HotKey, ...] = ()


class SiteRule(AdviceRule[CostFacts]):
    """Base of the rules on sites: one advice for each site of ``measures``."""

    measures: ClassVar[tuple[Measure, ...]]

    def judge(self, facts: CostFacts) -> Iterator[Advice]:
        for site in facts.sites:
            if site.measure in self.measures and self.holds(site):
                yield self.advice(
                    subject(site), f"{self.seen(site)}{_who(site)}.", count=site.count, first_ts=site.first_ts,
                    last_ts=site.last_ts, examples=site.examples,
                )  # fmt: skip

    def holds(self, site: Site) -> bool:
        """Whether there is something to say of a site that passed the threshold."""
        return True

    def seen(self, site: Site) -> str:
        """What was seen, without who sent it."""
        raise NotImplementedError


def subject(site: Site) -> str:
    """The command and its key pattern: the same in every capture."""
    return shorten(f"{printable(site.command)} {printable(site.template)}".strip(), 80)


def times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def lasting(ns: int) -> str:
    return f"{ns / 1e9:,.1f} s" if ns >= 1e9 else f"{ns / 1e6:,.1f} ms"


def kilobytes(count: int) -> str:
    return f"{count / 1e3:,.0f} kB"


def _who(site: Site) -> str:
    if not site.clients:
        return ""
    shown = ", ".join(f"{shorten(printable(name), 40)} ({count:,})" for name, count in site.clients[:3])
    more = len(site.clients) - 3
    return f"; sent by {shown}" + (f" and {more} more" if more > 0 else "")


class Deprecated(SiteRule):
    """Commands that Redis calls deprecated (COMMAND DOCS of a live 7.0 server, and the documentation of newer ones).

    **Why:** a deprecated command gets no new options, targets other than Redis may lack it, and a future version may
    drop it.

    **Instead:** use the command that is named beside it. GEORADIUS and GEORADIUSBYMEMBER also count as writes
    because of their STORE option, so they are refused by replicas: GEOSEARCH is not. SETNX with a separate EXPIRE
    leaves a lock for ever when the client dies in between: SET with NX and EX is one step.
    """

    id = "deprecated-command"
    level = Level.LOW
    title = "a command that Redis calls deprecated"
    measures = (Measure.DEPRECATED,)

    def holds(self, site: Site) -> bool:
        return site.command.decode("latin-1") in deprecations()

    def seen(self, site: Site) -> str:
        about = deprecations()[site.command.decode("latin-1")]
        instead = about.instead.replace("`", "")
        return f"{times(site.count)}; deprecated since {about.since}, replaced by {instead}"


class RadiusOfEverything(SiteRule):
    """GEORADIUS, GEORADIUSBYMEMBER or GEOSEARCH with a radius of 20,000 km or more. Needs recorded arguments.

    **Why:** the radius covers the whole earth, so nothing is searched for: Redis computes the distance to every member.

    **Instead:** ZRANGE key 0 -1 in pages and, where positions are needed, GEOPOS in batches of at most 1,000 members.
    """

    id = "radius-of-everything"
    level = Level.MEDIUM
    title = "a search by radius that excludes nothing"
    measures = (Measure.RADIUS,)

    def seen(self, site: Site) -> str:
        return f"{times(site.count)}, with up to {site.worst:,} results"


class KeysCommand(SiteRule):
    """KEYS, whatever its pattern.

    **Why:** it walks over every key of the database in one go, and no other client is served meanwhile, however few
    match. In a cluster it answers for one node only.

    **Instead:** SCAN with MATCH, COUNT 100 to 1,000 and a cursor; better, a set that holds the names one looks for.
    """

    id = "keys-command"
    level = Level.HIGH
    title = "KEYS walks over the whole database"
    measures = (Measure.KEYS,)

    def seen(self, site: Site) -> str:
        average = lasting(site.total_ns // site.count) if site.count else ""
        return f"{times(site.count)}, {average} each on average, up to {site.worst:,} keys in a reply"


class WholeRead(SiteRule):
    """Commands that read a whole collection (SMEMBERS, HGETALL, HKEYS, HVALS, LRANGE, ZRANGE and its relatives,
    SUNION, SINTER, SDIFF, XRANGE, SORT) with 1,000 elements in the reply or more; with recorded arguments that say
    ``0 -1``, 100 or more. A hash's fields are counted once.

    **Why:** Redis does nothing else while it builds the reply, and keeps all of it in memory until the client has
    taken it. The collection will go on growing.

    **Instead:** SSCAN, HSCAN or ZSCAN with a cursor; LRANGE, ZRANGE and XRANGE in pages; HMGET with the fields that
    are needed; for membership SISMEMBER or SMISMEMBER. If all of it is always needed, keep it as one value of the
    application's.
    """

    id = "whole-collection-read"
    level = Level.MEDIUM
    title = "a large collection is read in one command"
    measures = (Measure.WHOLE,)

    def seen(self, site: Site) -> str:
        return f"{times(site.count)}, up to {site.worst:,} elements in a reply, {lasting(site.total_ns)} in all"


class ReadBatch(SiteRule):
    """MGET, HMGET, GEOPOS, GEOHASH, ZMSCORE, SMISMEMBER, EXISTS, TOUCH with more than 1,000 keys or members.

    **Why:** Redis serves nobody else until all are read; in a cluster, keys of one command must lie in one slot, so
    large batches are what hurts most there.

    **Instead:** batches of at most 1,000, in a pipeline. Others are served in between, and the whole takes hardly
    longer.
    """

    id = "read-batch-too-large"
    level = Level.MEDIUM
    title = "thousands of keys or members are read in one command"
    measures = (Measure.READ_BATCH,)

    def seen(self, site: Site) -> str:
        return f"{times(site.count)}, up to {site.worst:,} at once, {lasting(site.total_ns)} in all"


class WriteBatch(SiteRule):
    """SADD, SREM, RPUSH, LPUSH, ZADD, ZREM, HSET, HMSET, HDEL, MSET, PFADD, GEOADD, DEL, UNLINK with more than 1,000
    members, fields or keys.

    **Why:** Redis serves nobody else until all are written, replicas get it as one piece, and the command is held in
    memory as a whole by the client, by Redis and by whatever stands between.

    **Instead:** batches of at most 1,000, in a pipeline.
    """

    id = "write-batch-too-large"
    level = Level.MEDIUM
    title = "thousands of members are written in one command"
    measures = (Measure.WRITE_BATCH,)

    def seen(self, site: Site) -> str:
        return f"{times(site.count)}, up to {site.worst:,} at once, {lasting(site.total_ns)} in all"


class ScanCount(SiteRule):
    """SCAN, HSCAN, SSCAN or ZSCAN with COUNT over 1,000. Where arguments were not recorded: with a reply of 100 kB
    or more.

    **Why:** COUNT is how much Redis looks at before it serves anybody else: a scan with a large one is KEYS again.

    **Instead:** COUNT 100 to 1,000. Small hashes, sets and sorted sets come back whole, whatever COUNT says.
    """

    id = "scan-count-too-large"
    level = Level.MEDIUM
    title = "a scan in large steps"
    measures = (Measure.SCAN_COUNT, Measure.SCAN_REPLY)

    def seen(self, site: Site) -> str:
        if site.measure is Measure.SCAN_COUNT:
            return f"{times(site.count)}, COUNT up to {site.worst:,}"
        return f"{times(site.count)}, replies of up to {kilobytes(site.worst)} (arguments were not recorded)"


class SlowDelete(SiteRule):
    """DEL that took 5 ms or longer. By time: a DEL that waited behind another slow command counts too, so compare
    with the slow commands at the same moment.

    **Why:** DEL frees every element before Redis serves anybody else: the larger the key, the longer.

    **Instead:** UNLINK, which takes the name away at once and frees the memory in another thread. Same arguments,
    same reply.
    """

    id = "slow-delete"
    level = Level.MEDIUM
    title = "DEL of big keys"
    measures = (Measure.DEL,)

    def seen(self, site: Site) -> str:
        return f"{times(site.count)} slower than {lasting(DEL_NS)}, up to {lasting(site.worst)}"


class LongScript(SiteRule):
    """EVAL, EVALSHA, FCALL that took 5 ms or longer. The subject names the script's SHA-1 where it is known.

    **Why:** a script runs alone: nobody is served until it ends. Loops over keys or members grow with the data.

    **Instead:** bound the loop (a limit and a cursor among the arguments), or do the reading outside and the deciding
    inside. The capture holds the script's body under its SHA-1.
    """

    id = "long-script"
    level = Level.MEDIUM
    title = "a script that runs long"
    measures = (Measure.SCRIPT,)

    def seen(self, site: Site) -> str:
        return f"{times(site.count)} slower than {lasting(SCRIPT_NS)}, up to {lasting(site.worst)}"


class BigValue(SiteRule):
    """Requests or replies of 256 KiB or more, of commands with fewer than 100 arguments and elements: single big
    values.

    **Why:** one thread copies it, one connection carries it: whatever is behind it waits. It fills output buffers,
    replication buffers and the target's limits (a proxy or managed Redis may refuse it).

    **Instead:** compress it, split it (a hash, with a field for each part that is needed alone), or keep it in an
    object store and its address here.
    """

    id = "big-value"
    level = Level.MEDIUM
    title = "a big value"
    measures = (Measure.VALUE,)

    def seen(self, site: Site) -> str:
        return f"{times(site.count)}, up to {kilobytes(site.worst)}"


class LongTransaction(SiteRule):
    """EXEC of more than 100 commands.

    **Why:** the commands of a transaction run one after another with nobody served in between, and their replies are
    kept until the last.

    **Instead:** a pipeline without MULTI where all-or-nothing is not needed; else smaller transactions.
    """

    id = "long-transaction"
    level = Level.LOW
    title = "a transaction of many commands"
    measures = (Measure.TXN,)

    def seen(self, site: Site) -> str:
        return f"{times(site.count)}, up to {site.worst:,} commands, {lasting(site.total_ns)} in all"


class ReadsInARow(SiteRule):
    """Runs of 10 or more reads of single keys of one pattern on one connection, each sent after the reply to the one
    before and within 10 ms of it on average, 100 or more reads in all (the N+1 pattern). The first 100,000 of each
    million commands are searched.

    **Why:** each read costs a round trip; the time goes into waiting, and grows with the distance to Redis.

    **Instead:** MGET (HMGET, SMISMEMBER, ZMSCORE) in batches of at most 1,000, or the same reads in one pipeline. In
    a cluster use the pipeline: MGET needs all its keys in one slot.
    """

    id = "reads-in-a-row"
    level = Level.MEDIUM
    title = "keys are read one by one"
    measures = (Measure.RUNS,)

    def holds(self, site: Site) -> bool:
        return site.count >= RUNS_READS

    def seen(self, site: Site) -> str:
        return (
            f"{site.count:,} reads in {site.runs:,} runs, the longest of {site.worst:,}, "
            f"{lasting(site.total_ns)} spent waiting"
        )


class SameRead(SiteRule):
    """One key read 100 times or more by one connection, within the first 100,000 of a million commands.

    **Why:** the answer is hardly ever another one: the reads are round trips that tell nothing new.

    **Instead:** keep it in the process for a moment (a second is often enough), or use client-side caching (CLIENT
    TRACKING). Where it is a poll for something to happen: a blocking command, a stream, or publish and subscribe.
    """

    id = "same-read-again"
    level = Level.LOW
    title = "the same key is read again and again"
    measures = (Measure.SAME,)

    def seen(self, site: Site) -> str:
        return f"{site.count:,} such reads, up to {site.worst:,} of one key by one connection"


class HotKeyRule(AdviceRule[CostFacts]):
    """A key that 10 % of all commands or more touch, at 100 a second or more.

    **Why:** more nodes don't help it: a key lies on one shard, and that shard's one thread serves all of it.

    **Instead:** keep reads in the process for a moment; split counters and queues into several keys (name:{0} to
    name:{7}) and sum up when reading; move what is only locked or polled to a blocking command.
    """

    id = "hot-key"
    level = Level.LOW
    title = "one key has a large share of all commands"

    def judge(self, facts: CostFacts) -> Iterator[Advice]:
        for hot in facts.hot:
            if hot.share >= HOT_SHARE and hot.per_s >= HOT_PER_S:
                seen = f"{hot.count:,} commands, {hot.share:.0%} of all, {hot.per_s:,.0f} a second."
                yield self.advice(shorten(printable(hot.key), 80), seen, count=hot.count)


RULES: tuple[AdviceRule[CostFacts], ...] = (
    KeysCommand(), WholeRead(), ReadBatch(), WriteBatch(), ScanCount(), SlowDelete(), LongScript(), BigValue(),
    LongTransaction(), RadiusOfEverything(), ReadsInARow(), SameRead(), HotKeyRule(), Deprecated(),
)  # fmt: skip

_LEVELS = {level: place for place, level in enumerate(Level)}


def judge_costs(facts: CostFacts, rules: Sequence[AdviceRule[CostFacts]] = RULES) -> tuple[Advice, ...]:
    """What the rules say, what matters most first; of one rule, what comes most often."""
    found = [advice for rule in rules for advice in rule.judge(facts)]
    place = {rule.id: number for number, rule in enumerate(rules)}
    return tuple(sorted(found, key=lambda each: (_LEVELS[each.level], place[each.rule], -each.count, each.subject)))
