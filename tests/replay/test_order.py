"""Each connection's and each key's order is the captured one, whatever the speed, the target and the answers do."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.capture.format import ReplyKind
from proxy.replay.captured import Row
from proxy.replay.order import Order
from proxy.replay.unit import Unit
from tests.replay.rows import dialogue, planner, row, said


class World:
    """A target that is asked and answers when the test says so. ``log``: (what, unit) in order."""

    def __init__(self) -> None:
        self.order = Order()
        self.log: list[tuple[str, Unit]] = []
        self.flying: list[Unit] = []

    def admit(self, unit: Unit) -> None:
        if self.order.admit(unit):
            self.start([unit])

    def start(self, units: list[Unit]) -> None:
        ready = list(units)
        while ready:
            unit = ready.pop(0)
            self.log.append(("start", unit))
            self.flying.append(unit)
            ready += self.order.started(unit)

    def answer(self, unit: Unit) -> None:
        self.flying.remove(unit)
        self.log.append(("answer", unit))
        self.start(self.order.answered(unit))

    def begun(self) -> list[str]:
        return said(unit for what, unit in self.log if what == "start")


def admitted(rows: list[Row]) -> World:
    world = World()
    for unit in planner(speed=None).plan(rows):
        world.admit(unit)
    return world


def test_a_client_that_waited_for_its_answer_waits_again_and_one_that_pipelined_does_not() -> None:
    closed = admitted(dialogue("GET a", "GET b"))
    assert closed.begun() == ["GET a"]
    closed.answer(closed.flying[0])
    assert closed.begun() == ["GET a", "GET b"]
    assert admitted(dialogue("GET a", "GET b", every_ms=0)).begun() == ["GET a", "GET b"]


def test_a_pipeline_of_bounded_depth_keeps_its_depth() -> None:
    """The third was asked when the first was answered and the second was not."""
    world = admitted([row("GET a", 0, took_ms=5), row("GET b", 1, took_ms=9), row("GET c", 6, took_ms=5)])
    assert world.begun() == ["GET a", "GET b"]
    world.answer(world.flying[0])
    assert world.begun() == ["GET a", "GET b", "GET c"]


def test_readers_of_a_key_go_together_and_a_writer_waits_for_their_answers() -> None:
    rows = [row("GET a", 0, conn=1), row("GET a", 1, conn=2), row("SET a 1", 2, conn=3), row("GET a", 3, conn=4)]
    world = admitted(rows)
    assert world.begun() == ["GET a", "GET a"]
    world.answer(world.flying[0])
    assert len(world.flying) == 1
    world.answer(world.flying[0])
    assert world.begun()[2:] == ["SET a 1"]
    world.answer(world.flying[0])
    assert world.begun()[3:] == ["GET a"]


def test_a_push_does_not_wait_for_the_pop_that_it_wakes() -> None:
    rows = [row("BRPOP q 0", 0, conn=1, took_ms=50, reply=ReplyKind.ARRAY), row("LPUSH q x", 49, conn=2)]
    assert admitted(rows).begun() == ["BRPOP q 1.000", "LPUSH q x"]


def test_what_came_after_the_pops_answer_waits_for_it() -> None:
    rows = [row("BRPOP q 0", 0, conn=1, took_ms=50, reply=ReplyKind.ARRAY), row("LPUSH q x", 49, conn=2)]
    world = admitted([*rows, row("LLEN q", 60, conn=3)])
    world.answer(world.flying[1])
    assert "LLEN q" not in world.begun()
    world.answer(world.flying[0])
    assert world.begun()[-1] == "LLEN q"


def test_a_command_without_known_keys_is_alone() -> None:
    world = admitted([row("GET a", 0, conn=1), row("FLUSHALL", 1, conn=2), row("GET b", 2, conn=3)])
    assert world.begun() == ["GET a"]
    world.answer(world.flying[0])
    assert world.begun() == ["GET a", "FLUSHALL"]
    world.answer(world.flying[0])
    assert world.begun() == ["GET a", "FLUSHALL", "GET b"]


def test_a_connection_is_closed_behind_its_last_answer() -> None:
    world = admitted([row("GET a", 0, latency_ns=-1, reply=ReplyKind.LOST), row("QUIT", 1)])
    assert world.begun() == ["GET a"]
    world.answer(world.flying[0])
    assert world.begun() == ["GET a", "close"]


# ---- any dialogue

_COMMANDS = ["GET {0}", "SET {0} 1", "MGET {0} {1}", "LPUSH {0} x", "RENAME {0} {1}", "BRPOP {0} {1} 0", "FLUSHALL",
             "PING", "WATCH {0}", "UNWATCH", "MULTI", "EXEC", "NOSUCH", "XREAD BLOCK 0 STREAMS {0} 0"]  # fmt: skip
_KEYS = st.sampled_from("abc")
_STEP = st.tuples(
    st.sampled_from(_COMMANDS), _KEYS, _KEYS, st.integers(1, 4), st.integers(0, 3), st.integers(-1, 6),
    st.sampled_from([ReplyKind.SIMPLE, ReplyKind.NULL, ReplyKind.LOST]),
)  # fmt: skip


def rows_of(steps: list[tuple[str, str, str, int, int, int, ReplyKind]]) -> list[Row]:
    now, seqs, rows = 0, defaultdict[int, int](int), []
    for text, one, two, conn, pause, took, reply in steps:
        now += pause
        given = {"latency_ns": -1} if took < 0 else {}
        text = text.format(one, two)
        rows.append(row(text, now, conn=conn, seq=seqs[conn], took_ms=took, reply=reply, **given))
        seqs[conn] += 1
    return rows


@settings(max_examples=150, deadline=None)
@given(
    st.lists(_STEP, max_size=30),
    st.sampled_from([None, 0.5, 1.0, 10.0]),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_the_captured_order_is_kept_under_any_speed(steps: list, speed: float | None, room: int, chance) -> None:  # type: ignore[no-untyped-def, type-arg]
    units = planner(speed=speed).plan(rows_of(steps))
    world = World()
    waiting = list(units)
    while waiting or world.flying:
        # Answers come in any order that a server could give: each connection's own is kept, a wait may outlast all.
        heads = [unit for n, unit in enumerate(world.flying) if unit.conn not in {u.conn for u in world.flying[:n]}]
        if waiting and world.order.outstanding < room and (not heads or chance.random() < 0.5):
            world.admit(waiting.pop(0))
        else:
            assert heads, "nothing is under way, and yet something waits: a circle"
            quick = [unit for unit in heads if not unit.blocking] or heads
            world.answer(chance.choice(quick if chance.random() < 0.8 else heads))
    check(units, world)
    assert world.order.outstanding == 0
    assert world.order.bytes == 0
    assert not world.order._keys
    assert not world.order._connections


def check(units: list[Unit], world: World) -> None:
    began = {unit: at for at, (what, unit) in enumerate(world.log) if what == "start"}
    ended = {unit: at for at, (what, unit) in enumerate(world.log) if what == "answer"}
    assert set(began) == set(ended) == set(units)
    lines: dict[object, list[Unit]] = defaultdict(list)
    for unit in units:
        lines[unit.conn].append(unit)
        for key in unit.reads | unit.writes:
            lines[key].append(unit)
    for line in lines.values():
        assert all(began[one] < began[two] for one, two in pairwise(line))
    answered_ns = captured_answers(units)
    for at, later in enumerate(units):
        for earlier in units[:at]:
            if must_be_answered(earlier, later, answered_ns[earlier] <= later.at_ns):
                assert ended[earlier] < began[later]


def captured_answers(units: list[Unit]) -> dict[Unit, int]:
    """When each was answered; no answer of a connection is earlier than the one before, as no Redis would have it."""
    last: dict[int, int] = defaultdict(int)
    times = {}
    for unit in units:
        times[unit] = last[unit.conn] = max(last[unit.conn], unit.answered_ns)
    return times


def must_be_answered(earlier: Unit, later: Unit, was_before: bool) -> bool:
    if earlier.conn == later.conn:
        return was_before
    shared = earlier.writes & (later.reads | later.writes) | earlier.reads & later.writes
    if not (shared or earlier.barrier or later.barrier):
        return False
    return not earlier.blocking or was_before
