"""The console of a running shunt: what it shows, ends and reads again, with one worker and with several."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from tests.servers import HOST, RedisServer, Shunt, certificates, free_port, shunt, shunt_cli, until
from tests.system.test_workers import served_by, several, workers
from tests.wire import Talk, encode

SECRET = "hunter2hunter2"
TOKEN = "0123456789abcdef-deploy"


@contextlib.contextmanager
def observed(redis: RedisServer, tmp_path: Path, *args: str, count: int = 1, **given: Any) -> Iterator[Shunt]:
    """A shunt with its console at ``tmp_path``/s and its audit log beside it."""
    options = ("--console", f"unix://{tmp_path}/s", "--audit-log", f"{tmp_path}/audit.jsonl", *args)
    opened = shunt(redis.url, *options, **given) if count == 1 else several(redis.url, *options, count=count, **given)
    with opened as running:
        yield running


def ask(tmp_path: Path, *words: str, code: int = 0) -> Any:
    """What the command line prints as JSON; its line of error where ``code`` is none of success."""
    done = shunt_cli(*words, "--json", "--console", f"unix://{tmp_path}/s")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


def shown(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """SHOW CLIENTS, by name."""
    return {row["name"]: row for row in ask(tmp_path, "clients")}


def audited(tmp_path: Path) -> list[tuple[str, str]]:
    lines = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    return [(line["verb"], line["outcome"]) for line in lines]


def named(running: Shunt, name: str, *commands: tuple[str, ...]) -> Talk:
    talk = running.talk()
    assert talk.call("CLIENT", "SETNAME", name) == b"+OK\r\n"
    for command in commands:
        talk.call(*command)
    return talk


@pytest.mark.session_only("shows a backend connection for each client")
def test_clients_are_shown_in_the_state_they_are_in(redis: RedisServer, tmp_path: Path) -> None:
    with observed(redis, tmp_path) as running, contextlib.ExitStack() as stack:
        ways = {
            "plain": (("SELECT", "3"),),
            "multi": (("MULTI",), ("SET", "a", "1")),
            "watch": (("WATCH", "a"),),
            "subscribed": (("SUBSCRIBE", "news"),),
        }
        talks = {name: stack.enter_context(named(running, name, *commands)) for name, commands in ways.items()}
        talks["blocked"] = stack.enter_context(named(running, "blocked"))
        talks["blocked"].send(encode("BRPOP", "nothing", 30))
        until(redis.blocked, what="the fetch waits in Redis")
        found = shown(tmp_path)
        assert {name: row["state"] for name, row in found.items()} == {name: name for name in talks}
        assert (found["plain"]["db"], found["blocked"]["in_flight"], found["plain"]["phase"]) == (3, 1, "own")
        host, port = talks["plain"].sock.getsockname()
        assert found["plain"]["addr"] == f"{host}:{port}"
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600


@pytest.mark.session_only("a fetch's own backend connection is looked at")
def test_kill_ends_a_blocked_fetch_without_losing_a_job_and_a_transaction_only_at_once(
    redis: RedisServer, tmp_path: Path
) -> None:
    with observed(redis, tmp_path, "--drain-timeout", "500ms") as running:
        with named(running, "fetch") as fetch, named(running, "open", ("MULTI",)) as transaction:
            fetch.send(encode("BRPOP", "jobs", 30))
            until(redis.blocked, what="the fetch waits in Redis")
            assert ask(tmp_path, "kill", "name=fetch") == "1 client ended"
            assert fetch.frame() == b"*-1\r\n"
            assert fetch.to_eof() == b""
            redis.call("LPUSH", "jobs", "job")
            assert redis.call("LLEN", "jobs") == b":1\r\n"
            says = ask(tmp_path, "kill", "open", code=1)
            assert "still under way" in says
            assert "KILL open NOW ends it at once" in says
            assert ask(tmp_path, "kill", "open", "--now") == "1 client ended"
            assert transaction.to_eof() == b""
            assert ask(tmp_path, "kill", "open") == "no client open is connected"
        kills = [("KILL", outcome) for outcome in ("done", "failed", "done", "done")]
        assert audited(tmp_path) == kills
        assert [row["outcome"] for row in ask(tmp_path, "history")] == [outcome for _, outcome in kills]


@pytest.mark.parametrize("count", [1, 2])
def test_shutdown_answers_when_all_is_done(count: int, redis: RedisServer, tmp_path: Path) -> None:
    with observed(redis, tmp_path, count=count, capture=tmp_path / "captured") as running:
        with running.talk() as talk:
            assert talk.call("PING") == b"+PONG\r\n"
            assert ask(tmp_path, "shutdown").startswith("shunt has ended; 0 clients were cut off")
            assert talk.to_eof() == b""
        running.stopped = True
        assert running.process.wait() == 0
        assert audited(tmp_path) == [("SHUTDOWN", "done")]
        assert not (tmp_path / "s").exists()
        assert "no console answers" in ask(tmp_path, "status", code=2)


@pytest.mark.parametrize("count", [1, 2])
def test_hold_answers_when_nothing_is_in_flight_and_release_lets_it_go_on(
    count: int, redis: RedisServer, tmp_path: Path
) -> None:
    redis.call("FLUSHALL")
    with observed(redis, tmp_path, count=count) as running, contextlib.ExitStack() as stack:
        talks = [stack.enter_context(named(running, f"c{index}")) for index in range(6)]
        worker = stack.enter_context(named(running, "worker"))
        worker.send(encode("BRPOP", "queue:a", "0"))
        until(lambda: redis.blocked(), what="the fetch waits")
        assert ask(tmp_path, "hold", "10s", "30s").startswith("held: 7 clients, quiet after ")
        assert worker.frame() == b"*-1\r\n"
        for talk in talks:
            talk.send(encode("INCR", "n"))
        assert redis.call("EXISTS", "n") == b":0\r\n"
        assert ask(tmp_path, "release") == "released: 7 clients"
        assert sorted(int(talk.frame()[1:-2]) for talk in talks) == [1, 2, 3, 4, 5, 6]
        assert ask(tmp_path, "release") == "nothing was held"
        assert audited(tmp_path) == [("HOLD", "done"), ("RELEASE", "done"), ("RELEASE", "done")]


@pytest.mark.session_only("with --pool shared half a command waits in shunt, and nothing of it is in flight")
@pytest.mark.parametrize("count", [1, 2])
def test_a_hold_that_does_not_become_quiet_is_not_done_and_nobody_is_held(
    count: int, redis: RedisServer, tmp_path: Path
) -> None:
    with observed(redis, tmp_path, count=count) as running, running.talk() as half, running.talk() as other:
        assert half.call("PING") == b"+PONG\r\n"
        half.send(encode("SET", "a", "12345")[:-4])
        until(lambda: redis.call("INFO", "clients"), what="Redis is there")
        assert "not held: " in ask(tmp_path, "hold", "200ms", "30s", code=1)
        assert other.call("PING") == b"+PONG\r\n"
        half.send(b"45\r\n")
        assert half.frame() == b"+OK\r\n"


def test_reload_takes_up_certificates_and_log_level_and_names_the_rest(redis: RedisServer, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = certificates(tmp_path / "old"), certificates(tmp_path / "new")
    port = free_port()
    file = tmp_path / "shunt.toml"
    file.write_text('log-level = "info"\n')
    listen = f"rediss://{HOST}:{port}"
    files = ("--listen-tls-cert", str(old["cert"]), "--listen-tls-key", str(old["key"]), "--config", str(file))
    with observed(redis, tmp_path, *files, listen=listen, address=(HOST, port)):
        before = ssl.get_server_certificate((HOST, port))
        for part in ("cert", "key"):
            shutil.copyfile(new[part], old[part])
        file.write_text('log-level = "warning"\nmax-clients = 7\n')
        done = {row["what"]: row["outcome"] for row in ask(tmp_path, "reload")}
        assert done["log-level"] == "info -> warning"
        assert done["max-clients"] == "automatic -> 7: needs a restart"
        assert done[f"certificates of --listen {listen}"] == "read again: for new connections"
        after = ssl.get_server_certificate((HOST, port))
        assert before != after == new["cert"].read_text()
        old["key"].write_text("broken")
        assert "nothing was changed" in ask(tmp_path, "reload", code=1)
        assert ssl.get_server_certificate((HOST, port)) == after
        file.write_text("log-level = 'loud'\n")
        assert "--log-level" in ask(tmp_path, "reload", code=1)


@pytest.mark.session_only("is about workers")
def test_several_workers_are_one_at_the_console(redis: RedisServer, tmp_path: Path) -> None:
    with observed(redis, tmp_path, count=2) as running, contextlib.ExitStack() as stack:
        talks = [stack.enter_context(named(running, f"c{index}")) for index in range(8)]
        until(lambda: len({served_by(running, talk) for talk in talks}) == 2, what="both workers serve someone")
        found = shown(tmp_path)
        assert sorted(found) == [f"c{index}" for index in range(8)]
        assert {row["id"].split(":")[0] for row in found.values()} == {str(number) for number in workers(running)}
        assert ask(tmp_path, "kill", found["c3"]["addr"]) == "1 client ended"
        assert talks[3].to_eof() == b""
        assert len(shown(tmp_path)) == 7
        state = ask(tmp_path, "status")
        assert (state["workers"], state["workers_serving"], state["pid"]) == (2, 2, running.process.pid)
        assert ask(tmp_path, "reload")[-1]["outcome"].startswith("2 have read it")


@pytest.mark.session_only("is about workers")
def test_a_worker_that_says_nothing_or_dies_holds_up_no_verb(redis: RedisServer, tmp_path: Path) -> None:
    with observed(redis, tmp_path, count=2) as running, contextlib.ExitStack() as stack:
        talks = [stack.enter_context(named(running, f"c{index}")) for index in range(8)]
        silent = served_by(running, talks[0])
        theirs = {f"c{index}" for index, talk in enumerate(talks) if served_by(running, talk) == silent}
        os.kill(silent, signal.SIGSTOP)
        try:
            done = shunt_cli("clients", "--json", "--console", f"unix://{tmp_path}/s")
            assert {row["name"] for row in json.loads(done.stdout)} == {f"c{index}" for index in range(8)} - theirs
            assert "did not answer within 2 s: its clients are missing" in done.stderr
            asking = redis_py.Redis(unix_socket_path=f"{tmp_path}/s", socket_timeout=20)
            killing: Any = asking.connection_pool.get_connection()
            killing.send_command("KILL", "nobody")
            # Asked after KILL, answered by the worker that still speaks: KILL has been handed to both by then.
            assert shunt_cli("clients", "--console", f"unix://{tmp_path}/s").returncode == 0
        finally:
            os.kill(silent, signal.SIGKILL)
        with pytest.raises(redis_py.ResponseError, match=r"no client nobody was found; worker \d+ died meanwhile"):
            killing.read_response()
        asking.close()
        until(lambda: len(workers(running)) == 2 and ask(tmp_path, "status")["workers_serving"] == 2, what="both again")


def test_over_http_a_token_is_needed_and_its_name_is_written_down(redis: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"deploy {TOKEN}\n")
    (tmp_path / "tokens").chmod(0o600)
    with observed(redis, tmp_path, "--http-token-file", f"{tmp_path}/tokens") as running:
        place = f"http://{running.http[0]}:{running.http[1]}/v1"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{place}/SHOW/STATE", timeout=5)
        asking = urllib.request.Request(f"{place}/RELOAD", b"", {"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(asking, timeout=5) as reply:
            assert json.load(reply)["verb"] == "RELOAD"
        line = json.loads((tmp_path / "audit.jsonl").read_text())
        assert (line["who"]["by"], line["who"]["token"]) == ("http", "deploy")
        assert TOKEN not in (tmp_path / "audit.jsonl").read_text() + running.log


def test_a_password_in_the_environment_opens_a_console_on_tcp_and_is_shown_nowhere(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"redis://:{SECRET}@{HOST}:{free_port()}"
    with shunt(redis.url, env={"SHUNT_CONSOLE": place}) as running:
        assert shunt_cli("status", "--console", place.replace(SECRET, "wrong")).returncode == 2
        monkeypatch.setenv("SHUNT_CONSOLE", place)
        done = shunt_cli("options", "--json")
        rows = {row["option"]: row for row in json.loads(done.stdout)}
        assert (rows["console"]["origin"], rows["backend"]["origin"]) == ("environment", "flag")
        assert rows["drain-timeout"] == {"option": "drain-timeout", "value": "5s", "origin": "default"}
        assert shunt_cli("reload").returncode == 0
        assert SECRET not in done.stdout + running.log


def test_a_console_that_someone_named_and_that_is_taken_ends_the_start(redis: RedisServer, tmp_path: Path) -> None:
    with observed(redis, tmp_path) as running:
        line = ["run", "--backend", redis.url, "--listen", f"redis://{HOST}:{free_port()}"]
        done = shunt_cli(*line, "--console", f"unix://{tmp_path}/s")
        assert done.returncode == 2
        assert f"process {running.process.pid} has its console there" in done.stderr
        assert "Traceback" not in done.stderr
        running.crash()
    with observed(redis, tmp_path):
        assert ask(tmp_path, "status")["backend_up"]


def test_without_a_console_a_verb_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("SHUNT_CONSOLE", raising=False)
    done = shunt_cli("clients")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--console URL" in done.stderr


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_redis_cli_meets_no_noise(redis: RedisServer, tmp_path: Path) -> None:
    with observed(redis, tmp_path):
        line = ["redis-cli", "-3", "-s", f"{tmp_path}/s"]
        typed = "SHOW BACKENDS\nPROGRESS RELOAD\nquit\n"
        done = subprocess.run(line, input=typed, capture_output=True, text=True, timeout=20, check=False)
        assert "up=yes" in done.stdout
        assert "ERR" not in done.stdout + done.stderr, done
