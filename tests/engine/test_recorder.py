"""What is kept of a command, and what never is: every column, keys, arguments, scripts, secrets, sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest

from proxy.capture.format import ArgsMode, UnknownWhy
from proxy.engine.access import Access
from tests.engine.playbook import ADDRESS, STEP_NS, Row, Talk, encode, play

MODES = list(ArgsMode)


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def one(command: bytes, reply: bytes = b"+OK\r\n", *, mode: ArgsMode = ArgsMode.KEYS, cut: int = 0) -> Row:
    """The row of one command; it arrives in pieces of ``cut`` bytes."""
    talk = Talk(mode=mode)
    step = cut or len(command)
    for start in range(0, len(command), step):
        talk.client(command[start : start + step])
    talk.backend(reply)
    assert talk.sent == command
    [row] = talk.rows()
    return row


def test_every_column_is_filled_in() -> None:
    talk = Talk(mode=ArgsMode.FULL)
    talk.recorder.wall_offset_ns = 1_700_000_000_000_000_000
    talk.recorder.epoch, talk.recorder.backend = 7, 3
    talk.client(encode("CLIENT", "SETNAME", "me") + encode("SELECT", "2"))
    talk.backend(b"+OK\r\n+OK\r\n")
    talk.rows()
    talk.now_ns = 5000
    talk.client(encode("lpop", "a"))
    talk.now_ns = 5700
    talk.backend(b"$3\r\njob\r\n")
    assert talk.rows() == [
        {
            "ts": 1_700_000_000_000_005_000, "conn": 1, "seq": 2, "client_addr": ADDRESS, "client_name": b"me", "db": 2,
            "command": b"LPOP", "keys": [b"a"], "keys_cut": [], "nkeys": 1, "slot": 15495, "unknown": 0, "txn": 0,
            "latency_ns": 700, "held_ns": 0, "request_bytes": 21, "reply_bytes": 9, "reply": "bulk", "error": b"",
            "served_key": b"a", "backend": 3, "epoch": 7, "flags": "write,pop,served,args", "script": b"",
            "args": [b"lpop", b"a"], "reply_checksum": 0, "gap": b"", "gap_rows": 0,
            "nargs": 2, "reply_items": -1,
        }
    ]  # fmt: skip


def test_a_gap_row_says_why_and_how_many() -> None:
    talk = play("""
        >> GET a
        << no resp
        =! unreadable-reply rows=1 conn=1 seq=-1 latency_ns=-1 slot=-1 reply=none
    """)
    assert talk.recorder.counters.gap_rows == 1


def test_without_recording_commands_are_counted_and_no_row_is_made() -> None:
    talk = Talk()
    talk.recorder.recording = False
    talk.client(encode("CLIENT", "SETNAME", "me") + encode("GET", "a"))
    talk.backend(b"+OK\r\n$-1\r\n")
    assert talk.rows() == []
    assert {stats.command: stats.count for stats in talk.recorder.counters.stats().commands} == {
        "CLIENT SETNAME": 1, "GET": 1}  # fmt: skip


# ---- modes


def test_mode_none_keeps_no_byte_of_keys_or_arguments() -> None:
    talk = Talk(mode=ArgsMode.NONE)
    talk.client(encode("MSET", "the-key", "the-value", "the-key2", "v") + encode("BRPOP", "the-key", "0"))
    talk.client(encode("EVAL", "return 'the-script'", "1", "the-key", "the-arg") + encode("LPOP", "the-key"))
    talk.backend(b"+OK\r\n*2\r\n$7\r\nthe-key\r\n$1\r\nv\r\n:1\r\n$1\r\nx\r\n")
    batch = talk.recorder.take()
    assert b"the-" not in everything(batch)
    rows = batch.to_pylist()
    assert [row["nkeys"] for row in rows] == [2, 1, 1, 1]
    assert [row["slot"] >= 0 for row in rows] == [False, True, True, True]
    assert talk.scripts == {}


def test_mode_keys_keeps_keys_and_no_arguments() -> None:
    row = one(encode("SET", "k", "v"))
    assert (row["keys"], row["args"], row["flags"]) == ([b"k"], [], "write")


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_mode_full_keeps_arguments_byte_for_byte(cut: int) -> None:
    args = [b"set", b"k\0\r\n", bytes(range(256)), b"", b"x" * 5000]
    row = one(encode(*args), mode=ArgsMode.FULL, cut=cut)
    assert (row["args"], row["keys"], row["flags"]) == (args, [b"k\0\r\n"], "write,args")


@pytest.mark.parametrize("cut", [0, 100_000])
def test_arguments_beyond_a_megabyte_are_left_out_and_flagged(cut: int) -> None:
    row = one(encode("SET", "k", b"x" * 1_100_000, "EX", "9"), mode=ArgsMode.FULL, cut=cut)
    assert (row["args"], row["flags"]) == ([b"SET", b"k"], "write,args,args_cut")


@pytest.mark.parametrize("cut", [0, 65536])
def test_a_big_value_leaves_its_row_and_none_of_itself(cut: int) -> None:
    value = b"v" * 20_000_000
    row = one(encode("SET", "k", value, "NX"), cut=cut)
    assert (row["keys"], row["request_bytes"], row["unknown"]) == ([b"k"], len(encode("SET", "k", value, "NX")), 0)


# ---- keys


@pytest.mark.parametrize("cut", [0, 1, 64, 600])
@pytest.mark.parametrize("length", [511, 512, 513, 4096, 4097, 20_000])
def test_long_keys_are_cut_with_their_length_and_hash(length: int, cut: int) -> None:
    long = b"{tag}" + b"k" * (length - 5)
    row = one(encode("MSET", "{tag}", "1", long, "2"), cut=cut)
    assert row["keys"] == [b"{tag}", long[:512]]
    assert row["slot"] >= 0
    wanted = [] if length <= 512 else [{"index": 1, "length": length, "hash": fnv1a(long)}]
    assert row["keys_cut"] == wanted


def test_the_slot_of_a_key_that_was_not_kept_whole_is_unknown_unless_its_tag_was() -> None:
    untagged = one(encode("GET", b"k" * 300_000), cut=1000)
    assert (untagged["slot"], untagged["unknown"]) == (-3, UnknownWhy.ARGUMENT_CUT)
    assert one(encode("GET", b"{a}" + b"k" * 300_000), cut=1000)["slot"] == 15495


@pytest.mark.parametrize("cut", [0, 10_000])
@pytest.mark.parametrize(
    ("name", "count", "step"), [("DEL", 65_535, 1), ("DEL", 65_536, 1), ("DEL", 70_000, 1), ("MSET", 140_000, 2)]
)
def test_more_arguments_than_are_looked_at_are_counted(name: str, count: int, step: int, cut: int) -> None:
    row = one(encode(name, *[b"{t}%d" % i for i in range(count)]), cut=cut)
    assert row["nkeys"] == count // step
    beyond = count > 65_535
    assert row["unknown"] == (UnknownWhy.TOO_MANY_ARGUMENTS if beyond else 0)
    assert row["slot"] == (-3 if beyond else 15891)
    assert ("keys_cut" in row["flags"]) == beyond
    assert len(row["keys"]) == min(65_535, count) // step + (beyond and step == 2)


def test_more_keys_than_a_connection_may_hold_are_flagged() -> None:
    row = one(encode("DEL", *[b"%0500d" % i for i in range(20_000)]))
    assert (row["keys"], row["nkeys"], row["flags"]) == ([], 20_000, "write,keys_cut")


def test_what_waits_for_replies_is_bounded_and_recovers() -> None:
    talk = Talk()
    for _ in range(20):
        talk.client(encode("DEL", *[b"%0500d" % i for i in range(1000)]))
    talk.backend(b":0\r\n" * 20)
    cut = ["keys_cut" in row["flags"] for row in talk.rows()]
    assert cut == sorted(cut)
    assert 0 < sum(cut) < 20
    talk.client(encode("GET", "a"))
    talk.backend(b"$-1\r\n")
    assert talk.rows()[0]["keys"] == [b"a"]


def test_keys_of_pipelined_commands_are_not_mixed_up_as_the_oldest_leave() -> None:
    talk = Talk(mode=ArgsMode.FULL)
    sent = answered = 0
    for burst in [3, 1, 5, 40, 2, 300, 1]:
        for _ in range(burst):
            talk.client(encode("SET", f"key-{sent}", "v" * (sent * 37 % 500)))
            sent += 1
        for _ in range(burst - burst // 3):
            talk.backend(b"+OK\r\n")
            answered += 1
    talk.backend(b"+OK\r\n" * (sent - answered))
    rows = talk.rows()
    assert [row["args"] for row in rows] == [
        [b"SET", b"key-%d" % i, b"v" * (i * 37 % 500)] for i in range(sent)]  # fmt: skip


# ---- unknown commands, pops, blocking


def test_an_unknown_command_is_a_write_with_unknown_keys() -> None:
    row = one(encode("NoSuch", "a", "b"))
    assert (row["command"], row["slot"], row["unknown"], row["flags"]) == (
        b"NOSUCH",
        -3,
        UnknownWhy.NOT_IN_TABLE,
        "write",
    )
    assert one(encode("x" * 300))["command"] == b"X" * 63
    assert one(encode(""))["command"] == b""


@pytest.mark.parametrize(
    ("command", "reply", "served"),
    [
        (("BRPOP", "a", "b", "0"), b"*2\r\n$1\r\nb\r\n$3\r\njob\r\n", b"b"),
        (("BRPOP", "a", "b", "0"), b"*-1\r\n", None),
        (("BLMPOP", "0", "2", "a", "b", "LEFT"), b"*2\r\n$1\r\na\r\n*1\r\n$1\r\nx\r\n", b"a"),
        (("LPOP", "a"), b"$3\r\njob\r\n", b"a"),
        (("LPOP", "a"), b"$-1\r\n", None),
        (("LPOP", "a"), b"-ERR no\r\n", None),
        (("RPOPLPUSH", "a", "b"), b"$1\r\nx\r\n", b"a"),
        (("SPOP", "a", "2"), b"*0\r\n", None),
        (("SPOP", "a", "2"), b"~0\r\n", None),
        (("SPOP", "a", "2"), b"~1\r\n$1\r\nx\r\n", b"a"),
        (("ZPOPMIN", "a"), b"*2\r\n$1\r\nx\r\n$1\r\n1\r\n", b"a"),
        (("BRPOP", "", "0"), b"*2\r\n$0\r\n\r\n$1\r\nx\r\n", b""),
    ],
)
def test_a_pop_tells_the_key_that_served_it(command: Sequence[str], reply: bytes, served: bytes | None) -> None:
    row = one(encode(*command), reply)
    assert (row["served_key"], "served" in row["flags"]) == (served or b"", served is not None)


@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_the_served_key_is_found_in_a_reply_in_pieces(step: int) -> None:
    key = b"q" * 600
    talk = Talk()
    talk.client(encode("BRPOP", key, "0"))
    reply = b"*2\r\n$600\r\n" + key + b"\r\n$5000\r\n" + b"j" * 5000 + b"\r\n"
    for start in range(0, len(reply), step):
        talk.backend(reply[start : start + step])
    [row] = talk.rows()
    assert (row["served_key"], row["reply_bytes"]) == (key[:512], len(reply))


# ---- counts


@pytest.mark.parametrize("cut", [0, 1, 7])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("command", "nargs"),
    [
        (encode("PING"), 1),
        (encode("MGET", *["k"] * 5000), 5001),
        (encode("NOSUCH", "a", "b"), 3),
        (b"SET 'a b'  c\r\n", 3),
        (encode("RPUSH", "q", *["x"] * 70_000), 70_002),
        (encode("SET", "k", "x" * 100_000), 3),
    ],
)
def test_the_number_of_arguments_is_exact_in_every_mode(command: bytes, nargs: int, mode: ArgsMode, cut: int) -> None:
    assert one(command, b"-ERR\r\n", mode=mode, cut=cut * 1000)["nargs"] == nargs


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("reply", "items"),
    [
        (b"*0\r\n", 0),
        (b"*2\r\n$1\r\na\r\n*3\r\n:1\r\n:2\r\n:3\r\n", 2),
        (b"~1\r\n+a\r\n", 1),
        (b"%1\r\n+a\r\n+b\r\n", 1),
        (b"*1234\r\n" + b":1\r\n" * 1234, 1234),
        (b"*-1\r\n", -1),
        (b"_\r\n", -1),
        (b"$3\r\n*3\r\r\n", -1),
        (b":7\r\n", -1),
        (b"-ERR x\r\n", -1),
        (b"+QUEUED\r\n", -1),
        (b"|1\r\n+a\r\n+b\r\n*2\r\n:1\r\n:2\r\n", -1),
    ],
)
def test_the_elements_of_an_aggregate_reply_are_counted(reply: bytes, items: int, step: int) -> None:
    talk = Talk()
    talk.client(encode("SMEMBERS", "k"))
    for start in range(0, len(reply), step):
        talk.backend(reply[start : start + step])
    assert [row["reply_items"] for row in talk.rows()] == [items]


def test_a_transactions_reply_has_one_element_per_command() -> None:
    play("""
        >> MULTI
        >> GET a
        >> GET b
        >> EXEC
        << +OK
        << +QUEUED
        << +QUEUED
        << *2\\r\\n$-1\\r\\n$-1
        == MULTI nargs=1 reply_items=-1
        == GET nargs=2 reply_items=-1
        == GET nargs=2 reply_items=-1
        == EXEC nargs=1 reply_items=2
    """)


def test_a_confirmation_that_is_a_push_has_its_elements() -> None:
    talk = Talk()
    talk.client(encode("HELLO", "3") + encode("SUBSCRIBE", "c"))
    talk.backend(b"%1\r\n$5\r\nproto\r\n:3\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
    assert [(row["reply"], row["reply_items"]) for row in talk.rows()] == [("map", 1), ("push", 3)]


def test_a_gap_row_and_what_is_no_command_have_no_counts() -> None:
    talk = Talk(max_frame=100)
    talk.client(encode("SET", "k", "x" * 1000))
    [refused] = talk.rows()
    assert (refused["command"], refused["nargs"], refused["reply_items"]) == (b"PROTOCOL-ERROR", 0, -1)
    talk = play("""
        >> GET a
        << no resp
        =! unreadable-reply nargs=0 reply_items=-1
    """)


def test_commands_that_may_wait_are_flagged() -> None:
    assert "blocking" in one(encode("BLPOP", "a", "1"))["flags"]
    assert "blocking" in one(encode("XREAD", "BLOCK", "0", "STREAMS", "s", "$"))["flags"]
    assert "blocking" not in one(encode("XREAD", "STREAMS", "s", "0"))["flags"]


# ---- scripts


def test_a_scripts_body_is_handed_on_once() -> None:
    body = b"return redis.call('GET', KEYS[1])"
    sha = hashlib.sha1(body).hexdigest().encode()
    talk = Talk()
    seen: list[bytes] = []
    talk.scripts = {}
    talk.client(encode("EVAL", body, "1", "a") * 1 + encode("SCRIPT", "LOAD", body))
    talk.client(encode("EVALSHA", sha.upper(), "1", "a") + encode("EVAL_RO", body, "0"))
    talk.backend(b":1\r\n" * 4)
    rows = talk.rows()
    seen = [row["script"] for row in rows]
    assert seen == [sha] * 4
    assert [row["flags"] for row in rows] == ["script,write", "", "script,write", "script"]


def test_each_script_is_remembered_by_its_hash() -> None:
    talk = Talk()
    for number in range(5):
        talk.client(encode("EVAL", f"return {number % 3}", "0"))
    talk.backend(b":1\r\n" * 5)
    assert talk.scripts == {hashlib.sha1(b"return %d" % n).hexdigest().encode(): b"return %d" % n for n in range(3)}


def test_a_library_of_functions_is_handed_on_like_a_script() -> None:
    body = b"#!lua name=l\nredis.register_function('f', function(keys) return keys end)"
    sha = hashlib.sha1(body).hexdigest().encode()
    talk = Talk()
    talk.client(encode("FUNCTION", "LOAD", body) + encode("FUNCTION", "LOAD", "REPLACE", body))
    talk.client(encode("FUNCTION", "LOAD") + encode("FUNCTION", "LIST") + encode("FCALL", "f", "1", "a"))
    talk.backend(b"+OK\r\n" * 5)
    assert [row["script"] for row in talk.rows()] == [sha, sha, b"", b"", b""]
    assert talk.scripts == {sha: body}


# ---- secrets

SECRET = "5ecret-5ecret"
SECRETS = [
    ("AUTH", SECRET), ("auth", "user", SECRET), ("HELLO", "3", "AUTH", "user", SECRET),
    ("HELLO", "3", "SETNAME", "me", "AUTH", "user", SECRET), ("ACL", "SETUSER", "joe", "on", ">" + SECRET),
    ("CONFIG", "SET", "requirepass", SECRET), ("config", "set", "maxmemory", "1", "masterauth", SECRET),
    ("CONFIG", "SET", "tls-key-file-pass", SECRET), ("MIGRATE", "h", "1", "k", "0", "9", "AUTH", SECRET),
    ("MIGRATE", "h", "1", "", "0", "9", "AUTH2", "user", SECRET, "KEYS", "k"),
]  # fmt: skip


def everything(batch: object) -> bytes:
    """All bytes of a batch's buffers."""
    buffers = [buffer for column in batch.columns for buffer in column.buffers() if buffer is not None]  # type: ignore[attr-defined]
    return b"".join(buffer.to_pybytes() for buffer in buffers)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("args", SECRETS, ids=lambda args: " ".join(args[:3]))
