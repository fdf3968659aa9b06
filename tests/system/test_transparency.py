"""redis-py, to Redis and through shunt: the same program has the same results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis as redis_py
import redis.asyncio as redis_aio

from tests.servers import RedisServer, Shunt, shunt, until

Client = redis_py.Redis
Heard = list[Any]


@pytest.fixture(scope="module")
def through(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shunt]:
    with shunt(redis.url, capture=tmp_path_factory.mktemp("capture")) as running:
        yield running


def told(call: Callable[[], Any]) -> Any:
    """The result, or the error's type and text."""
    try:
        return call()
    except redis_py.RedisError as error:
        return type(error).__name__, str(error)


def strings_hashes_and_sets(db: Client) -> Heard:
    db.mset({f"k{i}": i for i in range(100)})
    db.hset("h", mapping={"a": 1, "b": b"\xff\x00"})
    db.sadd("s", *range(50))
    db.zadd("z", {"a": 1.5, "b": 2, "c": float("inf")})
    return [
        db.mget([f"k{i}" for i in range(101)]),
        db.hgetall("h"),
        sorted(db.smembers("s")),
        db.zrange("z", 0, -1, withscores=True),
        db.zscore("z", "c"),
        db.zrandmember("none"),
        db.set("k1", "x", get=True),
        db.set("k1", "y", nx=True),
        db.incrbyfloat("f", 1.25),
        sorted(db.scan_iter("k1*")),
        told(lambda: db.lpush("k1", "x")),
        told(lambda: db.execute_command("NOPE", "a")),
        db.object("encoding", "h"),
        db.config_get("maxmemory*"),
        db.type("z"),
        db.expiretime("k1"),
    ]


def pipelines(db: Client) -> Heard:
    plain = db.pipeline(transaction=False)
    for number in range(2_000):
        plain.incr("n").set(f"p{number}", "v" * (number % 97)).get(f"p{number}")
    heard = [plain.execute()]
    plain.set("s", 1).lpush("s", 1).get("s")
    return [*heard, [str(one) for one in plain.execute(raise_on_error=False)], db.get("n")]


def transactions(db: Client) -> Heard:
    heard: Heard = []
    with db.pipeline() as pipe:
        heard.append(pipe.set("a", 1).incr("a").lpush("l", 1, 2).lrange("l", 0, -1).execute())
        heard.append(told(lambda: pipe.set("a", "x").lpush("a", 1).get("a").execute()))
        heard.append(told(lambda: pipe.set("a", 1).execute_command("NOPE").execute()))
        pipe.watch("a")
        value = int(pipe.get("a") == b"x")
        pipe.multi()
        heard.append(pipe.set("b", value).execute())
    with db.pipeline() as pipe:
        pipe.watch("a")
        db.set("a", "changed")
        pipe.multi()
        heard.append(told(pipe.set("a", "mine").execute))
        pipe.reset()
    heard.append(db.transaction(lambda p: (p.multi(), p.incr("n")), "n"))
    for words in ("MULTI", "DISCARD", "DISCARD", "EXEC"):
        single = db.client()
        heard.append(told(lambda single=single, words=words: single.execute_command(words)))
        single.close()
    return [*heard, db.get("a"), db.get("b")]


def scripts(db: Client) -> Heard:
    add = db.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
    heard: Heard = [add(keys=["n"], args=[5]), add(keys=["n"], args=[6])]
    db.script_flush()
    heard.append(add(keys=["n"], args=[7]))
    heard.append(db.script_exists(add.sha, "f" * 40))
    heard.append(told(lambda: db.evalsha("f" * 40, 0)))
    heard.append(told(lambda: db.eval("return redis.call('lpush', KEYS[1], 1)", 1, "n")))
    heard.append(db.eval("return {1, 'two', {3, false}, redis.status_reply('FOUR')}", 0))
    db.function_load("#!lua name=l\nredis.register_function('f', function(k, a) return {k, a} end)", replace=True)
    return [*heard, db.fcall("f", 2, "a", "b", "c"), db.function_delete("l")]


def streams(db: Client) -> Heard:
    for number in range(1, 20):
        db.xadd("s", {"n": number, "raw": b"\r\n\x00"}, id=f"1-{number}")
    db.xgroup_create("s", "g", id="0")
    heard: Heard = [
        db.xlen("s"),
        db.xrange("s", count=3),
        db.xread({"s": "1-15"}, count=10),
        db.xreadgroup("g", "c", {"s": ">"}, count=4),
        db.xack("s", "g", "1-1", "1-2"),
        db.xpending("s", "g"),
        db.xautoclaim("s", "g", "d", min_idle_time=0, count=2),
        db.xread({"s": "$"}, block=20),
        db.xtrim("s", maxlen=5),
    ]
    return [*heard, db.xinfo_stream("s")["length"], told(lambda: db.xadd("s", {"a": 1}, id="1-1"))]


def blocking_pops(db: Client) -> Heard:
    db.rpush("l", "a", "b", "c")
    return [
        db.brpop(["x", "l"], timeout=1),
        db.blpop("l", timeout=1),
        db.blmove("l", "m", 1),
        db.brpop("l", timeout=0.05),
        db.blmpop(0.05, 2, "x", "y", direction="LEFT"),
        db.bzpopmin("z", timeout=0.05),
        db.lmpop(1, "m", direction="LEFT"),
    ]


