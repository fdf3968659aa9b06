"""A replay's document on a terminal.

Knows: tables, and which line comes first. Refuses to know: how the numbers came to be (``summary``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

#: Lines of a table that are shown; --json has all.
MOST_SHOWN = 20
_NAMES_SHOWN = 8


def render(shown: dict[str, Any], console: Console) -> None:
    """Prints the document of ``summary.document``."""
    for part in _parts(shown):
        console.print(part)


def _parts(shown: dict[str, Any]) -> Iterator[RenderableType]:
    commands = shown["commands"]
    if shown["stopped"]:
        yield Text(f"Ended early: {shown['stopped']}. What follows is what was replayed until then.", "bold red")
    yield Text(
        f"Replayed {commands['answered']:,} of {commands['captured']:,} captured commands to {shown['target']} in "
        f"{shown['seconds']:,.1f} s: {shown['commands_per_s']:,} a second, speed {shown['speed']}, "
        f"{_many(shown['connections'], 'connection')}, {_many(shown['transactions'], 'transaction')}."
    )
    yield from _schedule(shown)
    yield from _errors(shown)
    yield from _unanswered(shown)
    yield from _kinds(shown["reply_kinds"])
    yield from _latencies(shown["latencies"])
    yield from _skipped(shown["skipped"])
    yield from _damage(shown["capture_damage"])


def _schedule(shown: dict[str, Any]) -> Iterator[RenderableType]:
    schedule = shown["schedule"]
    behind = schedule["behind_ms"]
    if behind is not None:
        times = ", ".join(f"{name} {behind[name]:,} ms" for name in ("p50", "p99", "max"))
        warning = " The load was less than the captured one: compare latencies with care." if schedule["behind"] else ""
        yield Text(f"Behind the captured schedule: {times}.{warning}", "yellow" if warning else "")
    if schedule["pauses_shortened"]:
        many = _many(schedule["pauses_shortened"], "pause")
        limit = f"{shown['max_gap_s']:g} s (--max-gap)"
        yield Text(f"{many} shortened to {limit}: {schedule['pauses_left_out_s']:,.1f} s left out.")
    if schedule["misplaced"]:
        many = _many(schedule["misplaced"], "command")
        yield Text(f"{many} waited longer in the source than is looked ahead, and went later than captured.")
    if shown["barriers"]:
        yield Text(f"{_many(shown['barriers'], 'unit')} whose keys nobody can tell went alone.")


def _errors(shown: dict[str, Any]) -> Iterator[RenderableType]:
    parts = {
        "Errors that only the target gives": [e for e in shown["errors"] if e["only_target"]],
        "Errors that the capture has too": [e for e in shown["errors"] if e["target"] and not e["only_target"]],
        "Errors of the capture that the target does not give": [e for e in shown["errors"] if not e["target"]],
    }
    for title, errors in parts.items():
        if not errors and title == "Errors that only the target gives":
            yield _title(f"{title}: none", "green")
        if not errors:
            continue
        total = sum(each["count"] for each in errors)
        yield _title(f"{title}: {total:,}", "bold red" if errors[0]["only_target"] else "bold")
        rows = ((f"{e['count']:,}", e["command"], e["target"] or "-", e["captured"] or "-") for e in errors)
        yield _table(("count", ">"), "command", "target says", "captured", rows=rows, of=len(errors))


def _unanswered(shown: dict[str, Any]) -> Iterator[RenderableType]:
    if shown["unanswered"]:
        yield _title(f"Not answered: {shown['commands']['unanswered']:,}", "bold red")
        rows = ((f"{each['count']:,}", each["why"]) for each in shown["unanswered"])
        yield _table(("count", ">"), "why", rows=rows, of=len(shown["unanswered"]))
    if shown["unasked_replies"]:
        yield _title(f"Replies that nothing had asked for: {shown['unasked_replies']:,}", "bold red")


def _kinds(kinds: dict[str, Any]) -> Iterator[RenderableType]:
    different = kinds["compared"] - kinds["same"]
    yield _title(f"Replies of another kind than captured: {different:,} of {kinds['compared']:,}", "bold")
    if different:
        rows = ((f"{k['count']:,}", k["command"], k["captured"], k["replayed"]) for k in kinds["different"])
        yield _table(("count", ">"), "command", "captured", "replayed", rows=rows, of=len(kinds["different"]))


def _latencies(latencies: list[dict[str, Any]]) -> Iterator[RenderableType]:
    if not latencies:
        return
    yield _title("Latencies in ms, captured and replayed", "bold")
    heads: list[str | tuple[str, str]] = ["command", ("count", ">")]
    heads += [(f"{key} {side}", ">") for key in ("p50", "p99", "max") for side in ("then", "now")]
    heads += [("p50 ×", ">"), ("p99 ×", ">")]
    rows = []
    for each in latencies:
        then, now, ratio = each["captured_us"], each["replayed_us"], each["ratio"]
        cells = [_ms(side[key]) for key in ("p50", "p99", "max") for side in (then, now)]
        name = f"{each['command']} (waits)" if each["waits"] else each["command"]
        rows.append((name, f"{each['count']:,}", *cells, _ratio(ratio["p50"]), _ratio(ratio["p99"])))
    yield _table(*heads, rows=iter(rows), of=len(rows))


def _skipped(skipped: list[dict[str, Any]]) -> Iterator[RenderableType]:
    if not skipped:
        return
    yield _title(f"Not sent: {sum(each['count'] for each in skipped):,}", "bold")
    rows = ((f"{each['count']:,}", each["why"], _names(each["commands"])) for each in skipped)
    yield _table(("count", ">"), "why", "commands", rows=rows, of=len(skipped))


def _damage(damage: dict[str, int]) -> Iterator[RenderableType]:
    if damage["gaps"] or damage["losses"]:
        yield _title(
            f"The capture is not whole: {_many(damage['gaps'], 'gap')} ({damage['missing_rows']:,} rows known to be "
            f"missing), {_many(damage['losses'], 'part')} unreadable; shunt capture verify lists them.",
            "yellow",
        )


def _names(commands: dict[str, int]) -> str:
    names = list(commands.items())
    more = len(names) - _NAMES_SHOWN
    shown = [f"{name} {count:,}" for name, count in names[:_NAMES_SHOWN]]
    return ", ".join(shown + ([f"{more} more"] if more > 0 else []))


def _table(*heads: str | tuple[str, str], rows: Iterator[tuple[str, ...]], of: int) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for head in heads:
        name, right = head if isinstance(head, tuple) else (head, "")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=bool(right))
    for _, row in zip(range(MOST_SHOWN), rows, strict=False):
        table.add_row(*(Text(cell) for cell in row))
    if of > MOST_SHOWN:
        table.caption = Text(f"{of - MOST_SHOWN:,} more lines, --json has them")
        table.caption_justify = "left"
    return Padding(table, (0, 0, 0, 2))


def _title(text: str, style: str) -> Text:
    return Text("\n" + text, style)


def _ms(us: float) -> str:
    return f"{us / 1000:,.3f}" if us < 10_000 else f"{us / 1000:,.1f}"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:,.2f}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
