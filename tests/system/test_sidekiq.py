"""A real Sidekiq through shunt: every job once, and a capture that equals the backend's MONITOR."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers import (
    Monitor,
    Process,
    RedisServer,
    Seen,
    Shunt,
    captured,
    findings,
    monitor,
    printed,
    redis_server,
    shunt,
    shunt_cli,
    start,
    until,
)

RUBY = Path(__file__).parent / "sidekiq"

pytestmark = pytest.mark.skipif(shutil.which("sidekiq") is None, reason="Debian's ruby-sidekiq is not installed")


@dataclass
class Ledger:
    """The file in which jobs write down that they ran."""

    path: Path

    def lines(self) -> list[list[str]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [line.split(" ") for line in text.split("\n")[:-1]]

    def count(self, word: str) -> Counter[str]:
        """How often each tag ``ran``, ``failed`` or ``started``."""
        return Counter(line[1] for line in self.lines() if line[0] == word)


@dataclass
class Sidekiq:
    """What is run against one URL: worker processes and scripts, writing into one ledger."""

    url: str
    ledger: Ledger
    directory: Path
    workers: list[Process] = field(default_factory=list)

    def env(self) -> dict[str, str]:
        return {"REDIS_URL": self.url, "LEDGER": str(self.ledger.path), "LANG": "C.UTF-8"}

    def work(self) -> Process:
        args = ["sidekiq", "-r", str(RUBY / "boot.rb"), "-c", "5"]
        for queue in ("critical", "default", "low"):
            args += ["-q", queue]
        log = self.directory / f"sidekiq-{len(self.workers)}.log"
        self.workers.append(start(args, log, env=self.env(), cwd=self.directory))
        return self.workers[-1]

    def script(self, name: str, *args: str) -> dict[str, Any]:
        """What a script prints as its last line."""
        done = subprocess.run(
            ["ruby", str(RUBY / name), *args],
            env={**os.environ, **self.env()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def stop(self, worker: Process) -> None:
        worker.popen.terminate()
        assert worker.wait(30) == 0, worker.log


@contextlib.contextmanager
def sidekiq(url: str, directory: Path) -> Iterator[Sidekiq]:
    directory.mkdir(parents=True, exist_ok=True)
    running = Sidekiq(url, Ledger(directory / "ledger"), directory)
    try:
        yield running
    finally:
        for worker in running.workers:
            worker.kill()


@dataclass
class Story:
    """Everything that one day at work left behind."""

    wanted: list[str]
    wanted_to_fail: list[str]
    ledger: Ledger
    busy: dict[str, Any]
    idle: dict[str, Any]
    gone: dict[str, Any]
    monitor: list[Seen]
    capture: Path
    worker_log: str
    plain_pipes: float


def live_through(redis: RedisServer, recording: Monitor, through: Shunt, home: Path) -> Story:
    wanted: list[str] = []
    fail: list[str] = []
    release = home / "release"
    with sidekiq(through.url, home) as shop:
        early = shop.script("produce.rb", "early", "2")  # before a worker is there
        worker = shop.work()
        late = shop.script("produce.rb", "late", "4")
        for made in (early, late):
            wanted += made["ran"]
            fail += made["failed"]
        ran = until(lambda: len(shop.ledger.count("ran")) >= len(wanted), within_s=60, what="every job ran")
        assert ran
        subprocess.run(
            ["ruby", "-r", str(RUBY / "jobs.rb"), "-e", f"WaitingJob.perform_async('waits', {str(release)!r})"],
            env={**os.environ, **shop.env()},
            check=True,
            timeout=60,
        )
        until(lambda: shop.ledger.count("started"), what="the waiting job has started")
        until(lambda: b":workers" in redis.call("KEYS", "*:workers"), what="a heartbeat shows what it works on")
        busy = shop.script("inspect.rb")
        release.touch()
        until(lambda: shop.ledger.count("ran")["waits"], what="the waiting job ended")
        idle = shop.script("inspect.rb", "manage")
        shop.stop(worker)
        gone = shop.script("inspect.rb")
        until(lambda: len(redis.held()) <= 1, what="only MONITOR is still connected")
        pipes = through.metric("shunt_plain_pipes_total")
        through.stop()
        assert through.capture is not None
        return Story(
            [*wanted, "waits"], fail, shop.ledger, busy, idle, gone,
            recording.stop(), through.capture, worker.log, pipes,
        )  # fmt: skip


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    home = tmp_path_factory.mktemp("sidekiq")
    with (
        redis_server() as redis,
        monitor(redis) as recording,
        shunt(redis.url, capture=home / "capture") as through,
    ):
        yield live_through(redis, recording, through, home)


def test_every_job_runs_once(story: Story) -> None:
    ran = story.ledger.count("ran")
    assert set(ran) == set(story.wanted)
    assert {tag: times for tag, times in ran.items() if times != 1} == {}


def test_a_job_that_fails_is_tried_again_once(story: Story) -> None:
    assert story.ledger.count("failed") == Counter(story.wanted_to_fail)


def test_payloads_arrive_whole(story: Story) -> None:
    sizes = {line[1]: int(line[2]) for line in story.ledger.lines() if line[0] == "ran" and line[2] != "0"}
    assert sizes.pop("early-big-1") == 300_000
    assert sizes["late-low-7"] == 6 * 7


def test_the_api_sees_queues_processes_retries_and_the_dead(story: Story) -> None:
    assert story.busy["processes"][0][:2] == [5, ["critical", "default", "low"]]
    assert len(story.busy["beats"]) == 1
    assert story.busy["work"] == ["WaitingJob"]
    assert [name for name, *_ in story.idle["queues"]] == ["critical", "default", "low"]
    assert story.idle["dead"] == sorted(tag for tag in story.wanted_to_fail if "doomed" in tag)
    assert (story.idle["found"], story.idle["deleted"], story.idle["parked"]) == (["parked-2"], True, 1)
    assert story.idle["dead_left"] == 0
    assert story.gone["processes"] == []
    assert story.gone["processed"] == len(story.wanted) + len(story.wanted_to_fail)
    assert story.gone["failed"] == len(story.wanted_to_fail)


def test_sidekiq_notices_nothing(story: Story) -> None:
    complaints = [line for line in story.worker_log.splitlines() if " WARN" in line or " ERROR" in line]
    about_redis = re.compile(r"redis|connect|heartbeat|fetch|time ?out|rtt|latency|errno", re.I)
    assert [line for line in complaints if about_redis.search(line.split('"job":')[0])] == []


def test_no_connection_became_a_plain_pipe(story: Story) -> None:
    assert story.plain_pipes == 0


# ------------------------------------------------------------------------- the capture against MONITOR

#: Why a command that a client sent is not in MONITOR, or a line of MONITOR is not in the capture. Everything else
#: must be equal: per connection, in order, argument for argument.
DIFFERENCES = {
    "lua": "MONITOR shows what a script does as lines of 'lua'; no client sent them",
    "admin": "Redis shows no administrative commands (CONFIG, DEBUG, MONITOR, SLOWLOG, CLIENT LIST, ...)",
    "rejected": "Redis shows no command that it did not run: unknown, wrong number of arguments, NOAUTH, NOPERM",
    "aborted": "commands queued in a transaction that did not run are not shown; MULTI, EXEC and DISCARD are",
    "redacted": "MONITOR writes (redacted) for a secret; the capture keeps no arguments of such a command at all",
    "own": "connections of the test itself and shunt's own probes are in MONITOR and are no client's",
    "unfinished": "a command whose connection ended before its reply may or may not have reached Redis",
}

ADMIN = {"CONFIG", "DEBUG", "MONITOR", "SLOWLOG", "ACL", "SHUTDOWN", "REPLCONF", "PSYNC", "SYNC", "LATENCY", "FAILOVER"}
ADMIN_PARTS = {"CLIENT LIST", "CLIENT KILL", "CLIENT PAUSE", "CLIENT UNPAUSE", "CLIENT UNBLOCK", "CLIENT NO-EVICT"}
REJECTED = ("ERR unknown", "NOAUTH", "NOPERM", "EXECABORT")

Words = tuple[bytes, ...]


def shown(rows: list[dict[str, Any]]) -> list[Words]:
    """What MONITOR must show of one connection's rows."""
    from proxy.capture.format import Flag, ReplyKind

    ran = {row["txn"] for row in rows if row["command"] == b"EXEC" and row["reply"] == ReplyKind.ARRAY}
    lines = []
    for row in rows:
        command = row["command"].decode()
        assert not row["gap"], f"a gap in the capture: {row['gap']!r}"
        queued = row["flags"] & Flag.QUEUED
        if command.split(" ")[0] in ADMIN or command in ADMIN_PARTS:
            continue  # admin
        if row["error"] in (b"NOAUTH", b"NOPERM") or (queued and row["txn"] not in ran):
            continue  # rejected, aborted
        if row["flags"] & Flag.REDACTED:
            lines.append((row["command"],))  # redacted
        else:
            assert row["flags"] & Flag.ARGS, f"no arguments of {command}"
            assert not row["flags"] & Flag.ARGS_CUT, f"arguments of {command} were cut"
            lines.append(tuple(row["args"]))
    return lines


