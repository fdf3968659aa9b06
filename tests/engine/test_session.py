"""One client's conversation with Redis: what is said, and the rows that come of it, however the bytes are cut."""

from __future__ import annotations

import pytest

from tests.engine.playbook import Talk, encode, play


def test_a_command_and_its_reply_are_a_row() -> None:
    play("""
        >> GET a
        << $1\\r\\nx
        == GET seq=0 keys=a nkeys=1 slot=15495 reply=bulk request_bytes=20 reply_bytes=7 latency_ns=1000 flags= txn=0
    """)


def test_pipelined_commands_are_answered_in_order() -> None:
    play("""
        >> SET a 1
        >> GET a
        >> LPUSH l x
        << +OK
        << $1\\r\\n1
        << -WRONGTYPE Operation against a key
        == SET seq=0 reply=simple latency_ns=3000 flags=write
        == GET seq=1 reply=bulk latency_ns=3000 flags=
        == LPUSH seq=2 reply=error error=WRONGTYPE latency_ns=3000 flags=write
    """)


@pytest.mark.parametrize(
    ("reply", "kind", "size"),
    [
        ("+OK", "simple", 5), ("-ERR no", "error", 9), (":12", "integer", 5), ("$0\\r\\n", "bulk", 6),
        ("$-1", "null", 5), ("*-1", "null", 5), ("_", "null", 3), ("*0", "array", 4), ("%1\\r\\n+a\\r\\n:1", "map", 12),
        ("~2\\r\\n:1\\r\\n:2", "set", 12), (",1.5", "double", 6), ("#t", "boolean", 4),
        ("(123456789012345678901", "bignum", 24),
        ("=7\\r\\ntxt:abc", "verbatim", 13), ("!5\\r\\nERR x", "error", 11),
        ("|1\\r\\n+ttl\\r\\n:3\\r\\n$1\\r\\nx", "bulk", 21),
        ("*2\\r\\n*2\\r\\n$1\\r\\na\\r\\n*-1\\r\\n*0", "array", 24),
        ("*2\\r\\n|1\\r\\n+k\\r\\n*1\\r\\n:1\\r\\n:1\\r\\n:2", "array", 28),
    ],
)  # fmt: skip
def test_every_kind_of_reply_is_told(reply: str, kind: str, size: int) -> None:
    play(f"""
        >> GET a
        << {reply}
        >> PING
        << +PONG
        == GET reply={kind} reply_bytes={size}
        == PING reply=simple
    """)


def test_an_error_in_a_blob_is_known_by_its_first_word() -> None:
    play("""
        >> GET a
        << !10\\r\\nSYNTAX bad
        == GET reply=error error=SYNTAX
    """)


def test_inline_commands_are_rows_with_a_flag() -> None:
    play("""
        >: PING\\r\\n
        >: \\r\\n
        >: set  "a b" 'c'\\n
        << +PONG
        << +OK
        == PING flags=inline request_bytes=6
        == SET seq=1 flags=inline,write request_bytes=15 reply=simple
    """)


def test_bytes_that_are_no_command_get_no_reply() -> None:
    play("""
        >: *0\\r\\n
        >: *-1\\r\\n
        >: \\r\\n
        >: \\n
        >: \\x20 \\r\\n
        >> PING
        << +PONG
        == PING seq=0
    """)


# ---- database, name, protocol


def test_select_takes_effect_behind_its_own_row() -> None:
    play("""
        >> SELECT 3
        >> GET a
        >> SELECT 99
        >> GET a
        << +OK
        << $-1
        << -ERR DB index is out of range
        << $-1
        == SELECT db=0 flags=foreign_db
        == GET db=3
        == SELECT db=3 error=ERR
        == GET db=3
    """)


def test_a_name_is_the_clients_once_redis_has_accepted_it() -> None:
    play("""
        >> CLIENT SETNAME joe
        << +OK
        >> CLIENT SETNAME "a b"
        << -ERR Client names cannot contain spaces
        >> PING
        << +PONG
        == CLIENT SETNAME client_name=joe
        == CLIENT SETNAME client_name=joe error=ERR
        == PING client_name=joe
    """)


