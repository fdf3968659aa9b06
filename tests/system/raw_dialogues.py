"""What a client may say to Redis in one go: exact bytes, each with a name. A table, so a line may be long.

Knows: bytes. Refuses to know: what Redis answers; ``raw_scenarios`` sends them and Redis says that.
"""

# ruff: noqa: E501

from __future__ import annotations

from tests.wire import encode


def inline(*lines: str) -> bytes:
    return "".join(line + "\r\n" for line in lines).encode()


def commands(*lines: str) -> bytes:
    """Each line's words as one RESP command."""
    return b"".join(encode(*line.split()) for line in lines)


PING = encode("PING")
HELLO3 = commands("HELLO 3")

#: Bytes that are sent in one go and followed by a FIN; all that comes back until EOF is the transcript.
ONE_WAY: dict[str, bytes] = {
    "inline commands": inline("PING", "SET a 1", "GET a", "  get   a  ", 'SET "quoted key" \'x y\'', 'GET "quoted key"'),
    "inline commands ended by a line feed only": b"PING\nSET a 1\nGET a\n",
    "inline commands with escapes": inline('SET e "\\x00\\xff\\n\\"q\\""', "STRLEN e", "GET e", "SET f 'it\\'s'", "GET f"),
    "inline after RESP after inline": inline("PING") + encode("ECHO", b"x\r\ny") + inline("ECHO z"),
    "an inline command with unbalanced quotes": inline("PING", 'SET a "b'),
    "an inline command of 70000 bytes without an end": b"PING " + b"x" * 70_000,
    "a FIN in the middle of a command": PING + b"*2\r\n$4\r\nECHO\r\n$10\r\nabc",
    "nothing but a FIN": b"",
    "empty arrays": b"*0\r\n" + PING + b"*-1\r\n" + PING + b"*-7\r\n*0\r\n" + PING,
    "only empty arrays": b"*0\r\n*0\r\n*-1\r\n",
    "empty lines": b"\r\n\r\n" + PING + b"\n\r\n" + PING + b" \r\n" + PING,
    "empty bulk strings": encode("SET", "", "") + encode("GET", "") + encode("", "") + PING,
    "a null bulk string in a command": PING + b"*2\r\n$3\r\nGET\r\n$-1\r\n",
    "a bulk length that is no number": PING + b"*2\r\n$3\r\nGET\r\n$x\r\n",
    "a bulk length with a sign": PING + b"*2\r\n$3\r\nGET\r\n$+1\r\na\r\n",
    "a bulk length over the limit": PING + b"*2\r\n$3\r\nGET\r\n$536870913\r\n",
    "a bulk length that overflows": PING + b"*2\r\n$3\r\nGET\r\n$92233720368547758080\r\n",
    "an integer where a bulk string is due": PING + b"*2\r\n$3\r\nGET\r\n:1\r\n",
    "an array within an array": PING + b"*1\r\n*1\r\n$4\r\nPING\r\n",
    "an array length that is no number": PING + b"*x\r\n",
    "an array length over the limit": PING + b"*2147483648\r\n",
    "an array length that overflows": PING + b"*184467440737095516160\r\n",
    "a bulk string without its line end": b"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
    "a protocol error behind commands, and commands behind it": PING + PING + b"*1\r\n!\r\n" + PING,
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP with POST": b"POST / HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes that are no protocol": b"\x00\x01\x02\xff\r\n" + PING,
    "unknown commands": commands("FOO", "FOO bar baz", "CLIENT FOO", "CONFIG FOO", "XGROUP FOO") + PING,
    "wrong numbers of arguments": commands("GET", "GET a b", "SET a", "CLIENT", "MULTI x", "OBJECT", "BRPOP a"),
    "a command name with odd bytes": encode(b"F\x00\xff\r\nOO", "x") + encode(b"x" * 300) + PING,
    "many arguments": encode("DEL", *range(100_000)) + encode("RPUSH", "l", *range(50_000)) + commands("LLEN l"),
    "many pairs": encode("MSET", *range(40_000)) + encode("MGET", *range(0, 40_000, 500)) + commands("DBSIZE"),
    "a long pipeline": b"".join(encode("INCR", "n") + encode("ECHO", i) for i in range(5_000)),
    "a big value in a pipeline": commands("SET a 1") + encode("SET", "b", b"v" * 3_000_000) + commands("GET b", "GET a"),
    "every kind of value in RESP2": b"".join(
        commands(f"DEBUG PROTOCOL {kind}")
        for kind in ["string", "integer", "double", "null", "array", "set", "map", "verbatim", "true", "false", "bignum"]
    ),
    "every kind of value in RESP3": HELLO3
    + b"".join(
        commands(f"DEBUG PROTOCOL {kind}")
        for kind in ["string", "integer", "double", "null", "array", "set", "map", "attrib", "push", "verbatim", "true", "false", "bignum"]
    ),
    "HELLO without arguments": commands("HELLO", "PING"),
    "HELLO in mid-connection": commands("SET a 1", "HSET h f v", "HGETALL h")
    + commands("HELLO 3 SETNAME joe", "CLIENT GETNAME", "HGETALL h", "GET nope", "HELLO 2", "HGETALL h", "GET nope"),
    "HELLO 4": commands("HELLO 4", "PING", "HELLO 3", "HELLO 4", "HELLO x", "HELLO 3 FOO", "HELLO 3 SETNAME", "GET nope"),
    "HELLO with wrong credentials": commands("HELLO 3 AUTH joe wrong", "PING", "GET nope", "HELLO 3 AUTH default any"),
    "AUTH without a password set": commands("AUTH x", "AUTH default x", "AUTH joe x", "AUTH", "AUTH a b c", "PING"),
    "SELECT": commands("SET a 0", "SELECT 3", "GET a", "SET a 3", "SELECT 99", "SELECT x", "GET a", "SELECT 0", "GET a"),
    "SWAPDB and MOVE": commands("SET a 0", "MOVE a 1", "GET a", "SWAPDB 0 1", "GET a", "COPY a a DB 2", "SELECT 2", "GET a"),
    "RESET": commands("SELECT 3", "CLIENT SETNAME joe", "HELLO 3", "MULTI", "SET a 1", "RESET", "CLIENT GETNAME", "GET a", "EXEC"),
    "QUIT with commands behind it": commands("SET a 1", "QUIT", "SET a 2", "PING"),
    "QUIT inline": inline("PING", "QUIT", "PING"),
    "CLIENT REPLY OFF and ON": commands("SET a 1", "CLIENT REPLY OFF", "SET a 2", "GET a", "FOO", "CLIENT REPLY ON", "GET a"),
    "CLIENT REPLY SKIP": commands("CLIENT REPLY SKIP", "SET a 1", "GET a", "CLIENT REPLY SKIP", "FOO", "GET a"),
    "CLIENT REPLY SKIP twice": commands("CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "SET a 1", "SET a 2", "GET a", "PING"),
    "CLIENT REPLY SKIP while OFF": commands(
        "CLIENT REPLY OFF", "CLIENT REPLY SKIP", "SET a 1", "CLIENT REPLY ON", "GET a", "CLIENT REPLY ON", "PING"
    ),
    "CLIENT REPLY without a known mode": commands("CLIENT REPLY FOO", "CLIENT REPLY", "GET a"),
    "CLIENT REPLY OFF and a transaction": commands(
        "CLIENT REPLY OFF", "MULTI", "SET a 1", "EXEC", "CLIENT REPLY ON", "MULTI", "CLIENT REPLY SKIP", "GET a", "EXEC", "PING"
    ),
    "CLIENT REPLY OFF inside a transaction": commands(
        "MULTI", "SET a 1", "CLIENT REPLY OFF", "GET a", "EXEC", "PING", "CLIENT REPLY ON", "GET a"
    ),
    "CLIENT REPLY OFF and QUIT": commands("CLIENT REPLY OFF", "SET a 1", "QUIT"),
    "CLIENT REPLY OFF and a protocol error": commands("CLIENT REPLY OFF", "SET a 1") + b"*1\r\n!\r\n",
    "CLIENT REPLY OFF and RESET": commands("CLIENT REPLY OFF", "SET a 1", "RESET", "PING", "GET a"),
    "CLIENT REPLY SKIP and an empty array": commands("CLIENT REPLY SKIP") + b"*0\r\n" + commands("SET a 1", "GET a"),
    "CLIENT REPLY SKIP and HELLO 3": commands("CLIENT REPLY SKIP", "HELLO 3", "GET nope", "CLIENT REPLY SKIP", "RESET", "GET nope"),
    "a transaction": commands("MULTI", "SET a 1", "INCR a", "LPUSH a x", "GET a", "EXEC", "GET a"),
    "an empty transaction": commands("MULTI", "EXEC", "PING"),
    "a transaction in RESP3": HELLO3 + commands("MULTI", "HSET h f v", "HGETALL h", "GET nope", "EXEC", "PING"),
    "a discarded transaction": commands("MULTI", "SET a 1", "DISCARD", "GET a", "DISCARD", "EXEC"),
    "transactions with errors": commands(
        "MULTI", "MULTI", "EXEC", "MULTI", "WATCH a", "EXEC", "EXEC", "MULTI", "FOO", "SET a 1", "EXEC", "GET a"
    )
    + commands("MULTI", "GET", "EXEC", "MULTI", "SET a 1", "EXEC x", "EXEC", "MULTI", "SAVE", "SYNC", "MONITOR", "EXEC"),
    "a transaction with an empty array inside": commands("MULTI") + b"*0\r\n" + commands("SET a 1") + b"\r\n" + commands("EXEC"),
    "a transaction with RESET inside": commands("MULTI", "SET a 1", "RESET", "GET a", "EXEC"),
    "a transaction with QUIT inside": commands("MULTI", "SET a 1", "QUIT", "EXEC"),
    "a transaction with HELLO and SELECT inside": commands(
        "HSET h f v", "MULTI", "HELLO 3", "SELECT 1", "SET a 1", "EXEC", "GET a", "SELECT 0", "HGETALL h"
    ),
    "a transaction with AUTH inside": commands("MULTI", "AUTH x", "AUTH default x", "PING", "EXEC", "PING"),
    "a transaction with a protocol error inside": commands("MULTI", "SET a 1") + b"*1\r\n!\r\n",
    "a transaction with blocking commands": commands("MULTI", "BRPOP l 0", "BLMOVE l m LEFT LEFT 0", "XREAD BLOCK 0 STREAMS s $", "EXEC", "PING"),
    "WATCH without a change": commands("WATCH a b", "MULTI", "SET a 1", "EXEC", "WATCH a", "UNWATCH", "SET a 2", "MULTI", "GET a", "EXEC"),
    "WATCH with a change": commands("WATCH a", "SET a 9", "MULTI", "SET a 1", "EXEC", "GET a"),
    "blocking pops that time out": commands("BRPOP l 0.05", "BLPOP l m 0.05", "BLMOVE l m LEFT LEFT 0.05", "BZPOPMIN z 0.05", "PING")
    + HELLO3
    + commands("BRPOP l 0.05", "BLMPOP 0.05 1 l LEFT", "XREAD BLOCK 20 STREAMS s $", "PING"),
    "blocking pops that need not wait": commands("RPUSH l a b c", "BRPOP l 0", "BLPOP x l 0", "BLMOVE l m LEFT LEFT 0", "LRANGE m 0 -1"),
    "blocking pops with errors": commands("BRPOP l x", "BRPOP l -1", "SET s v", "BRPOP s 0", "BRPOP l", "PING"),
    "a blocking pop with commands behind it": commands("INCR n", "BRPOP l 0.1", "INCR n", "INCR n", "BRPOP l 0.05", "INCR n"),
    "scripts": encode("EVAL", "return {KEYS[1],ARGV[1],1,{2,false}}", 1, "k", "v")
    + encode("EVAL", "return redis.call('incr',KEYS[1])", 1, "n")
    + encode("EVAL", "return redis.error_reply('MINE own')", 0)
    + encode("EVAL", "return redis.call('nope')", 0)
    + encode("EVAL", "syntax error", 0)
    + encode("EVALSHA", "f" * 40, 0)
    + encode("SCRIPT", "LOAD", "return 7")
    + encode("EVALSHA", "4ca238f611c9d0ae4e9a75a5dbac22aedc1e4bb9", 0)
    + encode("EVAL", "return 1", "x")
    + encode("EVAL", "return 1", 5, "a"),
    "scripts in RESP3": HELLO3
    + encode("EVAL", "redis.setresp(3); return {map={a=1}}", 0)
    + encode("EVAL", "redis.setresp(3); return {double=1.5}", 0)
    + encode("EVAL", "redis.setresp(3); return {set={x=true}}", 0)
    + encode("EVAL", "return redis.call('hgetall',KEYS[1])", 1, "h")
    + PING,
    "functions": encode("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f',function(k,a) return {k[1],a[1]} end)")
    + commands("FCALL f 1 key arg", "FCALL nope 0", "FUNCTION LIST", "FUNCTION DELETE l"),
    "streams": commands("XADD s 1-1 f v", "XADD s 1-2 f w", "XADD s 1-1 f v", "XGROUP CREATE s g 0", "XREADGROUP GROUP g c COUNT 1 STREAMS s >")
    + commands("XACK s g 1-1", "XPENDING s g", "XRANGE s - +", "XREAD COUNT 9 STREAMS s 0", "XLEN s")
    + HELLO3
    + commands("XREAD COUNT 9 STREAMS s 0", "XINFO STREAM s"),
    "SUBSCRIBE in RESP2": commands("SUBSCRIBE a b", "PSUBSCRIBE p*", "PING", "PING hi", "GET a", "SUBSCRIBE a", "UNSUBSCRIBE", "PUNSUBSCRIBE", "PING", "GET a"),
    "UNSUBSCRIBE without subscriptions": commands("UNSUBSCRIBE", "UNSUBSCRIBE x y", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "PING"),
    "SSUBSCRIBE in RESP2": commands("SSUBSCRIBE a b", "SUBSCRIBE c", "PING", "SUNSUBSCRIBE a", "GET a", "SUNSUBSCRIBE", "UNSUBSCRIBE", "GET a"),
    "SUBSCRIBE in RESP3 among other commands": HELLO3
    + commands("SUBSCRIBE a b", "SET k 1", "GET k", "PSUBSCRIBE p*", "PING", "PUBLISH a m1", "PUBLISH p1 m2", "GET k")
    + commands("UNSUBSCRIBE a", "GET k", "UNSUBSCRIBE", "PUNSUBSCRIBE", "UNSUBSCRIBE", "GET k"),
    "SSUBSCRIBE in RESP3 among other commands": HELLO3
    + commands("SSUBSCRIBE a b", "GET k", "SPUBLISH a m", "SUNSUBSCRIBE", "SUNSUBSCRIBE", "GET k"),
    "SUBSCRIBE with wrong arguments": commands("SUBSCRIBE", "PING", "SUBSCRIBE a", "SUBSCRIBE", "PING", "UNSUBSCRIBE", "GET a"),
    "SUBSCRIBE and QUIT": commands("SUBSCRIBE a", "QUIT", "PING"),
    "SUBSCRIBE and RESET": commands("SUBSCRIBE a b", "PSUBSCRIBE c", "RESET", "GET k", "PING"),
    "SUBSCRIBE and HELLO": commands("SUBSCRIBE a", "HELLO 3", "PING", "RESET", "HELLO 3", "SUBSCRIBE a", "HELLO 2", "PING", "UNSUBSCRIBE", "GET k"),
    "SUBSCRIBE inside a transaction": commands("MULTI", "SUBSCRIBE a b", "EXEC", "PING", "UNSUBSCRIBE", "GET k"),
    "SUBSCRIBE inside a transaction in RESP3": HELLO3
    + commands("MULTI", "SET k 1", "SUBSCRIBE a b", "GET k", "EXEC", "GET k", "UNSUBSCRIBE", "GET k"),
    "UNSUBSCRIBE inside a transaction": HELLO3 + commands("SUBSCRIBE a b", "MULTI", "UNSUBSCRIBE", "EXEC", "GET k"),
    "SUBSCRIBE while replies are off": commands("CLIENT REPLY OFF", "SUBSCRIBE a", "CLIENT REPLY ON", "PING", "UNSUBSCRIBE a", "GET k"),
    "a sharded PUBLISH to oneself": HELLO3 + commands("SUBSCRIBE a", "PUBLISH a 1", "PUBLISH a 2", "PING", "UNSUBSCRIBE a", "PUBLISH a 3"),
    "CLIENT TRACKING of one's own keys": HELLO3
    + commands("CLIENT TRACKING ON", "GET a", "SET a 1", "GET a", "SET a 2", "MULTI", "GET a", "SET a 3", "EXEC", "PING")
    + commands("CLIENT TRACKING OFF", "SET a 4", "GET a", "CLIENT TRACKING ON BCAST PREFIX x", "SET xy 1", "FLUSHALL", "PING"),
    "CLIENT TRACKING in RESP2": commands("CLIENT TRACKING ON", "CLIENT TRACKING ON REDIRECT 99999", "CLIENT CACHING YES", "PING"),
    "DEBUG SLEEP in a pipeline": commands("PING", "DEBUG SLEEP 0.1", "PING"),
    "WAIT": commands("SET a 1", "WAIT 0 0", "WAIT 1 10", "PING"),
    "CLIENT commands": commands("CLIENT SETNAME joe", "CLIENT GETNAME", "CLIENT NO-EVICT ON", "CLIENT TRACKINGINFO", "CLIENT GETREDIR", "CLIENT SETNAME", "CLIENT UNPAUSE"),
    "CLIENT PAUSE for writes": commands("CLIENT PAUSE 80 WRITE", "GET a", "SET a 1", "GET a", "CLIENT UNPAUSE"),
    "big replies full of small parts": commands("COMMAND COUNT", "COMMAND DOCS get set xadd", "COMMAND INFO get foo", "CONFIG GET *max*") + HELLO3
    + commands("COMMAND DOCS get set xadd", "COMMAND INFO get foo", "CONFIG GET *max*", "PING"),
    "SORT, SCAN and OBJECT": commands("RPUSH l 3 1 2", "SORT l", "SORT l BY w_* GET # GET o_*", "SCAN 0 MATCH l COUNT 100", "OBJECT ENCODING l", "OBJECT HELP"),
    "ASKING, READONLY, CLUSTER": commands("ASKING", "READONLY", "READWRITE", "CLUSTER INFO", "CLUSTER KEYSLOT a", "MIGRATE 127.0.0.1 1 nokey 0 100"),
    "lower and mixed case": commands("set a 1", "GeT a", "multi", "Incr a", "exec", "client setname x", "client getname", "hello 3", "subscribe a", "unsubscribe", "quit"),
}  # fmt: skip