@pytest.mark.parametrize("cut", [0, 1, 9])
@pytest.mark.parametrize("reply", [b"+OK\r\n", b"-ERR no\r\n", b"+QUEUED\r\n", b""])
def test_a_secret_is_in_no_row_in_any_mode(args: Sequence[str], mode: ArgsMode, cut: int, reply: bytes) -> None:
    for data in (encode(*args), " ".join(arg or '""' for arg in args).encode() + b"\r\n"):
        talk = Talk(mode=mode)
        for start in range(0, len(data), cut or len(data)):
            talk.client(data[start : start + (cut or len(data))])
        if reply:
            talk.backend(reply)
        talk.finish()
        batch = talk.recorder.take()
        assert SECRET.encode() not in everything(batch)
        assert talk.scripts == {}
        [row] = batch.to_pylist()
        assert row["flags"] & 2048
        assert row["args"] == []


@pytest.mark.parametrize("mode", MODES)
def test_a_secret_that_shunt_answers_is_in_no_row(mode: ArgsMode) -> None:
    talk = Talk(mode=mode, access=Access(password=SECRET.encode()))
    for args in (("AUTH", "x" + SECRET), ("AUTH", SECRET), ("HELLO", "3", "AUTH", "default", SECRET)):
        talk.client(encode(*args))
    talk.finish()
    assert SECRET.encode() not in everything(talk.recorder.take())