def test_hello_names_the_client_and_switches_the_protocol() -> None:
    talk = play("""
        >> HELLO 3 AUTH u p SETNAME joe
        << %2\\r\\n$5\\r\\nproto\\r\\n:3\\r\\n$2\\r\\nid\\r\\n:42
        >> SMEMBERS s
        << ~1\\r\\n$1\\r\\na
        >> HELLO 9
        << -NOPROTO unsupported protocol version
        >> HELLO 2
        << *2\\r\\n$5\\r\\nproto\\r\\n:2
        == HELLO reply=map flags=redacted client_name=joe args=
        == SMEMBERS reply=set client_name=joe
        == HELLO reply=error error=NOPROTO client_name=joe
        == HELLO reply=array
    """)
    assert not talk.session.listening


def test_the_backends_id_is_told_by_hello_and_client_id() -> None:
    talk = play("""
        >> HELLO 3
        << %2\\r\\n$5\\r\\nproto\\r\\n:3\\r\\n$2\\r\\nid\\r\\n:42
        == HELLO reply=map
    """)
    assert talk.session.backend_id == 42
    talk = play("""
        >> CLIENT ID
        << :1234567890123
        == CLIENT ID reply=integer
    """)
    assert talk.session.backend_id == 1234567890123


def test_reset_makes_the_connection_new() -> None:
    play("""
        >> SELECT 2
        << +OK
        >> CLIENT SETNAME joe
        << +OK
        >> MULTI
        << +OK
        >> SET a 1
        << +QUEUED
        >> RESET
        << +RESET
        >> GET a
        << $-1
        == SELECT
        == CLIENT SETNAME db=2
        == MULTI txn=1
        == SET txn=1 flags=queued,write
        == RESET db=2 client_name= reply=simple
        == GET db=0 client_name= txn=0
    """)


# ---- transactions


def test_a_transactions_rows_share_a_number() -> None:
    play("""
        >> MULTI
        << +OK
        >> SET a 1
        << +QUEUED
        >> GET a
        << +QUEUED
        >> EXEC
        << *2\\r\\n+OK\\r\\n$1\\r\\n1
        >> PING
        << +PONG
        >> MULTI
        << +OK
        >> DISCARD
        << +OK
        == MULTI txn=1 flags=
        == SET txn=1 flags=queued,write
        == GET txn=1 flags=queued
        == EXEC txn=1 reply=array flags=
        == PING txn=0
        == MULTI txn=2
        == DISCARD txn=2
    """)


def test_watch_belongs_to_the_transaction_that_follows() -> None:
    play("""
        >> WATCH a
        << +OK
        >> WATCH b
        << +OK
        >> MULTI
        << +OK
        >> EXEC
        << *-1
        >> WATCH a
        << +OK
        >> UNWATCH
        << +OK
        >> MULTI
        << +OK
        >> EXEC
        << *0
        == WATCH txn=1 keys=a
        == WATCH txn=1 keys=b
        == MULTI txn=1
        == EXEC txn=1 reply=null
        == WATCH txn=2
        == UNWATCH txn=0
        == MULTI txn=3
        == EXEC txn=3 reply=array
    """)


@pytest.mark.parametrize(
    ("commands", "flag"),
    [
        (("SET {a}1 x", "SET {a}2 x"), ""),
        (("SET a x", "SET b x"), "txn_cross"),
        (("MSET a 1 b 2",), "txn_refused"),
        (("NOSUCH x",), "txn_unknown"),
        (("SELECT 3",), "txn_refused_db"),
        (
            ("SET a x", "SET b x", "MSET a 1 b 2", "NOSUCH x", "SELECT 3"),
            "txn_cross,txn_refused,txn_unknown,txn_refused_db",
        ),
    ],
)  # fmt: skip
def test_exec_tells_what_a_cluster_would_say(commands: tuple[str, ...], flag: str) -> None:
    queued = "".join(f"\n>> {command}\n<< +QUEUED" for command in commands)
    rows = "".join("\n== " + command.split()[0] for command in commands)
    play(f"""
        >> MULTI
        << +OK
        {queued}
        >> EXEC
        << *0
        == MULTI
        {rows}
        == EXEC flags={flag}
    """)


