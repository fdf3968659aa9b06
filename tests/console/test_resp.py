"""The console as redis-cli and redis-py meet it: greetings, answers, progress, passwords, its socket's file."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import stat
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Connection, Redis, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError

from proxy.address import Address
from proxy.console import door
from proxy.console.door import Door, DoorError
from proxy.console.resp import MOST_CONNECTIONS, RespConsole
from proxy.console.verb import Verb
from tests.console.world import FakeWorld, Slow, client, desk

PASSWORD = "hunter2hunter2"
needs_redis_cli = pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")


@asynccontextmanager
async def console(url: str, world: FakeWorld | None = None, *more: Verb) -> AsyncIterator[RespConsole]:
    at, _ = await desk(world or FakeWorld(rows=[client()]), None, *more)
    opened = RespConsole(Address.parse(url), at)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


async def raw(path: Path, sent: bytes, until: bytes = b"") -> bytes:
    """What the console says to these bytes, up to ``until`` or its end."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(sent)
    try:
        async with asyncio.timeout(10):
            return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_redis_py_connects_and_reads_answers(protocol: int, tmp_path: Path) -> None:
    async with console(f"unix://{tmp_path}/s"):
        redis: Any = Redis(unix_socket_path=f"{tmp_path}/s", protocol=protocol, decode_responses=True)
        assert await redis.ping()
        said = await redis.execute_command("SHOW", "CLIENTS")
        line = "id=0:1 addr=127.0.0.1:5000 name=web db=0 age=12 idle=3 in_flight=0 state=plain phase=own"
        assert said == ([line] if protocol == 2 else line)
        assert await redis.execute_command("KILL", "web") == "1 client ended"
        with pytest.raises(ResponseError, match="there is no verb 'GET x'; there are HELP, SHOW HELP"):
            await redis.get("x")
        assert json.loads(await redis.execute_command("JSON", ["SHOW", "CLIENTS"][0], "CLIENTS"))["answer"] == []
        await redis.aclose()


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"PING\r\nQUIT\r\n", b"+PONG\r\n+OK\r\n"),
        (b"*2\r\n$4\r\nPING\r\n$2\r\nhi\r\nQUIT\r\n", b"$2\r\nhi\r\n+OK\r\n"),
        (
            b"show config\r\nquit\r\n",
            b"*1\r\n+option=backend value=redis://:***@10.0.0.5:6379 origin=environment\r\n+OK\r\n",
        ),
        (b"CLIENT SETINFO LIB-NAME x\r\nSELECT 0\r\nQUIT\r\n", b"+OK\r\n+OK\r\n+OK\r\n"),
        (
            b"CLIENT LIST\r\nQUIT\r\n",
            b"-ERR this is shunt's console: SHOW CLIENTS and KILL are about shunt's clients\r\n+OK\r\n",
        ),
        (b"SELECT 1\r\nQUIT\r\n", b"-ERR the console has no databases\r\n+OK\r\n"),
        (b"AUTH x\r\nQUIT\r\n", b"-ERR this console has no password: the socket's owner may do everything\r\n+OK\r\n"),
        (b"COMMAND COUNT\r\nCOMMAND\r\nQUIT\r\n", b":0\r\n*0\r\n+OK\r\n"),
        (
            b"HELLO 4\r\nHELLO 2 WHAT\r\nQUIT\r\n",
            b"-NOPROTO unsupported protocol version\r\n-ERR HELLO does not know 'WHAT'\r\n+OK\r\n",
        ),
        (
            b"PROGRESS RELOAD\r\nQUIT\r\n",
            b"-ERR PROGRESS needs RESP3; say HELLO 3 first, or use redis-cli -3\r\n+OK\r\n",
        ),
        (b"SHOW HISTORY\r\nQUIT\r\n", b"*0\r\n+OK\r\n"),
        (b"\r\n*0\r\nPING\r\nQUIT\r\n", b"+PONG\r\n+OK\r\n"),
        (b"*1\r\n$70000\r\n" + b"x" * 70000, b"-ERR Protocol error; the console takes commands of up to 64 KiB\r\n"),
        (b"*x\r\n", b"-ERR Protocol error; the console takes commands of up to 64 KiB\r\n"),
    ],
)  # fmt: skip
async def test_what_is_said_over_resp2(sent: bytes, says: bytes, tmp_path: Path) -> None:
    async with console(f"unix://{tmp_path}/s"):
        assert await raw(tmp_path / "s", sent) == says


