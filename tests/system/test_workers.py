"""Several worker processes behind one address: what one of them does or suffers, the others' clients never notice."""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.net.departure import PATIENCE_S
from proxy.supervisor.messages import Failed, receive_first
from tests.servers import (
    HOST,
    ROOT,
    RedisServer,
    Shunt,
    captured,
    free_port,
    redis_server,
    shunt,
    shunt_cli,
    shunt_command,
    until,
)
from tests.wire import Talk, encode

pytestmark = pytest.mark.session_only("is about workers, and counts a backend connection for each client")
N = 3


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> None:
    if "redis" in request.fixturenames:
        request.getfixturevalue("redis").call("FLUSHALL")


def workers(running: Shunt) -> dict[int, int]:
    """The process id of each live worker, by number."""
    found = {}
    for pid in children(running.process.pid):
        with contextlib.suppress(OSError, ValueError):  # gone already, or not yet what it will be
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found[int(words[words.index(b"proxy.cli.worker") + 1])] = pid
    return found


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def all_serve(running: Shunt, count: int = N) -> bool:
    return running.metric("shunt_workers") == count and running.get("/readyz") == (200, "ready\n")


@contextlib.contextmanager
def several(backend: str, *args: str, count: int = N, **given: object) -> Iterator[Shunt]:
    with shunt(backend, "--workers", str(count), *args, **given) as running:  # type: ignore[arg-type]
        until(lambda: all_serve(running, count), within_s=30, what=f"all workers serve:\n{running.log}")
        yield running


def served_by(running: Shunt, talk: Talk) -> int:
    """The process id of the worker that serves ``talk``: the one that has the other end of its connection."""
    assert talk.call("PING") == b"+PONG\r\n"
    ports = [running.address[1], talk.sock.getsockname()[1]]
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{w[9]}]" for w in lines if [int(each.split(":")[1], 16) for each in w[1:3]] == ports}
    for pid in workers(running).values():
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{fd}") in inodes:
                    return pid
    raise AssertionError(f"no worker has the connection {ports}")


def spread(running: Shunt, count: int = N) -> dict[int, list[Talk]]:
    """Clients of every worker, by the worker's process id; all of them work."""
    by_pid: dict[int, list[Talk]] = {}
    for _ in range(200):
        talk = running.talk()
        by_pid.setdefault(served_by(running, talk), []).append(talk)
        if len(by_pid) == count and min(map(len, by_pid.values())) >= 2:
            return by_pid
    raise AssertionError(f"200 clients, but only on {len(by_pid)} workers")


class Visitors:
    """Threads that connect, PING and close, over and over; ``ended`` counts what each visit met."""

    def __init__(self, running: Shunt, count: int = 3) -> None:
        self.ended: Counter[str] = Counter()
        self._address = running.address
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._visit) for _ in range(count)]

    def _visit(self) -> None:
        while not self._stop.is_set():
            try:
                with Talk(self._address, patience_s=20) as talk:
                    self.ended[talk.call("PING").decode().strip()] += 1
            except (OSError, EOFError) as error:
                self.ended[f"{type(error).__name__}: {error}"] += 1

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


# ---------------------------------------------------------------------------------------------- all together


def test_clients_spread_over_the_workers_and_the_metrics_are_of_all(redis: RedisServer) -> None:
    with several(redis.url, "--max-clients", "1000") as running:
        by_pid = spread(running)
        assert set(by_pid) == set(workers(running).values())
        talks = list(itertools.chain(*by_pid.values()))
        for number, talk in enumerate(talks):
            for _ in range(number + 1):
                assert talk.call("INCR", "sum").startswith(b":")
        sent = len(talks) * (len(talks) + 1) // 2
        assert redis.call("GET", "sum").split(b"\r\n")[1] == b"%d" % sent
        assert running.metric("shunt_commands_total", command="INCR") == sent
        assert running.metric("shunt_clients") == len(talks) == running.metric("shunt_backend_connections")
        assert running.metric("shunt_command_duration_seconds_count", command="INCR") == sent
        assert {f"worker {number}" in running.log for number in range(N)} == {True}
        rss = [running.metric("process_resident_memory_bytes", worker=str(each)) for each in workers(running)]
        assert min(rss) > 0 < running.metric("process_resident_memory_bytes", worker="supervisor")