def test_a_command_refused_when_queued_aborts_and_does_not_count() -> None:
    play("""
        >> MULTI
        >> SET a
        >> SET b 1
        >> EXEC
        << +OK
        << -ERR wrong number of arguments for 'set' command
        << +QUEUED
        << -EXECABORT Transaction discarded because of previous errors.
        >> SET c 1
        << +OK
        == MULTI
        == SET txn=1 error=ERR flags=write
        == SET txn=1 flags=queued,write
        == EXEC txn=1 error=EXECABORT flags=
        == SET txn=0
    """)


def test_a_select_inside_a_transaction_holds_from_its_exec_on() -> None:
    play("""
        >> MULTI
        << +OK
        >> SELECT 4
        << +QUEUED
        >> CLIENT SETNAME joe
        << +QUEUED
        >> EXEC
        << *2\\r\\n+OK\\r\\n+OK
        >> GET a
        << $-1
        >> MULTI
        << +OK
        >> SELECT 5
        << +QUEUED
        >> DISCARD
        << +OK
        >> GET a
        << $-1
        == MULTI db=0
        == SELECT db=0
        == CLIENT SETNAME db=0
        == EXEC db=0 client_name=joe
        == GET db=4 client_name=joe
        == MULTI
        == SELECT
        == DISCARD db=4
        == GET db=4
    """)


def test_a_refused_multi_begins_no_transaction() -> None:
    play("""
        >> MULTI now
        << -ERR wrong number of arguments for 'multi' command
        >> SUBSCRIBE a b
        << *3\\r\\n$9\\r\\nsubscribe\\r\\n$1\\r\\na\\r\\n:1
        << *3\\r\\n$9\\r\\nsubscribe\\r\\n$1\\r\\nb\\r\\n:2
        == MULTI error=ERR txn=0
        == SUBSCRIBE reply=array flags=async_reply
    """)


def test_a_refused_discard_leaves_the_transaction_open() -> None:
    talk = play("""
        >> MULTI
        << +OK
        >> DISCARD now
        << -ERR wrong number of arguments for 'discard' command
        >> SET a 1
        << +QUEUED
        >> EXEC
        << -EXECABORT Transaction discarded because of previous errors.
        == MULTI txn=1
        == DISCARD txn=1 error=ERR
        == SET txn=1 flags=queued,write
        == EXEC txn=1 error=EXECABORT
    """)
    assert talk.session.quiet


def test_exec_around_subscribe_ends_the_looking_and_nothing_else() -> None:
    play("""
        >> MULTI
        << +OK
        >> SUBSCRIBE a
        << +QUEUED
        >> EXEC
        << *2\\r\\n*3\\r\\n$9\\r\\nsubscribe\\r\\n$1\\r\\na\\r\\n:1
        >> PING
        << whatever this is
        == MULTI txn=1
        == SUBSCRIBE txn=1 flags=queued
        =! uncountable-transaction rows=1
    """)


def test_discard_around_subscribe_is_harmless() -> None:
    play("""
        >> MULTI
        << +OK
        >> SUBSCRIBE a
        << +QUEUED
        >> DISCARD
        << +OK
        >> PING
        << +PONG
        == MULTI
        == SUBSCRIBE
        == DISCARD
        == PING
    """)


# ---- subscriptions