async def test_progress_is_pushed_to_who_asked_for_it(tmp_path: Path) -> None:
    async with console(f"unix://{tmp_path}/s"):
        sent = b"HELLO 3\r\nPROGRESS JSON RELOAD\r\nRELOAD\r\nQUIT\r\n"
        said = await raw(tmp_path / "s", sent)
        greeting, _, rest = said.partition(b">2\r\n")
        assert greeting.startswith(b"%7\r\n$6\r\nserver\r\n$5\r\nshunt\r\n")
        answer = b'{"answer": [{"what": "log-level", "outcome": "info -> debug"}], "notes": []}'
        expected = b"$8\r\nprogress\r\n$10\r\nhalf of it\r\n$%d\r\n%b\r\n" % (len(answer), answer)
        assert rest == expected + b'=46\r\ntxt:what=log-level outcome="info -> debug"\r\n+OK\r\n'.replace(
            b"46", b"%d" % (4 + len('what=log-level outcome="info -> debug"'))
        )


async def test_a_verb_under_way_holds_up_no_other_connection_and_is_answered_at_the_end(tmp_path: Path) -> None:
    slow = Slow()
    async with console(f"unix://{tmp_path}/s", None, slow.verb()) as opened:
        waiting = asyncio.create_task(raw(tmp_path / "s", b"HELLO 3\r\nPROGRESS WAIT\r\n"))
        await slow.begun.wait()
        assert await raw(tmp_path / "s", b"PING\r\nQUIT\r\n") == b"+PONG\r\n+OK\r\n"
        closing = asyncio.create_task(opened.close())
        slow.go.set()
        assert (await waiting).endswith(b"$5\r\nbegun\r\n+done at last\r\n")
        await closing


async def test_a_console_that_closes_ends_idle_connections_and_its_file(tmp_path: Path) -> None:
    async with console(f"unix://{tmp_path}/s"):
        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/s")
        writer.write(b"PING\r\n")
        assert await reader.readexactly(7) == b"+PONG\r\n"
    assert await reader.read() == b""
    assert not (tmp_path / "s").exists()
    writer.close()


async def test_there_is_an_end_to_how_many_may_connect(tmp_path: Path) -> None:
    async with console(f"unix://{tmp_path}/s"):
        opened = [await asyncio.open_unix_connection(f"{tmp_path}/s") for _ in range(MOST_CONNECTIONS)]
        for reader, writer in opened:
            writer.write(b"PING\r\n")
            assert await reader.readexactly(7) == b"+PONG\r\n"
        assert (await raw(tmp_path / "s", b"")).startswith(b"-ERR 64 connections are open")
        for _, writer in opened:
            writer.close()


# ---- passwords -------------------------------------------------------------------------------------------------------


async def test_over_tcp_nothing_is_told_without_the_password(caplog: pytest.LogCaptureFixture) -> None:
    async with console(f"redis://:{PASSWORD}@127.0.0.1:0") as opened:
        reader, writer = await asyncio.open_connection("127.0.0.1", opened.port)
        for sent, says in (
            (b"SHOW CLIENTS\r\n", b"-NOAUTH"),
            (b"PING\r\n", b"-NOAUTH"),
            (b"COMMAND DOCS\r\n", b"-NOAUTH"),
            (b"HELLO 3\r\n", b"-NOAUTH"),
            (b"AUTH wrong\r\n", b"-WRONGPASS"),
            (b"AUTH nobody " + PASSWORD.encode() + b"\r\n", b"-WRONGPASS"),
            (b"HELLO 3 AUTH default wrong\r\n", b"-WRONGPASS"),
            (b"AUTH " + PASSWORD.encode() + b"\r\n", b"+OK"),
            (b"PING\r\n", b"+PONG"),
        ):
            writer.write(sent)
            assert (await reader.readline()).startswith(says), sent
        writer.close()
        assert "wrong credentials from 127.0.0.1:" in caplog.text
        assert PASSWORD not in caplog.text


