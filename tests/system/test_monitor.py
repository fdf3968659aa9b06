"""MONITOR of a real server: an import finds what the recorder found, and a sample names the keys that scripts touch."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.capture.format import Flag
from tests.servers import RedisServer, captured, findings, redis_server, shunt, shunt_cli, shunt_command, until

pytestmark = pytest.mark.session_only("is about what a report says, and whose commands they are doesn't matter")

STRAYS = "redis.call('SET', 'stray:7', 1) return redis.call('GET', KEYS[1])"
LIBRARY = "#!lua name=l\nredis.register_function('f', function(k, a) return redis.call('GET', k[1]) end)"

#: What a client sends; ``|`` begins the next connection. None of it is refused, and MONITOR shows all of it.
WORKLOAD: list[tuple[str | bytes, ...]] = [
    ("SET", "a", b"\x00\xff\"\\\r\n"), ("MSET", "a", "1", "b", "2"), ("MGET", "{t}a", "{t}b"), ("PING",),
    ("MULTI",), ("INCR", "n:1"), ("INCR", "n:2"), ("EXEC",), ("MULTI",), ("MSET", "x", "1", "y", "2"), ("EXEC",),
    ("WATCH", "w"), ("MULTI",), ("SET", "n:3", "1"), ("EXEC",), ("MULTI",), ("INCR", "{q}1"), ("EXEC",),
    ("EVAL", STRAYS, "1", "b"), ("EVAL", "return redis.call('GET', KEYS[1])", "1", "b"),
    ("EVAL", "return redis.call('GET', ARGV[1])", "0", "b"), ("SCRIPT", "LOAD", "return 1"),
    ("FUNCTION", "LOAD", LIBRARY), ("FCALL", "f", "1", "b"), ("SORT", "l", "BY", "w_*"), ("SCAN", "0"), ("DBSIZE",),
    ("LPUSH", "queue:a", "1"), ("BRPOP", "queue:a", "queue:b", "1"), ("CLIENT", "SETNAME", "me"),
    ("|",), ("SELECT", "3"), ("GET", "a"), ("COPY", "{b}1", "{b}2", "DB", "4"), ("SELECT", "0"), ("GET", "a"),
    ("|",), ("HELLO", "3"), ("XADD", "s", "*", "f", "v"), ("XREAD", "COUNT", "1", "STREAMS", "s", "z", "0", "0"),
]  # fmt: skip


@contextlib.contextmanager
def redis_cli_monitor(server: RedisServer, output: Path) -> Iterator[None]:
    """``redis-cli MONITOR`` into a file; at the end everything that was sent before stands in it."""
    with output.open("wb") as file:
        process = subprocess.Popen(["redis-cli", "-p", str(server.port), "MONITOR"], stdout=file)
        try:
            until(lambda: output.read_bytes().startswith(b"OK"), what="redis-cli monitors")
            yield
            server.call("ECHO", "the-fence")
            until(lambda: b"the-fence" in output.read_bytes(), what="MONITOR shows the fence")
        finally:
            process.terminate()
            process.wait(10)


def about(found: list[dict[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Findings without what two recordings of the same can't share: numbers and times."""
    names = ("rule", "severity", "command", "error", "when")
    return Counter((*(each[name] for name in names), tuple(each["keys"])) for each in found)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The workload once: as the proxy recorded it, and as it was imported from MONITOR."""
    room = tmp_path_factory.mktemp("monitor")
    with redis_server() as redis, redis_cli_monitor(redis, room / "monitor.txt"):
        play(redis, room / "recorded")
    done = shunt_cli("import", "monitor", str(room / "monitor.txt"), "-o", str(room / "imported"))
    assert done.returncode == 0, done.stderr
    assert "stray:<id>" in done.stdout
    return room / "recorded", room / "imported"


def play(redis: RedisServer, capture: Path) -> None:
    """One connection after another: MONITOR and the capture then have the same order."""
    with shunt(
        redis.url, "--pool", "session", "--backend-facts", "off", capture=capture, capture_args="keys"
    ) as through:
        talk = through.talk()
        for words in WORKLOAD:
            if words == ("|",):
                talk.close()
                talk = through.talk()
            else:
                assert talk.call(*words)[:1] != b"-", words
        talk.close()


def test_an_import_has_the_findings_of_the_recording(recorded: tuple[Path, Path]) -> None:
    one, other = (about(findings(capture, code=1)) for capture in recorded)
    assert other == one
    assert {each[0] for each in one} >= {
        "cross-slot", "txn-cross-slot", "txn-refused", "watch-apart", "select-database", "other-database",
        "sort-pattern", "node-local", "script-load", "script-undeclared-keys", "script-no-keys",
    }  # fmt: skip


#: What MONITOR tells of a row as well as the proxy.
SAME = ("command", "keys", "nkeys", "nargs", "slot", "unknown", "flags", "db", "request_bytes", "script", "client_name")


def test_an_import_has_the_rows_of_the_recording(recorded: tuple[Path, Path]) -> None:
    rows = [
        [{name: row[name] for name in SAME} for row in captured(capture) if row["command"] not in (b"ECHO", b"INFO")]
        for capture in recorded
    ]
    for each in (row for side in rows for row in side):
        each["flags"] &= ~Flag.SERVED  # which key a pop took from stands in the reply alone
    probes = len(rows[1]) - len(rows[0])  # shunt's own PINGs, each on a connection of its own
    assert 0 <= probes < 10
    for row in rows[0]:
        rows[1].remove(row)
    assert {row["command"] for row in rows[1]} <= {b"PING"}


def test_a_sample_names_the_keys_that_a_script_touches(tmp_path: Path) -> None:
    output = tmp_path / "sample.txt"
    with redis_server() as redis:
        stop = threading.Event()

        def work() -> None:
            with redis.talk() as talk:
                talk.call("FUNCTION", "LOAD", LIBRARY)
                while not stop.is_set():
                    talk.call("EVAL", STRAYS, "1", "b")
                    talk.call("FCALL", "f", "1", "b")
                    talk.call("HELLO", "2", "AUTH", "default", "5ecret")

        worker = threading.Thread(target=work)
        worker.start()
        try:
            done = shunt_cli("monitor-sample", redis.url, "--for", "30s", "--lines", "500", "-o", str(output))
        finally:
            stop.set()
            worker.join(10)
    assert done.returncode == 0, done.stderr
    assert "costs the server throughput" in done.stderr
    text = output.read_text()
    assert output.stat().st_mode & 0o777 == 0o600
    assert "UNDECLARED" in text
    assert "stray:<id>" in text
    assert "function f" in text
    assert "5ecret" not in text


def test_a_sample_of_nothing_ends_in_one_line(tmp_path: Path) -> None:
    for url in ("redis://127.0.0.1:1", "nonsense"):
        done = shunt_cli("monitor-sample", url, "--for", "1s")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", ["0", "11m", "soon"])
def test_a_window_that_is_too_long_or_none_is_refused(seconds: str) -> None:
    assert shunt_cli("monitor-sample", "redis://127.0.0.1:1", "--for", seconds).returncode == 2


def test_an_import_takes_a_new_directory_only(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").touch()
    (tmp_path / "log").write_bytes(b"OK\n")
    done = shunt_cli("import", "monitor", str(tmp_path / "log"), "-o", str(tmp_path / "there"))
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    missing = shunt_cli("import", "monitor", str(tmp_path / "nothing"), "-o", str(tmp_path / "new"))
    assert missing.returncode == 2


def test_ctrl_c_ends_an_import_and_keeps_what_was_read(tmp_path: Path) -> None:
    line = b'1700000000.123456 [0 127.0.0.1:50000] "GET" "a"\n'
    command = [*shunt_command(), "import", "monitor", "-", "-o", str(tmp_path / "c")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(line * 70_000)  # more than a frame
        process.stdin.flush()
        until(lambda: list(tmp_path.glob("c/*.open")), within_s=30, what="the first frame is written")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0
    assert b"commands out of" in output
    assert len(captured(tmp_path / "c")) >= 65_536
    assert shunt_cli("capture", "verify", str(tmp_path / "c")).returncode == 0


def test_an_import_of_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"OK\n")
    done = shunt_cli("import", "monitor", str(tmp_path / "log"), "-o", str(tmp_path / "c"))
    assert done.returncode == 2
    assert "no line of MONITOR" in done.stderr