def test_one_worker_is_one_process_as_before(redis: RedisServer) -> None:
    with shunt(redis.url, "--workers", "1") as running:
        assert children(running.process.pid) == []
        assert "shunt_workers" not in running.get("/metrics")[1]


def test_no_worker_s_arguments_hold_a_password() -> None:
    with (
        redis_server(password="s3cret-word") as server,
        several(f"redis://:s3cret-word@{server.address[0]}:{server.port}", count=2) as running,
    ):
        with running.talk() as talk:
            assert talk.call("PING") == b"+PONG\r\n"
        for pid in workers(running).values():
            assert b"s3cret-word" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert "s3cret-word" not in running.log


def test_the_client_limit_is_one_for_all(redis: RedisServer) -> None:
    with several(redis.url, "--max-clients", "7") as running:
        talks = [running.talk() for _ in range(60)]
        said = Counter(talk.send(encode("PING")).frame() for talk in talks)
        assert said[b"+PONG\r\n"] <= 7
        assert said[b"-ERR max number of clients reached\r\n"] >= 53
        assert running.metric("shunt_clients") == said[b"+PONG\r\n"]


def test_captures_of_all_workers_are_one_capture(redis: RedisServer, tmp_path: Path) -> None:
    with several(redis.url, capture=tmp_path) as running:
        by_pid = spread(running)
        talks = list(itertools.chain(*by_pid.values()))
        for number, talk in enumerate(talks):
            assert talk.call("SET", f"key:{number}", "x") == b"+OK\r\n"
        os.kill(workers(running)[0], signal.SIGTERM)  # a worker that ends and is replaced adds to the same run
        until(lambda: all_serve(running) and 0 not in workers(running), what="worker 0 is replaced")
        with contextlib.ExitStack() as stack:
            for number in range(30):
                talk = stack.enter_context(running.talk())
                assert talk.call("SET", f"later:{number}", "x") == b"+OK\r\n"
    rows = captured(tmp_path)
    keys = [row["keys"][0].decode() for row in rows if row["command"] == b"SET"]
    assert sorted(keys) == sorted([f"key:{n}" for n in range(len(talks))] + [f"later:{n}" for n in range(30)])
    assert len({row["run"] for row in rows}) == 1
    assert {0, 1, 2} < {row["worker"] for row in rows} <= {0, 1, 2, 3}
    assert len({(row["worker"], row["conn"], row["seq"]) for row in rows}) == len(rows)
    assert shunt_cli("capture", "verify", str(tmp_path)).returncode == 0
    assert len(shunt_cli("capture", "cat", str(tmp_path)).stdout.splitlines()) == len(rows)


def test_any_free_port_is_the_same_for_all_workers(redis: RedisServer) -> None:
    with several(redis.url, listen="redis://127.0.0.1:0") as running:
        ports = set()
        for pid in workers(running).values():
            ports |= _listens(pid)
        [port] = ports
        running.address = ("127.0.0.1", port)
        assert set(spread(running)) == set(workers(running).values())


def _listens(pid: int) -> set[int]:
    """TCP ports that a process listens on."""
    mine = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            mine.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(w[1].split(":")[1], 16) for w in lines if w[3] == "0A" and f"socket:[{w[9]}]" in mine}


def test_a_port_that_another_shunt_has_is_not_shared_with_it(redis: RedisServer) -> None:
    with several(redis.url, count=2) as running:
        done = shunt_cli("run", "--workers", "2", "--listen", running.url, "--backend", redis.url)
        assert done.returncode == 2
        assert "choose another address or stop what uses it" in done.stderr


