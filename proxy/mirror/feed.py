"""One worker's mirror: records out of the tap, effects into the lanes, and what came of them.

Knows: which lane a client's effects take (always the same one), how much is done in one turn of the event loop, which
removals are tried again, how reads are compared. Refuses to know: clients, and how connections are made (handed in).

A removal that finds nothing is tried again a little later: the reply to a BRPOP may be readable before the reply to the
LPUSH that woke it, so here the pop may come first. What is not found then either is counted as missed.
"""

# Over 300 lines: one way of a record, from the tap to what the mirror answered.

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from protocol import keyspecs
from protocol.keyspecs import CommandTable
from proxy.engine.tap import TapQueue
from proxy.mirror import compare
from proxy.mirror.counts import Counts
from proxy.mirror.effects import BY_REPLY_ALONE, EFFECTS, Done, Effect, Failed, Order, Unreadable, effect
from proxy.mirror.lane import Connect, Lane, Sent, Words
from proxy.mirror.selection import Selection
from proxy.mirror.tally import Row, Tally
from proxy.mirror.transcript import Exchange, Missing, Record, Step, Transcript

_log = logging.getLogger(__name__)

LANES = 4
#: Arguments, and replies, above this are not copied, bytes.
VALUE_BYTES = 1_048_576
#: One turn of the event loop spends about so long here, seconds; and looks at the clock every so many records.
TURN_S = 0.0005
LOOK_AT_CLOCK = 8
#: Where the loop needs so long for all else between two turns, the next comes after so many times a turn's length: a
#: worker that has no time to spare drops, and counts, rather than let its clients wait.
BUSY_S = 0.0002
REST = 4
#: When a removal that found nothing is tried again, seconds after each time before.
AGAIN_S = (0.02, 0.1, 0.5, 2.0)
#: Removals that wait for their next time, at most.
OWED_MOST = 10_000
#: One compared read in so many is asked of the source again, and at most so many wait there.
AGAIN_ONE_IN = 20
AGAIN_WAITING = 32
#: What is still under way may take so long when the mirror is stopped, seconds.
STOP_S = 2.0
LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Place:
    """A server: how it is connected to, and what a new connection is told (AUTH, SELECT)."""

    label: str
    connect: Connect
    login: tuple[Words, ...] = ()
    home_db: int = 0


@dataclass(slots=True)
class Shown:
    """What there is to say of one worker's mirror now."""

    target: str = ""
    what: str = ""
    percent: int = 100
    patterns: tuple[str, ...] = ()
    started_s: float = 0.0
    lanes: int = 0
    lanes_up: int = 0
    why_down: str = ""
    queued_bytes: int = 0
    waiting: int = 0
    lag_s: float = 0.0
    counts: Counts = field(default_factory=Counts)
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)


