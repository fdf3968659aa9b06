"""The configuration in use: for SHOW CONFIG as it is, for RELOAD what has changed in it since, and where consoles go.

Knows: how an option is listed, and which options may change while shunt runs. Refuses to know: what changing one takes
(``app``), and where values come from (``config``).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from proxy import config as options
from proxy.address import Address
from proxy.config import RunConfig, load
from proxy.console import door
from proxy.console.consoles import Places
from proxy.console.verb import Value
from proxy.console.world import Reread
from proxy.version import VERSION

#: Options whose new value is taken up by RELOAD.
TAKEN_UP = ("log_level", "backends")


def places(config: RunConfig) -> Places:
    """Where the consoles are to be opened."""
    place: Address | None = None
    if config.console is None:
        place = door.usual(os.environ)
    elif isinstance(config.console, Address):
        place = config.console
    return Places(place, config.console is not None, config.audit_log, config.http, config.http_token_file)


def listing(config: RunConfig) -> list[dict[str, Value]]:
    """Every option with its value, as people would write it and without passwords, and its origin."""
    return [
        {
            "option": name.replace("_", "-"),
            "value": options.value_text(name, getattr(config, name)),
            "origin": config.origins.get(name, "default"),
        }
        for name in RunConfig.model_fields
    ]


def again(config: RunConfig) -> RunConfig:
    """The configuration out of the same flags, and the environment and the file as they are now. Raises ConfigError."""
    return load(config.flags)


def differences(old: RunConfig, new: RunConfig) -> list[Reread]:
    """A line for each option that is another now: taken up, or to be taken up by a restart."""
    found = []
    for name in RunConfig.model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            change = f"{options.value_text(name, before)} -> {options.value_text(name, after)}"
            found.append(Reread(name.replace("_", "-"), change if name in TAKEN_UP else f"{change}: needs a restart"))
    return found


def taking_up(old: RunConfig, new: RunConfig) -> RunConfig:
    """``old`` with what RELOAD takes up of ``new``."""
    return old.model_copy(update={name: getattr(new, name) for name in TAKEN_UP})


def state(config: RunConfig, started: datetime, console: Address | None) -> dict[str, Value]:
    """What SHOW STATE tells of a shunt with this configuration, beside its numbers."""
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "started": started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "uptime_s": int((datetime.now(UTC) - started).total_seconds()),
        "listen": " ".join(map(str, config.listen)),
        "backend": str(config.backend),
        "console": None if console is None else str(console),
        "http": None if config.http is None else str(config.http),
        "capture": None if config.capture is None else str(config.capture),
        "pool": config.pool,
    }
