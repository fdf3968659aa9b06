"""``shunt preflight`` between real servers: what it says of each thing that can be wrong, and that it only reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from protocol.commands import Trait, table
from proxy.address import Address
from proxy.capture.format import ReplyKind
from proxy.cli.control import ask
from proxy.cutover.finding import Level, Preflight
from proxy.cutover.preflight import preflight
from proxy.cutover.server_facts import Place
from tests.capture.rows import batch, write_capture
from tests.servers import (
    ROOT,
    RedisServer,
    certificates,
    cluster,
    free_port,
    redis_server,
    shunt,
    shunt_cli,
    shunt_command,
    until,
)

pytestmark = pytest.mark.session_only("is about two servers, and no traffic is moved")

SECRET = "hunter2hunter2"
SIDEKIQ = [
    {"command": "LPUSH", "keys": ["queue:default"], "nargs": 3},
    {"command": "SADD", "keys": ["queues"], "nargs": 3},
    {"command": "BRPOP", "keys": ["queue:default", "queue:low"], "nargs": 4, "slot": -2},
    {"command": "ZADD", "keys": ["schedule"], "nargs": 4},
    {"command": "PUBLISH", "nargs": 3},
]


@pytest.fixture
def source() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(autouse=True)
def no_other_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shunt that runs on this machine is not asked, unless a test names its console."""
    monkeypatch.setenv("SHUNT_CONSOLE", "off")


@contextlib.contextmanager
def saving(*args: str, **given: Any) -> Iterator[RedisServer]:
    """A target that keeps what it holds, so that a preflight has nothing to warn of."""
    with redis_server("--appendonly", "yes", *args, **given) as server:
        yield server


def capture(directory: Path, rows: Sequence[dict[str, Any]] = SIDEKIQ) -> str:
    return str(write_capture(directory / "capture", [batch(rows)]))


def flight(source: str, target: str, *args: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """The findings of ``shunt preflight --json``, by check and side; "verdict" has the whole document."""
    done = shunt_cli("preflight", source, target, "--json", *args)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert SECRET not in done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["ready"] == (code == 0)
    found = {f"{each['check']} {each['side']}": each for each in document["findings"]}
    return {**found, "verdict": document}


def levels(found: dict[str, dict[str, Any]], level: str) -> set[str]:
    return {name for name, finding in found.items() if finding.get("level") == level}


def test_two_servers_that_are_fit_are_ready(source: RedisServer, tmp_path: Path) -> None:
    with saving() as target:
        found = flight(source.url, target.url, "--capture", capture(tmp_path))
    assert levels(found, "fail") | levels(found, "warn") == set()
    assert levels(found, "unknown") == {"acl target"} or not levels(found, "unknown")
    assert found["verdict"]["capture"].endswith("capture")
    assert found["role target"]["level"] == "pass"


def test_it_writes_nothing_to_either_server(source: RedisServer, tmp_path: Path) -> None:
    with saving() as target:
        for server in (source, target):
            for n in range(50):
                server.call("LPUSH", f"queue:{n}", "job")
            server.call("SET", "string", "x")
            server.call("SELECT", 3)
        before = [state(server) for server in (source, target)]
        for server in (source, target):
            server.call("CONFIG", "RESETSTAT")
        for more in ([], ["--follow"], ["--capture", capture(tmp_path)]):
            flight(source.url, target.url, *more, code=1)  # the target holds jobs
        ran = [commands(server) for server in (source, target)]
        assert [state(server) for server in (source, target)] == before
    for seen in ran:
        assert {"PING", "INFO", "TIME", "ACL DRYRUN"} <= seen
        assert {name for name in seen if table().commands[name].traits & Trait.WRITE} == set()
        changing = {
            "CONFIG SET",
            "CONFIG REWRITE",
            "REPLICAOF",
            "CLIENT KILL",
            "CLIENT UNBLOCK",
            "CLIENT PAUSE",
            "SAVE",
        }
        assert seen & changing == set()


def state(server: RedisServer) -> tuple[bytes, bytes, bytes]:
    with server.talk() as talk:
        role = talk.call("ROLE")
        return talk.call("DEBUG", "DIGEST"), role[:12], talk.call("CONFIG", "GET", "maxmemory*")


def commands(server: RedisServer) -> set[str]:
    lines = server.call("INFO", "commandstats").decode().splitlines()
    names = (line.split(":")[0].removeprefix("cmdstat_") for line in lines if line.startswith("cmdstat_"))
    return {name.upper().replace("|", " ") for name in names} - {"CONFIG RESETSTAT"}


def test_one_server_under_two_names_is_refused(source: RedisServer) -> None:
    found = flight(source.url, f"redis://localhost:{source.port}", code=1)
    assert found["same-server both"]["level"] == "fail"
    assert "same run_id" in found["same-server both"]["text"]


def test_a_wrong_password_is_said_and_never_shown(source: RedisServer) -> None:
    with redis_server(password="right") as target:
        url = f"redis://:{SECRET}@{target.host}:{target.port}"
        found = flight(source.url, url, code=1)
        assert levels(found, "fail") == {"credentials target"}
        assert found["verdict"]["target"] == f"redis://:***@{target.host}:{target.port}"
        assert flight(source.url, target.url, code=1)["credentials target"]["do"].startswith("Put the password")
        assert SECRET not in shunt_cli("preflight", source.url, url).stdout


def test_urls_come_from_the_environment(source: RedisServer) -> None:
    with redis_server(password=SECRET) as target:
        done = subprocess.run(
            [*shunt_command(), "preflight", "env:OLD_REDIS", "env:NEW_REDIS"],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OLD_REDIS": source.url,
                 "NEW_REDIS": f"redis://:{SECRET}@{target.host}:{target.port}"},
        )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "takes the password of user default" in done.stdout
    assert SECRET not in done.stdout + done.stderr