def test_resp2_confirmations_are_one_row_and_messages_are_none() -> None:
    talk = play("""
        >> SUBSCRIBE a b
        << *3\\r\\n$9\\r\\nsubscribe\\r\\n$1\\r\\na\\r\\n:1
        << *3\\r\\n$7\\r\\nmessage\\r\\n$1\\r\\na\\r\\n$2\\r\\nhi
        << *3\\r\\n$9\\r\\nsubscribe\\r\\n$1\\r\\nb\\r\\n:2
        << *3\\r\\n$7\\r\\nmessage\\r\\n$1\\r\\nb\\r\\n$2\\r\\nho
        >> PSUBSCRIBE p*
        << *3\\r\\n$10\\r\\npsubscribe\\r\\n$2\\r\\np*\\r\\n:3
        >> PING
        << *4\\r\\n$8\\r\\npmessage\\r\\n$2\\r\\np*\\r\\n$2\\r\\npa\\r\\n$2\\r\\nhi
        << *2\\r\\n$4\\r\\npong\\r\\n$0\\r\\n
        >> UNSUBSCRIBE
        << *3\\r\\n$11\\r\\nunsubscribe\\r\\n$1\\r\\na\\r\\n:2
        << *3\\r\\n$7\\r\\nmessage\\r\\n$1\\r\\nb\\r\\n$2\\r\\nho
        << *3\\r\\n$11\\r\\nunsubscribe\\r\\n$1\\r\\nb\\r\\n:1
        >> PUNSUBSCRIBE
        << *3\\r\\n$12\\r\\npunsubscribe\\r\\n$2\\r\\np*\\r\\n:0
        >> UNSUBSCRIBE
        << *3\\r\\n$11\\r\\nunsubscribe\\r\\n$-1\\r\\n:0
        >> GET a
        << $7\\r\\nmessage
        == SUBSCRIBE reply=array flags=async_reply reply_bytes=60 nkeys=0 slot=-1
        == PSUBSCRIBE reply=array
        == PING reply=array
        == UNSUBSCRIBE reply=array
        == PUNSUBSCRIBE
        == UNSUBSCRIBE
        == GET reply=bulk
    """)
    assert talk.recorder.counters.pushes == 4
    assert not talk.session.listening


def test_resp3_confirmations_are_pushes_that_answer() -> None:
    talk = play("""
        >> HELLO 3
        << %1\\r\\n$5\\r\\nproto\\r\\n:3
        >> SUBSCRIBE a b
        << >3\\r\\n$9\\r\\nsubscribe\\r\\n$1\\r\\na\\r\\n:1
        << >3\\r\\n$7\\r\\nmessage\\r\\n$1\\r\\na\\r\\n$2\\r\\nhi
        << >3\\r\\n$9\\r\\nsubscribe\\r\\n$1\\r\\nb\\r\\n:2
        >> GET x
        << >3\\r\\n$7\\r\\nmessage\\r\\n$1\\r\\na\\r\\n$2\\r\\nhi
        << $1\\r\\nv
        >> LRANGE l 0 -1
        << *2\\r\\n$7\\r\\nmessage\\r\\n$1\\r\\nx
        >> UNSUBSCRIBE
        << >3\\r\\n$11\\r\\nunsubscribe\\r\\n$1\\r\\na\\r\\n:1
        << >3\\r\\n$11\\r\\nunsubscribe\\r\\n$1\\r\\nb\\r\\n:0
        >> PING
        << +PONG
        == HELLO
        == SUBSCRIBE reply=push flags=async_reply
        == GET reply=bulk
        == LRANGE reply=array
        == UNSUBSCRIBE reply=push
        == PING
    """)
    assert talk.recorder.counters.pushes == 2


def test_shard_channels_have_a_slot_and_are_no_keys() -> None:
    talk = play("""
        >> SSUBSCRIBE a
        << *3\\r\\n$10\\r\\nssubscribe\\r\\n$1\\r\\na\\r\\n:1
        << *3\\r\\n$8\\r\\nsmessage\\r\\n$1\\r\\na\\r\\n$2\\r\\nhi
        >> SUNSUBSCRIBE
        << *3\\r\\n$12\\r\\nsunsubscribe\\r\\n$1\\r\\na\\r\\n:0
        == SSUBSCRIBE slot=15495 nkeys=0 keys=
        == SUNSUBSCRIBE slot=-1
    """)
    assert talk.recorder.counters.pushes == 1


