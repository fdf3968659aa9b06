"""``shunt status``, ``clients``, ``kill`` …: the console's verbs for people.

Knows: which verb is behind which word, how the console is found and asked, and how an answer looks on a terminal.
Refuses to know: what a verb does (``console.verbs``, in the process that is asked).

A console that is not there, and a verb that is not done, is one line and an exit code: 2 and 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from redis.connection import Connection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from proxy.address import Address, AddressError
from proxy.cli.main import VERBS
from proxy.config import ENV_PREFIX
from proxy.console import door
from proxy.console.verb import printable, shown

CONNECT_S = 2.0
_ENVIRONMENT = ENV_PREFIX + "CONSOLE"
_CONSOLE_HELP = f"Where the console is; also {_ENVIRONMENT}.  [the usual place, see docs/console.md]"
_JSON_HELP = "Print the answer as JSON."


@dataclass(frozen=True, slots=True)
class Word:
    """``shunt WORD``: the console's verb, its arguments as ``Verb.arguments`` has them. ``flags``: words that are flags
    here, ``options``: arguments that are options here, ``pairs``: words with a name behind them that are options here
    and may be repeated; each with its help."""

    verb: str
    arguments: str = ""
    flags: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


_NOW = (("NOW", "At once, whatever is under way."),)
_BUDGET = (("BUDGET", "Longest time in which all must be quiet, at most 800ms.  [300ms]"),)
_CLASS = (("CLASS", "Only this class of keys (--classes), or default; may be repeated."),)

WORDS: dict[str, Word] = {
    "status": Word("SHOW STATE"),
    "clients": Word("SHOW CLIENTS"),
    "backends": Word("SHOW BACKENDS"),
    "stats": Word("SHOW STATS", "[DURATION]"),
    "options": Word("SHOW CONFIG"),
    "history": Word("SHOW HISTORY", "[COUNT]"),
    "kill": Word("KILL", "CLIENT", _NOW),
    "hold": Word("HOLD", "[QUIET] [LIMIT]", pairs=_CLASS),
    "release": Word("RELEASE", pairs=_CLASS),
    "switch": Word(
        "SWITCH",
        "TARGET",
        (("FOLLOW", "Have the target follow the source first, and the source the target afterwards."),),
        _BUDGET,
    ),
    "rollback": Word("ROLLBACK", options=_BUDGET),
    "reload": Word("RELOAD"),
    "shutdown": Word("SHUTDOWN", flags=_NOW),
}


class NoConsole(click.ClickException):
    """Nobody answers where the console should be."""

    exit_code = 2


class NotDone(click.ClickException):
    """The console's own words for what it did not do."""

    exit_code = 1


def _command(name: str) -> click.Command:
    word = WORDS[name]

    def run(console: str | None, as_json: bool, **given: Any) -> None:
        order = [each.strip("[]") for each in word.arguments.split()] + [each for each, _ in word.options]
        arguments = [text for name in order if isinstance(text := given[name.lower()], str)]
        arguments += [flag for flag, _ in word.flags if given[flag.lower()]]
        arguments += [each for pair, _ in word.pairs for text in given[pair.lower()] for each in (pair, text)]
        show(ask(console, [*word.verb.split(), *arguments])["answer"], as_json)

    parameters: list[click.Parameter] = [
        click.Argument([text.strip("[]").lower()], required=not text.startswith("["), metavar=text)
        for text in word.arguments.split()
    ]
    parameters += [click.Option([f"--{each.lower()}"], metavar=each, help=text) for each, text in word.options]
    parameters += [click.Option([f"--{flag.lower()}"], is_flag=True, help=text) for flag, text in word.flags]
    parameters += [
        click.Option([f"--{pair.lower()}"], metavar="NAME", multiple=True, help=text) for pair, text in word.pairs
    ]
    parameters += _common()
    return click.Command(name, callback=run, params=parameters, help=f"{VERBS[name].help} The console's {word.verb}.")


def _common() -> list[click.Option]:
    place = f"Where the console is; also {_ENVIRONMENT}.  [the usual place, see docs/console.md]"
    return [
        click.Option(["--console"], metavar="URL", help=place),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the answer as JSON."),
    ]