#: What the test and shunt's probes say to the backend themselves. Sidekiq writes its PING in small letters.
OWN = {(b"KEYS", b"*:workers"), (b"CLIENT", b"ID"), (b"PING",), (b"INFO", b"default")}


def by_connection(lines: list[Seen]) -> dict[str, list[Words]]:
    """MONITOR's lines per address, without scripts' and the test's own, and of redacted ones the name only."""
    seen: dict[str, list[Words]] = defaultdict(list)
    for line in lines:
        if line.who != "lua" and line.args not in OWN:
            redacted = b"(redacted)" in line.args
            seen[line.who].append((line.args[0].upper(),) if redacted else line.args)
    return seen


def assert_equal_per_connection(rows: list[dict[str, Any]], lines: list[Seen]) -> None:
    """Each connection of the capture is one address of MONITOR, or a part of it: ports are used again."""
    conns: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        conns[row["conn"]].append(row)
    ours = Counter(tuple(shown(part)) for part in conns.values())
    ours.pop((), None)
    theirs = [tuple(part) for part in by_connection(lines).values()]
    for rest in sorted(theirs, key=lambda part: not ours[part]):  # equal ones first
        while rest:
            fits = [part for part in +ours if rest[: len(part)] == part]
            assert fits, nearest(rest, list(+ours))
            part = max(fits, key=len)
            ours[part] -= 1
            rest = rest[len(part) :]
    assert not +ours, f"only in the capture: {[part[:5] for part in +ours]}"