@pytest.mark.parametrize("protocol", [2, 3])
async def test_redis_py_brings_the_password(protocol: int) -> None:
    async with console(f"redis://:{PASSWORD}@127.0.0.1:0") as opened:
        right = Connection(host="127.0.0.1", port=opened.port, password=PASSWORD, protocol=protocol)
        await right.connect()
        await right.disconnect()
        with pytest.raises((AuthenticationError, ConnectionError)):
            await Connection(host="127.0.0.1", port=opened.port, password="no", protocol=protocol).connect()


# ---- the socket's file -----------------------------------------------------------------------------------------------


async def test_the_socket_is_its_owners_alone(tmp_path: Path) -> None:
    async with console(f"unix://{tmp_path}/s"):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600


async def test_a_file_left_behind_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(f"{tmp_path}/s")
    async with console(f"unix://{tmp_path}/s"):
        connection = UnixDomainSocketConnection(path=f"{tmp_path}/s")
        await connection.connect()
        await connection.disconnect()


async def test_a_console_that_lives_is_not_replaced(tmp_path: Path) -> None:
    async with console(f"unix://{tmp_path}/s"):
        with pytest.raises(DoorError, match=r"process \d+ has its console there; end it, or name another place"):
            await Door(Address.parse(f"unix://{tmp_path}/s")).open()
        assert await raw(tmp_path / "s", b"PING\r\nQUIT\r\n") == b"+PONG\r\n+OK\r\n"


async def test_what_another_has_put_there_since_stays(tmp_path: Path) -> None:
    first, second = (Door(Address.parse(f"unix://{tmp_path}/s")) for _ in range(2))
    await first.open()
    (tmp_path / "s").unlink()
    await second.open()
    first.close()
    assert (tmp_path / "s").is_socket()
    second.close()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("{tmp}/file", "there is a file that is no socket"),
        ("{tmp}/no/such/s", "No such file or directory; name another"),
    ],
)
async def test_a_place_that_can_not_be_used_says_why(path: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DoorError, match=says):
        await Door(Address.parse("unix://" + path.format(tmp=tmp_path))).open()
    assert (tmp_path / "file").exists()


def test_the_usual_places(tmp_path: Path) -> None:
    own, run = tmp_path / "user", tmp_path / "run"
    assert door.usual({}, tmp_path / "missing" / "run") is None
    assert str(door.usual({}, run)) == f"unix://{run}/shunt.sock"
    assert str(door.usual({"XDG_RUNTIME_DIR": str(own)}, run)) == f"unix://{run}/shunt.sock"
    assert run.stat().st_mode & 0o777 == 0o700
    own.mkdir()
    assert str(door.usual({"XDG_RUNTIME_DIR": str(own)}, run)) == f"unix://{own}/shunt.sock"
    assert door.existing({"XDG_RUNTIME_DIR": str(own)}, run) is None
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(f"{run}/shunt.sock")
        assert str(door.existing({"XDG_RUNTIME_DIR": str(own)}, run)) == f"unix://{run}/shunt.sock"


# ---- redis-cli -------------------------------------------------------------------------------------------------------


def cli(path: Path, *words: str) -> str:
    done = subprocess.run(
        ["redis-cli", "-s", str(path), *words], capture_output=True, text=True, timeout=10, check=False
    )
    assert done.stderr == ""
    return done.stdout


@needs_redis_cli
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["SHOW", "CLIENTS"], "id=0:1 addr=127.0.0.1:5000 name=web"),
        (["-3", "SHOW", "CLIENTS"], "id=0:1 addr=127.0.0.1:5000 name=web"),
        (["KILL"], "ERR write KILL CLIENT [NOW]: "),
        (["help", "kill"], "client [NOW]"),
        (["SHOW", "HELP", "KILL"], 'verb="KILL CLIENT [NOW]"'),
    ],
)
async def test_redis_cli_is_a_console(words: list[str], says: str, tmp_path: Path) -> None:
    async with console(f"unix://{tmp_path}/s"):
        assert says in await asyncio.to_thread(cli, tmp_path / "s", *words)