def console_options(run: Callable[..., None]) -> Callable[..., None]:
    """The options of every verb that asks a console."""
    for option in _common():
        run = click.option(*option.opts, *([option.name] if option.is_flag and option.name else []),
                           metavar=option.metavar, is_flag=option.is_flag, help=option.help)(run)  # fmt: skip
    return run


def ask(console: str | None, words: list[str], told: Callable[[str], None] | None = None) -> Any:
    """The answer of the console at this URL, or at the usual place; its notes go to stderr. ``told`` hears how far it
    is; None: a terminal does."""
    said = _ask(_place(console), words, told)
    for note in said["notes"]:
        click.echo(f"shunt: {printable(note)}", err=True)
    return said


def show(answer: Any, as_json: bool) -> None:
    """Print an answer for people or as JSON."""
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        _print(answer)


def _place(given: str | None) -> Address:
    url = given or os.environ.get(_ENVIRONMENT)
    if url == "off":
        raise NoConsole(f"--console off (from {_ENVIRONMENT}): name the console with --console URL")
    if url:
        try:
            return Address.parse(url)
        except AddressError as error:
            raise NoConsole(f"--console: {error}") from None
    usual = door.existing(os.environ)
    if usual is None:
        raise NoConsole("no console in the usual places: start shunt run, or name its console with --console URL")
    return usual


def _ask(place: Address, words: list[str], told: Callable[[str], None] | None) -> Any:
    """The answer, an object with ``answer`` and ``notes``, while a terminal shows how far it is."""
    with _connected(place) as connection, _progress(told) as show:
        connection.send_command("PROGRESS", "JSON", *words)
        while True:
            said = connection.read_response(push_request=True)
            if not isinstance(said, list):
                return json.loads(said)
            show(said[1].decode())


@contextmanager
def _connected(place: Address) -> Iterator[Any]:
    common: dict[str, Any] = {
        "protocol": 3,
        "username": place.user,
        "password": None if place.password is None else place.password.get_secret_value(),
        "socket_connect_timeout": CONNECT_S,
        "lib_name": None,
        "lib_version": None,
    }
    make: Any = UnixDomainSocketConnection if place.scheme == "unix" else Connection  # redis-py's are not typed
    where = {"path": place.path} if place.scheme == "unix" else {"host": place.host, "port": place.port}
    connection = make(**where, **common)
    try:
        connection.connect()
        yield connection
    except AuthenticationError:
        raise NoConsole(f"{place} wants a password; write unix://:password@/path or redis://:password@…") from None
    except ResponseError as error:
        raise NotDone(str(error)) from None
    except (RedisError, OSError) as error:
        cause = error.__context__ if isinstance(error.__context__, OSError) else error
        why = " ".join((getattr(cause, "strerror", None) or str(error)).split()).rstrip(".").lower()
        raise NoConsole(f"no console answers at {place}: {why}; start shunt run there, or name another") from None
    finally:
        connection.disconnect()


@contextmanager
def _progress(told: Callable[[str], None] | None) -> Iterator[Callable[[str], None]]:
    """Shows lines on a terminal's stderr, each in the place of the one before; or tells them to ``told``."""
    if told is not None:
        yield told
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: None
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda line: live.update(Text(printable(line), no_wrap=True, overflow="ellipsis"), refresh=True)


def _print(answer: Any) -> None:
    if isinstance(answer, str):
        click.echo(printable(answer))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=400)  # whole lines for whoever reads them
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=isinstance(answer, list))
    if isinstance(answer, list):
        if not answer:
            click.echo("none")
            return
        for name in answer[0]:
            table.add_column(name, overflow="fold", justify="right" if _is_number(answer[0][name]) else "left")
        for row in answer:
            table.add_row(*(_cell(value) for value in row.values()))
    else:
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in answer.items():
            table.add_row(name, _cell(value))
    console.print(table)
    sys.stdout.flush()


def _cell(value: Any) -> Text:
    return Text(printable(shown(value)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


status_command = _command("status")
clients_command = _command("clients")
backends_command = _command("backends")
stats_command = _command("stats")
options_command = _command("options")
history_command = _command("history")
kill_command = _command("kill")
hold_command = _command("hold")
release_command = _command("release")
switch_command = _command("switch")
rollback_command = _command("rollback")
reload_command = _command("reload")
shutdown_command = _command("shutdown")
