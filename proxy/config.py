"""Every option of ``shunt run``, once: its name, type, default and help.

Knows: the options, their units, and which values fit together. A value comes from a flag, else from the environment
(``SHUNT_…``), else from the TOML file, else it is the default. Refuses to know: what the options do (``app``) and how
flags are parsed (``cli.run`` makes them out of the fields below). ``docs/options.md`` is made out of this module.
"""

# Over 300 lines: a third of them are the options themselves, a field each.
from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from proxy.address import Address, HostPort, Named
from proxy.config_checks import CHECKS
from proxy.report.targets import DEFAULT, TargetError
from proxy.report.targets.rehearse import rehearsable
from proxy.routing.table import KeyClass
from proxy.units import parse_duration_s, parse_size_bytes, show_duration, show_size

ENV_PREFIX = "SHUNT_"
#: Options whose None is not "off" but a value that shunt finds out.
_AUTOMATIC = {"max_clients", "report_on_exit", "console"}

#: What to write instead, where the type's own message does not say it.
_HINTS = {
    "N": "; write a whole number above 0, or off",
    "DURATION": "; write for example 800ms, 5s or 2h",
    "SIZE": "; write for example 64MiB or 10GB",
    "": "; write true or false",
}

DEFAULT_LISTEN = Address("redis", "127.0.0.1", 6380)


class ConfigError(Exception):
    """A configuration that can't be used: one line that names the option, where it came from and what to do."""


def _address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


def _addresses(value: object) -> object:
    return value.replace(",", " ").split() if isinstance(value, str) else value


def _named(value: object) -> object:
    return Named.parse(value) if isinstance(value, str) else value


def _key_class(value: object) -> object:
    return KeyClass.parse(value) if isinstance(value, str) else value


def _host_port(value: object) -> object:
    return HostPort.parse(value) if isinstance(value, str) else value


