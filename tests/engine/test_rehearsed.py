"""A session that rehearses, alone: what reaches the backend and the client, cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from protocol.commands import table
from proxy.capture.format import ArgsMode
from proxy.engine import pooling, rehearsed
from proxy.engine.access import Access
from proxy.engine.pooled import PooledSession
from proxy.engine.recorder import Recorder
from proxy.engine.rehearsal import Refusals, Rehearsing, suspects
from proxy.engine.session import Session
from proxy.report.targets import find
from proxy.report.targets.rehearse import refusals
from tests.engine.playbook import ADDRESS, TABLE, Talk, encode
from tests.engine.test_rehearsal import AT_QUEUE

REDIS_CLUSTER = refusals(find("redis-cluster"))
CROSS = b"-CROSSSLOT Keys in request don't hash to the same slot\r\n"
ABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"
NO_SELECT = b"-ERR SELECT is not allowed in cluster mode\r\n"
NO_SWAPDB = b"-ERR SWAPDB is not allowed in cluster mode\r\n"
OK, QUEUED, PONG = b"+OK\r\n", b"+QUEUED\r\n", b"+PONG\r\n"
PING, DISCARD, EXEC, MULTI = map(encode, ("PING", "DISCARD", "EXEC", "MULTI"))
MEGABYTE = 1 << 20


def rehearsing(rules: Refusals = REDIS_CLUSTER, percent: int = 100) -> Rehearsing:
    return Rehearsing(rules, percent, suspects(rules, table().commands.values()))


class Rehearsal(Talk):
    """A talk with a session that rehearses."""

    def __init__(self, rules: Refusals = REDIS_CLUSTER, access: Access | None = None) -> None:
        super().__init__()
        self.session = rehearsed.session(self.recorder, ADDRESS, access, rehearsing(rules))

    def all(self, lines: str) -> Rehearsal:
        """The client sends these commands, separated by ``|``, at once."""
        self.client(words(lines))
        return self

    @property
    def counted(self) -> dict[str, int]:
        return self.recorder.counters.rehearsal


def words(lines: str) -> bytes:
    return b"".join(encode(*line.split()) for line in lines.split("|"))


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """All ways to cut ``data`` in two, it as a whole, and it byte by byte."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


