"""TLS, credentials and unix sockets, on either side of shunt."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.servers import (
    HOST,
    RedisServer,
    Shunt,
    captured,
    certificates,
    free_port,
    redis_server,
    shunt,
    shunt_cli,
    until,
)
from tests.wire import Talk, encode

PASSWORD = "backend-secret-7"
LISTEN = "listen-secret-9"


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    """A Redis with a password for the default user and a user joe."""
    with redis_server(password=PASSWORD) as server:
        assert server.call("ACL", "SETUSER", "joe", "on", ">joe-secret", "~*", "&*", "+@all") == b"+OK\r\n"
        yield server


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return certificates(tmp_path_factory.mktemp("pems"))


def assert_no_secret(through: Shunt, *more: str) -> None:
    """Neither in the log, nor in what HTTP shows, nor in the capture."""
    shown = through.log + through.get("/metrics")[1]
    through.stop()
    shown += through.log
    if through.capture is not None:
        shown += repr(captured(through.capture))
        shown += "".join(p.read_bytes().decode("latin-1") for p in through.capture.rglob("*") if p.is_file())
    assert [word for word in (PASSWORD, LISTEN, "joe-secret", *more) if word in shown] == []


def said(talk: Talk, *commands: tuple[str, ...]) -> list[bytes]:
    """The replies. Redis 7.0 and 7.2 word one of them differently."""
    return [talk.call(*command).replace(b"HELLO <proto> AUTH", b"HELLO AUTH") for command in commands]


# ------------------------------------------------------------------------------------------ credentials


def test_without_credentials_in_the_urls_auth_is_between_client_and_redis(locked: RedisServer, tmp_path: Path) -> None:
    dialogue = [
        ("PING",),
        ("AUTH", "wrong"),
        ("AUTH", "joe", "wrong"),
        ("HELLO", "3"),
        ("HELLO", "3", "AUTH", "default", "wrong"),
        ("AUTH", "joe", "joe-secret"),
        ("ACL", "WHOAMI"),
        ("AUTH", PASSWORD),
        ("ACL", "WHOAMI"),
        ("RESET",),
        ("PING",),
    ]
    with shunt(locked.url, capture=tmp_path) as through:
        with Talk(locked.address) as direct, through.talk() as talk:
            assert said(talk, *dialogue) == said(direct, *dialogue)
        with through.talk() as talk:
            assert talk.call("HELLO", "3", "AUTH", "joe", "joe-secret", "SETNAME", "me")[:1] == b"%"
        assert_no_secret(through)
    assert {row["command"] for row in captured(tmp_path)} >= {b"AUTH", b"HELLO", b"ACL WHOAMI"}


def test_readiness_does_not_need_a_password_of_the_backend(locked: RedisServer) -> None:
    """NOAUTH is an answer: the backend is up."""
    with shunt(locked.url) as through:
        assert through.ready()


def test_backend_credentials_and_database_are_set_before_the_clients_first_byte(
    locked: RedisServer, tmp_path: Path
) -> None:
    url = f"redis://joe:joe-secret@{HOST}:{locked.port}/5"
    with shunt(url, capture=tmp_path) as through:
        with through.talk() as talk:
            talk.send(encode("SET", "k", "five") + encode("ACL", "WHOAMI"))
            assert talk.frames(2) == [b"+OK\r\n", b"$3\r\njoe\r\n"]
        with locked.talk() as direct:
            direct.call("SELECT", "5")
            assert direct.call("GET", "k") == b"$4\r\nfive\r\n"
        with through.talk() as talk, redis_server() as open_redis:
            expected = open_redis.call("AUTH", "whatever")
            assert talk.call("AUTH", "whatever") == expected, "as a Redis without a password says it"
            assert talk.call("ACL", "WHOAMI") == b"$3\r\njoe\r\n"
            assert talk.call("HELLO", "3")[:1] == b"%"
        assert_no_secret(through)
    rows = captured(tmp_path)
    assert [row["command"] for row in rows if row["conn"] == 1] == [b"SET", b"ACL WHOAMI"]
    assert {row["db"] for row in rows if row["conn"] == 1} == {5}


def test_wrong_backend_credentials_are_said_in_the_log_and_nobody_is_let_through(locked: RedisServer) -> None:
    with shunt(f"redis://:wrong-secret@{HOST}:{locked.port}", wait=False) as through:
        until(lambda: through.get("/healthz")[0] == 200, what="shunt is up")
        until(lambda: "WRONGPASS" in through.log or "password" in through.log.lower(), what="the log says why")
        assert through.get("/readyz")[0] == 503
        assert "wrong-secret" not in through.log


@pytest.mark.parametrize("user", ["", "ann"])
def test_listen_credentials_are_asked_for_as_redis_asks(user: str, redis: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    listen = f"redis://{user}:{LISTEN}@{HOST}:{port}"
    name = user or "default"
    with shunt(redis.url, listen=listen, address=(HOST, port), capture=tmp_path) as through:
        with redis_server(password=LISTEN) as model, Talk(model.address) as direct, through.talk() as talk:
            model.call("ACL", "SETUSER", "ann", "on", f">{LISTEN}", "~*", "&*", "+@all")
            dialogue = [
                ("PING",),
                ("GET", "a"),
                ("HELLO", "3"),
                ("AUTH", name, "wrong"),
                ("AUTH", "nobody", LISTEN),
                ("AUTH",),
                ("AUTH", "a", "b", "c"),
                ("HELLO", "2", "AUTH", name, "wrong"),
                ("AUTH", name, LISTEN),
                ("PING",),
                ("AUTH", name, "wrong"),
                ("PING",),
            ]
            assert said(talk, *dialogue) == said(direct, *dialogue)
        with through.talk() as talk:
            assert talk.call("HELLO", "3", "AUTH", name, LISTEN, "SETNAME", "me")[:1] == b"%"
            assert talk.call("CLIENT", "GETNAME") == b"$2\r\nme\r\n"
            assert talk.call("GET", "nope") == b"_\r\n"
        with through.talk() as talk:  # pipelined: the backend sees nothing of what came before AUTH
            talk.send(encode("SET", "x", "1") + encode("AUTH", name, LISTEN) + encode("GET", "x"))
            assert talk.frames(3)[1:] == [b"+OK\r\n", b"$-1\r\n"]
        assert_no_secret(through)


def test_a_client_that_is_not_authenticated_is_not_kept_in_memory(redis: RedisServer) -> None:
    """Redis refuses big commands before AUTH; shunt may say NOAUTH instead, but must not collect them."""
    port = free_port()
    with shunt(redis.url, listen=f"redis://:{LISTEN}@{HOST}:{port}", address=(HOST, port)) as through:
        through.process.forget_peak_rss()
        before = through.process.rss()
        with through.talk() as talk:
            talk.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$64000000\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(64):
                    talk.send(b"x" * 1_000_000)
                talk.send(b"\r\n")
            assert talk.half_close().to_eof().startswith((b"-NOAUTH", b"-ERR Protocol error: unauth", b"<reset>"))
        assert through.process.peak_rss() - before < 16_000_000
        with through.talk() as talk:
            assert talk.send(encode("SET", "k", "1") * 20_000).frames(20_000)[-1].startswith(b"-NOAUTH")
        assert through.process.peak_rss() - before < 16_000_000
        assert redis.call("EXISTS", "k") == b":0\r\n"


def test_listen_and_backend_credentials_together(locked: RedisServer, tmp_path: Path) -> None:
    port = free_port()
    listen, backend = f"redis://:{LISTEN}@{HOST}:{port}", f"redis://:{PASSWORD}@{HOST}:{locked.port}"
    with shunt(backend, listen=listen, address=(HOST, port), capture=tmp_path) as through:
        for resp in (2, 3):
            with redis_py.Redis(host=HOST, port=port, password=LISTEN, protocol=resp) as db:
                assert db.ping()
                assert db.set("k", "v")
            wrong = redis_py.Redis(host=HOST, port=port, password=PASSWORD, protocol=resp, retry=Retry(NoBackoff(), 0))
            with wrong, pytest.raises(redis_py.AuthenticationError):
                wrong.ping()
        assert_no_secret(through)


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--listen", "redis://0.0.0.0:1", "--backend", f"redis://:{PASSWORD}@{HOST}:1"], "--allow-open"),
        (["--listen", f"redis://{HOST}:1/3", "--backend", f"redis://{HOST}:1"], "listen"),
        (["--listen", f"redis://{HOST}:1"], "backend"),
        (["--listen", f"http://{HOST}:1", "--backend", f"redis://{HOST}:1"], "--listen"),
        (["--listen", f"redis://{HOST}:1", "--backend", f"redis://:{PASSWORD}@{HOST}:x"], "backend"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused_in_one_line(args: list[str], why: str) -> None:
    done = shunt_cli("run", *args)
    assert done.returncode == 2, done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr + done.stdout
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_port_that_is_taken_is_said_in_one_line(redis: RedisServer) -> None:
    done = shunt_cli("run", "--listen", redis.url, "--backend", redis.url)
    assert done.returncode != 0
    assert str(redis.port) in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------ TLS


def test_tls_towards_clients(redis: RedisServer, pems: dict[str, Path], tmp_path: Path) -> None:
    port = free_port()
    args = ["--listen-tls-cert", str(pems["cert"]), "--listen-tls-key", str(pems["key"])]
    listen = f"rediss://{HOST}:{port}"
    trust = ssl.create_default_context(cafile=str(pems["ca"]))
    with shunt(redis.url, *args, listen=listen, address=(HOST, port), capture=tmp_path) as through:
        with redis_py.Redis(host=HOST, port=port, ssl=True, ssl_ca_certs=str(pems["ca"])) as db:
            db.set("v", b"x" * 5_000_000)
            assert db.get("v") == b"x" * 5_000_000
            pipe = db.pipeline(transaction=False)
            for number in range(1_000):
                pipe.incr("n").echo(number)
            assert pipe.execute()[-2] == 1_000
        talk = through.talk(tls=trust).send(encode("BRPOP", "jobs", 0))
        until(redis.blocked, what="the pop blocks")
        talk.close()
        until(lambda: not redis.blocked(), what="the pop went with its client")
        with Talk(through.address) as plain:  # a client that does not speak TLS
            plain.send(encode("PING") * 20)
            assert b"PONG" not in plain.to_eof()
        with redis_py.Redis(host=HOST, port=port, ssl=True, ssl_ca_certs=str(pems["ca"])) as db:
            assert db.ping()


def test_clients_must_show_a_certificate_where_a_ca_is_given(redis: RedisServer, pems: dict[str, Path]) -> None:
    port = free_port()
    args = [f"--listen-tls-{name}={pems[name]}" for name in ("ca", "cert", "key")]
    with shunt(redis.url, *args, listen=f"rediss://{HOST}:{port}", address=(HOST, port)) as through:
        trust = ssl.create_default_context(cafile=str(pems["ca"]))
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)), through.talk(tls=trust) as talk:
            talk.call("PING")
        trust.load_cert_chain(pems["cert"], pems["key"])
        with through.talk(tls=trust) as talk:
            assert talk.call("PING") == b"+PONG\r\n"


def tls_redis(pems: dict[str, Path], port: int) -> list[str]:
    files = ("--tls-ca-cert-file", "ca", "--tls-cert-file", "cert", "--tls-key-file", "key")
    return ["--tls-port", str(port), "--tls-auth-clients", "optional", *(str(pems.get(f, f)) for f in files)]


def test_tls_towards_the_backend(pems: dict[str, Path], tmp_path: Path) -> None:
    port = free_port()
    with redis_server(*tls_redis(pems, port)) as redis:
        with shunt(f"rediss://{HOST}:{port}", "--backend-tls-ca", str(pems["ca"])) as through, through.talk() as talk:
            assert talk.call("SET", "v", b"x" * 3_000_000) == b"+OK\r\n"
            assert len(talk.call("GET", "v")) == 3_000_000 + len(b"$3000000\r\n\r\n")
            talk.send(encode("BRPOP", "jobs", 0))
            until(redis.blocked, what="the pop blocks")
            talk.reset()
            until(lambda: not redis.blocked(), what="the pop went with its client")
        with shunt(f"rediss://{HOST}:{port}", "--backend-tls-verify", "none") as through, through.talk() as talk:
            assert talk.call("PING") == b"+PONG\r\n"
        with shunt(f"rediss://{HOST}:{port}", wait=False) as through:
            until(lambda: through.get("/healthz")[0] == 200, what="shunt is up")
            until(lambda: "certificate" in through.log.lower(), what="the log says that nobody vouches for it")
            assert through.get("/readyz")[0] == 503


def test_tls_on_both_sides(pems: dict[str, Path]) -> None:
    port, listen = free_port(), free_port()
    args = [f"--listen-tls-cert={pems['cert']}", f"--listen-tls-key={pems['key']}", f"--backend-tls-ca={pems['ca']}"]
    trust = ssl.create_default_context(cafile=str(pems["ca"]))
    with (
        redis_server(*tls_redis(pems, port)),
        shunt(f"rediss://{HOST}:{port}", *args, listen=f"rediss://{HOST}:{listen}", address=(HOST, listen)) as through,
        through.talk(tls=trust) as talk,
    ):
        talk.send(b"".join(encode("SET", f"k{n}", b"v" * n * 100) + encode("GET", f"k{n}") for n in range(300)))
        frames = talk.frames(600)
        assert [len(frame) for frame in frames[1::2]] == [len(encode(b"v" * n * 100)) - 4 for n in range(300)]


def test_a_shared_tls_connection_never_waits_for_a_pause_without_bytes(pems: dict[str, Path]) -> None:
    """uvloop's TLS pauses writing with nothing to write, and ends that pause only at the next read."""
    port = free_port()
    options = (f"--backend-tls-ca={pems['ca']}", "--pool", "shared", "--pool-size", "1")
    pipeline = b"".join(encode("SET", f"k{n}", b"v" * n * 100) + encode("GET", f"k{n}") for n in range(150))
    with redis_server(*tls_redis(pems, port)), shunt(f"rediss://{HOST}:{port}", *options) as through:
        for _ in range(20):
            with through.talk() as talk:
                assert len(talk.send(pipeline).frames(300)) == 300