def test_a_refused_subscription_is_answered_once() -> None:
    play("""
        >> SUBSCRIBE
        << -ERR wrong number of arguments for 'subscribe' command
        >> SUBSCRIBE a b
        << -NOPERM this user has no permissions to access one of the channels used as arguments
        >> PING
        << +PONG
        == SUBSCRIBE error=ERR
        == SUBSCRIBE error=NOPERM
        == PING reply=simple
    """)


def test_invalidations_are_pushes() -> None:
    talk = play("""
        >> HELLO 3
        << %1\\r\\n$5\\r\\nproto\\r\\n:3
        >> CLIENT TRACKING on
        << +OK
        >> GET a
        << >2\\r\\n$10\\r\\ninvalidate\\r\\n*1\\r\\n$1\\r\\na
        << $1\\r\\nx
        << >2\\r\\n$10\\r\\ninvalidate\\r\\n_
        == HELLO
        == CLIENT TRACKING
        == GET reply=bulk
    """)
    assert talk.recorder.counters.pushes == 2


def test_monitor_lines_are_counted_and_answer_nothing() -> None:
    talk = play("""
        >> MONITOR
        << +OK
        << +1700000000.123456 [0 127.0.0.1:1] "GET" "a"
        >> PING
        << +1700000000.123457 [0 127.0.0.1:2] "PING"
        << +PONG
        >> RESET
        << +RESET
        >> ECHO 1
        << $1\\r\\n1
        == MONITOR reply=simple
        == PING reply=simple reply_bytes=7
        == RESET
        == ECHO
    """)
    assert talk.recorder.counters.pushes == 2
    assert not talk.session.listening


# ---- CLIENT REPLY


def test_reply_off_leaves_commands_without_replies_until_on() -> None:
    play("""
        >> CLIENT REPLY OFF
        >> SET a 1
        >> SELECT 2
        >> CLIENT SETNAME joe
        >> GET a
        >> CLIENT REPLY ON
        << +OK
        >> GET a
        << $-1
        == CLIENT REPLY reply=none latency_ns=-1 reply_bytes=0
        == SET reply=none
        == SELECT reply=none db=0
        == CLIENT SETNAME reply=none db=2
        == GET reply=none db=2 client_name=joe
        == CLIENT REPLY reply=simple
        == GET reply=null
    """)


def test_reply_skip_leaves_one_command_without_reply() -> None:
    play("""
        >> GET x
        >> CLIENT REPLY SKIP
        >> SET a 1
        >> GET a
        << $-1
        << $1\\r\\n1
        >> CLIENT REPLY SKIP
        >: \\r\\n
        >> GET b
        << $-1
        == GET seq=0 reply=null
        == CLIENT REPLY reply=none
        == SET reply=none
        == GET seq=3 reply=bulk
        == CLIENT REPLY reply=none
        == GET seq=5 reply=null
    """)


def test_subscriptions_are_confirmed_even_when_replies_are_off() -> None:
    play("""
        >> CLIENT REPLY OFF
        >> SUBSCRIBE a
        << *3\\r\\n$9\\r\\nsubscribe\\r\\n$1\\r\\na\\r\\n:1
        >> PING
        == CLIENT REPLY reply=none
        == SUBSCRIBE reply=array
        == PING reply=none
    """)


def test_reset_ends_reply_off() -> None:
    play("""
        >> CLIENT REPLY OFF
        >> RESET
        << +RESET
        >> PING
        << +PONG
        == CLIENT REPLY reply=none
        == RESET reply=simple
        == PING reply=simple
    """)


def test_a_transaction_without_replies_is_still_one() -> None:
    play("""
        >> CLIENT REPLY OFF
        >> MULTI
        >> SET a 1
        >> EXEC
        >> CLIENT REPLY ON
        << +OK
        == CLIENT REPLY
        == MULTI txn=1 reply=none
        == SET txn=1 reply=none
        == EXEC txn=1 reply=none
        == CLIENT REPLY txn=0 reply=simple
    """)


# ---- the end of looking