def waiting_for_replicas(db: Client) -> Heard:
    return [db.set("a", 1), db.wait(0, 10)]


def values_of_every_size(db: Client) -> Heard:
    sizes = [0, 1, 63, 64, 1_000, 4_095, 16_383, 16_384, 65_535, 65_536, 65_537, 262_144, 1_000_003, 20_000_000]
    for size in sizes:
        db.set(f"v{size}", bytes(size % 251 for _ in range(1)) * size)
    return [hash(db.get(f"v{size}")) for size in sizes]


def publish_and_subscribe(db: Client) -> Heard:
    ears = db.pubsub()
    heard: Heard = []

    def listen(count: int) -> None:
        while count:
            message = ears.get_message(timeout=10)
            assert message is not None, "no message within its time"
            heard.append(message)
            count -= 1

    ears.subscribe("a", "b")
    ears.psubscribe("p*")
    listen(3)
    db.publish("a", "one")
    db.publish("pat", b"\xfftwo")
    listen(2)
    ears.unsubscribe("a")
    heard.append(db.publish("a", "nobody hears"))
    listen(1)
    ears.ssubscribe("shard")
    listen(1)
    heard.append(db.spublish("shard", "three"))
    message = until(lambda: ears.get_sharded_message(timeout=1), what="a sharded message")
    heard.append(message)
    heard.append([db.pubsub_numsub("a", "b"), db.pubsub_channels("*"), db.pubsub_numpat()])
    ears.unsubscribe()
    ears.punsubscribe()
    ears.sunsubscribe()
    listen(3)
    ears.close()
    return heard


def client_side_state(db: Client) -> Heard:
    single = db.client()
    heard: Heard = [single.client_setname("me"), single.client_getname(), single.select(3), single.set("a", 1)]
    heard += [
        single.execute_command("RESET"),
        single.client_getname(),
        single.get("a"),
        single.ping(),
        single.echo("x"),
    ]
    single.close()
    return heard


PROGRAMS: list[Any] = [
    strings_hashes_and_sets,
    pipelines,
    transactions,
    scripts,
    streams,
    blocking_pops,
    pytest.param(
        waiting_for_replicas,
        marks=pytest.mark.session_only("WAIT is refused after a write over a shared connection"),
    ),
    values_of_every_size,
    publish_and_subscribe,
    client_side_state,
]


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_has_the_same_results(
    program: Callable[[Client], Heard], resp: int, redis: RedisServer, through: Shunt
) -> None:
    heard = []
    for host, port in (redis.address, through.address):
        redis.call("FLUSHALL")
        with Client(host=host, port=int(port), protocol=resp, socket_timeout=20) as db:
            heard.append(program(db))
    assert heard[0]
    assert heard[1] == heard[0]


async def many_at_once(db: redis_aio.Redis) -> Heard:
    async def one(number: int) -> Heard:
        await db.set(f"k{number}", number)
        async with db.pipeline(transaction=bool(number % 2)) as pipe:
            done = await pipe.incr(f"k{number}").get(f"k{number}").hset("h", str(number), number).execute()
        return [*done, await db.eval("return ARGV[1]", 0, number), await db.brpop(f"none{number}", timeout=0.05)]

    return list(await asyncio.gather(*(one(number) for number in range(100))))


async def a_producer_and_consumers(db: redis_aio.Redis) -> Heard:
    async def consume() -> list[bytes]:
        taken = []
        while (item := await db.brpop(["jobs"], timeout=5))[1] != b"end":
            taken.append(item[1])
        return taken

    consumers = [asyncio.create_task(consume()) for _ in range(5)]
    for number in range(500):
        await db.lpush("jobs", number)
    for _ in consumers:
        await db.lpush("jobs", "end")
    taken = [item for part in await asyncio.gather(*consumers) for item in part]
    return [len(taken), sorted(map(int, taken))]


async def messages(db: redis_aio.Redis) -> Heard:
    heard: Heard = []
    async with db.pubsub() as ears:
        await ears.subscribe("a", "b")
        await ears.psubscribe("*")
        for _ in range(3):
            heard.append(await ears.get_message(timeout=10))
        for number in range(200):
            await db.publish("a", number)
        for _ in range(400):
            heard.append(await ears.get_message(timeout=10))
        await ears.unsubscribe()
        await ears.punsubscribe()
        for _ in range(3):
            heard.append(await ears.get_message(timeout=10))
    return heard


ASYNC_PROGRAMS: list[Callable[[redis_aio.Redis], Awaitable[Heard]]] = [
    many_at_once,
    a_producer_and_consumers,
    messages,
]


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("program", ASYNC_PROGRAMS, ids=lambda program: program.__name__)
async def test_an_asynchronous_program_has_the_same_results(
    program: Callable[[redis_aio.Redis], Awaitable[Heard]], resp: int, redis: RedisServer, through: Shunt
) -> None:
    heard = []
    for host, port in (redis.address, through.address):
        redis.call("FLUSHALL")
        db = redis_aio.Redis(host=host, port=int(port), protocol=resp, socket_timeout=20)
        heard.append(await program(db))
        await db.aclose()
    assert None not in heard[0]
    assert heard[1] == heard[0]