def test_a_worker_of_another_version_does_not_start() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(20)
        entry = [sys.executable, "-m", "proxy.cli.worker", "0", str(theirs.fileno()), "0.0.1"]
        done = subprocess.run(entry, pass_fds=[theirs.fileno()], cwd=ROOT, check=False, timeout=20)
        assert done.returncode == 1
        failed = receive_first(ours)
    assert isinstance(failed, Failed)
    assert "0.0.1 is running; restart shunt" in failed.why


def test_what_a_worker_can_not_use_is_one_line_and_ends_the_run(redis: RedisServer, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    done = shunt_cli(
        "run", "--workers", "2", "--listen", f"rediss://127.0.0.1:{free_port()}", "--backend", redis.url,
        "--listen-tls-cert", str(bad), "--listen-tls-key", str(bad),
    )  # fmt: skip
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("shunt: --listen-tls-cert")]


# ---------------------------------------------------------------------------------------------- one dies


def test_a_worker_that_is_killed_costs_its_own_clients_only(redis: RedisServer) -> None:
    with several(redis.url) as running:
        by_pid = spread(running)
        for talk in itertools.chain(*by_pid.values()):
            assert talk.call("INCR", "sum").startswith(b":")
        before = running.metric("shunt_commands_total", command="INCR")
        victim = workers(running)[1]
        os.kill(victim, signal.SIGKILL)
        for talk in by_pid.pop(victim):
            assert talk.to_eof() in (b"", b"<reset>")
        seen = [running.metric("shunt_commands_total", command="INCR")]
        until(lambda: seen.append(running.metric("shunt_commands_total", command="INCR")) or all_serve(running),
              within_s=30, what=f"the worker is replaced:\n{running.log}")  # fmt: skip
        assert min(seen) >= before, seen
        assert sorted(seen) == seen
        for talk in itertools.chain(*by_pid.values()):
            assert talk.call("INCR", "sum").startswith(b":")
        assert running.metric("shunt_worker_restarts_total", reason="died") == 1
        assert re.search(rf"worker 1 \(process {victim}\) died: killed by SIGKILL", running.log)
        assert set(spread(running)) == set(workers(running).values())
        assert sorted(workers(running)) == [0, 2, 3]


def test_who_comes_while_a_worker_is_missing_is_served(redis: RedisServer) -> None:
    with several(redis.url) as running, Visitors(running) as visitors:
        until(lambda: visitors.ended["+PONG"] > 50, what="visitors come")
        os.kill(workers(running)[2], signal.SIGKILL)
        until(lambda: 2 not in workers(running) and all_serve(running), within_s=30, what="the worker is replaced")
        more = visitors.ended["+PONG"] + 50
        until(lambda: visitors.ended["+PONG"] > more, what="visitors come again")
    lost = sum(visitors.ended.values()) - visitors.ended["+PONG"]
    assert lost <= 3, visitors.ended  # those that worker 2 was serving when it died: one for each visitor at most


def test_readiness_names_the_worker_that_is_missing(redis: RedisServer) -> None:
    with several(redis.url, count=2) as running:
        os.kill(workers(running)[0], signal.SIGKILL)
        status, text = until(lambda: (r := running.get("/readyz"))[1] != "ready\n" and r, what="readiness changes")
        assert status == 200
        assert text.startswith("ready\nworker 0 is missing (killed by SIGKILL)")
        until(lambda: all_serve(running, 2), within_s=30, what="all serve again")


def test_a_worker_that_hangs_is_named_and_not_counted_until_it_goes_on(redis: RedisServer) -> None:
    with several(redis.url, count=2) as running:
        victim = workers(running)[1]
        os.kill(victim, signal.SIGSTOP)
        try:
            status, text = until(lambda: (r := running.get("/readyz"))[1] != "ready\n" and r, within_s=30, what="news")
            assert status == 200
            hangs = rf"worker 1 \(process {victim}\) hangs: it has told nothing for \d+ s, .*; kill -9 {victim} .*"
            assert re.fullmatch(rf"ready\n{hangs}\n", text)
            assert running.metric("shunt_workers") == 1
        finally:
            os.kill(victim, signal.SIGCONT)
        until(lambda: all_serve(running, 2), within_s=30, what="it serves again")
        until(lambda: "does not hang any more" in running.log, what="the log says so")
        assert running.log.count("hangs: it has told nothing") == 1
        assert workers(running)[1] == victim


