"""Big values, slow readers, many clients: memory stays bounded and no byte goes astray."""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import RedisServer, Shunt, redis_server, shunt, until
from tests.wire import Talk, encode

MB = 1 << 20
#: What shunt may use more than before while values stream through.
MORE = 16 * MB


@pytest.fixture(scope="module")
def through(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shunt]:
    with shunt(redis.url, capture=tmp_path_factory.mktemp("capture"), capture_args="keys") as running:
        with running.talk() as talk:  # every code path warm before memory is measured
            for _ in range(3):
                talk.send(encode("SET", "warm", b"x" * 4 * MB) + encode("GET", "warm") * 4)
                talk.frames(5)
        redis.call("FLUSHALL")
        yield running


class Growth:
    """How much resident memory a process gained at its highest within the block."""

    def __init__(self, through: Shunt) -> None:
        self._process = through.process

    def __enter__(self) -> Growth:
        self._process.forget_peak_rss()
        self._before = self._process.rss()
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = self._process.peak_rss() - self._before


@pytest.mark.slow
def test_a_value_of_512_mb_streams_through_to_redis(redis: RedisServer, through: Shunt) -> None:
    block, count = os.urandom(MB), 512
    with through.talk(patience_s=60) as talk:
        with Growth(through) as growth:
            talk.send(b"*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n" % (MB * count))
            for _ in range(count):
                talk.send(block)
            assert talk.send(b"\r\n").frame() == b"+OK\r\n"
        assert growth.bytes <= MORE, f"SET took {growth.bytes / MB:.1f} MB"
        assert redis.call("STRLEN", "v") == b":%d\r\n" % (MB * count)
        assert talk.call("DEL", "v") == b":1\r\n"


@pytest.mark.slow
@pytest.mark.session_only("a reply above --client-buffer needs a client that reads as fast as Redis sends")
def test_a_value_of_512_mb_streams_through_to_the_client(redis: RedisServer, through: Shunt) -> None:
    block, count = os.urandom(MB), 512
    with redis.talk() as own:
        own.send(b"*3\r\n$3\r\nSET\r\n$1\r\nv\r\n$%d\r\n" % (MB * count))
        for _ in range(count):
            own.send(block)
        assert own.send(b"\r\n").frame() == b"+OK\r\n"
    with through.talk(patience_s=60) as talk:
        with Growth(through) as growth:
            talk.send(encode("GET", "v"))
            assert talk.until(b"\r\n") == b"$%d\r\n" % (MB * count)
            buffer, at = memoryview(bytearray(MB)), len(talk.unread)
            buffer[:at], whole = talk.unread, True
            talk.unread.clear()
            for _ in range(count):
                while at < MB:
                    came = talk.sock.recv_into(buffer[at:])
                    assert came, "closed in the middle of the value"
                    at += came
                whole, at = whole and buffer == block, 0
            assert talk.take(2) == b"\r\n"
        assert growth.bytes <= MORE, f"GET took {growth.bytes / MB:.1f} MB"
        assert whole, "the value came back different"
        assert talk.call("DEL", "v") == b":1\r\n"


@pytest.mark.session_only("who doesn't read is closed above --client-buffer, and no backend waits for it")
def test_a_client_that_never_reads_makes_the_backend_wait(redis: RedisServer, through: Shunt) -> None:
    redis.call("SET", "v", os.urandom(MB))
    with through.talk() as deaf, through.talk() as other, Growth(through) as growth:
        deaf.send(encode("GET", "v") * 200)

        def waiting() -> bool:
            return max((int(client["omem"]) for client in redis.clients()), default=0) > 100 * MB

        until(waiting, what="the replies pile up in Redis and not in shunt")
        for _ in range(1_000):
            assert other.call("PING") == b"+PONG\r\n"
    assert growth.bytes <= MORE, f"{growth.bytes / MB:.1f} MB for one client that never reads"
    until(lambda: not redis.clients(), what="its backend connection is closed")