class Feed:
    """``fold`` makes a key's pattern; ``script(sha)`` is a body that has been seen, or None; ``sources`` is asked again
    for the noise floor. ``limit``: bytes that may wait."""

    def __init__(
        self,
        table: CommandTable,
        target: Place,
        source: Place,
        selection: Selection,
        limit: int,
        fold: Callable[[bytes], bytes],
        script: Callable[[bytes], bytes | None],
    ) -> None:
        self._news = asyncio.Event()
        self.queue = TapQueue(table, selection.names(), limit, min(VALUE_BYTES, limit), self._news.set)
        self._target = target
        self.selection = selection
        self._fold = fold
        self._script = script
        self._counts = Counts()
        self._tally = Tally()
        self._transcripts: dict[int, Transcript] = {}
        self._lanes = [Lane(target.connect, target.login, target.home_db, self._news.set) for _ in range(LANES)]
        self._source = Lane(source.connect, source.login, source.home_db, lambda: None)
        self._reads = 0
        self._owed = 0
        self._lag_ns = 0
        self._started_s = time.time()
        self._chores: list[asyncio.Task[None]] = []
        self._finished = False

    # ---- start, show, stop ------------------------------------------------------------------------------------------

    def start(self) -> None:
        lanes = [*self._lanes, self._source] if self.selection.wish.reads else self._lanes
        self._chores = [asyncio.create_task(lane.run()) for lane in lanes]
        self._chores.append(asyncio.create_task(self._consume()))

    async def stop(self) -> None:
        """End, once what is under way is answered or STOP_S is over. No tap may put anything in any more."""
        for _ in range(int(STOP_S / LOOK_S)):
            if not self._lanes[0].connected or not (self.queue.bytes or self._owed):
                break
            await asyncio.sleep(LOOK_S)
        self._finished = True
        left = len(self.queue.take(1 << 62))
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self._counts.dropped["left-at-stop"] += left + sum(lane.waiting for lane in self._lanes)
        for lane in [*self._lanes, self._source]:
            lane.close()

    def shown(self) -> Shown:
        """What it has done so far."""
        wish, down = self.selection.wish, [lane.why_down for lane in self._lanes if not lane.up]
        counts = Counts()
        counts.add(self._counts)
        counts.dropped.update({why: count for why, count in self.queue.drops.items() if count})
        return Shown(
            self._target.label, wish.what, wish.percent, wish.patterns, self._started_s, LANES, LANES - len(down),
            down[0] if down else "", self.queue.bytes, self._waiting(),
            self._lag_ns / 1e9 if self.queue.bytes else 0.0, counts, self._tally.rows,
        )  # fmt: skip

    @property
    def waits_s(self) -> float:
        """How old the oldest of what is not yet on the mirror is; 0: nothing waits."""
        oldest = next(iter(self.queue.records), None)
        copied_s = 0.0 if oldest is None or oldest[1] is None else (time.time_ns() - oldest[9]) / 1e9
        return max(copied_s, *(lane.waits_s for lane in self._lanes))

    def _waiting(self) -> int:
        """What was sent and is not answered yet, and what is to be tried again."""
        return sum(lane.waiting for lane in self._lanes) + self._owed

    # ---- from the tap -----------------------------------------------------------------------------------------------

    async def _consume(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self.queue.records and all(lane.room for lane in self._lanes):
                began_s = time.monotonic()
                self._turn(began_s + TURN_S)
                ended_s = time.monotonic()
                await asyncio.sleep(0)
                if time.monotonic() - ended_s > BUSY_S:  # clients had something to do: they come first
                    await asyncio.sleep(REST * (ended_s - began_s))

    def _turn(self, until_s: float) -> None:
        """Records until the time is over, none is left, or a lane is full."""
        while records := self.queue.take(LOOK_AT_CLOCK):
            for record in records:
                self._take(record)
            if time.monotonic() > until_s or not all(lane.room for lane in self._lanes):
                break
        for lane in self._lanes:
            lane.flush()
        self._source.flush()

    def _take(self, record: Record) -> None:
        """One record. What it cost is given back when its last command is answered."""
        conn, name, cost = record[0], record[1], record[11]
        if name is None:
            ended = self._transcripts.pop(conn, None)
            self.queue.release(cost if ended is None else cost + ended.held)
            return
        self._lag_ns = max(time.time_ns() - record[9], 0)
        transcript = self._transcripts.get(conn)
        if transcript is None:
            transcript = self._transcripts[conn] = Transcript()
        try:
            step, is_transaction = transcript.take(record)
            cost, transcript.held = (cost + transcript.held, 0) if transcript.idle else (0, cost + transcript.held)
            if not self._step(conn, step, is_transaction, cost):
                self.queue.release(cost)
        except Exception:
            _log.exception("mirror: an exchange could not be mirrored; clients are not affected")
            self._counts.dropped["not-understood"] += 1
            self.queue.release(cost)

    def _step(self, conn: int, step: Step, is_transaction: bool, cost: int) -> bool:
        """Whether something was sent for it, whose answer gives the cost back."""
        if isinstance(step, Missing):
            self._counts.dropped[step.why] += step.commands
            return False
        if step is None:
            return False
        lane = self._lanes[conn % LANES]
        if not is_transaction and step[0].name not in EFFECTS:
            return self._read(lane, step[0], cost)
        wanted = [(each, self._effect(each)) for each in step if each.name in EFFECTS]
        orders = [(each, order) for each, found in wanted for order in found.orders]
        if not orders:
            return False
        self._counts.effects += len(orders)
        if is_transaction and len(orders) > 1:
            self._counts.transactions += 1
            self._send_transaction(lane, orders, cost)
        else:
            for place, (exchange, order) in enumerate(orders):
                last = place == len(orders) - 1
                lane.send(self._sent(lane, exchange, order, cost if last else 0))
        return True

    def _effect(self, exchange: Exchange) -> Effect:
        self._counts.exchanges += 1
        args = exchange.args
        if args is None:
            if exchange.name not in BY_REPLY_ALONE:
                self._counts.dropped["not-understood"] += 1
                return Effect()
            args = (exchange.name.encode(),)
        elif not self.selection.takes(args):
            self._counts.outside += 1
            return Effect()
        found = effect(exchange.name, Done(args, exchange.reply, exchange.wall_ns // 1_000_000))
        if found.why:
            self._counts.dropped[found.why] += 1
        if not self.selection.wish.whole and exchange.args is None:
            found = Effect(tuple(order for order in found.orders if self.selection.takes(order.args)))
        self._counts.unverifiable += found.unverifiable
        return found

    # ---- writes -----------------------------------------------------------------------------------------------------

    def _sent(self, lane: Lane, exchange: Exchange, order: Order, cost: int) -> Sent:
        return Sent([order.args], exchange.db, partial(self._answered, lane, exchange, order, cost, 0))

    def _answered(
        self, lane: Lane, exchange: Exchange, order: Order, cost: int, tries: int, replies: list[Any] | None
    ) -> None:
        if cost:
            self.queue.release(cost)
        if replies is None:
            self._lost(1)
            return
        reply = replies[0]
        if isinstance(reply, Failed) and str(reply).startswith("NOSCRIPT") and order.args[0].upper() == b"EVALSHA":
            body = self._script(order.args[1].lower())
            if body is not None:
                again = Order((b"EVAL", body, *order.args[2:]))
                lane.send(Sent([again.args], exchange.db, partial(self._answered, lane, exchange, again, 0, 0)))
                lane.flush()
                return
        self._judge(lane, exchange, order, tries, reply)

    def _judge(self, lane: Lane, exchange: Exchange, order: Order, tries: int, reply: Any) -> None:
        """What the mirror answered to one effect."""
        self._counts.answered += 1
        if isinstance(reply, Failed):
            self._counts.errors[exchange.name, compare.seen("", reply).error] += 1
        elif order.least and isinstance(reply, int):
            if reply < order.least:
                self._again(lane, exchange, Order(order.args, order.least - reply), tries)
            elif tries:
                self._counts.late += 1

    def _again(self, lane: Lane, exchange: Exchange, order: Order, tries: int) -> None:
        if tries == len(AGAIN_S) or self._owed >= OWED_MOST or self._finished:
            self._counts.missed[exchange.name] += order.least
            return
        self._owed += 1

        def now() -> None:
            self._owed -= 1
            if self._finished:
                self._counts.missed[exchange.name] += order.least
                return
            answered = partial(self._answered, lane, exchange, order, 0, tries + 1)
            lane.send(Sent([order.args], exchange.db, answered))
            lane.flush()

        asyncio.get_running_loop().call_later(AGAIN_S[tries], now)

    def _send_transaction(self, lane: Lane, orders: list[tuple[Exchange, Order]], cost: int) -> None:
        commands: list[Words] = [(b"MULTI",)]
        first_db = db = orders[0][0].db
        places = []
        for exchange, order in orders:
            if exchange.db != db:
                db = exchange.db
                commands.append((b"SELECT", b"%d" % db))
            places.append(len(commands))
            commands.append(order.args)
        commands.append((b"EXEC",))
        answered = partial(self._transaction_answered, lane, orders, places, cost)
        lane.send(Sent(commands, first_db, answered, leaves_db=db))

    def _transaction_answered(
        self,
        lane: Lane,
        orders: list[tuple[Exchange, Order]],
        places: Sequence[int],
        cost: int,
        replies: list[Any] | None,
    ) -> None:
        self.queue.release(cost)
        if replies is None:
            self._lost(len(orders))
            return
        ran = replies[-1]
        for (exchange, order), place in zip(orders, places, strict=True):
            queued = replies[place]
            if isinstance(queued, Failed) or isinstance(ran, Failed):
                reply = queued if isinstance(queued, Failed) else ran
            elif isinstance(ran, list) and place <= len(ran):
                reply = ran[place - 1]
            else:
                reply = Failed("UNREADABLE EXEC answers in no list")
            self._judge(lane, exchange, order, 0, reply)

    def _lost(self, commands: int) -> None:
        if not self._finished:
            self._counts.dropped["lost"] += commands

    # ---- reads ------------------------------------------------------------------------------------------------------

    def _read(self, lane: Lane, exchange: Exchange, cost: int) -> bool:
        args = exchange.args
        if args is None or isinstance(exchange.reply, Unreadable) or not compare.comparable(exchange.name, args):
            return False
        if not self.selection.takes(args):
            self._counts.outside += 1
            return False
        sent = Sent([args], exchange.db, lambda replies: None)
        sent.on_replies = partial(self._read_answered, exchange, sent, cost)
        lane.send(sent)
        return True

    def _read_answered(self, exchange: Exchange, sent: Sent, cost: int, replies: list[Any] | None) -> None:
        self.queue.release(cost)
        if replies is None or exchange.args is None:
            self._lost(1)
            return
        name, reply = exchange.name, exchange.reply
        if compare.too_long(reply) or compare.too_long(replies[0]):
            self._counts.dropped["too-long-to-compare"] += 1
            return
        row = self._tally.row(name, self._pattern(exchange.args))
        took_ns = time.monotonic_ns() - sent.sent_ns
        same = compare.same(name, reply, replies[0])
        one, other = compare.seen(name, reply), compare.seen(name, replies[0])
        self._tally.compared(row, same, one, other, exchange.latency_ns, took_ns)
        self._reads += 1
        if self._reads % AGAIN_ONE_IN == 0 and self._source.up and self._source.waiting < AGAIN_WAITING:
            self._source.send(Sent([exchange.args], exchange.db, partial(self._asked_again, name, row, reply)))
            self._source.flush()

    @staticmethod
    def _asked_again(name: str, row: Row, first: Any, replies: list[Any] | None) -> None:
        if replies is not None:
            row.again += 1
            row.again_differed += not compare.same(name, first, replies[0])

    def _pattern(self, args: Words) -> str:
        keys = keyspecs.find(args)
        if not isinstance(keys, keyspecs.Keys) or not keys.indexes:
            return ""
        return self._fold(args[keys.indexes[0]][:512]).decode("utf-8", "backslashreplace")
