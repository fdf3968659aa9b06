"""``shunt commands``: regenerate the command table from a live server.

Knows: what to ask the server (COMMAND, INFO) and where the answer goes. Refuses to know: what the table means
(``protocol.commands``).
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import redis

from protocol.commands import document_text


def read_server(url: str, connect_timeout_s: float = 5.0) -> tuple[str, str, list[Any]]:
    """Ask the server at ``url`` for its name, its version and its COMMAND reply.

    Raises ``redis.RedisError`` when it can't be reached or refuses.
    """
    with redis.Redis.from_url(url, protocol=2, socket_timeout=connect_timeout_s) as client:
        client.response_callbacks.clear()
        info: dict[str, str] = dict(
            line.split(":", 1) for line in client.execute_command("INFO", "server").decode().splitlines() if ":" in line
        )
        reply = client.execute_command("COMMAND")
    name: str = info.get("server_name", "redis")
    return name, info.get(f"{name}_version") or info["redis_version"], reply


@click.command("commands")
@click.option("--from", "url", required=True, metavar="URL", help="Server to ask: redis://host:port.")
@click.option(
    "-o", "output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; standard output without it."
)
def commands_command(url: str, output: Path | None) -> None:
    """Regenerate the command table from a live server, naming server, version and date."""
    try:
        name, version, reply = read_server(url)
        text = document_text(name, version, datetime.now(UTC).date().isoformat(), reply)
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
