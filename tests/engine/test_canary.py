"""Which commands are reads that may go to the target of a split, and what a chosen client's session does with each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from protocol.commands import CommandSpec, Kind, Trait, table
from proxy.engine import canary_commands
from proxy.engine.access import Access
from proxy.engine.canary import Canary, CanarySession
from proxy.engine.canary_commands import REASONS, Way, way, ways
from proxy.mirror.compare import NEVER_EQUAL
from proxy.routing.table import KeyClass, Table
from tests.engine.playbook import ADDRESS, TABLE, Talk, encode

COMMANDS = table().commands
PLACES = Table(0, (KeyClass("split", "target", ()),))
HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"


def way_of(name: str) -> Way:
    return way(COMMANDS[name], NEVER_EQUAL)


# ---- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", COMMANDS.values(), ids=lambda spec: spec.name)
def test_every_command_is_classed_and_only_harmless_ones_are_reads(spec: CommandSpec) -> None:
    found = way(spec, NEVER_EQUAL)
    if found is Way.READ:
        assert spec.traits & Trait.READONLY
        assert not spec.traits & (
            Trait.WRITE | Trait.SCRIPT | Trait.BLOCKING | Trait.PUBSUB | Trait.ADMIN | Trait.NODE_LOCAL | Trait.POP
        )
        assert spec.key_specs
        assert spec.name not in NEVER_EQUAL
        assert spec.kind in (Kind.PLAIN, Kind.XREAD, Kind.SORT)
    elif found in (Way.HOME, Way.STAYS):
        assert not spec.traits & (Trait.WRITE | Trait.SCRIPT | Trait.BLOCKING)
    if spec.traits & Trait.WRITE:
        assert found in (Way.WRITES, Way.SCRIPT, Way.BLOCKS)
    if spec.traits & Trait.READONLY and not spec.traits & Trait.SCRIPT and not spec.container:
        assert found in (Way.READ, Way.HOME)


def test_the_compiled_table_has_every_command_and_each_way_is_used() -> None:
    packed = ways(TABLE.names, dict(COMMANDS), NEVER_EQUAL)
    assert {name: Way(packed[place]) for place, name in enumerate(TABLE.names)} == {
        name: way(spec, NEVER_EQUAL) for name, spec in COMMANDS.items()
    }
    assert set(packed) == set(Way)
    assert len(set(REASONS)) == len(REASONS)


def test_the_commands_named_by_hand_exist() -> None:
    named = canary_commands._HOME | canary_commands._STAYS
    assert named.issubset(COMMANDS)


CLASSED = {
    Way.READ: "GET MGET STRLEN EXISTS TYPE TTL PTTL GETRANGE BITCOUNT BITFIELD_RO LLEN LRANGE LINDEX LPOS HGET HGETALL "
    "SMEMBERS SISMEMBER SINTERCARD ZRANGE ZCARD ZUNION XRANGE XLEN XREAD GEOSEARCH SORT_RO LCS",
    Way.STAYS: "PING ECHO QUIT",
    Way.HOME: "SCAN HSCAN RANDOMKEY KEYS DBSIZE DUMP PFCOUNT SRANDMEMBER TIME INFO SELECT HELLO XPENDING LOLWUT",
    Way.WRITES: "SET DEL LPUSH LPOP SORT GETEX GETDEL XREADGROUP FLUSHALL SWAPDB RESTORE GEORADIUS BITFIELD XCLAIM",
    Way.SCRIPT: "EVAL EVALSHA EVAL_RO FCALL FCALL_RO",
    Way.BLOCKS: "BRPOP BLPOP BLMOVE BZPOPMIN WAIT",
    Way.TRANSACTION: "MULTI EXEC DISCARD WATCH UNWATCH",
    Way.LISTENS: "SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE MONITOR PUBLISH SPUBLISH",
    Way.CONNECTION: "AUTH RESET",
    Way.OTHER: "DEBUG SHUTDOWN SAVE REPLICAOF PSYNC READONLY ASKING FAILOVER",
}


@pytest.mark.parametrize("expected", CLASSED, ids=lambda expected: expected.name)
def test_a_command_is_classed_as_its_documentation_says(expected: Way) -> None:
    assert {name: way_of(name) for name in CLASSED[expected].split()} == dict.fromkeys(
        CLASSED[expected].split(), expected
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("OBJECT ENCODING", Way.HOME), ("MEMORY USAGE", Way.HOME), ("CLIENT SETNAME", Way.HOME),
     ("CLIENT TRACKING", Way.CONNECTION), ("CLIENT REPLY", Way.CONNECTION), ("CLIENT CACHING", Way.CONNECTION),
     ("CLIENT NO-EVICT", Way.OTHER), ("CLIENT KILL", Way.OTHER), ("CONFIG GET", Way.HOME), ("CONFIG SET", Way.OTHER),
     ("SCRIPT LOAD", Way.OTHER), ("XINFO STREAM", Way.HOME), ("CLIENT", Way.OTHER)],
)  # fmt: skip
def test_a_subcommand_is_classed_by_itself(name: str, expected: Way) -> None:
    assert way_of(name) is expected


# ---- the session -----------------------------------------------------------------------------------------------------


class Chosen(Talk):
    """A talk with the session of a client that was chosen. ``there``: what reached the target."""

    def __init__(self, access: Sequence[Access] = ()) -> None:
        super().__init__()
        self.refusals: list[tuple[str, bytes]] = []
        self.canary = Canary(
            ways(TABLE.names, dict(COMMANDS), NEVER_EQUAL), None, lambda *said: self.refusals.append(said)
        )
        self.session: CanarySession = CanarySession(self.recorder, ADDRESS, access, PLACES, (0, 1), self.canary)
        self.there = b""

    def client(self, data: bytes) -> None:
        before, here = len(self.sent), self.session.here
        super().client(data)
        if here:
            self.sent, self.there = self.sent[:before], self.there + self.sent[before:]

    def go(self) -> bool:
        """Go over, if it is to, as ``net.canary`` does. Whether it is now elsewhere."""
        session, place = self.session, self.session.want
        if place < 0:
            return False
        assert session.in_flight == 0
        if place and not session.joins():
            session.stay("", "", self.now_ns)
        else:
            session.moved(-1, 0)
            session.go_on(place, (), self.now_ns)
        sent = b"".join(session.to_backend)
        if session.here:
            self.there += sent
        else:
            self.sent += sent
        self.said += b"".join(session.to_client)
        return True

    def ask(self, line: str, reply: bytes = b"+OK\r\n") -> None:
        """One command, wherever it goes, and its reply."""
        self.client(encode(*line.split()))
        while self.go():
            pass
        self.backend(reply)
        assert self.session.in_flight == 0, line


#: A command, where it goes ("there", "here"), and why it leaves the split; "" where it does not.
COMMANDS_SENT = [
    ("GET k", "there", ""),
    ("get k", "there", ""),
    ("MGET a b c", "there", ""),
    ("XREAD COUNT 1 STREAMS s 0", "there", ""),
    ("XREAD BLOCK 10 STREAMS s 0", "here", "blocking"),
    ("SORT_RO l", "there", ""),
    ("SORT_RO l BY w_*", "here", ""),
    ("SORT_RO l GET o_*", "here", ""),
    ("GET", "here", ""),
    ("GET a b", "here", ""),
    ("ZUNION 2 a b", "there", ""),
    ("ZUNION x a b", "here", ""),
    ("SCAN 0", "here", ""),
    ("OBJECT ENCODING k", "here", ""),
    ("TIME", "here", ""),
    ("PING", "here", ""),
    ("SELECT 0", "here", ""),
    ("CLIENT SETNAME x", "here", ""),
    ("HELLO 3", "here", ""),
    ("HELLO 3 AUTH u p", "here", "connection"),
    ("AUTH p", "here", "connection"),
    ("RESET", "here", "connection"),
    ("SET k v", "here", "write"),
    ("EVAL return(1) 0", "here", "script"),
    ("EVAL_RO return(1) 1 k", "here", "script"),
    ("BRPOP l 0", "here", "blocking"),
    ("MULTI", "here", "transaction"),
    ("WATCH k", "here", "transaction"),
    ("SUBSCRIBE c", "here", "pubsub"),
    ("MONITOR", "here", "pubsub"),
    ("PUBLISH c m", "here", "pubsub"),
    ("CLIENT TRACKING ON", "here", "connection"),
    ("CLIENT REPLY OFF", "here", "connection"),
    ("CLIENT NO-TOUCH ON", "here", "other"),
    ("CLIENT NOSUCH", "here", "unknown-command"),
    ("JSON.GET doc $", "here", "unknown-command"),
    ("NOSUCH k", "here", "unknown-command"),
]


@pytest.mark.parametrize(("line", "where", "why"), COMMANDS_SENT, ids=[case[0] for case in COMMANDS_SENT])
def test_a_command_goes_where_it_belongs(line: str, where: str, why: str) -> None:
    data = encode(*line.split())
    for first in (b"", encode("GET", "first")):
        for pieces in ([data], [data[:9], data[9:]], [data[at : at + 1] for at in range(len(data))]):
            talk = Chosen()
            if first:
                talk.ask("GET first", b"$-1\r\n")
                assert talk.there == first
            talk.there = talk.sent = b""
            for piece in pieces:
                talk.client(piece)
                talk.go()
            stays = line == "PING" and bool(first)  # where the client stands
            went = (b"", data) if where == "there" or stays else (data, b"")
            assert (talk.sent, talk.there) == went, (pieces, first)
            assert talk.canary.left == ({why: 1} if why else {})
            assert talk.session.over is bool(why)


def test_who_writes_reads_what_it_wrote_and_is_no_longer_looked_at() -> None:
    talk = Chosen()
    talk.ask("GET k", b"$1\r\nt\r\n")
    talk.ask("SET k v")
    talk.ask("GET k", b"$1\r\nv\r\n")
    talk.ask("SET k v")
    assert talk.there == encode("GET", "k")
    assert talk.sent == encode("SET", "k", "v") + encode("GET", "k") + encode("SET", "k", "v")
    assert talk.said == b"$1\r\nt\r\n+OK\r\n$1\r\nv\r\n+OK\r\n"
    assert (talk.canary.chosen, talk.canary.joined, talk.canary.reads, talk.canary.left) == (1, 1, 1, {"write": 1})
    assert [(row["command"], row["backend"]) for row in talk.rows()] == [
        (b"GET", 1), (b"SET", 0), (b"GET", 0), (b"SET", 0),
    ]  # fmt: skip


def test_a_pipeline_waits_for_the_replies_before_it_goes_over() -> None:
    talk = Chosen()
    talk.ask("GET a", b"$-1\r\n")
    talk.client(encode("GET", "b") + encode("GET", "c") + encode("TIME") + encode("GET", "d") + encode("DEL", "e"))
    assert talk.there == encode("GET", "a") + encode("GET", "b") + encode("GET", "c")
    assert (talk.session.want, talk.session.in_flight) == (0, 2)
    talk.backend(b"$-1\r\n$-1\r\n")
    assert talk.go()
    assert talk.sent == encode("TIME")
    talk.backend(b"*2\r\n:1\r\n:2\r\n")
    assert talk.go()
    assert talk.there.endswith(encode("GET", "d"))
    talk.backend(b"$-1\r\n")
    assert talk.go()
    assert talk.sent == encode("TIME") + encode("DEL", "e")


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"SET k v\r\n", "inline"), (b"SET k", "inline"), (b"*1\r\n:\r\n", "protocol-error"),
     (b"*x\r\n", "protocol-error"), (b"*2\r\n$3\r\nGET\r\n:3", "protocol-error")],
)  # fmt: skip
@pytest.mark.parametrize("there", [False, True], ids=["at the backend", "at the target"])
def test_what_is_no_array_of_words_goes_to_the_backend(data: bytes, why: str, there: bool) -> None:
    talk = Chosen()
    if there:
        talk.ask("GET a", b"$-1\r\n")
    talk.client(data)
    talk.go()
    assert talk.sent == data
    assert talk.canary.left == {why: 1}
    assert talk.session.here == 0


def test_a_large_write_in_pieces_is_not_held_back() -> None:
    talk = Chosen()
    talk.ask("GET a", b"$-1\r\n")
    start = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\nxxxx"
    talk.client(start)
    assert talk.session.want == 0
    talk.go()
    assert talk.sent == start
    talk.client(b"x" * 999_996 + b"\r\n")
    talk.backend(b"+OK\r\n")
    assert len(talk.sent) == len(start) + 999_998
    assert talk.session.in_flight == 0


def test_a_command_whose_kind_is_not_known_for_long_goes_to_the_backend() -> None:
    talk = Chosen()
    talk.ask("GET a", b"$-1\r\n")
    talk.client(b"*2\r\n$900000\r\n" + b"x" * 70_000)
    talk.go()
    assert talk.canary.left == {"too-large": 1}
    assert len(talk.sent) == 70_013


def test_an_error_of_the_target_is_told_once_and_passed_on() -> None:
    talk = Chosen()
    talk.ask("GET a", b"-LOADING it is loading\r\n")
    assert talk.said == b"-LOADING it is loading\r\n"
    assert talk.refusals == [("GET", b"LOADING it is loading")]
    assert talk.session.over
    talk.session.recall()
    assert talk.go()
    talk.ask("GET a", b"-ERR of the backend's own\r\n")
    assert len(talk.refusals) == 1
    assert talk.sent == encode("GET", "a")


def test_when_the_split_is_over_what_waits_goes_to_the_backend() -> None:
    talk = Chosen()
    talk.client(encode("GET", "a") + encode("GET", "b"))
    assert talk.session.want == 1
    talk.canary.on = False
    talk.session.recall()
    assert talk.go()
    assert talk.sent == encode("GET", "a") + encode("GET", "b")
    assert talk.session.here == 0


def test_when_the_target_breaks_off_what_was_in_flight_is_asked_of_the_backend() -> None:
    talk = Chosen()
    talk.ask("GET a", b"$-1\r\n")
    talk.client(encode("GET", "b") + encode("GET", "c"))
    assert talk.session.reclaim(talk.now_ns)
    assert talk.session.in_flight == 0
    assert talk.go()
    assert talk.sent == encode("GET", "b") + encode("GET", "c")
    talk.backend(b"$1\r\n1\r\n$1\r\n2\r\n")
    assert talk.said == b"$-1\r\n$1\r\n1\r\n$1\r\n2\r\n"
    assert talk.canary.left == {"lost": 1}
    rows = [(row["command"], row["backend"], row["reply"]) for row in talk.rows()]
    assert Counter(rows[1:3]) == {(b"GET", 1, "lost"): 2}
    assert rows[3:] == [(b"GET", 0, "bulk"), (b"GET", 0, "bulk")]


@pytest.mark.parametrize("heard", [b"$-1\r\n", b"$5\r\nhal"], ids=["one of two", "half of one"])
def test_a_client_that_has_part_of_its_answers_can_t_go_on_without_the_target(heard: bytes) -> None:
    talk = Chosen()
    talk.ask("GET a", b"$-1\r\n")
    talk.client(encode("GET", "b") + encode("GET", "c"))
    talk.backend(heard)
    assert not talk.session.reclaim(talk.now_ns)


def test_an_idle_client_goes_back_and_may_come_again() -> None:
    talk = Chosen()
    talk.ask("GET a", b"$-1\r\n")
    assert talk.session.reclaim(talk.now_ns)
    assert talk.go()
    assert (talk.session.here, talk.sent, talk.canary.left) == (0, b"", {})
    talk.ask("GET b", b"$-1\r\n")
    assert talk.there == encode("GET", "a") + encode("GET", "b")


def test_the_name_decides_once_when_it_is_first_needed() -> None:
    import re

    for name, joins in (("web", True), ("worker", False)):
        talk = Chosen()
        talk.canary.name = re.compile(b"we.*")
        talk.client(encode("HELLO", "3", "SETNAME", name) + encode("GET", "a"))
        talk.backend(HELLO)
        talk.go()
        assert (encode("GET", "a") in talk.there) is joins
        assert talk.canary.left == ({} if joins else {"name": 1})
        talk.backend(b"$-1\r\n")
        talk.ask("CLIENT SETNAME other")
        talk.ask("GET b", b"$-1\r\n")
        assert (encode("GET", "b") in talk.there) is joins


def test_a_client_without_a_password_reaches_nobody() -> None:
    mine = Access(user=b"u", password=b"p")
    talk = Chosen([mine, mine])
    talk.client(encode("GET", "a"))
    assert talk.said.startswith(b"-NOAUTH")
    talk.client(encode("AUTH", "u", "p"))
    assert talk.said.endswith(b"+OK\r\n")
    talk.ask("GET a", b"$-1\r\n")
    assert talk.there == encode("GET", "a")
    talk.client(encode("AUTH", "u", "p"))
    assert talk.said.endswith(b"+OK\r\n")
    talk.ask("GET b", b"$-1\r\n")
    assert (talk.sent, talk.canary.left) == (b"", {})


def test_the_mirror_sees_nothing_of_what_the_target_answers() -> None:
    from proxy.engine.tap import TapQueue

    queue = TapQueue(TABLE, {"GET", "SET"}, 1 << 20, 1 << 20, lambda: None)
    talk = Chosen()
    talk.session.tapped(queue)
    talk.ask("GET a", b"$-1\r\n")
    talk.ask("SET b 1")
    talk.ask("GET c", b"$-1\r\n")
    assert [record[1] for record in queue.take(10)] == ["SET", "GET"]