@pytest.mark.slow
def test_workers_that_die_at_once_are_tried_again_more_slowly_and_others_serve(redis: RedisServer) -> None:
    with several(redis.url, count=2) as running:
        stays = workers(running)[0]
        for deaths in range(1, 7):
            pid = until(lambda: next((p for p in workers(running).values() if p != stays), 0), what="another worker")
            os.kill(pid, signal.SIGKILL)
            until(lambda d=deaths: running.metric("shunt_worker_restarts_total", reason="died") == d, what="a death")
        with Visitors(running) as visitors:  # its door is closed now: nobody is left waiting at it
            until(lambda: all_serve(running, 2), within_s=30, what="all serve again")
            meanwhile = visitors.ended["+PONG"]
        assert meanwhile > 100
        assert set(visitors.ended) == {"+PONG"}
        assert set(spread(running, 2)) == set(workers(running).values())


def test_workers_end_by_themselves_when_the_supervisor_is_killed(redis: RedisServer, tmp_path: Path) -> None:
    with several(redis.url, "--drain-timeout", "3s", capture=tmp_path) as running:
        by_pid = spread(running)
        running.crash()
        for talk in itertools.chain(*by_pid.values()):
            assert talk.to_eof() == b""
        until(lambda: not any(map(is_alive, by_pid)), what="workers end")
        assert "the supervisor is gone" in running.log
        with pytest.raises(ConnectionRefusedError):
            running.talk()
        assert shunt_cli("capture", "verify", str(tmp_path)).returncode == 0


# ---------------------------------------------------------------------------------------------- SIGHUP


def renewed(running: Shunt, times: int = 1) -> bool:
    return running.log.count("workers are renewed\n") == times


def test_sighup_renews_every_worker_and_refuses_nobody(redis: RedisServer) -> None:
    with several(redis.url) as running:
        before = workers(running)
        with Visitors(running) as visitors:
            until(lambda: visitors.ended["+PONG"] > 50, what="visitors come")
            running.process.signal(signal.SIGHUP)
            until(lambda: renewed(running), within_s=60, what=f"all are renewed:\n{running.log}")
            more = visitors.ended["+PONG"] + 50
            until(lambda: visitors.ended["+PONG"] > more, what="visitors come again")
        assert set(visitors.ended) == {"+PONG"}, visitors.ended
        until(lambda: sorted(workers(running)) == [3, 4, 5], what="six workers were started, three are left")
        assert not set(workers(running).values()) & set(before.values())
        assert running.metric("shunt_worker_restarts_total", reason="reload") == N
        assert running.metric("shunt_commands_total", command="PING") == visitors.ended["+PONG"]
        assert all_serve(running)


def test_a_client_of_a_renewed_worker_is_closed_between_two_commands(redis: RedisServer) -> None:
    with several(redis.url, count=2) as running:
        asked: Counter[str] = Counter()
        ends: Counter[str] = Counter()
        stop = threading.Event()

        def work(name: str) -> None:
            while not stop.is_set():
                with contextlib.suppress(ConnectionError), running.talk() as talk:
                    while not stop.is_set():
                        try:
                            talk.send(encode("INCR", name))
                        except ConnectionError:
                            ends["not sent"] += 1
                            break
                        try:
                            assert talk.frame().startswith(b":")
                        except (EOFError, ConnectionResetError):
                            ends["not answered"] += 1
                            break
                        asked[name] += 1
                        time.sleep(0.002)

        threads = [threading.Thread(target=work, args=(f"n{n}",)) for n in range(6)]
        idle = spread(running, 2)
        for thread in threads:
            thread.start()
        running.process.signal(signal.SIGHUP)
        until(lambda: renewed(running), within_s=60, what=f"all are renewed:\n{running.log}")
        stop.set()
        for thread in threads:
            thread.join()
        assert {talk.to_eof() for talk in itertools.chain(*idle.values())} == {b""}
        # Whatever Redis did, its client was told: a command that was not answered was not run either.
        for name, count in asked.items():
            assert redis.call("GET", name).split(b"\r\n")[1] == b"%d" % count
        assert running.metric("shunt_lost_replies_total") == 0