def test_a_harmless_config_set_keeps_its_arguments() -> None:
    row = one(encode("CONFIG", "SET", "maxmemory", "1"), mode=ArgsMode.FULL)
    assert (row["args"], row["flags"]) == ([b"CONFIG", b"SET", b"maxmemory", b"1"], "args")


# ---- --max-frame


@pytest.mark.parametrize("cut", [0, 1, 50])
def test_a_command_above_max_frame_is_refused_in_its_turn(cut: int) -> None:
    talk = Talk(max_frame=100)
    talk.client(encode("GET", "a"))
    data = encode("SET", "k", b"x" * 200)
    for start in range(0, len(data), cut or len(data)):
        talk.client(data[start : start + (cut or len(data))])
    assert talk.session.close_after
    assert b"x" not in talk.sent
    assert talk.said == b""
    talk.backend(b"$-1\r\n")
    assert talk.said == b"$-1\r\n-ERR Protocol error: command larger than this proxy's --max-frame\r\n"
    assert [(row["command"], row["reply"], row["flags"]) for row in talk.rows()] == [
        (b"GET", "null", ""), (b"PROTOCOL-ERROR", "error", "replied_by_proxy,write")]  # fmt: skip


def test_a_refused_frame_with_nothing_in_flight_is_no_plain_pipe() -> None:
    talk = Talk(max_frame=100)
    talk.client(encode("SET", "k", b"x" * 200))
    assert talk.recorder.counters.plain_pipes == {}
    assert [row["gap"] for row in talk.rows()] == [b""]


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_a_command_of_exactly_max_frame_passes(cut: int) -> None:
    data = encode("SET", "k", b"x" * 50)
    talk = Talk(max_frame=len(data))
    for start in range(0, len(data), cut or len(data)):
        talk.client(data[start : start + (cut or len(data))])
    assert talk.sent == data
    assert not talk.session.close_after