# (what the client sends, what reaches the backend, what the backend answers, what the client reads)
DIALOGUES = [
    ("GET a|MGET a b|GET b", "GET a|PING|GET b", b"$1\r\na\r\n" + PONG + b":1\r\n", b"$1\r\na\r\n" + CROSS + b":1\r\n"),
    ("MGET {t}a {t}b|SELECT 0", "MGET {t}a {t}b|SELECT 0", b"*2\r\n$-1\r\n$-1\r\n+OK\r\n", None),
    ("SELECT 1|GET a", "PING|GET a", PONG + b"$-1\r\n", NO_SELECT + b"$-1\r\n"),
    ("BRPOP a b 0|PING", "PING|PING", PONG * 2, CROSS + PONG),
    ("SSUBSCRIBE a b|PING", "PING|PING", PONG * 2, CROSS + PONG),
    (
        "MULTI|SET a 1|SET b 1|EXEC|GET a", "MULTI|SET a 1|SET b 1|DISCARD|GET a",
        OK + QUEUED * 2 + OK + b"$-1\r\n", OK + QUEUED * 2 + CROSS + b"$-1\r\n",
    ),
    (
        "MULTI|SET a 1|MGET a b|SET b 1|EXEC", "MULTI|SET a 1|PING|SET b 1|DISCARD",
        OK + QUEUED * 3 + OK, OK + QUEUED + CROSS + QUEUED + ABORT,
    ),
    (
        "MULTI|SWAPDB 0 1|GET a|SELECT 1|EXEC", "MULTI|PING|GET a|PING|EXEC",
        OK + QUEUED * 3 + b"*3\r\n+PONG\r\n*2\r\n$2\r\n\r\n\r\n:1\r\n+PONG\r\n",
        OK + QUEUED * 3 + b"*3\r\n%b*2\r\n$2\r\n\r\n\r\n:1\r\n%b" % (NO_SWAPDB, NO_SELECT),
    ),
    ("MULTI|SELECT 1|EXEC", "MULTI|PING|EXEC", OK + QUEUED + b"*-1\r\n", OK + QUEUED + b"*-1\r\n"),
    ("MULTI|SELECT 1|EXEC", "MULTI|PING|EXEC", OK + QUEUED + ABORT, OK + QUEUED + ABORT),
    ("MULTI|SELECT 1|DISCARD", "MULTI|PING|DISCARD", OK + QUEUED + OK, None),
    (
        "MULTI|NOPE|SET a 1|SET b 1|EXEC", "MULTI|NOPE|SET a 1|SET b 1|DISCARD",
        OK + b"-ERR unknown command\r\n" + QUEUED * 2 + OK, OK + b"-ERR unknown command\r\n" + QUEUED * 2 + ABORT,
    ),
    (
        "MULTI|SET a 1|SET b 1|NOPE|EXEC", "MULTI|SET a 1|SET b 1|NOPE|DISCARD",
        OK + QUEUED * 2 + b"-ERR unknown command\r\n" + OK, OK + QUEUED * 2 + b"-ERR unknown command\r\n" + CROSS,
    ),
    (
        "MULTI|SET a 1|SET b 1|EXEC", "MULTI|SET a 1|SET b 1|DISCARD",
        b"-NOAUTH x\r\n" * 3 + b"-ERR DISCARD without MULTI\r\n", b"-NOAUTH x\r\n" * 3 + b"-ERR EXEC without MULTI\r\n",
    ),
    ("MGET a b", "PING", b"-NOAUTH Authentication required.\r\n", None),
    ("MGET a b", "PING", b"-LOADING Redis is loading\r\n", None),
    ("CLIENT REPLY SKIP|MGET a b|GET a", "CLIENT REPLY SKIP|PING|GET a", b"$-1\r\n", None),
    ("CLIENT REPLY OFF|MGET a b|CLIENT REPLY ON", "CLIENT REPLY OFF|PING|CLIENT REPLY ON", OK, None),
    (
        "CLIENT REPLY OFF|MULTI|SET a 1|SET b 1|EXEC|CLIENT REPLY ON|GET a",
        "CLIENT REPLY OFF|MULTI|SET a 1|SET b 1|DISCARD|CLIENT REPLY ON|GET a", OK + b"$-1\r\n", None,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("says", "reaches", "answer", "reads"), DIALOGUES, ids=[str(i) for i in range(len(DIALOGUES))])
def test_a_refused_command_is_replaced_and_nothing_else(
    says: str, reaches: str, answer: bytes, reads: bytes | None
) -> None:
    for said in cuts(words(says)):
        for heard in cuts(answer) if len(said) == 1 else [[answer]]:
            talk = Rehearsal()
            for piece in said:
                talk.client(piece)
            assert talk.sent == words(reaches)
            for piece in heard:
                talk.backend(piece)
            assert talk.said == (answer if reads is None else reads)
            assert talk.session.quiet
            assert not talk.session.listening


def test_inline_commands_are_refused_too() -> None:
    talk = Rehearsal()
    talk.client(b"MGET a b\r\nGET a\r\nmget {t}a {t}b\n")
    assert talk.sent == PING + b"GET a\r\nmget {t}a {t}b\n"
    talk.backend(PONG + b"$-1\r\n*0\r\n")
    assert talk.said == CROSS + b"$-1\r\n*0\r\n"
    assert talk.rows()[0]["flags"] == "inline,replied_by_proxy,rehearsed"


def test_a_row_says_what_was_refused_and_that_it_was_in_rehearsal() -> None:
    talk = Rehearsal().all("MGET a b|GET a|SELECT 1")
    talk.backend(PONG + b"$-1\r\n" + PONG)
    seen = [(row["command"], row["flags"], row["error"], row["reply_bytes"], row["db"]) for row in talk.rows()]
    assert seen == [
        (b"MGET", "replied_by_proxy,rehearsed", b"CROSSSLOT", len(CROSS), 0),
        (b"GET", "", b"", 5, 0),
        (b"SELECT", "replied_by_proxy,foreign_db,rehearsed", b"ERR", len(NO_SELECT), 0),
    ]
    assert talk.counted == {"refused": 2}
    assert talk.recorder.counters.rehearsal_refused == {"MGET": 1, "SELECT": 1}


@pytest.mark.parametrize(
    ("says", "answer", "flags"),
    [
        ("MULTI|SET a 1|SET b 1|EXEC", OK + QUEUED * 2 + OK, "replied_by_proxy,txn_cross,rehearsed"),
        ("MULTI|MGET a b|EXEC", OK + QUEUED + OK, "replied_by_proxy,txn_refused,rehearsed"),
        ("MULTI|SELECT 1|EXEC", OK + QUEUED + b"*1\r\n+PONG\r\n", "txn_refused_db"),
    ],
)
def test_exec_carries_what_a_report_needs_to_judge_it(says: str, answer: bytes, flags: str) -> None:
    talk = Rehearsal().all(says)
    talk.backend(answer)
    rows = talk.rows()
    assert (rows[-1]["command"], rows[-1]["flags"]) == (b"EXEC", flags)
    assert len({row["txn"] for row in rows[1:]}) == 1


def test_an_error_of_the_source_itself_is_no_refusal_in_rehearsal() -> None:
    talk = Rehearsal().all("MGET a b")
    talk.backend(b"-NOAUTH Authentication required.\r\n")
    [row] = talk.rows()
    assert (row["flags"], row["error"], talk.counted) == ("", b"NOAUTH", {})


def test_what_can_not_be_told_goes_on_and_is_counted() -> None:
    talk = Rehearsal().all("NOPE a b")
    assert (talk.sent, talk.counted) == (words("NOPE a b"), {"keys-unknown": 1})


def test_a_command_sure_to_be_refused_is_thrown_away_as_it_comes() -> None:
    talk = Rehearsal()
    whole = encode("MSET", "a", "x", "b", b"v" * 3 * MEGABYTE) + encode("GET", "c")
    for at in range(0, len(whole), 65_536):
        talk.client(whole[at : at + 65_536])
        assert talk.sent in (b"", PING + encode("GET", "c"))
    assert talk.sent
    talk.backend(PONG + b"$-1\r\n")
    assert talk.said == CROSS + b"$-1\r\n"
    assert [row["request_bytes"] for row in talk.rows()] == [
        len(whole) - len(encode("GET", "c")),
        len(encode("GET", "c")),
    ]


def test_a_command_that_may_be_refused_is_held_back_up_to_a_bound() -> None:
    talk, held = Rehearsal(), 0
    whole = encode("MSET", "a", b"v" * 3 * MEGABYTE, "b", "x")
    for at in range(0, len(whole), 65_536):
        talk.client(whole[at : at + 65_536])
        held = max(held, at + 65_536 - len(talk.sent))
    assert MEGABYTE <= held <= MEGABYTE + 65_536
    assert (talk.sent, talk.counted) == (whole, {"too-large": 1})
    small = Rehearsal()
    small.client(encode("MSET", "a", b"v" * (MEGABYTE - 100), "b", "x")[:-5])
    assert small.sent == b""
    small.client(encode("MSET", "a", b"v" * (MEGABYTE - 100), "b", "x")[-5:])
    assert small.sent == PING


def test_a_big_value_of_a_harmless_command_streams_through() -> None:
    talk, whole = Rehearsal(), encode("SET", "a", b"v" * 3 * MEGABYTE)
    for at in range(0, len(whole), 65_536):
        talk.client(whole[at : at + 65_536])
        assert len(talk.sent) == min(at + 65_536, len(whole))


def test_a_big_value_inside_multi_counts_among_the_transactions_keys() -> None:
    talk, value = Rehearsal().all("MULTI|SET a 1"), encode("SET", "b", b"v" * MEGABYTE)
    talk.client(value[:100_000])
    talk.client(value[100_000:] + EXEC)
    assert talk.sent == words("MULTI|SET a 1") + value + DISCARD


def test_max_frame_ends_a_command_that_is_being_thrown_away() -> None:
    talk = Rehearsal()
    talk.recorder.max_frame = 1000
    talk.client(b"*7\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\nx\r\n$1\r\nb\r\n$1\r\ny\r\n$1\r\nc\r\n")
    talk.client(b"$2000\r\n")
    assert (talk.sent, talk.said[:20], talk.session.close_after) == (b"", b"-ERR Protocol error:", True)


def test_a_target_that_looks_at_queue_time_refuses_there() -> None:
    talk = Rehearsal(AT_QUEUE).all("MULTI|SET a 1|SET b 1|EXEC")
    assert talk.sent == MULTI + words("SET a 1") + PING + DISCARD
    talk.backend(OK + QUEUED * 2 + OK)
    assert talk.said.startswith(OK + QUEUED + CROSS[:-2] + b" (context='within MULTI', command='SET'")
    assert talk.said.endswith(ABORT)
    assert talk.rows()[-1]["flags"] == "replied_by_proxy,txn_cross,rehearsed"


def test_a_subscribed_client_in_resp2_is_left_alone() -> None:
    talk = Rehearsal().all("SUBSCRIBE c|SSUBSCRIBE a b")
    assert (talk.sent, talk.counted) == (words("SUBSCRIBE c|SSUBSCRIBE a b"), {"subscribed": 1})


def test_a_push_comes_between_and_stays_whole() -> None:
    talk = Rehearsal()
    talk.client(encode("HELLO", "3"))
    talk.backend(b"%1\r\n+proto\r\n:3\r\n")
    talk.all("SUBSCRIBE c|MGET a b")
    push = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n"
    talk.said = b""
    talk.backend(b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" + push + PONG + push)
    assert talk.said.endswith(push + CROSS + push)


def test_who_has_not_authenticated_to_shunt_hears_of_that_first() -> None:
    talk = Rehearsal(access=Access(password=b"pw"))
    talk.all("MGET a b|MULTI|SET a 1|SET b 1|EXEC")
    assert (talk.sent, talk.said) == (b"", b"-NOAUTH Authentication required.\r\n" * 5)
    talk.all("AUTH pw|MGET a b")
    talk.backend(PONG)
    assert talk.said.endswith(OK + CROSS)
    assert talk.sent == PING


def test_a_connection_that_ends_leaves_lost_rows() -> None:
    talk = Rehearsal().all("MGET a b|GET a")
    talk.finish()
    assert [(row["command"], row["reply"]) for row in talk.rows()] == [(b"MGET", "lost"), (b"GET", "lost")]


def test_only_the_chosen_connections_rehearse() -> None:
    recorder = Recorder(TABLE, ArgsMode.KEYS, lambda: None, lambda sha, body: None)
    half = rehearsing(percent=50)
    kinds = [type(rehearsed.session(recorder, ADDRESS, None, half)) for _ in range(6)]
    assert kinds == [Session, rehearsed.RehearsedSession] * 3
    assert type(rehearsed.session(recorder, ADDRESS, None, None)) is Session


# ---- clients that share ----------------------------------------------------------------------------------------------


def pooled() -> PooledSession:
    recorder = Recorder(TABLE, ArgsMode.KEYS, lambda: None, lambda sha, body: None)
    return rehearsed.pooled_session(recorder, ADDRESS, None, pooling.tables(TABLE), pooling.FIRST_ID, rehearsing())


def sends(client: PooledSession, data: bytes) -> bytes:
    """What goes on of ``data``."""
    return data if client.client_bytes(data, 1) else b"".join(client.to_backend)


@pytest.mark.parametrize("pieces", [["GET a|MGET a b|GET b"], ["GET a", "MGET a b|GET b"], ["GET a|MGET a b", "GET b"]])
def test_a_refused_command_goes_over_a_shared_connection_as_ping(pieces: Sequence[str]) -> None:
    client = pooled()
    assert b"".join(sends(client, words(piece)) for piece in pieces) == words("GET a|PING|GET b")
    assert (client.in_flight, client.wants_private) == (3, False)


def test_a_transaction_that_is_not_refused_goes_in_one_piece() -> None:
    client, piece = pooled(), words("MULTI|SET {t}a 1|MGET {t}a {t}b|EXEC")
    assert sends(client, piece) == piece
    assert (client.in_flight, client.wants_private) == (4, False)


def test_a_transaction_that_is_refused_waits_for_a_connection_of_its_own() -> None:
    client = pooled()
    assert sends(client, words("MULTI|SET a 1|SET b 1|EXEC|GET a")) == b""
    assert (client.in_flight, client.wants_private, client.half_sent) == (0, True, True)


def test_a_command_in_pieces_waits_until_it_can_be_judged() -> None:
    client, whole = pooled(), words("MGET a b")
    for at in range(1, len(whole)):
        assert sends(client, whole[at - 1 : at]) == b""
    assert sends(client, whole[-1:]) == PING