@pytest.mark.slow
def test_sighup_while_a_worker_dies(redis: RedisServer) -> None:
    with several(redis.url, count=2) as running:
        running.process.signal(signal.SIGHUP)
        until(lambda: "renewed one by one" in running.log, what="the signal is heard")
        os.kill(workers(running)[0], signal.SIGKILL)
        until(lambda: renewed(running) and all_serve(running, 2), within_s=60, what=f"all serve:\n{running.log}")
        until(lambda: len(workers(running)) == 2, what="there are no more than two")
        assert set(spread(running, 2)) == set(workers(running).values())


# ---------------------------------------------------------------------------------------------- the end


def test_sigterm_drains_all_workers_and_loses_no_job(redis: RedisServer) -> None:
    with several(redis.url, "--drain-timeout", "3s") as running:
        by_pid = spread(running)
        waiting = [talks[0].send(encode("BRPOP", "queue", "1")) for talks in by_pid.values()]
        until(lambda: len(redis.blocked()) == N, what="all pops wait")
        running.terminate()
        with pytest.raises(ConnectionRefusedError):
            until(lambda: running.talk().close(), what="new clients are refused")
        redis.call("LPUSH", "queue", "job")
        got = Counter(talk.to_eof() for talk in waiting)
        assert got[b"*2\r\n$5\r\nqueue\r\n$3\r\njob\r\n"] == 1
        assert got[b"*-1\r\n"] == N - 1
        assert running.process.wait() == 0
        assert redis.call("LLEN", "queue") == b":0\r\n"
        assert not any(map(is_alive, by_pid))


@pytest.mark.parametrize("password", ["", ":wrong@"])
@pytest.mark.parametrize("heard", ["export REDIS_URL", "proxy.net.upstream", ""])
def test_a_signal_while_workers_start_ends_the_run(password: str, heard: str) -> None:
    with redis_server(password="right" if password else None) as server:
        backend = server.url.replace("redis://", f"redis://{password}")
        with shunt(backend, "--workers", "2", wait=False) as running:
            until(lambda: running.get("/healthz")[0] == 200, what="the supervisor serves HTTP")
            until(lambda: heard in running.log, what=f"the log says {heard}")
            running.stop()


def test_the_report_is_on_what_all_workers_recorded(redis: RedisServer, tmp_path: Path) -> None:
    with several(redis.url, "--report-on-exit", capture=tmp_path) as running:
        talks = list(itertools.chain(*spread(running).values()))
        for talk in talks:
            assert talk.call("SET", "a", "b") == b"+OK\r\n"
        running.stop()
        assert re.search(rf"^ *SET +{len(talks)} ", running.log, re.MULTILINE), running.log


@pytest.mark.slow
def test_on_a_terminal_there_is_one_live_line_and_a_hangup_ends_it(redis: RedisServer) -> None:
    ours, theirs = pty.openpty()
    args = ["run", "--workers", "2", "--listen", f"redis://{HOST}:{free_port()}", "--backend", redis.url]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen([*shunt_command(), *args], stdin=theirs, stdout=theirs, stderr=theirs, env=environ,
                               start_new_session=True)  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while not (b"commands/s" in seen and seen.count(b"listening on") == 2):
            assert select.select([ours], [], [], 20)[0], seen
            seen += os.read(ours, 65536)
        assert re.search(rb"shunt \S+ listens on redis://", seen)
        assert re.search(rb"worker 1 proxy.app: listening on", seen)
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # as the kernel does for a terminal that some process controls
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_a_second_signal_ends_all_at_once(redis: RedisServer) -> None:
    with several(redis.url, "--drain-timeout", "60s") as running:
        by_pid = spread(running)
        for talks in by_pid.values():
            talks[0].send(encode("BRPOP", "nothing", "0"))
        until(lambda: len(redis.blocked()) == N, what="all pops wait")
        running.process.signal(signal.SIGINT)
        until(lambda: running.get("/readyz")[1].startswith("draining"), what="it drains")
        running.process.signal(signal.SIGINT)
        assert running.process.wait(15) == 0
        assert not any(map(is_alive, by_pid))