def test_a_replica_is_no_target_but_of_a_switch_that_follows(source: RedisServer) -> None:
    with saving() as target:
        target.call("REPLICAOF", source.host, source.port)
        until(lambda: b"master_link_status:up" in target.call("INFO", "replication"), what="the replica is in step")
        found = flight(source.url, target.url, code=1)
        assert found["role target"]["level"] == "fail"
        assert str(source.port) in found["role target"]["text"]
        following = flight(source.url, target.url, "--follow")
        assert following["role target"]["level"] == "pass"
        assert following["follow both"]["level"] == "pass"


def test_a_small_target_that_evicts_jobs_fails_twice(source: RedisServer) -> None:
    source.call("SADD", "queues", "default")
    source.call("SET", "big", "x" * 3_000_000)
    with saving("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as target:
        found = flight(source.url, target.url, code=1)
    assert levels(found, "fail") == {"memory target", "eviction target"}


def test_few_databases_and_few_connections(source: RedisServer) -> None:
    with source.talk() as talk:
        talk.call("SELECT", 9)
        talk.call("SET", "a", "b")
    with saving("--databases", "4", "--maxclients", "20") as target, contextlib.ExitStack() as stack:
        for _ in range(25):
            stack.enter_context(source.talk()).call("PING")
        found = flight(source.url, target.url, code=1)
    assert levels(found, "fail") == {"databases target", "connections target"}
    assert found["databases target"]["data"]["missing"] == [9]


def test_jobs_that_wait_on_the_target_fail_and_other_keys_warn(source: RedisServer) -> None:
    with saving() as target:
        target.call("SET", "unrelated", "1")
        assert flight(source.url, target.url)["emptiness target"]["level"] == "warn"
        with target.talk() as talk:
            talk.call("SELECT", 2)
            talk.call("LPUSH", "app:queue:mail", "job", "job")
        found = flight(source.url, target.url, code=1)
        assert found["emptiness target"]["data"]["jobs"] == {"2/app:queue:mail": 2}


def test_a_limited_user_on_the_target_is_asked_about_what_the_capture_holds(
    source: RedisServer, tmp_path: Path
) -> None:
    with saving() as target:
        rights = ["on", f">{SECRET}", "+@all", "-sadd", "~queue:*", "~queues", "~schedule"]
        target.call("ACL", "SETUSER", "asks", *rights, "&*")
        target.call("ACL", "SETUSER", "app", *rights, "-acl", "+acl|whoami")
        target.call("ACL", "SETUSER", "reads", *rights, "-acl", "+acl|whoami", "+acl|getuser")
        there = f"{target.host}:{target.port}"
        recorded = ("--capture", capture(tmp_path))

        found = flight(source.url, f"redis://asks:{SECRET}@{there}", *recorded, code=1)["acl target"]
        assert (found["level"], found["data"]["user"], found["data"]["how"]) == ("fail", "asks", "ACL DRYRUN")
        assert found["details"] == ["SADD queues: may not run it (1 time)"]

        hidden = flight(source.url, f"redis://app:{SECRET}@{there}", *recorded)["acl target"]
        assert hidden["level"] == "unknown"
        assert "ACL DRYRUN is refused" in hidden["text"]
        assert "--target-user" in hidden["do"]

        read = flight(source.url, f"redis://reads:{SECRET}@{there}", *recorded, code=1)["acl target"]
        assert (read["level"], read["data"]["how"]) == ("fail", "ACL GETUSER")
        assert read["details"] == found["details"]

        other = flight(source.url, target.url, *recorded, "--target-user", "app", code=1)["acl target"]
        assert other["details"] == found["details"]
        nobody = flight(source.url, target.url, *recorded, "--target-user", "nobody")["acl target"]
        assert nobody["level"] == "unknown"
        assert "nobody" in nobody["text"]


def test_what_the_captures_keys_do_not_tell_is_unknown(source: RedisServer, tmp_path: Path) -> None:
    rows = [{"command": "PUBLISH", "nargs": 3}, {"command": "GET", "nargs": 2, "nkeys": 1}]
    with saving() as target:
        target.call("ACL", "SETUSER", "asks", "on", "nopass", "+@all", "~queue:*", "&jobs")
        found = flight(source.url, target.url, "--capture", capture(tmp_path, rows), "--target-user", "asks")
    details = found["acl target"]["details"]
    assert found["acl target"]["level"] == "unknown"
    assert [detail.split(":")[0] for detail in sorted(details)] == ["GET", "PUBLISH"]


def test_a_missing_command_of_the_capture_fails(source: RedisServer, tmp_path: Path) -> None:
    with saving("--rename-command", "BRPOP", "") as target:
        found = flight(source.url, target.url, "--capture", capture(tmp_path), code=1)
        assert found["commands target"]["data"]["missing"] == ["BRPOP"]
        assert flight(source.url, target.url)["commands target"]["level"] == "pass"  # nobody ran it
        source.call("BRPOP", "nothing", "0.01")
        assert flight(source.url, target.url)["commands target"]["level"] == "warn"


def test_functions_and_scripts_are_the_switchs_business_if_it_may(source: RedisServer, tmp_path: Path) -> None:
    source.call("FUNCTION", "LOAD", "#!lua name=mine\nredis.register_function('f', function() return 1 end)")
    sha = source.call("SCRIPT", "LOAD", "return 1")[5:-2].decode()
    rows = [{"command": "EVALSHA", "script": sha, "nargs": 3}, {"command": "FCALL", "nargs": 3}]
    recorded = ("--capture", capture(tmp_path, rows))
    with saving() as target:
        found = flight(source.url, target.url, *recorded)
        assert (found["functions target"]["level"], found["scripts target"]["level"]) == ("pass", "pass")
        assert found["functions target"]["data"]["missing"] == ["mine"]
        assert found["scripts target"]["data"]["missing"] == [sha]
        target.call(
            "ACL", "SETUSER", "app", "on", f">{SECRET}", "~*", "&*", "+@all", "-function|restore", "-script|load"
        )
        limited = flight(source.url, f"redis://app:{SECRET}@{target.host}:{target.port}", *recorded, code=1)
        assert levels(limited, "fail") == {"functions target"}
        assert levels(limited, "warn") == {"scripts target"}


def test_a_clustered_target_is_judged_by_the_capture(source: RedisServer, tmp_path: Path) -> None:
    one_key = [row for row in SIDEKIQ if len(row.get("keys", [])) < 2]
    with cluster(1) as nodes:
        [target] = nodes.nodes
        found = flight(source.url, target.url, "--capture", capture(tmp_path), code=1)
        assert found["cluster target"]["level"] == "fail"
        assert "1 command of 5" in found["cluster target"]["details"][0]
        fits = flight(source.url, target.url, "--capture", capture(tmp_path / "2", one_key))
        assert fits["cluster target"]["level"] == "pass"
        assert "cluster's node" in fits["follow both"]["text"]
        assert flight(source.url, target.url)["cluster target"]["level"] == "unknown"
        with source.talk() as talk:
            talk.call("SELECT", 1)
            talk.call("SET", "a", "b")
        assert flight(source.url, target.url, code=1)["databases target"]["data"]["missing"] == [1]


def test_one_of_several_shards_is_no_target(source: RedisServer) -> None:
    with cluster(2) as nodes:
        found = flight(source.url, nodes.nodes[0].url, code=1)["cluster target"]
    assert "MOVED" in found["text"]
    assert found["data"]["primaries"] == "2"


@pytest.mark.session_only("a shared backend connection is not one for each client")
def test_clients_that_go_past_shunt_are_told_from_shunts(source: RedisServer, tmp_path: Path) -> None:
    console = f"unix://{tmp_path}/s"
    with saving() as target, shunt(source.url, "--console", console) as running, running.talk() as through:
        through.call("PING")

        def bypass(code: int) -> dict[str, Any]:
            return flight(source.url, target.url, "--console", console, code=code)["bypass source"]

        def seen(count: int) -> bool:
            """Connections of less than 2 s are left out: they may be about to be shunt's."""
            return sum(int(client["age"]) >= 2 for client in source.clients()) >= count

        until(lambda: seen(1), what="the client's connection is 2 s old")
        assert bypass(0)["level"] == "pass"
        with source.talk() as direct:
            direct.call("CLIENT", "SETNAME", "cron")
            direct.call("GET", "a")
            until(lambda: seen(2), what="the direct client's connection is 2 s old")
            assert (bypass(0)["level"], bypass(0)["data"]["clients"]) == ("warn", 1)
            direct.call("LPUSH", "queue:default", "job")
            found = bypass(1)
            assert found["level"] == "fail"
            assert found["data"]["groups"] == [{"address": "127.0.0.1", "name": "cron", "count": 1, "command": "lpush"}]
            blind = flight(source.url, target.url)["bypass source"]
            assert blind["level"] == "unknown"
            assert "no running shunt" in blind["text"]
            other = flight(target.url, source.url, "--console", console, code=1)
            assert other["bypass source"]["level"] == "pass"  # nobody is there


def test_tls_is_looked_at_with_the_options_of_its_side(source: RedisServer, tmp_path: Path) -> None:
    files = certificates(tmp_path)
    port = free_port()
    tls = ("--tls-port", str(port), "--tls-cert-file", str(files["cert"]), "--tls-key-file", str(files["key"]),
           "--tls-ca-cert-file", str(files["ca"]), "--tls-auth-clients", "no")  # fmt: skip
    with saving(*tls):
        url = f"rediss://localhost:{port}"
        found = flight(source.url, url, "--target-tls-ca", str(files["ca"]))["tls target"]
        assert (found["level"], round(found["data"]["days_left"])) == ("warn", 2)
        refused = flight(source.url, url, code=1)["tls target"]
        assert refused["level"] == "fail"
        assert "certificate is not accepted" in refused["text"]
        unchecked = flight(source.url, url, "--target-tls-verify", "none")["tls target"]
        assert unchecked["level"] == "unknown"


def test_a_user_who_may_ask_nothing_gets_unknowns_with_their_reasons(source: RedisServer) -> None:
    with saving() as target:
        for server in (source, target):
            server.call("ACL", "SETUSER", "poor", "on", f">{SECRET}", "-@all", "+ping")
        found = flight(
            f"redis://poor:{SECRET}@{source.host}:{source.port}", f"redis://poor:{SECRET}@{target.host}:{target.port}"
        )
    assert levels(found, "pass") == {f"{check} {side}" for check in ("reach", "tls", "credentials", "round-trip")
                                     for side in ("source", "target")}  # fmt: skip
    assert all("poor" in each["text"] or "permission" in each["text"] for each in found["verdict"]["findings"]
               if each["level"] == "unknown" and each["check"] in ("memory", "role", "clock", "bypass"))  # fmt: skip
    assert found["verdict"]["verdict"].startswith("ready, ")


def test_a_service_that_refuses_config_is_read_from_info(source: RedisServer) -> None:
    with saving() as target:
        target.call("ACL", "SETUSER", "managed", "on", f">{SECRET}", "~*", "&*", "+@all", "-config", "-acl|dryrun")
        found = flight(source.url, f"redis://managed:{SECRET}@{target.host}:{target.port}")
    for check in ("memory", "eviction", "connections", "databases", "emptiness", "role", "persistence"):
        assert found[f"{check} target"]["level"] == "pass", found[f"{check} target"]


def test_a_service_without_info_config_and_acl_costs_what_these_would_have_told(
    source: RedisServer, tmp_path: Path
) -> None:
    renamed = [word for name in ("INFO", "CONFIG", "ACL", "FUNCTION") for word in ("--rename-command", name, "")]
    with saving(*renamed) as target:
        found = flight(source.url, target.url, "--capture", capture(tmp_path))
        text = shunt_cli("preflight", source.url, target.url).stdout
    assert {name.split()[0] for name in levels(found, "unknown")} == {
        "same-server", "role", "version", "cluster", "memory", "eviction", "connections", "persistence", "replicas",
        "acl", "follow",
    }  # fmt: skip
    assert levels(found, "warn") == set()
    assert levels(found, "pass") >= {"databases target", "emptiness target", "commands target", "clock both"}
    assert text.count("INFO is refused") == 1


def test_what_a_switch_repeats_is_quick_and_asks_little(source: RedisServer) -> None:
    async def look() -> Preflight:
        places = (Place(Address.parse(source.url)), Place(Address.parse(target.url)))
        return await preflight(*places, quick=True)

    with saving() as target:
        for server in (source, target):
            server.call("CONFIG", "RESETSTAT")
        assert asyncio.run(look()).verdict == "ready"
        assert commands(target) - {"INFO", "CONFIG GET", "PING"} == set()
        target.call("REPLICAOF", source.host, source.port)
        found = asyncio.run(look())
        assert [finding.check for finding in found.findings if finding.level is Level.FAIL] == ["role"]


@pytest.mark.parametrize("gone", ["stopped", "ended"])
def test_a_target_that_does_not_answer_fails_in_a_bounded_time(source: RedisServer, gone: str) -> None:
    with saving() as target:
        if gone == "stopped":
            target.process.signal(signal.SIGSTOP)
        else:
            target.kill()
        found = flight(source.url, target.url, code=1)
    assert levels(found, "fail") == {"reach target"}
    assert levels(found, "pass") >= {"reach source", "role source", "round-trip source"}


REFUSED = {
    "no URL": (["http://a:1", "redis://b:2"], "SOURCE: not a redis URL"),
    "no port": (["redis://a:1", "redis://b:0"], "TARGET: port 0"),
    "no variable": (["redis://a:1", "env:SHUNT_TEST_NOTHING"], "the environment has no SHUNT_TEST_NOTHING"),
    "no capture": (["redis://a:1", "redis://b:2", "--capture", "/nonexistent"], "--capture"),
    "TLS options without TLS": (["redis://a:1", "redis://b:2", "--target-tls-ca", "/x"], "write rediss://"),
    "no such file": (["redis://a:1", "rediss://b:2", "--target-tls-ca", "/nonexistent"], "name PEM files"),
    "half a certificate": (["redis://a:1", "rediss://b:2", "--target-tls-cert", "/x"], "--target-tls-key too"),
    "no console": (["redis://a:1", "redis://b:2", "--console", "unix:///nonexistent"], "--console: no console answers"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_can_not_be_called_like_this_is_one_line_and_2(case: tuple[list[str], str]) -> None:
    args, words = case
    done = shunt_cli("preflight", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_empty_capture_is_not_taken_for_one(tmp_path: Path) -> None:
    empty = capture(tmp_path, [{"command": "GET", "reply": ReplyKind.ERROR}])
    done = shunt_cli("preflight", "redis://a:1", "redis://b:2", "--capture", empty)
    assert done.returncode == 2
    assert "holds no command" in done.stderr


def test_the_text_ends_with_the_verdict(source: RedisServer) -> None:
    with saving() as target:
        done = shunt_cli("preflight", source.url, target.url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"from {source.url}"
    assert lines[-1].startswith("ready")
    assert max(map(len, lines)) <= 100


@pytest.mark.session_only("a shared backend connection is not one for each client")
@pytest.mark.parametrize("workers", [1, 2])
def test_the_console_tells_shunts_connections_as_the_source_sees_them(
    source: RedisServer, tmp_path: Path, workers: int
) -> None:
    console = f"unix://{tmp_path}/s"
    with shunt(source.url, "--console", console, "--workers", str(workers)) as running, contextlib.ExitStack() as open_:
        for n in range(5):
            open_.enter_context(running.talk()).call("CLIENT", "SETNAME", f"through-{n}")
        open_.enter_context(source.talk()).call("CLIENT", "SETNAME", "direct")
        said = ask(console, ["SHOW", "SOCKETS"])
        through = {client["addr"] for client in source.clients() if client["name"].startswith("through")}
        assert {row["addr"] for row in said["answer"]} == through
        assert (len(through), said["notes"]) == (5, [])