def _off(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in ("off", "none", "automatic", "") else value


def _console(value: object) -> object:
    if not isinstance(value, str) or value.strip().lower() == "off":
        return "off" if isinstance(value, str) else value
    return None if value.strip().lower() == "automatic" else Address.parse(value)


def _duration(value: object) -> object:
    return parse_duration_s(value) if isinstance(value, str) else value


def _size(value: object) -> object:
    return parse_size_bytes(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Rehearse:
    """``TARGET[:PERCENT]``: what is rehearsed, and by which share of the client connections."""

    target: str
    percent: int = 100

    @classmethod
    def parse(cls, text: str) -> Rehearse:
        target, colon, percent = text.partition(":")
        try:
            target = rehearsable(target).id
        except TargetError as error:
            raise ValueError(f"{error}; or off") from None
        if not colon:
            return cls(target)
        if not (percent.isascii() and percent.isdigit() and 1 <= int(percent) <= 100):
            raise ValueError(f"the share of connections must be 1 to 100, like {target}:25")
        return cls(target, int(percent))

    def __str__(self) -> str:
        return f"{self.target}:{self.percent}"


def _rehearse(value: object) -> object:
    return Rehearse.parse(value.strip()) if isinstance(value, str) else value


class Shape(str):
    """What a value looks like, for ``--help`` and the docs."""


_URL = Annotated[Address, BeforeValidator(_address)]
_Seconds = Annotated[float, Field(gt=0, le=10 * 366 * 86400), BeforeValidator(_duration)]
_Bytes = Annotated[int, Field(gt=0, le=1 << 62), BeforeValidator(_size)]

Url = Annotated[_URL, Shape("URL")]
UrlOrOff = Annotated[_URL | None, BeforeValidator(_off), Shape("URL")]
Urls = Annotated[list[_URL], BeforeValidator(_addresses), Shape("URL")]
Backends = Annotated[list[Annotated[Named, BeforeValidator(_named)]], BeforeValidator(_addresses), Shape("NAME=URL")]
Classes = Annotated[
    list[Annotated[KeyClass, BeforeValidator(_key_class)]], BeforeValidator(_addresses), Shape("NAME=BACKEND:PATTERN")
]
Place = Annotated[HostPort | None, BeforeValidator(_host_port), BeforeValidator(_off), Shape("HOST:PORT")]
ConsoleUrl = Annotated[Address | Literal["off"] | None, BeforeValidator(_console), Shape("URL")]
File = Annotated[Path | None, BeforeValidator(_off), Shape("FILE")]
Directory = Annotated[Path | None, BeforeValidator(_off), Shape("DIR")]
Duration = Annotated[_Seconds, Shape("DURATION")]
DurationOrOff = Annotated[_Seconds | None, BeforeValidator(_off), Shape("DURATION")]
Size = Annotated[_Bytes, Shape("SIZE")]
SizeOrOff = Annotated[_Bytes | None, BeforeValidator(_off), Shape("SIZE")]
Count = Annotated[int, Field(gt=0), Shape("N")]
CountOrOff = Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(_off), Shape("N")]


RehearseOrOff = Annotated[Rehearse | None, BeforeValidator(_rehearse), BeforeValidator(_off), Shape("TARGET[:PERCENT]")]


class RunConfig(BaseSettings):
    """The options of ``shunt run``. Durations are seconds, sizes are bytes, None is off or automatic."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        enable_decoding=False,  # lists in the environment are separated by commas or spaces, not JSON
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    listen: Urls = Field(
        default=[DEFAULT_LISTEN],
        description="Where clients connect; may be given several times. Credentials in it are asked of every client.",
    )
    backend: Url = Field(
        description="The Redis that everything is forwarded to. Credentials and a database in it are sent for clients."
    )
    backends: Backends = Field(
        default=[],
        description="Other Redis by name, which shunt switch may move traffic to; may be given several times. "
        "--backend's own name is main.",
    )
    classes: Classes = Field(
        default=[],
        description="Keys that live on another Redis: a class, the name of its backend, and patterns (prefix* or a "
        "whole key) with | between them (docs/routes.md); may be given several times. All other keys are on --backend.",
    )
    split_keys: bool = Field(
        default=False,
        description="With --classes: send DEL, UNLINK, EXISTS, TOUCH and MGET with keys on several backends in parts, "
        "one after the other; else they are refused.",
    )
    route_file: File = Field(
        default=None,
        description="Where it is kept where traffic goes (docs/switch.md); it wins over --backend. Needed by shunt "
        "switch; off: traffic stays where --backend says.",
    )
    capture: Directory = Field(
        default=None, description="Record every command into this directory; off: nothing is recorded."
    )
    capture_args: Literal["none", "keys", "full"] = Field(
        default="keys",
        description="What is recorded of arguments: none, the names of keys, or everything but secrets (for replay).",
    )
    http: Place = Field(default=None, description="Serve /metrics, /healthz and /readyz here; off: no HTTP.")
    console: ConsoleUrl = Field(
        default=None,
        description="Where redis-cli and shunt status, clients, kill … find this shunt (docs/console.md); automatic: "
        "$XDG_RUNTIME_DIR/shunt.sock, else /run/shunt/shunt.sock if there is that folder; off: no console.",
    )
    http_token_file: File = Field(
        default=None, description="Lines NAME TOKEN: who may use the console's verbs over HTTP; off: nobody."
    )
    audit_log: File = Field(
        default=None, description="Write a line for each change made at a console here; off: into the ordinary log."
    )
    config: File = Field(default=None, description="A TOML file with any of these options.")

    listen_tls_ca: File = Field(
        default=None, description="Ask clients for a certificate signed by these authorities (PEM)."
    )
    listen_tls_cert: File = Field(default=None, description="Certificate chain of rediss:// listeners (PEM).")
    listen_tls_key: File = Field(default=None, description="Private key of that certificate (PEM).")
    backend_tls_ca: File = Field(
        default=None, description="Authorities that may sign the backend's certificate (PEM); off: the system's."
    )
    backend_tls_cert: File = Field(default=None, description="Certificate chain shown to the backend (PEM).")
    backend_tls_key: File = Field(default=None, description="Private key of that certificate (PEM).")
    backend_tls_verify: Literal["full", "ca", "none"] = Field(
        default="full",
        description="Check the backend's certificate: authority and host name, the authority only, or nothing.",
    )

    pool: Literal["session", "shared"] = Field(
        default="session",
        description="A backend connection for each client, or a few that clients share (docs/pooling.md).",
    )
    pool_size: Count = Field(
        default=2, description="Shared backend connections for each database, user and protocol version."
    )
    pool_wait: Duration = Field(
        default=0.8, description="Longest wait for a backend connection while --max-backend-connections are in use."
    )
    max_backend_connections: CountOrOff = Field(
        default=None, description="Most backend connections at once, of all workers together; off: no limit."
    )
    client_buffer: Size = Field(
        default=32_000_000, description="With --pool shared: close a client that leaves more than this unread."
    )
    target: Annotated[str, Shape("TARGET")] = Field(
        default=DEFAULT, description="Which target's refusals are counted live (shunt targets lists them)."
    )
    rehearse: RehearseOrOff = Field(
        default=None,
        description="Refuse what this target would refuse, on this share of the client connections "
        "(docs/rehearsal.md); off: nothing is refused.",
    )
    mirror_target: UrlOrOff = Field(
        default=None,
        description="What MIRROR START mirrors to when it names no target (docs/mirror.md); off: it must name one.",
    )
    mirror_buffer: Size = Field(
        default=64_000_000,
        description="Most bytes that wait for a mirror, in each worker; more is dropped and counted.",
    )
    workers: Count = Field(default=1, description="Worker processes that share the listening addresses.")

    max_clients: CountOrOff = Field(
        default=None,
        description="Most clients at once; automatic: as many as the limit of open files (RLIMIT_NOFILE) allows.",
    )
    max_frame: SizeOrOff = Field(
        default=None, description="Close a client whose command is larger than this; off: Redis decides."
    )
    idle_timeout: DurationOrOff = Field(
        default=None, description="Close a client that has sent nothing and waits for nothing for so long."
    )
    connect_timeout: Duration = Field(default=0.8, description="Longest time for connecting to the backend.")
    ride_through: DurationOrOff = Field(
        default=None,
        description="While the backend restarts, fails over or refuses, have clients wait for it at most so long "
        "(docs/outage.md); off: they are closed or refused at once.",
    )
    drain_timeout: Duration = Field(
        default=5.0, description="Longest time, after SIGTERM, for commands that are under way."
    )

    capture_max_bytes: Size = Field(
        default=10_000_000_000, description="Delete the oldest closed segments when the capture is larger."
    )
    capture_max_age: DurationOrOff = Field(
        default=None, description="Delete closed segments that are older; off: none is too old."
    )
    capture_segment_bytes: Size = Field(default=128_000_000, description="Begin a new segment at this size.")
    capture_flush: Duration = Field(
        default=1.0, description="Write what was recorded at least this often: kill -9 loses no more."
    )

    backend_facts: DurationOrOff = Field(
        default=60.0,
        description="While recording, ask the backend so often for its limits, memory policy and connections.",
    )

    log_format: Literal["text", "json"] = Field(default="text", description="Log lines for people or for programs.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    allow_open: bool = Field(
        default=False,
        description="Let clients off this machine use the backend's credentials without any of their own.",
    )
    report_on_exit: bool | None = Field(
        default=None,
        description="Print the report on this run's capture when it ends; automatic: on a terminal.",
    )

    _flags: dict[str, Any] = PrivateAttr(default_factory=dict)
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def flags(self) -> Mapping[str, Any]:
        """What the command line gave, as text: it may hold passwords. For reading the configuration again."""
        return self._flags

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each option's value comes from, by its name: flag, environment, file or default."""
        return self._origins

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags over environment over file. The file is named by one of the two above it."""
        path = init_settings().get("config") or env_settings().get("config")
        values = read_toml(Path(path)) if path else {}
        return init_settings, env_settings, InitSettingsSource(settings_cls, values)

    @model_validator(mode="after")
    def _fits_together(self) -> RunConfig:
        for check in CHECKS:
            check(self)
        return self


def load(flags: Mapping[str, Any]) -> RunConfig:
    """The configuration out of ``flags`` (field name to value; only those given), environment and file.

    Raises ConfigError with one line.
    """
    try:
        config = RunConfig(**flags)
    except ValidationError as error:
        raise ConfigError(_explain(error, flags)) from None
    config._flags = dict(flags)
    config._origins = origins(flags)
    return config


def origins(flags: Mapping[str, Any]) -> dict[str, str]:
    """Where the value of each option comes from. Raises ConfigError: the file can't be read."""
    path = flags.get("config") or os.environ.get(environment("config"))
    there = read_toml(Path(path)) if path else {}
    found = {}
    for name in RunConfig.model_fields:
        given = (
            ("flag", name in flags),
            ("environment", bool(os.environ.get(environment(name)))),
            ("file", name in there),
        )
        found[name] = next((origin for origin, is_there in given if is_there), "default")
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """The options in a TOML file, by field name: ``capture-args`` and ``capture_args`` are the same key.

    Raises ConfigError.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"--config: can't read {path}: {error.strerror}; name a readable TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config: {path} is not TOML: {_first_line(error)}; correct that line") from None
    options: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in RunConfig.model_fields or name == "config":
            raise ConfigError(f"{key} (from {path}): there is no such option; see docs/options.md for the names")
        if name in options:
            raise ConfigError(f"{key} (from {path}): is there twice, with '-' and with '_'; keep one")
        options[name] = value
    return options


def flag(name: str) -> str:
    """``capture_args`` as people write it: ``--capture-args``."""
    return "--" + name.replace("_", "-")


def environment(name: str) -> str:
    return ENV_PREFIX + name.upper()


def shape(name: str) -> str:
    """What the option's value looks like: ``URL``, ``DURATION``, ``none|keys|full``; empty for a switch."""
    field = RunConfig.model_fields[name]
    for item in field.metadata:
        if isinstance(item, Shape):
            return str(item)
    return "|".join(get_args(field.annotation)) if get_origin(field.annotation) is Literal else ""


def is_switch(name: str) -> bool:
    """Whether the option is on or off, without a value on the command line."""
    return RunConfig.model_fields[name].annotation in (bool, bool | None)


def default_text(name: str) -> str:
    """The option's default as people would write it."""
    field = RunConfig.model_fields[name]
    return "needed" if field.is_required() else value_text(name, field.default)


def value_text(name: str, value: Any) -> str:
    """A value of the option as people would write it, without passwords."""
    if value is None:
        return "automatic" if name in _AUTOMATIC else "off"
    if shape(name) == "DURATION":
        return show_duration(value)
    if shape(name) == "SIZE":
        return show_size(value)
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _explain(error: ValidationError, flags: Mapping[str, Any]) -> str:
    """The first problem as one line. Never the value: a URL may hold a password."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first.get("ctx", {}).get("option") or (first["loc"][0] if first["loc"] else "config"))
    if first["type"] == "missing":
        hint = f"give {flag(name)} {shape(name)}, or set {environment(name)}, or {name} in the file"
        return f"{flag(name)}: is needed; {hint}"
    if first["type"] == "extra_forbidden":
        return f"{flag(name)}: there is no such option; see shunt run --help"
    what = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    if what.startswith("Input should be"):
        what = what.removeprefix("Input ") + _HINTS.get(shape(name), "")
    return f"{flag(name)} ({_source(name, flags)}): {what}"


def _source(name: str, flags: Mapping[str, Any]) -> str:
    if name in flags:
        return "from the command line"
    if os.environ.get(environment(name)):
        return f"from {environment(name)}"
    path = flags.get("config") or os.environ.get(environment("config"))
    if path and name in read_toml(Path(path)):
        return f"from {path}"
    return "its default"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
