"""Clients that do everything at once and know every byte that must come back.

Knows: what a client of its own keys may do (pipelines, transactions, blocking pops, subscriptions, …) and the exact
replies; when an end of a connection is excused. Refuses to know: who kills what, and what stands between the clients
and Redis.

Every key, value, channel and counter carries its client's name or number, so a reply that belongs to somebody else
can't be mistaken for one's own. A client whose connection ends starts anew under a new name: of what was in flight
nobody knows whether it was done.
"""

# Over 300 lines: a turn is nothing without the model beside it, and each is a few lines.

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from tests.wire import encode, frame_end

Expected = bytes | re.Pattern[bytes]
#: A command's bytes, and the one reply to it.
Pair = tuple[bytes, Expected]

ONE_OR_NONE = re.compile(rb":[01]\r\n")
A_NUMBER = re.compile(rb":\d+\r\n")
OK, QUEUED = b"+OK\r\n", b"+QUEUED\r\n"
MULTI, EXEC = (encode("MULTI"), OK), encode("EXEC")
DATABASES = 4
BIG = 200_000
#: Longest time for one turn of one client, whatever happens to Redis meanwhile.
PATIENCE_S = 30.0
#: What may be answered instead of the reply when shunt has no backend connection to give.
FULL = re.compile(rb"-ERR .*max number of backend connections.*\r\n")
#: What may be answered while Redis is away or has just come back.
AWAY = re.compile(rb"-(LOADING |ERR .*backend).*\r\n")
_OWNER = re.compile(rb"c\d+\.\d+")


class ForeignReply(AssertionError):
    """A client heard something else than what it must hear."""


class Refused(Exception):
    """An error that is legal: no backend connection was to be had."""


class Ended(Exception):
    """The connection has ended."""


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def array(*parts: bytes, mark: bytes = b"*") -> bytes:
    return b"%s%d\r\n%s" % (mark, len(parts), b"".join(parts))


def differ(name: bytes, expected: Expected, got: bytes) -> None:
    """ForeignReply, with the owner of what came where it can be told, unless ``got`` is what is expected."""
    if got == expected if isinstance(expected, bytes) else expected.fullmatch(got):
        return
    owners = {owner.decode() for owner in _OWNER.findall(got)} - {name.decode()}
    whose = f"; it belongs to {', '.join(sorted(owners))}" if owners else ""
    wanted = expected if isinstance(expected, bytes) else expected.pattern
    raise ForeignReply(f"{name.decode()} got {got[:200]!r} and not {wanted[:200]!r}{whose}")


@dataclass
class World:
    """What all clients share: the address, what they may do now, what was done, and what excuses an end."""

    address: tuple[str, int]
    hello: Mapping[int, re.Pattern[bytes]]  # what answers HELLO 2 and 3; without it everybody speaks RESP2
    seed: int = 0
    may_be_full: bool = False
    menu: Mapping[Turn, int] = field(default_factory=dict)
    over: bool = False
    epoch: int = 0  # odd while something is being killed
    done: Counter[str] = field(default_factory=Counter)
    replies: int = 0
    by_client: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    turned: asyncio.Event = field(default_factory=asyncio.Event)  # something was done, or a client complained

    def excuses(self, since: int) -> bool:
        """Whether a connection that last worked at ``since`` may have ended through no fault of shunt's."""
        return bool(self.epoch % 2) or since < self.epoch

    @contextlib.contextmanager
    def storm(self) -> Iterator[None]:
        """What is in flight within the block may be lost."""
        self.epoch += 1
        try:
            yield
        finally:
            self.epoch += 1