# ------------------------------------------------------------------------------------------ unix sockets


def test_unix_sockets_on_both_sides(tmp_path: Path) -> None:
    backend, front = tmp_path / "redis.sock", tmp_path / "shunt.sock"
    with redis_server("--unixsocket", str(backend)) as redis:
        with shunt(f"unix://{backend}", address=str(front), capture=tmp_path / "c") as through:
            with redis_py.Redis(unix_socket_path=str(front)) as db:
                assert db.set("k", b"v" * 1_000_000)
                assert db.get("k") == b"v" * 1_000_000
            talk = through.talk().send(encode("BRPOP", "jobs", 0))
            until(redis.blocked, what="the pop blocks")
            talk.close()
            until(lambda: not redis.blocked(), what="the pop went with its client")
            with through.talk() as talk:
                assert talk.send(encode("PING") * 3).half_close().to_eof() == b"+PONG\r\n" * 3
        assert not front.exists(), "shunt left its socket file behind"
    assert {row["client_addr"][:5] for row in captured(tmp_path / "c")} == {b"unix:"}


def test_a_unix_socket_left_by_a_crash_is_taken_over(redis: RedisServer, tmp_path: Path) -> None:
    front = tmp_path / "shunt.sock"
    with shunt(redis.url, address=str(front)) as through:
        through.crash()
    assert front.exists()
    with shunt(redis.url, address=str(front)) as through, through.talk() as talk:
        assert talk.call("PING") == b"+PONG\r\n"


def test_several_listeners_lead_to_the_same_backend(redis: RedisServer, tmp_path: Path) -> None:
    front = tmp_path / "shunt.sock"
    with shunt(redis.url, "--listen", f"unix://{front}") as through, through.talk() as one, Talk(str(front)) as two:
        assert one.call("SET", "k", "1") == b"+OK\r\n"
        assert two.call("GET", "k") == b"$1\r\n1\r\n"