def nearest(one: tuple[Words, ...], others: list[tuple[Words, ...]]) -> str:
    """The first differences between a connection of MONITOR and the most similar one of the capture."""
    if not others:
        return f"only in MONITOR: {one[:5]}"
    best = max(others, key=lambda other: len(set(one) & set(other)))
    diff = difflib.unified_diff([*map(str, one)], [*map(str, best)], "MONITOR", "capture", n=1, lineterm="")
    return "\n".join(line[:300] for line in list(diff)[:30])


@pytest.mark.session_only("MONITOR's connections are not the clients'")
def test_the_capture_equals_monitor_per_connection_and_in_order(story: Story) -> None:
    rows = captured(story.capture)
    assert len(rows) > 500
    assert_equal_per_connection(rows, story.monitor)


def test_the_sequence_numbers_of_each_connection_have_no_holes(story: Story) -> None:
    seqs: dict[int, list[int]] = defaultdict(list)
    for row in captured(story.capture):
        seqs[row["conn"]].append(row["seq"])
    assert {conn: seq for conn, seq in seqs.items() if seq != list(range(len(seq)))} == {}


def test_every_exchange_has_its_times_and_sizes(story: Story) -> None:
    from proxy.capture.format import Flag, ReplyKind

    for row in captured(story.capture):
        size = sum(len(b"$%d\r\n" % len(a)) + len(a) + 2 for a in row["args"]) + len(b"*%d\r\n" % len(row["args"]))
        assert row["request_bytes"] == size, row
        if row["reply"] != ReplyKind.LOST:
            assert row["latency_ns"] >= 0
            assert row["reply_bytes"] > 0
        blocking = bool(row["flags"] & Flag.BLOCKING)
        assert blocking == (row["command"] in (b"BRPOP",)), row


def test_a_pop_that_got_a_job_says_from_which_queue(story: Story) -> None:
    from proxy.capture.format import Flag, ReplyKind

    pops = [row for row in captured(story.capture) if row["command"] == b"BRPOP"]
    served = Counter(row["served_key"] for row in pops if row["flags"] & Flag.SERVED)
    assert set(served) == {b"queue:critical", b"queue:default", b"queue:low"}
    assert sum(served.values()) == sum(row["reply"] == ReplyKind.ARRAY for row in pops)
    pushed = Counter[bytes]()
    for line in story.monitor:
        if line.args[0].lower() == b"lpush" and line.args[1] != b"queue:parked":
            pushed[line.args[1]] += len(line.args) - 2
    assert served == pushed


def test_the_report_names_what_sidekiq_does_that_a_cluster_refuses(story: Story) -> None:
    found = findings(story.capture, code=1)
    errors = Counter(finding["command"] for finding in found if finding["severity"] == "error")
    assert errors["BRPOP"] > 10  # three queues without a common hash tag
    assert errors["EXEC"] >= 2  # heartbeats
    assert set(errors) <= {"BRPOP", "EXEC", "MGET"}