def test_a_protocol_error_is_redis_to_answer() -> None:
    play("""
        >> GET a
        >: *1\\r\\n+x\\r\\n
        << $-1
        << -ERR Protocol error: expected '$', got '+'
        == GET reply=null
        =! protocol-error rows=0
    """)


def test_unbalanced_quotes_are_a_protocol_error() -> None:
    play("""
        >: get "a\\r\\n
        << -ERR Protocol error: unbalanced quotes in request
        =! protocol-error rows=0
    """)


def test_a_replication_stream_is_passed_on_unread() -> None:
    play("""
        >> REPLCONF listening-port 1
        << +OK
        >> REPLCONF ACK 0
        >> PSYNC ? -1
        << +FULLRESYNC 1234 0
        << $10\\r\\nabc
        >> REPLCONF ACK 1
        << anything
        == REPLCONF reply=simple
        == REPLCONF reply=none
        == PSYNC reply=none
        =! replication-stream rows=0
    """)


def test_a_reply_that_nobody_asked_for_ends_the_looking() -> None:
    talk = play("""
        >> PING
        << +PONG
        << -ERR something from nowhere
        >> GET a
        << $-1
        == PING
        =! unexpected-reply rows=0
    """)
    assert talk.recorder.counters.plain_pipes == {"unexpected-reply": 1}
    assert talk.session.piped


def test_a_reply_that_is_no_resp_ends_the_looking_and_counts_what_was_in_flight() -> None:
    talk = play("""
        >> PING
        >> GET a
        << HTTP/1.1 400 Bad Request
        =! unreadable-reply rows=2
    """)
    assert talk.recorder.counters.gap_rows == 2


def test_what_is_in_flight_at_the_end_is_lost() -> None:
    talk = play("""
        >> GET a
        >> BRPOP q 0
        >: *2\\r\\n$3\\r\\nGET
        --
        == GET reply=lost latency_ns=-1
        == BRPOP reply=lost flags=blocking,write,pop latency_ns=-1
    """)
    assert talk.recorder.counters.lost_replies == 2
    assert talk.recorder.counters.open_pops == 1


def test_shutdown_is_answered_by_the_end_or_by_an_error() -> None:
    play("""
        >> SHUTDOWN NOSAVE
        << -ERR Errors trying to SHUTDOWN. Check logs.
        >> SHUTDOWN
        --
        == SHUTDOWN reply=error
        == SHUTDOWN reply=none latency_ns=-1
    """)


def test_too_many_in_flight_ends_the_looking_not_the_connection() -> None:
    talk = Talk()
    talk.recorder.recording = False
    ping = encode("PING") * 4096
    for _ in range(64):
        talk.client(ping)
    assert talk.session.in_flight == 262144
    assert not talk.session.piped
    talk.client(ping)
    assert talk.session.piped
    assert talk.recorder.counters.plain_pipes == {"too-many-in-flight": 1}
    assert talk.recorder.counters.gap_rows == 262144


# ---- state that others ask for


def test_a_connection_is_quiet_only_between_commands() -> None:
    talk = Talk()
    session = talk.session
    assert session.quiet
    talk.client(b"*1\r\n$4\r\nPI")
    assert not session.quiet
    assert session.half_sent
    talk.client(b"NG\r\n")
    assert (session.quiet, session.half_sent, session.in_flight) == (False, False, 1)
    talk.backend(b"+PONG\r\n")
    assert session.quiet
    talk.client(encode("MULTI"))
    talk.backend(b"+OK\r\n")
    assert (session.quiet, session.in_transaction) == (False, True)
    talk.client(encode("EXEC"))
    talk.backend(b"*0\r\n")
    assert (session.quiet, session.in_transaction) == (True, False)


def test_a_fetch_that_waits_is_blocked_unless_it_is_queued() -> None:
    talk = Talk()
    talk.client(encode("BRPOP", "q", "2"))
    assert talk.session.blocked
    assert talk.session.open_pops == 1
    talk.backend(b"*-1\r\n")
    talk.client(encode("MULTI"))
    talk.backend(b"+OK\r\n")
    talk.client(encode("BRPOP", "q", "2"))
    assert not talk.session.blocked