# ---------------------------------------------------------------------------------------------- the backend


def knocks(running: Shunt, count: int = 30) -> Counter[str]:
    met: Counter[str] = Counter()
    for _ in range(count):
        try:
            with running.talk(patience_s=5) as talk:
                met[talk.call("PING").decode().strip()] += 1
        except (OSError, EOFError) as error:
            met[type(error).__name__] += 1
    return met


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_clients_are_refused_while_the_backend_is_down(kind: str, tmp_path: Path) -> None:
    refusal = "ConnectionRefusedError" if kind == "tcp" else "FileNotFoundError"
    with redis_server() as server:
        address = None if kind == "tcp" else str(tmp_path / "shunt.sock")
        with several(server.url, count=2, address=address) as running:
            assert knocks(running) == {"+PONG": 30}
            server.kill()
            until(lambda: set(knocks(running)) == {refusal}, what="all are refused")
            status, text = running.get("/readyz")
            assert status == 503
            assert text.startswith("the backend does not answer")
            # Who is born now refuses too, on the socket that its predecessor left.
            os.kill(workers(running)[0], signal.SIGKILL)
            until(lambda: "worker 2 refuses" in running.get("/readyz")[1], within_s=30, what="worker 2 refuses")
            assert set(knocks(running)) == {refusal}
            server.start()
            until(lambda: all_serve(running, 2), within_s=30, what="all serve again")
            assert knocks(running) == {"+PONG": 30}
        assert not list(tmp_path.iterdir())


def test_a_unix_socket_is_shared(redis: RedisServer, tmp_path: Path) -> None:
    with several(redis.url, address=str(tmp_path / "shunt.sock")) as running:
        assert set(spread_unix(running)) == set(workers(running).values())
        running.process.signal(signal.SIGHUP)
        with Visitors(running) as visitors:
            until(lambda: renewed(running), within_s=60, what=f"all are renewed:\n{running.log}")
        assert set(visitors.ended) == {"+PONG"}
    assert not list(tmp_path.iterdir())


def spread_unix(running: Shunt) -> dict[int, int]:
    """Open files of each worker that has clients; idle workers that are woken take turns by chance."""
    before = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in workers(running).values()}
    talks: list[Talk] = []

    def grown() -> dict[int, int]:
        talks.append(running.talk())
        assert talks[-1].call("PING") == b"+PONG\r\n"
        now = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in before}
        return {pid: now[pid] for pid in now if now[pid] > before[pid]}

    until(lambda: len(grown()) == len(before), within_s=30, what="every worker has clients")
    return grown()


def test_what_a_client_sent_to_a_dead_worker_never_runs_once_it_has_given_up(redis: RedisServer) -> None:
    """The socket of a dead worker listens on, for its successor; a client that gave up there has tried again since."""
    with several(redis.url, count=2) as running:
        dead = workers(running)[0]
        os.kill(running.process.pid, signal.SIGSTOP)  # no successor yet
        try:
            os.kill(dead, signal.SIGKILL)
            until(lambda: not is_alive(dead), what="the worker is dead")
            stuck = next(talk for talk in iter(running.talk, None) if talk.send(encode("PING")).is_silent())
            patient = next(talk for talk in iter(running.talk, None) if talk.send(encode("PING")).is_silent())
            stuck.send(encode("LPUSH", "queue:a", "job")).close()
            gave_up = time.monotonic()
            until(lambda: time.monotonic() - gave_up > PATIENCE_S, what="it is long ago")
        finally:
            os.kill(running.process.pid, signal.SIGCONT)
        assert patient.frame() == b"+PONG\r\n"
        until(lambda: all_serve(running, 2), within_s=30, what="both workers serve")
        assert redis.call("EXISTS", "queue:a") == b":0\r\n"
