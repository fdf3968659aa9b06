"""Whatever one connection writes: in the end the mirror is the source, key for key, in its dump and its expiry."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py

from tests.servers import HOST, RedisServer, redis_server
from tests.system.test_mirror import mirror, mirroring, settled
from tests.wire import encode

#: "{k}" a key of the family, "{v}" a small value, "{n}" a small number, "{f}" a field or member.
FAMILIES = {
    "str": (
        "SET {k} {v}; SET {k} {v} EX 100; SET {k} {v} NX PX 90000; SET {k} {v} XX KEEPTTL; SET {k} {v} XX GET; "
        "SETEX {k} 100 {v}; SETNX {k} {v}; GETSET {k} {v}; GETDEL {k}; GETEX {k} EX 50; GETEX {k} PERSIST; "
        "APPEND {k} {v}; INCR {k}; INCRBYFLOAT {k} 0.1; DECRBY {k} {n}; SETRANGE {k} 3 {v}; SETBIT {k} {n} 1; "
        "MSET {k} {v} {k} {v}; MSETNX {k} {v} {k} {v}; EXPIRE {k} 100; EXPIRE {k} 100 NX; PEXPIRE {k} 0; PERSIST {k}; "
        "RENAME {k} {k}; RENAMENX {k} {k}; COPY {k} {k}; COPY {k} {k} REPLACE; DEL {k}; UNLINK {k} {k}; "
        "BITFIELD {k} INCRBY u8 0 {n}; BITOP OR {k} {k} {k}"
    ),
    "list": (
        "LPUSH {k} {v} {v}; RPUSH {k} {v} {v} {v}; RPUSH {k} {v} {v} {v}; LPUSHX {k} {v}; LPOP {k}; RPOP {k} {n}; "
        "LMPOP 2 {k} {k} RIGHT COUNT {n}; BRPOP {k} {k} 0.01; BLPOP {k} 0.01; LMOVE {k} {k} LEFT RIGHT; "
        "RPOPLPUSH {k} {k}; BLMOVE {k} {k} RIGHT LEFT 0.01; LREM {k} -1 {v}; LINSERT {k} BEFORE {v} {v}; "
        "LSET {k} 0 {v}; LTRIM {k} 0 40; SORT {k} ALPHA STORE {k}; DEL {k}"
    ),
    "set": (
        "SADD {k} {f} {f} {f}; SADD {k} {f} {f} {f}; SREM {k} {f}; SPOP {k}; SPOP {k} {n}; SMOVE {k} {k} {f}; "
        "SINTERSTORE {k} {k} {k}; SUNIONSTORE {k} {k} {k}; SDIFFSTORE {k} {k} {k}"
    ),
    "zset": (
        "ZADD {k} {n} {f} {n} {f}; ZADD {k} NX {n} {f}; ZADD {k} GT CH {n} {f}; ZINCRBY {k} 0.1 {f}; ZREM {k} {f}; "
        "ZPOPMIN {k}; ZPOPMAX {k} {n}; BZPOPMIN {k} {k} 0.01; ZMPOP 2 {k} {k} MAX COUNT {n}; ZREMRANGEBYRANK {k} 0 0; "
        "ZUNIONSTORE {k} 2 {k} {k}; ZRANGESTORE {k} {k} 0 5"
    ),
    "hash": (
        "HSET {k} {f} {v} {f} {v}; HSETNX {k} {f} {v}; HINCRBY {k} n {n}; HINCRBYFLOAT {k} x 0.1; HDEL {k} {f}; "
        "HMSET {k} {f} {v}; EXPIRE {k} 100"
    ),
    "stream": (
        "XADD {k} * {f} {v}; XADD {k} MAXLEN 20 * {f} {v}; XADD {k} NOMKSTREAM * {f} {v}; XTRIM {k} MAXLEN 10; "
        "XGROUP CREATE {k} g 0 MKSTREAM; XREADGROUP GROUP g c1 COUNT {n} STREAMS {k} >; "
        "XREADGROUP GROUP g c2 COUNT {n} STREAMS {k} >; XREADGROUP GROUP g c1 COUNT 2 NOACK STREAMS {k} >; "
        "XAUTOCLAIM {k} g c2 0 0 COUNT 2"
    ),
}


@pytest.fixture
def target() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def command(chance: random.Random) -> list[str]:
    family = chance.choice(list(FAMILIES))
    words = chance.choice(FAMILIES[family].split("; ")).split()
    fill = {
        "{k}": lambda: f"{family if chance.random() < 0.98 else 'str'}:{chance.randrange(5)}",
        "{v}": lambda: chance.choice(["1", "17", "x" * chance.randrange(100), f"v{chance.randrange(6)}"]) or "e",
        "{n}": lambda: str(chance.randrange(1, 5)),
        "{f}": lambda: f"m{chance.randrange(12)}",
    }
    return [fill[word]() if word in fill else word for word in words]


@pytest.mark.parametrize("seed", range(6))
def test_the_mirror_is_the_source_in_the_end(
    seed: int, redis: RedisServer, target: RedisServer, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    with mirroring(redis, tmp_path) as running, running.talk() as talk:
        mirror(tmp_path, "start", target.url)
        slowest_s = 0.0
        for _ in range(1500):
            began = time.monotonic()
            if chance.random() < 0.1:
                inside = [command(chance) for _ in range(3)]
                talk.send(b"".join(encode(*each) for each in [["MULTI"], *inside, ["EXEC"]])).frames(5)
            else:
                talk.call(*command(chance))
            slowest_s = max(slowest_s, time.monotonic() - began)
        shown = settled(tmp_path)
        assert (shown["dropped"], shown["errors"], shown["missed"]) == (0, 0, 0), (seed, mirror(tmp_path, "errors"))
        assert_same(redis, target, slowest_s * 1000 + 2)


def assert_same(redis: RedisServer, target: RedisServer, tolerance_ms: float) -> None:
    """An expiry is off by what the slowest command took, at most: shunt sees when the reply came."""
    with redis_py.Redis(HOST, redis.port) as here, redis_py.Redis(HOST, target.port) as there:
        assert sorted(here.keys()) == sorted(there.keys())
        for key in here.scan_iter(count=1000):
            expiries = here.pexpiretime(key), there.pexpiretime(key)
            assert abs(expiries[0] - expiries[1]) <= (0 if -1 in expiries else tolerance_ms), key
            assert content(here, key) == content(there, key), key


def content(client: redis_py.Redis, key: bytes) -> object:
    """Its dump; of a hash table, whose order is each server's own, what is in it."""
    kind, table = client.type(key), client.object("encoding", key) == b"hashtable"
    if kind == b"stream" and client.xinfo_groups(key):
        return stream(client, key)
    if table:
        return client.hgetall(key) if kind == b"hash" else client.smembers(key)
    return client.dump(key)


def stream(client: redis_py.Redis, key: bytes) -> object:
    """All of it but when entries were delivered, which is in its dump, and what lag is told from."""
    group = client.xinfo_groups(key)[0]
    pending = [
        (each["message_id"], each["consumer"], each["times_delivered"])
        for each in client.xpending_range(key, "g", "-", "+", 1000)
    ]
    return client.xrange(key), group["last-delivered-id"], sorted(pending)