def test_a_backend_that_never_reads_makes_the_client_wait(tmp_path: Path) -> None:
    with redis_server() as redis, shunt(redis.url, capture=tmp_path, capture_args="keys") as through:
        chunk = encode("SET", "v", b"x" * MB)
        with through.talk(patience_s=30) as talk:
            for _ in range(5):
                assert talk.send(chunk).frame() == b"+OK\r\n"
            with Growth(through) as growth:
                redis.process.signal(signal.SIGSTOP)
                talk.sock.settimeout(1.0)
                sent = 0
                try:
                    while sent < 200 * len(chunk):  # the kernel's buffers take a few MB
                        sent += talk.sock.send(memoryview(chunk)[sent % len(chunk) :])
                except TimeoutError:
                    pass
            redis.process.signal(signal.SIGCONT)
            assert sent < 64 * MB, "shunt went on reading"
            assert growth.bytes <= MORE, f"{growth.bytes / MB:.1f} MB for a backend that never reads"
            talk.sock.settimeout(30)
            rest = sent % len(chunk)
            talk.send(chunk[rest:] if rest else b"")
            assert talk.frames(sent // len(chunk) + bool(rest))[-1] == b"+OK\r\n"


def test_no_byte_of_one_client_reaches_another(redis: RedisServer, through: Shunt) -> None:
    """200 clients with a value of 2 MB each; a third reads slowly, a third reads nothing until the others are done."""
    clients, size = 200, 2 * MB
    expected = {}
    with redis.talk() as talk:
        for number in range(clients):
            value = struct.pack(">Q", 0x0101010101010101 * (number + 1)) * (size // 8)
            expected[number] = b"$%d\r\n%s\r\n" % (size, value)
            assert talk.call("SET", f"v:{number}", value) == b"+OK\r\n"
    before = through.process.rss()
    talks = {number: through.talk() for number in range(clients)}
    for number, talk in talks.items():
        talk.send(encode("GET", f"v:{number}"))
        talk.sock.setblocking(False)
    for turn in ([n for n in talks if n % 3], [n for n in talks if not n % 3]):
        read_all({n: talks[n] for n in turn}, expected, slow={n for n in turn if n % 3 == 1})
    assert through.process.rss() - before <= 200 * MB // 2
    for talk in talks.values():
        talk.close()
    redis.call("FLUSHALL")


def read_all(talks: dict[int, Talk], expected: dict[int, bytes], slow: set[int]) -> None:
    """Read each client's reply and compare each byte as it comes."""
    at = dict.fromkeys(talks, 0)
    end = time.monotonic() + 90
    with selectors.DefaultSelector() as ready:
        for number, talk in talks.items():
            ready.register(talk.sock, selectors.EVENT_READ, number)
        while ready.get_map():
            assert time.monotonic() < end, f"clients still wait for {[n for n in at if at[n] < len(expected[n])]}"
            for key, _ in ready.select(5):
                number = key.data
                data = key.fileobj.recv(4_096 if number in slow else 262_144)  # type: ignore[union-attr]
                assert data, f"client {number} was closed"
                start = at[number]
                if data != expected[number][start : start + len(data)]:
                    raise AssertionError(f"client {number} got bytes that are not its own, near byte {start}")
                at[number] += len(data)
                if at[number] == len(expected[number]):
                    ready.unregister(key.fileobj)


def test_writers_with_distinct_values_do_not_mix(redis: RedisServer, through: Shunt) -> None:
    """The other direction: 50 clients send values in small parts at the same time."""
    size = 300_000

    def write(number: int) -> None:
        data = encode("SET", f"w:{number}", bytes([number]) * size)
        with through.talk() as talk:
            for start in range(0, len(data), 7_919):
                talk.send(data[start : start + 7_919])
            assert talk.frame() == b"+OK\r\n"

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 51)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(1, 51):
        assert redis.call("GET", f"w:{number}") == b"$%d\r\n%s\r\n" % (size, bytes([number]) * size)


@pytest.mark.session_only("a new client needs no new backend connection")
def test_five_thousand_idle_connections_and_a_client_that_works(tmp_path: Path) -> None:
    """As many as the file limit allows: each takes a descriptor here and two in shunt."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(5_000, (limit - 500) // 2)
    assert count >= 200, f"a file limit of {limit} is too low for this test"
    with redis_server("--maxclients", str(count + 100)) as redis, shunt(redis.url, capture=tmp_path) as through:
        before = through.process.rss()
        idle = [socket.create_connection(through.address) for _ in range(count)]  # type: ignore[arg-type]
        try:
            until(
                lambda: b"connected_clients:%d\r\n" % (count + 1) in redis.call("INFO", "clients"),
                within_s=60,
                every_s=0.2,
                what=f"{count} backend connections",
            )
            with through.talk() as talk:
                for number in range(2_000):
                    assert talk.call("INCR", "n") == b":%d\r\n" % (number + 1)
            idle_cpu = through.process.cpu_s()
            time.sleep(1.0)
            assert through.process.cpu_s() - idle_cpu < 0.5, "idle connections cost processor time"
            assert through.process.rss() - before < count * 40_000
            for number in range(0, count, 500):
                idle[number].sendall(encode("ECHO", number))
                assert idle[number].recv(100) == b"$%d\r\n%d\r\n" % (len(str(number)), number)
        finally:
            for sock in idle:
                sock.close()
        until(lambda: not redis.clients(), within_s=60, every_s=0.2, what="all of them are gone")


def test_a_client_over_the_limit_gets_the_error_of_redis(redis: RedisServer) -> None:
    with shunt(redis.url, "--max-clients", "2") as through:
        one, two, three = through.talk(), through.talk(), through.talk()
        assert one.call("PING") == two.call("PING") == b"+PONG\r\n"
        assert three.to_eof() in (b"-ERR max number of clients reached\r\n",)
        one.close()

        def admitted() -> bool:
            with through.talk() as talk:
                return talk.call("PING") == b"+PONG\r\n"

        until(admitted, what="a place became free")
        two.close()


def test_an_idle_client_is_closed_and_a_waiting_one_is_not(redis: RedisServer) -> None:
    with shunt(redis.url, "--idle-timeout", "1s") as through:
        idle, waiter, ears = through.talk(), through.talk(), through.talk()
        idle.call("PING")
        ears.call("SUBSCRIBE", "a")
        waiter.send(encode("BRPOP", "none", 2.5))
        assert idle.to_eof() == b""
        assert waiter.frame() == b"*-1\r\n"
        redis.call("PUBLISH", "a", "still here")
        assert b"still here" in ears.frame()


def test_a_command_over_max_frame_ends_its_connection(redis: RedisServer) -> None:
    with shunt(redis.url, "--max-frame", "1MB") as through:
        with through.talk() as talk:
            assert talk.call("SET", "small", b"x" * 900_000) == b"+OK\r\n"
        with through.talk() as talk:
            with contextlib.suppress(ConnectionError):
                talk.send(encode("SET", "large", b"x" * 3_000_000))
            assert b"OK" not in talk.to_eof()
        assert redis.call("EXISTS", "large") == b":0\r\n"
        until(lambda: not redis.held(), what="its backend connection is closed")