def test_the_report_says_of_sidekiq_what_happened_and_nothing_that_did_not(story: Story) -> None:
    done = shunt_cli("report", str(story.capture), "--format", "json")
    found = json.loads(done.stdout)["sidekiq"]
    pushed = {queue["name"]: queue["pushed"] for queue in found["queues"]}
    assert sum(queue["fetched"] for queue in found["queues"]) == story.gone["processed"]
    assert {name: count for name, count in pushed.items() if name != "parked"} == {
        queue["name"]: queue["fetched"] for queue in found["queues"] if queue["name"] != "parked"
    }
    assert all(queue["depth"] == 0 and not queue["unseen_in"] for queue in found["queues"])
    assert sum(job["count"] for job in found["jobs"]) == sum(pushed.values())
    doomed = sum("doomed" in tag for tag in story.wanted_to_fail)
    assert [(job["name"], job["dead"]) for job in found["jobs"] if job["dead"]] == [("DoomedJob", doomed)]
    assert {advice["rule"] for advice in found["advice"]} == {"big-payloads", "dead-set-growing"}


def test_what_is_printed_is_what_was_captured(story: Story) -> None:
    lines = printed(story.capture)
    rows = captured(story.capture)
    assert len(lines) == len(rows)
    assert Counter(line["command"] for line in lines) == Counter(row["command"].decode() for row in rows)
    pushes = [line for line in lines if line["command"] == "LPUSH"]
    assert all(line["args"][0].upper() == "LPUSH" and line["key"] == line["args"][1] for line in pushes)
    assert all(line["reply"] == "integer" and line["slot"] is not None for line in pushes)


# ------------------------------------------------------------------------- a restart in the middle


def test_a_restart_of_shunt_in_the_middle_of_the_work_loses_and_doubles_no_job(tmp_path: Path) -> None:
    with redis_server() as redis, sidekiq(redis.url, tmp_path / "producer") as producer:
        made = producer.script("produce_naps.rb", "800")["ran"]
        with contextlib.ExitStack() as stack:
            through = stack.enter_context(shunt(redis.url, capture=tmp_path / "capture"))
            shop = stack.enter_context(sidekiq(through.url, tmp_path / "shop"))
            worker = shop.work()
            for share in (0.2, 0.5):
                until(lambda share=share: len(shop.ledger.lines()) > share * len(made), within_s=60, what="jobs run")
                through.stop()
                again = shunt(redis.url, address=through.address, capture=tmp_path / "capture")
                through = stack.enter_context(again)
            until(lambda: len(shop.ledger.count("ran")) == len(made), within_s=60, what="every job ran")
            shop.stop(worker)
        assert shop.ledger.count("ran") == Counter(made)
        assert redis.call("LLEN", "queue:default") == b":0\r\n"


# ------------------------------------------------------------------------- the same with redis-py's worst


@pytest.mark.session_only("MONITOR's connections are not the clients'")
def test_a_capture_of_awkward_commands_equals_monitor_but_for_the_table(tmp_path: Path) -> None:
    """Every line of DIFFERENCES occurs here."""
    with redis_server() as redis, monitor(redis) as recording, shunt(redis.url, capture=tmp_path / "c") as through:
        with through.talk() as talk, through.talk() as lost:
            for words in AWKWARD:
                talk.call(*words)
            lost.send(b"*3\r\n$5\r\nBRPOP\r\n$4\r\nnope\r\n$1\r\n0\r\n")
            until(redis.blocked, what="a BRPOP that will not end")
        until(lambda: len(redis.held()) <= 1, what="only MONITOR is still connected")
        through.stop()
        lines = recording.stop()
    rows = [row for row in captured(tmp_path / "c") if row["error"] != b"ERR" or row["command"] != b"FOO"]
    rows = [row for row in rows if not (row["command"] == b"GET" and len(row["args"]) == 1)]  # rejected
    assert_equal_per_connection(rows, lines)
    assert any(line.who == "lua" for line in lines)


