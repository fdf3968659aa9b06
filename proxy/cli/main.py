"""The command ``shunt``: its verbs, and what an error looks like.

Knows: which module holds which verb, and that an error is one line and an exit code. Refuses to know: what the verbs
do. A verb's module is imported when that verb is called: ``shunt run`` does not pay for the report's libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import click

from proxy.version import VERSION

EXIT_INTERRUPTED = 130  # as a shell says of a program that Ctrl-C ended


@dataclass(frozen=True, slots=True)
class Verb:
    module: str
    command: str  # name of the click command in it
    help: str


_CONTROL = "proxy.cli.control"

VERBS: dict[str, Verb] = {
    "run": Verb("proxy.cli.run", "run_command", "Stand between clients and Redis; record what passes."),
    "report": Verb("proxy.cli.report", "report_command", "Say what a clustered Redis would refuse of a capture."),
    "targets": Verb("proxy.cli.targets", "targets_command", "List what a capture can be judged against; explain one."),
    "diff": Verb("proxy.cli.diff", "diff_command", "Say what changed from one capture to another."),
    "capture": Verb("proxy.cli.capture", "capture_group", "Print, list, verify and compact captures."),
    "replay": Verb("proxy.cli.replay", "replay_command", "Send a capture's commands to another Redis, and compare."),
    "import": Verb("proxy.cli.import_monitor", "import_group", "Make a capture out of what MONITOR showed."),
    "monitor-sample": Verb(
        "proxy.cli.monitor_sample",
        "monitor_sample_command",
        "Watch a server shortly: the keys that scripts really touch.",
    ),
    "preflight": Verb(
        "proxy.cli.preflight", "preflight_command", "Say whether traffic may be moved from one Redis to another."
    ),
    "status": Verb(_CONTROL, "status_command", "Show a running shunt: version, uptime, workers, what is wrong."),
    "clients": Verb(_CONTROL, "clients_command", "List a running shunt's clients."),
    "backends": Verb(_CONTROL, "backends_command", "List a running shunt's backends."),
    "stats": Verb(_CONTROL, "stats_command", "Measure a running shunt for a second, and show its totals."),
    "options": Verb(_CONTROL, "options_command", "List a running shunt's options and where they come from."),
    "history": Verb(_CONTROL, "history_command", "List the last changes made to a running shunt."),
    "kill": Verb(_CONTROL, "kill_command", "End a client of a running shunt, between two commands."),
    "hold": Verb(
        _CONTROL,
        "hold_command",
        "Hold all traffic through a running shunt, or a class of keys, until nothing is in flight.",
    ),
    "release": Verb(_CONTROL, "release_command", "Let held traffic, or a class of keys, go on."),
    "switch": Verb(_CONTROL, "switch_command", "Move all traffic to another Redis, or leave it where it is."),
    "rollback": Verb(_CONTROL, "rollback_command", "Move all traffic back to where it went before."),
    "route": Verb("proxy.cli.route", "route_command", "Show where traffic goes and went, or correct the record."),
    "mirror": Verb("proxy.cli.mirror", "mirror_group", "Mirror a running shunt's traffic to another Redis; compare."),
    "split": Verb("proxy.cli.split", "split_command", "Have a share of new connections read from a mirrored Redis."),
    "maintenance": Verb(
        "proxy.cli.maintenance",
        "maintenance_command",
        "Walk through a planned outage of the Redis behind a running shunt.",
    ),
    "reload": Verb(_CONTROL, "reload_command", "Have a running shunt read certificates and log level again."),
    "shutdown": Verb(_CONTROL, "shutdown_command", "End a running shunt, once commands under way are answered."),
    "commands": Verb("proxy.cli.commands", "commands_command", "Regenerate the command table from a live server."),
}


class Verbs(click.Group):
    """A group whose commands are imported when called, and whose errors are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = VERBS.get(cmd_name)
        if verb is None:
            return None
        command: click.Command = getattr(import_module(verb.module), verb.command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs the verb; its number, if it returns one, is the exit code. Errors: one line, exit code 2 for usage."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name or "shunt", complete_var, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except click.ClickException as error:
            fail(error.format_message(), error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def fail(message: str, code: int) -> NoReturn:
    """Ends the program with one line on stderr."""
    click.echo("shunt: " + " ".join(message.split()), err=True)
    sys.exit(code)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(VERSION, prog_name="shunt")
def main() -> None:
    """A proxy between Redis and its clients: records every command, and says what a cluster would refuse."""


if __name__ == "__main__":
    main()