def test_time_is_taken_when_the_commands_last_byte_came() -> None:
    talk = Talk()
    talk.client(b"*1\r\n$4\r\nPI")
    talk.now_ns += 10 * STEP_NS
    talk.client(b"NG\r\n")
    talk.now_ns += 3 * STEP_NS
    talk.backend(b"+PO")
    talk.now_ns += 4 * STEP_NS
    talk.backend(b"NG\r\n")
    [row] = talk.rows()
    assert (row["ts"], row["latency_ns"]) == (11 * STEP_NS, 7 * STEP_NS)


@pytest.mark.parametrize(
    ("command", "reply", "lost"),
    [
        (("BRPOP", "a", "0"), b"*2\r\n$1\r\na\r\n$3\r\njob\r\n", True),
        (("LPOP", "a"), b"$3\r\njob\r\n", True),
        (("BRPOP", "a", "0"), b"*-1\r\n", False),  # nothing was taken
        (("SPOP", "a", "2"), b"*0\r\n", False),
        (("BRPOP", "a", "0"), b"-ERR no\r\n", False),
        (("GET", "a"), b"$1\r\nx\r\n", False),  # it is still there
    ],
)
@pytest.mark.parametrize("gone", [True, False])
def test_what_was_popped_for_a_client_that_had_gone_is_undelivered(
    command: Sequence[str], reply: bytes, lost: bool, gone: bool
) -> None:
    talk = Talk()
    talk.client(encode(*command))
    talk.session.client_gone = gone
    talk.backend(reply)
    [row] = talk.rows()
    assert ("undelivered" in row["flags"]) == (lost and gone)