class Line:
    """One connection of a client: sends in pieces, and compares each reply with the one that is due."""

    def __init__(self, name: bytes, world: World, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.name, self.world = name, world
        self.db, self.resp = 0, 2
        self.title: bytes | None = None
        self.id: bytes | None = None
        self.since = world.epoch
        self.unread = bytearray()
        self._spoke = world.epoch
        self._reader, self._writer = reader, writer
        self._past: deque[bytes] = deque(maxlen=6)

    @classmethod
    async def to(cls, world: World, name: bytes) -> Line:
        """A new connection; while Redis is away it may be refused, and is tried again."""
        since = world.epoch
        while True:
            attempt = world.epoch
            try:
                line = cls(name, world, *await asyncio.open_connection(*world.address))
                line.since = attempt
                return line
            except ConnectionError:
                if not world.excuses(since):
                    raise ForeignReply(f"{name.decode()}: refused, and nothing had happened to Redis") from None
                world.done["refused connections"] += 1
                await asyncio.sleep(0.02)

    @property
    def null(self) -> bytes:
        return b"$-1\r\n" if self.resp == 2 else b"_\r\n"

    @property
    def no_array(self) -> bytes:
        return b"*-1\r\n" if self.resp == 2 else b"_\r\n"

    @property
    def push(self) -> bytes:
        return b"*" if self.resp == 2 else b">"

    async def send(self, data: bytes, cuts: Sequence[int] = ()) -> None:
        """``data`` in as many writes as ``cuts`` make of it; others run between two of them."""
        self._spoke = self.world.epoch
        self._past.append(data[:400])
        try:
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                self._writer.write(data[start:end])
                await self._writer.drain()
                await asyncio.sleep(0)
        except ConnectionError as error:
            self._ended(error)

    async def hear(self, *expected: Expected, chunk: int = 65_536, pause_s: float = 0.0) -> list[bytes]:
        """Exactly these replies. Refused: a legal error instead. Ended: an end that something excuses."""
        heard = []
        for one in expected:
            heard.append(await self._frame(chunk, pause_s))
            if heard[-1] != one:
                self._legal(heard[-1], one)
            self.world.replies += 1
        self.since = self._spoke
        return heard

    async def exchange(self, pairs: Sequence[Pair], cuts: int = 0, dice: random.Random | None = None) -> list[bytes]:
        data = b"".join(command for command, _ in pairs)
        where = sorted(dice.randrange(len(data)) for _ in range(cuts)) if dice else []
        await self.send(data, where)
        return await self.hear(*(reply for _, reply in pairs))

    async def hear_the_end(self) -> None:
        """Nothing more, and the end."""
        try:
            rest = bytes(self.unread) + await self._reader.read()
        except ConnectionError as error:
            self._ended(error)
        if rest:
            raise ForeignReply(f"{self.name.decode()} got {rest[:200]!r} where its connection must end")

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    def reset(self) -> None:
        """End with RST."""
        sock = self._writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """End with FIN."""
        self._writer.close()

    async def _frame(self, chunk: int, pause_s: float) -> bytes:
        while True:
            try:
                end = frame_end(self.unread) if self.unread else -1
            except ValueError as error:
                raise ForeignReply(f"{self.name.decode()} got a torn reply: {error}") from error
            if end >= 0:
                frame = bytes(self.unread[:end])
                del self.unread[:end]
                return frame
            if pause_s:
                await asyncio.sleep(pause_s)
            try:
                data = await self._reader.read(chunk)
            except ConnectionError as error:
                self._ended(error)
            if not data:
                self._ended(None)
            self.unread += data

    def _legal(self, got: bytes, expected: Expected) -> None:
        if self.world.may_be_full and FULL.fullmatch(got):
            self.world.done["refused for want of a connection"] += 1
            raise Refused
        if AWAY.fullmatch(got) and not FULL.fullmatch(got) and self.world.excuses(self.since):
            self.world.done["refused while Redis is away"] += 1
            raise Refused
        try:
            differ(self.name, expected, got)
        except ForeignReply as error:
            raise ForeignReply(f"{error}\nlast sent: {list(self._past)}") from None

    def must_be_excused(self, what: str) -> NoReturn:
        """Ended, or ForeignReply if nothing excuses that."""
        if self.world.excuses(self.since):
            raise Ended
        raise ForeignReply(
            f"{self.name.decode()}: {what}, and nothing had happened to Redis; unread {bytes(self.unread[:100])!r}\n"
            f"last sent: {list(self._past)}"
        )

    def _ended(self, error: BaseException | None) -> NoReturn:
        self.must_be_excused(f"closed ({error!r})")


class Model:
    """What a client's keys hold in each database, and the commands that read and change them."""

    def __init__(self, name: bytes, number: int, dice: random.Random) -> None:
        self.name, self.number, self.dice = name, number, dice
        self.values: dict[tuple[int, bytes], bytes] = {}
        self.counters: dict[tuple[int, bytes], int] = {}
        self.lists: dict[tuple[int, bytes], list[bytes]] = {}
        self.serial = 0

    def key(self, word: str) -> bytes:
        return self.name + b":" + word.encode()

    def value(self, size: int = 0) -> bytes:
        """A value that nobody else has, and this client only once."""
        self.serial += 1
        word = b"%s=%d;" % (self.name, self.serial)
        return word * (size // len(word) + 1)

    def held(self) -> tuple[dict[tuple[int, bytes], object], ...]:
        """What the keys hold, for ``restore``."""
        return dict(self.values), dict(self.counters), {key: list(items) for key, items in self.lists.items()}

    def restore(self, held: tuple[dict, ...]) -> None:  # type: ignore[type-arg]
        self.values, self.counters, self.lists = held

    def set(self, line: Line, word: str, value: bytes | None = None) -> Pair:
        key, value = self.key(word), value or self.value()
        self.values[line.db, key] = value
        return encode("SET", key, value), OK

    def get(self, line: Line, word: str) -> Pair:
        return encode("GET", self.key(word)), self._shown(line, word)

    def echo(self) -> Pair:
        value = self.value()
        return encode("ECHO", value), bulk(value)

    def plain(self, line: Line) -> Pair:
        """Some command that any connection may carry."""
        return self.dice.choice((self._set, self._get, self._count, self._push, self._range, self._mget, self.echo_of))(
            line
        )

    def echo_of(self, line: Line) -> Pair:
        return self.echo()

    def some(self, line: Line, most: int) -> list[Pair]:
        return [self.plain(line) for _ in range(self.dice.randint(1, most))]

    def _word(self) -> str:
        return f"s{self.dice.randrange(6)}"

    def _shown(self, line: Line, word: str) -> bytes:
        value = self.values.get((line.db, self.key(word)))
        return line.null if value is None else bulk(value)

    def _set(self, line: Line) -> Pair:
        return self.set(line, self._word())

    def _get(self, line: Line) -> Pair:
        return self.get(line, self._word())

    def _mget(self, line: Line) -> Pair:
        words = [self._word() for _ in range(self.dice.randint(1, 5))]
        return encode("MGET", *map(self.key, words)), array(*(self._shown(line, word) for word in words))

    def _count(self, line: Line) -> Pair:
        """A counter begins at the client's own million, so that its numbers are nobody else's."""
        key = self.key("n")
        if (line.db, key) not in self.counters:
            self.counters[line.db, key] = self.number * 1_000_000
            return encode("SET", key, self.counters[line.db, key]), OK
        self.counters[line.db, key] += 1
        return encode("INCR", key), b":%d\r\n" % self.counters[line.db, key]

    def _push(self, line: Line) -> Pair:
        items = self.lists.setdefault((line.db, self.key("l")), [])
        more = [self.value() for _ in range(self.dice.randint(1, 3))]
        items[:0] = reversed(more)
        return encode("LPUSH", self.key("l"), *more), b":%d\r\n" % len(items)

    def _range(self, line: Line) -> Pair:
        start, stop = self.dice.randrange(5), self.dice.randrange(10)
        items = self.lists.get((line.db, self.key("l")), [])
        return encode("LRANGE", self.key("l"), start, stop), array(*map(bulk, items[start : stop + 1]))


class Client:
    """One client after another in the same place: each life has its own name, keys, and at most two connections."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.dice = random.Random(f"{world.seed}/{number}")
        self.life = 0

    async def run(self) -> None:
        try:
            while not self.world.over:
                await self.live()
        except AssertionError as error:
            self.world.failures.append(str(error))
            self.world.turned.set()

    async def live(self) -> None:
        """From connecting to the end, whoever makes it."""
        self.life += 1
        self.name = b"c%d.%d" % (self.number, self.life)
        self.model = Model(self.name, self.number, self.dice)
        self._partner: Line | None = None
        self.main = await Line.to(self.world, self.name)
        turn: Turn = greet
        try:
            await self._take(greet)
            while not self.world.over:
                turn = self.dice.choices(list(self.world.menu), list(self.world.menu.values()))[0]
                if await self._take(turn):
                    return
            await self._take(farewell)
        except (Refused, Ended) as why:
            self.world.done[type(why).__name__.lower()] += 1
        except TimeoutError:
            doing = turn.__name__
            raise ForeignReply(f"{self.name.decode()} heard nothing for {PATIENCE_S} s ({doing})") from None
        except ForeignReply as error:
            raise ForeignReply(f"{error}\nwhile: {turn.__name__}") from None
        finally:
            for line in (self.main, self._partner):
                if line is not None:
                    line.reset() if self.dice.random() < 0.5 else line.close()

    async def _take(self, turn: Turn) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            end = bool(await turn(self))
        self.world.done[turn.__name__] += 1
        self.world.by_client[self.number] += 1
        self.world.turned.set()
        return end

    async def partner(self) -> Line:
        """The client's other connection, in the same database."""
        if self._partner is None:
            self._partner = await Line.to(self.world, self.name)
        if self._partner.db != self.main.db:
            self._partner.db = self.main.db
            await self._partner.exchange([select(self.main.db)])
        return self._partner

    async def say(self, *pairs: Pair) -> None:
        """On the main connection, sometimes in several writes."""
        await self.main.exchange(pairs, self.dice.choice((0, 0, 0, 1, 3)), self.dice)


#: Something that a client does; true if its life is over then.
Turn = Callable[[Client], Awaitable[bool | None]]


def select(db: int) -> Pair:
    return encode("SELECT", db), OK


def executed(inside: Sequence[Pair]) -> bytes:
    """EXEC's reply for commands that were queued."""
    return array(*(reply for _, reply in inside if isinstance(reply, bytes)))


def queued(inside: Sequence[Pair]) -> list[Pair]:
    return [(command, QUEUED) for command, _ in inside]


# ------------------------------------------------------------------------------------------ turns


async def greet(me: Client) -> None:
    if me.number % 2 and me.world.hello:
        me.main.resp = 3
        await me.say((encode("HELLO", 3), me.world.hello[3]))


async def farewell(me: Client) -> None:
    """The last word must have its echo: nothing else was still to come."""
    await me.say(me.model.echo())


async def pipeline(me: Client) -> None:
    await me.say(*me.model.some(me.main, 20))


async def transaction_in_one_write(me: Client) -> None:
    inside = me.model.some(me.main, 5)
    before, after = me.model.echo(), me.model.echo()
    await me.main.exchange([before, MULTI, *queued(inside), (EXEC, executed(inside)), after])


async def transaction_in_several_writes(me: Client) -> None:
    await me.say(MULTI)
    inside = []
    for _ in range(me.dice.randint(1, 4)):
        inside.append(me.model.plain(me.main))
        await me.say(*queued(inside[-1:]))
    await me.say((EXEC, executed(inside)))


async def transaction_discarded(me: Client) -> None:
    held = me.model.held()
    inside = me.model.some(me.main, 4)
    me.model.restore(held)
    await me.say(MULTI, *queued(inside))
    await me.say((encode("DISCARD"), OK), me.model.get(me.main, "s1"))


async def transaction_aborted(me: Client) -> None:
    wrong = encode("GET"), b"-ERR wrong number of arguments for 'get' command\r\n"
    aborted = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
    await me.say(MULTI, wrong, (EXEC, aborted), me.model.echo())


async def transaction_that_selects(me: Client) -> None:
    """SELECT among the queued commands: what comes behind EXEC is in the other database."""
    db = me.dice.randrange(DATABASES)
    inside = me.model.some(me.main, 2)
    me.main.db = db
    inside += [select(db), *me.model.some(me.main, 2)]
    await me.main.exchange([MULTI, *queued(inside), (EXEC, executed(inside)), *me.model.some(me.main, 3)])


async def watch_that_holds(me: Client) -> None:
    await me.say((encode("WATCH", me.model.key("s1")), OK), me.model.get(me.main, "s1"))
    inside = [me.model.set(me.main, "s1"), me.model.get(me.main, "s1")]
    await me.say(MULTI, *queued(inside), (EXEC, executed(inside)))


async def watch_that_breaks(me: Client) -> None:
    partner = await me.partner()
    await me.say((encode("WATCH", me.model.key("s1")), OK))
    await partner.exchange([me.model.set(partner, "s1")])
    lost = encode("SET", me.model.key("s1"), "never"), QUEUED
    await me.say(MULTI, lost, (EXEC, me.main.no_array), me.model.get(me.main, "s1"))


async def unwatch(me: Client) -> None:
    await me.say((encode("WATCH", me.model.key("s1"), me.model.key("s2")), OK), *me.model.some(me.main, 3))
    await me.say((encode("UNWATCH"), OK), me.model.echo())


async def pop_at_once(me: Client) -> None:
    queue, item = me.model.key("q"), me.model.value()
    pop = encode("BRPOP", me.model.key("none"), queue, 0), array(bulk(queue), bulk(item))
    await me.say((encode("LPUSH", queue, item), b":1\r\n"), pop, me.model.echo())


async def pop_that_a_partner_serves(me: Client) -> None:
    partner = await me.partner()
    queue, item = me.model.key("q"), me.model.value()
    behind = me.model.some(me.main, 3)
    await me.main.send(encode("BRPOP", queue, 0) + b"".join(command for command, _ in behind))
    await asyncio.sleep(me.dice.random() * 0.01)
    await partner.exchange([(encode("LPUSH", queue, item), b":1\r\n")])
    await me.main.hear(array(bulk(queue), bulk(item)), *(reply for _, reply in behind))


async def pop_that_times_out(me: Client) -> None:
    await me.say((encode("BRPOP", me.model.key("none"), 0.05), me.main.no_array), *me.model.some(me.main, 3))


async def messages(me: Client) -> None:
    """Subscribe, hear what the partner publishes (and answers among it in RESP3), unsubscribe."""
    main, partner = me.main, await me.partner()
    channels = [me.model.key(f"channel{index}") for index in range(me.dice.randint(1, 3))]

    def confirmed(word: bytes, counts: Iterable[int]) -> list[bytes]:
        return [
            array(bulk(word), bulk(channel), b":%d\r\n" % count, mark=main.push)
            for channel, count in zip(channels, counts, strict=True)
        ]

    await main.send(encode("SUBSCRIBE", *channels))
    await main.hear(*confirmed(b"subscribe", range(1, len(channels) + 1)))
    for _ in range(me.dice.randint(1, 3)):
        sent = [(me.dice.choice(channels), me.model.value()) for _ in range(me.dice.randint(1, 4))]
        listeners = await partner.exchange([(encode("PUBLISH", *each), ONE_OR_NONE) for each in sent])
        if b":0\r\n" in listeners:
            main.must_be_excused("nobody heard it")  # Redis has closed the subscriber, and not the partner
        await main.hear(*(array(bulk(b"message"), bulk(c), bulk(m), mark=main.push) for c, m in sent))
        if main.resp == 3:
            await me.say(*me.model.some(main, 3))
    await main.send(encode("UNSUBSCRIBE", *channels))
    await main.hear(*confirmed(b"unsubscribe", range(len(channels) - 1, -1, -1)))
    await partner.exchange([(encode("PUBLISH", channels[0], me.model.value()), b":0\r\n")])
    await me.say(*me.model.some(main, 3))


async def select_another_database(me: Client) -> None:
    pairs = me.model.some(me.main, 3)
    for _ in range(me.dice.randint(1, 3)):
        me.main.db = me.dice.randrange(DATABASES)
        pairs += [select(me.main.db), *me.model.some(me.main, 4)]
    await me.say(*pairs)


async def change_the_protocol(me: Client) -> None:
    pairs = me.model.some(me.main, 3)
    me.main.resp = 5 - me.main.resp
    pairs += [(encode("HELLO", me.main.resp), me.world.hello[me.main.resp]), *me.model.some(me.main, 4)]
    await me.say(*pairs, me.model.get(me.main, "nothing here"))


async def big_value_in_pieces(me: Client) -> None:
    command, reply = me.model.set(me.main, "big", me.model.value(BIG))
    await me.main.send(command, sorted(me.dice.randrange(len(command)) for _ in range(8)))
    await me.main.hear(reply)
    await me.say(me.model.get(me.main, "big"), me.model.echo())


async def slow_reader(me: Client) -> None:
    pairs = [me.model.set(me.main, "big", me.model.value(BIG)), me.model.get(me.main, "big")]
    pairs += [*me.model.some(me.main, 3), me.model.get(me.main, "big"), me.model.echo()]
    await me.main.send(b"".join(command for command, _ in pairs))
    await me.main.hear(*(reply for _, reply in pairs), chunk=16_384, pause_s=0.002)


async def script(me: Client) -> None:
    key, value = me.model.key("k"), me.model.value()
    both = encode("EVAL", "return {KEYS[1], ARGV[1]}", 1, key, value), array(bulk(key), bulk(value))
    await me.say(*me.model.some(me.main, 2), both, me.model.echo())


async def name_oneself(me: Client) -> None:
    """The name that a connection was given stays with it, and so does its number."""
    line = me.main
    pairs = [(encode("CLIENT", "GETNAME"), line.null if line.title is None else bulk(line.title))]
    line.title = me.name + b"/%d" % me.dice.randrange(1_000)
    pairs += [(encode("CLIENT", "SETNAME", line.title), OK), *me.model.some(line, 2)]
    pairs += [(encode("CLIENT", "GETNAME"), bulk(line.title))]
    await me.say(*pairs)
    await line.send(encode("CLIENT", "ID"))
    [line.id] = await line.hear(line.id or A_NUMBER)


async def replies_off(me: Client) -> None:
    silent = b"".join(command for command, _ in me.model.some(me.main, 4))
    skipped, _ = me.model.set(me.main, "s2")
    on = encode("CLIENT", "REPLY", "OFF") + silent + encode("CLIENT", "REPLY", "ON"), OK
    skip = encode("CLIENT", "REPLY", "SKIP") + skipped + encode("GET", me.model.key("s2"))
    began = me.world.epoch
    await me.say(on, (skip, me.model.get(me.main, "s2")[1]), me.model.echo())
    if began != me.world.epoch or began % 2:
        raise Ended  # LOADING, say: it is allowed to CLIENT REPLY and refuses the rest without a word


async def track_a_key(me: Client) -> None:
    main, partner = me.main, await me.partner()
    key = me.model.key("tracked")
    if main.resp == 2:
        main.resp = 3
        await me.say((encode("HELLO", 3), me.world.hello[3]))
    await me.say((encode("CLIENT", "TRACKING", "ON"), OK), me.model.get(main, "tracked"))
    await partner.exchange([me.model.set(partner, "tracked")])
    await main.hear(array(bulk(b"invalidate"), array(bulk(key)), mark=b">"))
    await me.say((encode("CLIENT", "TRACKING", "OFF"), OK), me.model.get(main, "tracked"))


async def reset(me: Client) -> None:
    pairs: list[Pair] = [*me.model.some(me.main, 2), (encode("RESET"), b"+RESET\r\n")]
    me.main.db, me.main.resp, me.main.title = 0, 2, None
    await me.say(*pairs, (encode("CLIENT", "GETNAME"), me.main.null), *me.model.some(me.main, 3))


async def unknown_command(me: Client) -> bool:
    """Behind a command that nobody knows, a client goes soon: it may have a connection to itself until then."""
    error = b"-ERR unknown command 'NOPE', with args beginning with: '%s' \r\n" % me.name
    await me.say(me.model.plain(me.main), (encode("NOPE", me.name), error), *me.model.some(me.main, 3))
    await me.say((encode("QUIT"), OK))
    await me.main.hear_the_end()
    return True


async def half_close(me: Client) -> bool:
    """Nothing more to say: every reply still comes, then the end."""
    pairs = me.model.some(me.main, 20)
    if me.dice.random() < 0.5:
        me.main.db = me.dice.randrange(DATABASES)
        pairs += [select(me.main.db), *me.model.some(me.main, 5)]
    await me.main.send(b"".join(command for command, _ in pairs))
    me.main.half_close()
    await me.main.hear(*(reply for _, reply in pairs))
    await me.main.hear_the_end()
    return True


async def _leave(me: Client) -> None:
    """Go to where a connection has something in flight, or is in the middle of something."""
    model, line = me.model, me.main
    busy = b"".join(command for command, _ in model.some(line, 30))
    big = b"".join([model.set(line, "big", model.value(BIG))[0], *[model.get(line, "big")[0]] * 3])
    key = model.key("s1")
    where = [
        busy,
        busy,
        big,
        busy + encode("BRPOP", model.key("none"), 0) + busy,
        encode("MULTI") + busy,
        encode("WATCH", key) + busy,
        encode("SUBSCRIBE", model.key("channel0")),
        encode("CLIENT", "REPLY", "OFF") + busy,
        busy + encode("SELECT", 3) + busy,
        busy + encode("HELLO", 5 - line.resp) + busy,
        busy + encode("SET", key, model.value(5_000))[:-3_000],
        big[: BIG // 2],
    ]
    await line.send(me.dice.choice(where))
    if me.dice.random() < 0.5:
        await asyncio.sleep(me.dice.random() * 0.02)


async def break_off_with_rst(me: Client) -> bool:
    await _leave(me)
    me.main.reset()
    return True


async def break_off_with_fin(me: Client) -> bool:
    await _leave(me)
    me.main.close()
    return True


#: What any connection may carry, mixed with nothing.
PLAIN: dict[Turn, int] = {pipeline: 1}
#: Everything, and how often.
EVERYTHING: dict[Turn, int] = {
    pipeline: 30,
    transaction_in_one_write: 10,
    transaction_in_several_writes: 6,
    transaction_discarded: 3,
    transaction_aborted: 3,
    transaction_that_selects: 4,
    watch_that_holds: 4,
    watch_that_breaks: 4,
    unwatch: 3,
    pop_at_once: 4,
    pop_that_a_partner_serves: 6,
    pop_that_times_out: 3,
    messages: 5,
    select_another_database: 6,
    change_the_protocol: 4,
    big_value_in_pieces: 3,
    slow_reader: 3,
    script: 4,
    name_oneself: 5,
    replies_off: 4,
    track_a_key: 3,
    reset: 3,
    unknown_command: 3,
    half_close: 3,
    break_off_with_rst: 4,
    break_off_with_fin: 4,
}
