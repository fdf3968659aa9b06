"""Where a client that shares stops, and what shunt says itself: the session alone, without sockets."""

from __future__ import annotations

import pytest

from protocol.commands import table
from protocol.keyspecs import CommandTable
from proxy.capture.format import ArgsMode
from proxy.engine import pooling
from proxy.engine.access import Access
from proxy.engine.pooled import PooledSession
from proxy.engine.pooling import Person, Way
from proxy.engine.recorder import Recorder
from tests.wire import encode

COMMANDS = CommandTable(table().commands)
TABLES = pooling.tables(COMMANDS)
PRIVATE = sorted(name for name, way in pooling.WAYS.items() if way in (Way.PRIVATE, Way.PINNED))
LOCAL = ["SETNAME x", "GETNAME", "ID", "INFO", "NO-EVICT ON", "NO-TOUCH OFF", "SETINFO LIB-NAME y"]


def session(access: Access | None = None) -> PooledSession:
    recorder = Recorder(COMMANDS, ArgsMode.KEYS, lambda: None, lambda sha, body: None)
    return PooledSession(recorder, b"127.0.0.1:9", access, TABLES, pooling.FIRST_ID)


def words(line: str) -> bytes:
    return encode(*line.split())


@pytest.mark.parametrize("line", ["GET a", "SET a 1", "EVAL return(1) 0", "PUBLISH c m", "EXEC", "XREAD STREAMS a 0"])
def test_most_commands_go_on_as_they_are(line: str) -> None:
    client = session()
    assert client.client_bytes(words(line) * 3, 1)
    assert (client.in_flight, client.wants_private) == (3, False)


@pytest.mark.parametrize("name", [*PRIVATE, "XREAD BLOCK 0 STREAMS a 0", "NOPE"])
def test_a_client_stops_before_a_command_that_needs_a_connection_of_its_own(name: str) -> None:
    client = session()
    assert not client.client_bytes(words("GET a") + words(name) + words("GET b"), 1)
    assert client.to_backend == [words("GET a")]
    assert (client.in_flight, client.wants_private, client.half_sent) == (1, True, True)


def test_a_whole_transaction_goes_in_one_piece() -> None:
    client = session()
    piece = b"".join(map(words, ["MULTI", "SET a 1", "BRPOP a 0", "EXEC"]))
    client.client_bytes(piece, 1)
    assert b"".join(client.to_backend) == piece
    assert (client.in_flight, client.wants_private) == (4, False)


@pytest.mark.parametrize(
    "lines",
    [
        ["MULTI", "SET a 1"],
        ["MULTI", "SELECT 1", "EXEC"],
        ["MULTI", "NOPE", "EXEC"],
        ["MULTI", "SET a 1", "DISCARD"],
        ["MULTI", "SUBSCRIBE c", "EXEC"],
        ["MULTI", "CLIENT SETNAME x", "EXEC"],
        ["MULTI x", "EXEC"],
    ],
)
def test_any_other_transaction_needs_a_connection_of_its_own(lines: list[str]) -> None:
    client = session()
    client.client_bytes(b"".join(map(words, lines)), 1)
    assert (client.to_backend, client.in_flight, client.wants_private) == ([], 0, True)


@pytest.mark.parametrize("line", LOCAL)
def test_what_shunt_keeps_for_each_client_is_answered_at_once_and_not_sent(line: str) -> None:
    client = session()
    client.client_bytes(words("CLIENT " + line), 1)
    assert (client.to_backend, client.in_flight, client.wants_private) == ([], 0, False)
    assert client.to_client[0][:1] in b"+$:"


def test_an_answer_of_shunts_own_waits_for_its_turn() -> None:
    client = session()
    client.client_bytes(words("GET a") + words("CLIENT GETNAME") + words("GET b"), 1)
    assert (client.to_client, b"".join(client.to_backend)) == ([], words("GET a") + words("GET b"))
    assert client.in_flight == 3


def test_a_command_in_pieces_is_held_until_it_is_whole() -> None:
    client, whole = session(), words("SET a 12345")
    for at in range(1, len(whole)):
        client.client_bytes(whole[at - 1 : at], 1)
        assert (client.to_backend, client.in_flight) == ([], 0)
    client.client_bytes(whole[-1:], 1)
    assert client.to_backend == [whole]


def test_nothing_of_who_has_not_authenticated_goes_on() -> None:
    client = session(Access(password=b"pw"))
    client.client_bytes(words("GET a") + words("MULTI") + words("AUTH wrong"), 1)
    assert (client.to_backend, client.wants_private) == ([], False)
    assert [reply.split()[0] for reply in client.to_client] == [b"-NOAUTH", b"-NOAUTH", b"-WRONGPASS"]
    client.client_bytes(words("AUTH pw") + words("GET a"), 1)
    assert (client.to_client, client.to_backend) == ([b"+OK\r\n"], [words("GET a")])


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("CLIENT SETNAME", b"-ERR wrong number of arguments for 'client|setname' command\r\n"),
        ("CLIENT NO-EVICT PERHAPS", b"-ERR syntax error\r\n"),
        ("CLIENT SETINFO LIB-COLOUR red", b"-ERR Unrecognized option 'LIB-COLOUR'\r\n"),
        ("client getname", b"$3\r\nbob\r\n"),
        ("CLIENT ID", b":7\r\n"),
    ],
)
def test_answers_are_in_redis_words(line: str, reply: bytes) -> None:
    person = Person(7, "127.0.0.1:9", name=b"bob")
    args = [word.encode() for word in line.split()]
    assert pooling.answer(args, person, resp3=False, db=0, user="default") == reply
