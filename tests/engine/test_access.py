"""Credentials in a URL: AUTH, HELLO and RESET are shunt's business; who has no password gets nothing through."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.resp import CommandReader
from proxy.capture.format import ArgsMode
from proxy.engine import access as access_module
from proxy.engine.access import Access
from tests.engine.playbook import Talk, encode

LOCKED = Access(password=b"client-secret", prelude=((b"AUTH", b"backend-secret"), (b"SELECT", b"3")), db=3)
NAMED = Access(user=b"joe", password=b"client-secret")
OPEN = Access(prelude=((b"AUTH", b"backend-secret"),))
DATABASE = Access(prelude=((b"SELECT", b"3"),), answers=False, db=3)
AUTH = encode("AUTH", "client-secret")
HELLO_REPLY = b"%1\r\n$5\r\nproto\r\n:3\r\n"


def ready(access: Access, *, authenticated: bool = True, mode: ArgsMode = ArgsMode.KEYS) -> Talk:
    """A talk whose prelude was answered; what was said and sent until then is forgotten, its rows too."""
    talk = Talk(access=access, mode=mode)
    if talk.session.prelude():
        talk.backend(b"+OK\r\n" * len(access.prelude))
    if authenticated and access.protected:
        talk.client(AUTH)
        assert talk.said == access_module.OK
    talk.sent = talk.said = b""
    talk.rows()
    return talk


def test_the_preludes_replies_are_swallowed_however_they_are_cut() -> None:
    for at in range(1, 10):
        talk = Talk(access=LOCKED)
        assert talk.session.prelude() == encode("AUTH", "backend-secret") + encode("SELECT", "3")
        replies = b"+OK\r\n+OK\r\n"
        talk.backend(replies[:at])
        assert talk.session.prelude_pending
        talk.backend(replies[at:])
        assert not talk.session.prelude_pending
        assert (talk.said, talk.session.failure, talk.rows()) == (b"", None, [])


def test_a_prelude_that_is_refused_is_a_failure_with_the_backends_words() -> None:
    talk = Talk(access=LOCKED)
    talk.session.prelude()
    talk.backend(b"-WRONGPASS invalid username-password pair\r\n+OK\r\n")
    assert talk.session.failure == "WRONGPASS invalid username-password pair"
    assert talk.said == b""


def test_a_prelude_that_is_answered_in_no_resp_is_a_failure() -> None:
    talk = Talk(access=LOCKED)
    talk.session.prelude()
    talk.backend(b"HTTP/1.1 400 Bad Request\r\n")
    assert talk.session.failure
    assert talk.said == b""


def test_the_database_of_the_url_is_the_rows_database() -> None:
    talk = ready(DATABASE)
    talk.client(encode("GET", "a") + encode("RESET") + encode("GET", "a"))
    assert talk.sent == encode("GET", "a") + encode("RESET") + encode("SELECT", "3") + encode("GET", "a")
    talk.backend(b"$-1\r\n+RESET\r\n+OK\r\n$-1\r\n")
    assert talk.said == b"$-1\r\n+RESET\r\n$-1\r\n"
    assert [(row["command"], row["db"]) for row in talk.rows()] == [(b"GET", 3), (b"RESET", 3), (b"GET", 3)]


# ---- AUTH


@pytest.mark.parametrize("access", [LOCKED, NAMED, OPEN])
@pytest.mark.parametrize("args", [("AUTH",), ("AUTH", "a", "b", "c")])
def test_auth_with_the_wrong_number_of_arguments_is_an_error(access: Access, args: tuple[str, ...]) -> None:
    talk = ready(access, authenticated=False)
    talk.client(encode(*args))
    assert talk.said.startswith(b"-ERR")
    assert talk.sent == b""


@pytest.mark.parametrize(
    ("access", "args", "reply"),
    [
        (LOCKED, ("AUTH", "client-secret"), access_module.OK),
        (LOCKED, ("auth", "default", "client-secret"), access_module.OK),
        (LOCKED, ("AUTH", "joe", "client-secret"), access_module.WRONGPASS),
        (LOCKED, ("AUTH", "backend-secret"), access_module.WRONGPASS),
        (LOCKED, ("AUTH", ""), access_module.WRONGPASS),
        (NAMED, ("AUTH", "joe", "client-secret"), access_module.OK),
        (NAMED, ("AUTH", "client-secret"), access_module.WRONGPASS),
        (OPEN, ("AUTH", "anything"), access_module.NO_PASSWORD),
    ],
)
def test_auth_is_answered_by_shunt_and_never_passed_on(access: Access, args: tuple[str, ...], reply: bytes) -> None:
    command = encode(*args)
    for at in range(len(command)):
        talk = ready(access, authenticated=False)
        talk.client(command[:at]) if at else None
        talk.client(command[at:])
        assert (talk.sent, talk.said) == (b"", reply), at
        [row] = talk.rows()
        assert row["flags"] == "replied_by_proxy,redacted"
        assert row["reply"] == ("simple" if reply == access_module.OK else "error")


INLINE = [
    b"AUTH client-secret\r\n",
    b'"\\x41UTH" client-secret\r\n',
    b'AU"TH" client-secret\n',
    b"'auth' client-secret\r\n",
]


@pytest.mark.parametrize("authenticated", [False, True])
@pytest.mark.parametrize(
    "command", [*INLINE, b"*2\rX$4\rXAUTHXX$13\rXclient-secretXX", b"*2\rX$4\r\nAUTHXX$13\r\nclient-secretXX"]
)
def test_auth_in_any_spelling_is_seen_however_it_is_cut(command: bytes, authenticated: bool) -> None:
    for at in range(1, len(command)):
        talk = ready(LOCKED, authenticated=authenticated)
        talk.client(command[:at])
        talk.client(command[at:])
        assert (talk.sent, talk.said) == (b"", access_module.OK), at


def test_shunts_replies_keep_their_place_among_redis_own() -> None:
    talk = ready(LOCKED)
    talk.client(encode("GET", "a") + AUTH + encode("GET", "b") + encode("AUTH", "wrong") + encode("GET", "c"))
    assert talk.sent == encode("GET", "a") + encode("GET", "b") + encode("GET", "c")
    assert talk.said == b""
    replies = b"$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n"
    for byte in range(len(replies)):
        talk.backend(replies[byte : byte + 1])
    expected = b"$1\r\na\r\n" + access_module.OK + b"$1\r\nb\r\n" + access_module.WRONGPASS + b"$1\r\nc\r\n"
    assert talk.said == expected
    assert [(row["seq"], row["command"]) for row in talk.rows()] == [
        (1, b"GET"), (2, b"AUTH"), (3, b"GET"), (4, b"AUTH"), (5, b"GET")]  # fmt: skip


def test_shunts_replies_are_silent_where_redis_would_be() -> None:
    talk = ready(LOCKED)
    skip, write = encode("CLIENT", "REPLY", "SKIP"), encode("SET", "b", "1")
    talk.client(encode("GET", "a") + skip + AUTH + write + AUTH)
    assert talk.sent == encode("GET", "a") + skip + access_module.EMPTY + write, "Redis must have something to skip"
    talk.backend(b"$-1\r\n+OK\r\n")
    assert talk.said == b"$-1\r\n+OK\r\n" + access_module.OK
    talk.client(encode("CLIENT", "REPLY", "OFF") + AUTH + encode("CLIENT", "REPLY", "ON") + AUTH)
    talk.backend(b"+OK\r\n")
    assert talk.said == b"$-1\r\n+OK\r\n" + access_module.OK + b"+OK\r\n" + access_module.OK
    assert talk.session.in_flight == 0
    assert [row["reply"] for row in talk.rows()] == [
        "null", "none", "none", "simple", "simple", "none", "none", "simple", "simple"]  # fmt: skip


def test_auth_inside_a_transaction_aborts_it_without_a_secret() -> None:
    talk = ready(LOCKED)
    talk.client(encode("MULTI") + AUTH)
    assert talk.sent == encode("MULTI") + encode("AUTH")


# ---- HELLO


def test_hello_loses_its_credentials_on_the_way() -> None:
    talk = ready(LOCKED, authenticated=False)
    talk.client(encode("HELLO", "3", "AUTH", "default", "client-secret", "SETNAME", "me"))
    assert talk.sent == encode("HELLO", "3", "SETNAME", "me")
    talk.backend(HELLO_REPLY)
    talk.client(encode("GET", "a"))
    assert talk.sent.endswith(encode("GET", "a"))
    assert talk.said == HELLO_REPLY
    [row] = talk.rows()
    assert (row["command"], row["client_name"], row["flags"]) == (b"HELLO", b"me", "redacted")


def test_hello_without_credentials_is_refused_and_with_wrong_ones_too() -> None:
    talk = ready(LOCKED, authenticated=False)
    talk.client(encode("HELLO", "3"))
    talk.client(encode("HELLO", "3", "AUTH", "default", "wrong"))
    assert talk.sent == b""
    assert talk.said == access_module.HELLO_NOAUTH + access_module.WRONGPASS


def test_a_hello_with_a_wrong_version_proves_nothing() -> None:
    talk = ready(LOCKED, authenticated=False)
    talk.client(encode("HELLO", "9", "AUTH", "default", "client-secret"))
    talk.backend(b"-NOPROTO unsupported protocol version\r\n")
    talk.client(encode("GET", "a"))
    assert talk.sent == encode("HELLO", "9")
    assert talk.said == b"-NOPROTO unsupported protocol version\r\n" + access_module.NOAUTH


# ---- who hasn't proved who they are


def test_reset_locks_the_client_out_again_and_lets_the_backend_know_who_we_are() -> None:
    talk = ready(LOCKED)
    talk.client(encode("RESET") + encode("GET", "a"))
    assert talk.sent == encode("RESET") + encode("AUTH", "backend-secret") + encode("SELECT", "3")
    talk.backend(b"+RESET\r\n+OK\r\n+OK\r\n")
    assert talk.said == b"+RESET\r\n" + access_module.NOAUTH


def test_an_unauthenticated_client_is_bounded_as_redis_bounds_it() -> None:
    talk = ready(LOCKED, authenticated=False)
    talk.client(encode("MGET", *"abcdefghijk"))
    assert talk.said == b"-ERR Protocol error: unauthenticated multibulk length\r\n"
    assert talk.session.close_after
    talk = ready(LOCKED, authenticated=False)
    for _ in range(200):
        talk.client(b"x" * 1000)
    assert (
        talk.said == b"-ERR Protocol error: unauthenticated bulk length\r\n" or talk.said == b"-ERR Protocol error\r\n"
    )
    assert talk.session.close_after
    assert talk.sent == b""


def test_a_backend_that_talks_out_of_turn_opens_no_way_past_the_password() -> None:
    talk = ready(LOCKED, authenticated=False)
    talk.backend(b"-ERR max number of clients reached\r\n")
    assert talk.session.piped
    talk.client(encode("FLUSHALL"))
    assert talk.sent == b""
    assert talk.session.close_after


def test_what_was_held_back_is_passed_on_when_looking_ends() -> None:
    talk = ready(LOCKED)
    talk.client(b"*1\r\n$4\r\nPI")
    assert talk.sent == b"*1\r\n$4\r\nPI" or talk.sent == b""
    talk.client(b"NG\r\n*1\r\n$")
    talk.backend(b"+PONG\r\n-ERR out of turn\r\n")
    talk.client(b"4\r\nPING\r\n")
    assert talk.sent == encode("PING") * 2


_WORDS = st.sampled_from(
    [b"GET", b"FLUSHALL", b"QUIT", b"RESET", b"HELLO", b"AUTH", b"3", b"2", b"9", b"x", b"MULTI", b"EXEC", b"SUBSCRIBE",
     b"CLIENT", b"REPLY", b"OFF", b"MONITOR", b"PSYNC", b"EVAL", b"setname", b"", b"auth", b"default"]
)  # fmt: skip
_COMMANDS = st.one_of(
    st.lists(_WORDS, min_size=1, max_size=12).map(lambda words: encode(*words)),
    st.lists(_WORDS, min_size=1, max_size=4).map(lambda words: b" ".join(words) + b"\r\n"),
    st.binary(max_size=30),
    st.sampled_from([b"*0\r\n", b"*-1\r\n", b"\r\n", b"*1\rX$4\rX", b"*2\r\n$3\r\n", b'"', b"\0", b"*99\r\n", b"\n"]),
)


@settings(max_examples=700, derandomize=True, deadline=None)
@given(st.lists(_COMMANDS, max_size=8), st.lists(st.integers(1, 40), max_size=6))
def test_nothing_but_quit_reset_and_hello_passes_a_client_without_the_password(
    said: list[bytes], cuts: list[int]
) -> None:
    talk = ready(LOCKED, authenticated=False)
    stream = b"".join(said)
    for length in [*cuts, len(stream)]:
        if stream:
            talk.client(stream[:length])
        stream = stream[length:]
    for command, _, _ in CommandReader().feed(talk.sent):
        name = command[0].upper()
        assert name in (b"QUIT", b"RESET", b"HELLO") or command in ([b"AUTH", b"backend-secret"], [b"SELECT", b"3"])
        if name == b"HELLO":
            assert len(command) > 1
            assert command[1] not in (b"2", b"3")
