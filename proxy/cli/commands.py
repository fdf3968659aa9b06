"""``shunt commands``: regenerate the command table, or the list of deprecated commands, from a live server.

Knows: what to ask the server (COMMAND, COMMAND DOCS, INFO) and where the answer goes. Refuses to know: what the
table means (``protocol.commands``, ``protocol.deprecations``).
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import redis

from protocol.commands import document_text
from protocol.deprecations import deprecations_text


def read_server(url: str, connect_timeout_s: float = 5.0, ask: str = "COMMAND") -> tuple[str, str, list[Any]]:
    """Ask the server at ``url`` for its name, its version and its reply to ``ask``.

    Raises ``redis.RedisError`` when it can't be reached or refuses.
    """
    with redis.Redis.from_url(url, protocol=2, socket_timeout=connect_timeout_s) as client:
        client.response_callbacks.clear()
        info: dict[str, str] = dict(
            line.split(":", 1) for line in client.execute_command("INFO", "server").decode().splitlines() if ":" in line
        )
        reply = client.execute_command(*ask.split())
    name: str = info.get("server_name", "redis")
    return name, info.get(f"{name}_version") or info["redis_version"], reply


@click.command("commands")
@click.option("--from", "url", required=True, metavar="URL", help="Server to ask: redis://host:port.")
@click.option(
    "-o", "output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; standard output without it."
)
@click.option("--deprecated", is_flag=True, help="The deprecated commands (COMMAND DOCS) instead of the table.")
def commands_command(url: str, output: Path | None, deprecated: bool) -> None:
    """Regenerate the command table from a live server, naming server, version and date."""
    ask, made_of = ("COMMAND DOCS", deprecations_text) if deprecated else ("COMMAND", document_text)
    try:
        name, version, reply = read_server(url, ask=ask)
        text = made_of(name, version, datetime.now(UTC).date().isoformat(), reply)
    except (redis.RedisError, OSError, ValueError) as error:
        raise click.ClickException(f"cannot read the command table of {_without_password(url)}: {error}") from None
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}") from None


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