AWKWARD: list[tuple[bytes | str, ...]] = [
    ("SET", b'\xff\x00\r\n"q"\\', b"\x07\x08\t'"),
    ("set", "", ""),
    ("EVAL", "redis.call('incr', KEYS[1]) return redis.call('get', KEYS[1])", "1", "n"),
    ("CONFIG", "GET", "port"),
    ("CLIENT", "LIST"),
    ("FOO", "bar"),
    ("GET",),
    ("AUTH", "secret-of-auth"),
    ("HELLO", "3", "AUTH", "default", "secret-of-hello"),
    ("MULTI",),
    ("SET", "a", "1"),
    ("FOO",),
    ("EXEC",),
    ("MULTI",),
    ("SET", "a", "2"),
    ("DISCARD",),
    ("WATCH", "a"),
    ("SET", "a", "3"),
    ("MULTI",),
    ("SET", "a", "4"),
    ("EXEC",),
    ("MULTI",),
    ("SET", "a", "5"),
    ("LPUSH", "a", "wrong type"),
    ("EXEC",),
    ("SELECT", "3"),
    ("BRPOP", "none", "0.05"),
    ("RESET",),
    ("ping",),
]


# ------------------------------------------------------------------------- privacy


SECRET_KEY, SECRET_VALUE, SECRET_BODY = b"key-that-is-secret", b"value-that-is-secret", b"body-that-is-secret"
NEVER = [b"pw-auth", b"pw-hello", b"pw-acl", b"pw-config", b"pw-migrate"]


def record_secrets(directory: Path, mode: str) -> tuple[bytes, str, list[dict[str, Any]]]:
    """All bytes of a capture as far as they can be unpacked, shunt's log, and the rows."""
    with redis_server() as redis, shunt(redis.url, capture=directory, capture_args=mode) as through:
        with through.talk() as talk:
            talk.call("SET", SECRET_KEY, SECRET_VALUE)
            talk.call("BRPOP", SECRET_KEY, SECRET_KEY + b"2", 0.01)
            talk.call("EVAL", b"return '" + SECRET_BODY + b"'", 1, SECRET_KEY)
            talk.call("AUTH", "pw-auth")
            talk.call("AUTH", "default", "pw-auth")
            talk.call("HELLO", "3", "AUTH", "default", "pw-hello", "SETNAME", "joe")
            talk.call("ACL", "SETUSER", "joe", ">pw-acl")
            talk.call("CONFIG", "SET", "masterauth", "pw-config", "maxmemory", "0")
            talk.call("config", "set", "requirepass", "pw-config")
            talk.call("MIGRATE", "127.0.0.1", "1", "nokey", "0", "10", "AUTH", "pw-migrate")
            talk.call("MIGRATE", "127.0.0.1", "1", "", "0", "10", "AUTH2", "u", "pw-migrate", "KEYS", "nokey")
            talk.send(b"AUTH pw-auth\r\n").frame()
            talk.send(b"*3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$7\r\npw-auth\r\n").frame()
            talk.call("MULTI")
            talk.call("AUTH", "pw-auth")
            talk.call("DISCARD")
            talk.call("CONFIG", "SET", "requirepass", "")
        through.stop()
        log = through.log
    rows = captured(directory)
    raw = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
    return raw + repr(rows).encode(), log, rows


@pytest.fixture(scope="module", params=["none", "keys", "full"])
def secrets(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, bytes, str, list[dict[str, Any]], Path]:
    directory = tmp_path_factory.mktemp(f"secrets-{request.param}")
    return (request.param, *record_secrets(directory, request.param), directory)


Secrets = tuple[str, bytes, str, list[dict[str, Any]], Path]


def test_a_password_is_never_captured_or_logged(secrets: Secrets) -> None:
    _, data, log, rows, directory = secrets
    assert len(rows) >= 15
    scripts = repr(scripts_of(directory)).encode()
    assert [word for word in NEVER if word in data or word in scripts or word.decode() in log] == []


def test_keys_and_arguments_are_kept_as_far_as_asked(secrets: Secrets) -> None:
    mode, data, log, _, directory = secrets
    scripts = repr(scripts_of(directory)).encode()
    assert (SECRET_KEY in data) == (mode in ("keys", "full"))
    assert (SECRET_VALUE in data) == (mode == "full")
    assert (SECRET_BODY in scripts) == (mode in ("keys", "full"))
    assert mode != "none" or SECRET_BODY not in data
    assert SECRET_KEY.decode() not in log
    assert SECRET_VALUE.decode() not in log


def test_only_the_owner_may_read_a_capture(secrets: Secrets) -> None:
    files = [path for path in secrets[4].rglob("*") if path.is_file()]
    assert files
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}


def scripts_of(directory: Path) -> dict[bytes, bytes]:
    from proxy.capture.reader import Capture

    capture = Capture([directory])
    for _ in capture.batches():
        pass
    return capture.scripts()
