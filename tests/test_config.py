"""Where options come from, which fit together, and what a person reads when they don't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy import config as options
from proxy.config import ConfigError, RunConfig, load
from proxy.config_in_use import again, differences, listing, taking_up

BACKEND = "redis://127.0.0.1:6379"
SECRET = "hunter2hunter2"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RunConfig.model_fields:
        monkeypatch.delenv(options.environment(name), raising=False)


def toml(tmp_path: Path, text: str) -> str:
    path = tmp_path / "shunt.toml"
    path.write_text(text)
    return str(path)


def problem(**flags: Any) -> str:
    """The one line that ``flags`` are refused with."""
    with pytest.raises(ConfigError) as caught:
        load(flags)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_only_the_backend_must_be_named() -> None:
    config = load({"backend": BACKEND})
    assert [str(address) for address in config.listen] == ["redis://127.0.0.1:6380"]
    assert (config.connect_timeout, config.drain_timeout, config.capture_flush) == (0.8, 5.0, 1.0)
    assert config.capture_max_bytes == 10_000_000_000
    assert (config.max_clients, config.max_frame, config.idle_timeout, config.capture, config.http) == (None,) * 5
    assert problem() == "--backend: is needed; give --backend URL, or set SHUNT_BACKEND, or backend in the file"


def test_a_flag_beats_the_environment_which_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml(
        tmp_path, 'backend = "redis://file:1"\nlog-level = "error"\ncapture_args = "none"\ndrain-timeout = "1s"\n'
    )
    monkeypatch.setenv("SHUNT_LOG_LEVEL", "warning")
    monkeypatch.setenv("SHUNT_CAPTURE_ARGS", "keys")
    config = load({"config": file, "capture_args": "full"})
    assert (config.backend.host, config.drain_timeout) == ("file", 1.0)
    assert (config.log_level, config.capture_args) == ("warning", "full")


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUNT_CONFIG", toml(tmp_path, f'backend = "{BACKEND}"'))
    assert load({}).backend.port == 6379


@pytest.mark.parametrize("separator", [",", " ", ", "])
def test_several_listeners_in_the_environment(separator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUNT_LISTEN", separator.join(["redis://127.0.0.1:1", "redis://[::1]:1"]))
    assert [address.label for address in load({"backend": BACKEND}).listen] == ["127.0.0.1:1", "[::1]:1"]


def test_an_empty_variable_is_no_value_and_foreign_ones_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUNT_HTTP", "")
    monkeypatch.setenv("SHUNT_PORT", "tcp://10.0.0.1:6380")  # Kubernetes sets it for a service called shunt
    assert load({"backend": BACKEND}).http is None


def test_off_switches_an_option_off(tmp_path: Path) -> None:
    file = toml(tmp_path, f'backend = "{BACKEND}"\nmax-frame = "1GB"\nidle-timeout = 90\nhttp = "127.0.0.1:1"\n')
    assert (load({"config": file}).max_frame, load({"config": file}).idle_timeout) == (10**9, 90.0)
    off = load({"config": file, "max_frame": "off", "idle_timeout": "off", "http": "off", "max_clients": "off"})
    assert (off.max_frame, off.idle_timeout, off.http, off.max_clients) == (None,) * 4


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("drain_timeout", "soon", "is no duration; write a number with"),
        ("drain_timeout", "0", "should be greater than 0; write for example 800ms"),
        ("capture_max_bytes", "10G", "is no size; write bytes"),
        ("capture_args", "some", "should be 'none', 'keys' or 'full'"),
        ("max_clients", "many", "write a whole number above 0, or off"),
        ("max_clients", "0", "write a whole number above 0, or off"),
        ("http", "9380", "not HOST:PORT; write for example 127.0.0.1:9380"),
        ("allow_open", "perhaps", "write true or false"),
        ("backend", "127.0.0.1", "not a redis URL; write redis://host:port"),
    ],
)
def test_an_error_names_the_option_its_source_and_what_to_do(
    name: str, value: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {} if name == "backend" else {"backend": BACKEND}
    line = problem(**base, **{name: value})
    assert line.startswith(f"{options.flag(name)} (from the command line): ")
    assert says in line
    file = toml(tmp_path, f'{name.replace("_", "-")} = "{value}"\n')
    assert problem(**base, config=file).startswith(f"{options.flag(name)} (from {file}): ")
    monkeypatch.setenv(options.environment(name), value)
    assert problem(**base).startswith(f"{options.flag(name)} (from {options.environment(name)}): ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max-cliets = 3", "max-cliets (from {file}): there is no such option"),
        ("max-clients = 3\nmax_clients = 4", "is there twice"),
        ("[run]\nmax-clients = 3", "run (from {file}): there is no such option"),
        ('config = "x"', "there is no such option"),
        ("max-clients = ", "--config: {file} is not TOML: "),
    ],
)
def test_a_file_with_what_it_must_not_have_is_refused(text: str, says: str, tmp_path: Path) -> None:
    file = toml(tmp_path, text)
    assert says.format(file=file) in problem(backend=BACKEND, config=file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in problem(backend=BACKEND, config=str(tmp_path / "none.toml"))


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        (["redis://127.0.0.1:6380/2"], "clients choose their database; drop the database"),
        (["redis://127.0.0.1:1", "redis://127.0.0.1:1"], "is there twice"),
        (["rediss://127.0.0.1:1"], "needs a certificate; give --listen-tls-cert and -key"),
        (["unix:///no/such/directory/s.sock"], "is no directory to make a socket in"),
        (["unix:///tmp/" + "x" * 120], "longer than 107 bytes"),
        ([BACKEND], "is where shunt itself listens"),
        ([], "names no address"),
    ],
)
def test_a_listener_that_can_not_work_is_refused(listen: list[str], says: str) -> None:
    assert says in problem(backend=BACKEND, listen=listen)


def test_a_limit_of_backend_connections_is_for_shared_mode() -> None:
    says = problem(backend=BACKEND, max_backend_connections="3")
    assert says.startswith("--max-backend-connections ")
    assert says.endswith("use --max-clients")


@pytest.mark.parametrize("option", ["max_clients", "max_backend_connections"])
def test_each_worker_needs_a_share_of_every_limit(option: str) -> None:
    assert load({"backend": BACKEND, "pool": "shared", "workers": "3", option: "3"}).workers == 3
    says = problem(backend=BACKEND, pool="shared", workers="3", **{option: "2"})
    assert says.startswith(f"--{option.replace('_', '-')} ")
    assert "less than --workers 3" in says


@pytest.mark.parametrize(
    ("console", "says"),
    [
        ("redis://127.0.0.1:6399", "would let anyone who reaches it end this shunt; write redis://:password@host:port"),
        ("rediss://:pw@127.0.0.1:6399", "the console speaks no TLS"),
        ("redis://:pw@127.0.0.1:6399/2", "drop the database"),
        ("unix:///tmp/" + "x" * 120, "longer than 107 bytes"),
        ("unix:///tmp/shunt-listen.sock", "is the place of another option"),
        ("/tmp/shunt.sock", "not a redis URL"),
    ],
)
def test_a_console_that_can_not_work_is_refused(console: str, says: str) -> None:
    line = problem(backend=BACKEND, listen=["unix:///tmp/shunt-listen.sock"], console=console)
    assert line.startswith("--console ")
    assert says in line


def test_a_console_is_automatic_off_or_somewhere() -> None:
    given = {"off": "off", "automatic": None, "unix:///tmp/s": "unix:///tmp/s", "redis://:pw@h:1": "redis://:***@h:1"}
    for text, is_shown in given.items():
        place = load({"backend": BACKEND, "console": text}).console
        assert (place if place is None else str(place)) == is_shown
    assert load({"backend": BACKEND}).console is None


def test_tokens_are_for_http() -> None:
    assert "give --http HOST:PORT too" in problem(backend=BACKEND, http_token_file="tokens")


def test_every_option_knows_where_its_value_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toml(tmp_path, f'backend = "redis://:{SECRET}@h"\nlog-level = "error"\nworkers = 2\n')
    monkeypatch.setenv("SHUNT_WORKERS", "3")
    config = load({"config": file, "log_level": "info"})
    found = {row["option"]: (row["value"], row["origin"]) for row in listing(config)}
    assert found["backend"] == ("redis://:***@h:6379", "file")
    assert (found["workers"], found["log-level"]) == (("3", "environment"), ("info", "flag"))
    assert (found["pool-wait"], found["max-clients"]) == (("800ms", "default"), ("automatic", "default"))
    assert SECRET not in str(found)


def test_what_has_changed_in_the_file_is_named_and_only_some_of_it_taken_up(tmp_path: Path) -> None:
    old = load({"config": toml(tmp_path, f'backend = "{BACKEND}"\nlog-level = "error"\n')})
    toml(tmp_path, f'backend = "redis://:{SECRET}@h"\nlog-level = "info"\n')
    new = again(old)
    assert [(each.what, each.outcome) for each in differences(old, new)] == [
        ("backend", "redis://127.0.0.1:6379 -> redis://:***@h:6379: needs a restart"),
        ("log-level", "error -> info"),
    ]
    taken = taking_up(old, new)
    assert (taken.log_level, taken.backend) == ("info", old.backend)


def test_several_free_ports_are_no_duplicates() -> None:
    assert len(load({"backend": BACKEND, "listen": ["redis://127.0.0.1:0", "redis://127.0.0.1:0"]}).listen) == 2


@pytest.mark.parametrize(
    ("listen", "allow_open", "refused"),
    [
        ("redis://0.0.0.0:1", False, True),
        ("redis://10.1.2.3:1", False, True),
        ("redis://0.0.0.0:1", True, False),
        ("redis://:pw@0.0.0.0:1", False, False),
        ("redis://127.0.0.1:1", False, False),
        ("unix:///tmp/shunt-test.sock", False, False),
    ],
)
def test_the_backends_credentials_are_not_lent_to_the_network(listen: str, allow_open: bool, refused: bool) -> None:
    flags = {"backend": f"redis://app:{SECRET}@127.0.0.1:6379", "listen": [listen], "allow_open": allow_open}
    if refused:
        assert "would let anyone use the backend's credentials" in problem(**flags)
    else:
        assert load(flags).backend.has_credentials


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"listen_tls_cert": "{pem}"}, "no --listen is rediss://"),
        ({"backend_tls_ca": "{pem}"}, "no --backend is rediss://"),
        ({"backend_tls_verify": "ca"}, "--backend is not rediss://"),
        ({"listen": ["rediss://h:1"], "listen_tls_cert": "{pem}"}, "give --listen-tls-key too"),
        ({"backend": "rediss://h:1", "backend_tls_key": "{pem}"}, "give --backend-tls-cert too"),
        ({"backend": "rediss://h:1", "backend_tls_ca": "/no/such.pem"}, "is no readable file"),
        ({"listen": ["rediss://h:1"], "listen_tls_cert": "{pem}", "listen_tls_key": "{pem}"}, ""),
        ({"backend": "rediss://h:1", "backend_tls_ca": "{pem}", "backend_tls_verify": "ca"}, ""),
    ],
)
def test_tls_options_come_whole_and_only_with_tls(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    pem = tmp_path / "some.pem"
    pem.write_text("")
    flags = {"backend": BACKEND, **{k: v.format(pem=pem) if isinstance(v, str) else v for k, v in given.items()}}
    if says:
        assert says in problem(**flags)
    else:
        load(flags)


def test_a_capture_is_a_directory_that_holds_a_segment(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert "is no directory" in problem(backend=BACKEND, capture=str(file))
    assert "at least one segment" in problem(backend=BACKEND, capture_max_bytes="1MB", capture_segment_bytes="2MB")
    assert load({"backend": BACKEND, "capture": str(tmp_path / "made-later")}).capture == tmp_path / "made-later"


@pytest.mark.parametrize(
    "flags",
    [
        {"backend": f"redis://:{SECRET}@127.0.0.1:x"},
        {"backend": f"redis://:{SECRET}/@127.0.0.1"},
        {"backend": f"redis://:{SECRET}@10.0.0.1", "listen": ["redis://0.0.0.0:1"]},
        {"backend": f"redis://:{SECRET}@10.0.0.1", "listen": [f"redis://:{SECRET}@0.0.0.0:1/3"]},
        {"backend": f"redis://:{SECRET}@10.0.0.1", "max_clients": "x"},
        {"backend": f"redis://:{SECRET}@10.0.0.1", "listen": [f"rediss://:{SECRET}@10.0.0.1"]},
    ],
)
def test_no_error_shows_a_password(flags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert SECRET not in problem(**flags)
    for name in flags:
        value = flags[name]
        monkeypatch.setenv(options.environment(name), value if isinstance(value, str) else value[0])
    assert SECRET not in problem()


def test_a_configuration_does_not_show_its_passwords() -> None:
    config = load({"backend": f"redis://:{SECRET}@h", "listen": [f"redis://:{SECRET}@h:1"]})
    assert SECRET not in repr(config) + str(config) + str(config.model_dump())


def test_a_configuration_can_not_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load({"backend": BACKEND}).max_clients = 3


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"pool": "shared"}, "needs --pool session"),
        ({"rehearse": "redis-cluster"}, "can't be had with --rehearse"),
    ],
)
def test_riding_through_has_its_conditions(more: dict[str, str], says: str) -> None:
    assert says in problem(backend=BACKEND, ride_through="30s", **more)
    assert load({"backend": BACKEND, "ride_through": "30s"}).ride_through == 30.0
    assert load({"backend": BACKEND}).ride_through is None
