"""What a replay showed, as one JSON document.

Knows: the document's fields and their order: errors that only the target gives come first. Refuses to know: terminals
(``render``) and sockets.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from proxy.replay.planner import Planned
from proxy.replay.schedule import Schedule
from proxy.replay.tally import Both, Tally, Times, alike

#: Behind the captured schedule by more than this, the load was not the captured one.
LAG_WARNED_S = 1.0
_QUANTILES = {"p50": 0.5, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Setting:
    """What was asked for. ``speed``: as the option has it."""

    target: str
    speed: str
    max_gap_s: float
    allow_writes: bool
    scripts_loaded: int = 0
    where: str = ""


def document(
    setting: Setting,
    planned: Planned,
    schedule: Schedule,
    tally: Tally,
    *,
    elapsed_s: float,
    stopped: str,
    misplaced: int,
    losses: int,
) -> dict[str, Any]:
    """``stopped``: why it ended early. ``misplaced``: rows sent later than captured. ``losses``: what of the capture's
    files could not be read. Durations end in their unit."""
    errors = _errors(tally)
    return {
        "target": setting.target,
        "speed": setting.speed,
        "max_gap_s": setting.max_gap_s,
        "allow_writes": setting.allow_writes,
        "where": setting.where,
        "stopped": stopped,
        "seconds": round(elapsed_s, 3),
        "commands_per_s": round(tally.answered / elapsed_s) if elapsed_s else 0,
        "commands": {
            "captured": planned.captured, "sent": tally.sent, "answered": tally.answered,
            "unanswered": tally.lost.total(), "skipped": planned.skipped.total(),
        },
        "transactions": planned.transactions,
        "connections": tally.opened,
        "scripts_loaded": setting.scripts_loaded,
        "barriers": planned.barriers,
        "schedule": _schedule(setting, schedule, tally, misplaced),
        "capture_damage": {"gaps": planned.gaps, "missing_rows": planned.gap_rows, "losses": losses},
        "errors": errors,
        "unanswered": [{"why": why, "count": count} for why, count in tally.lost.most_common() if count],
        "unasked_replies": tally.unasked,
        "reply_kinds": {
            "compared": tally.compared, "same": tally.same,
            "different": [
                {"command": command, "captured": there, "replayed": here, "count": count}
                for (command, there, here), count in tally.kinds.most_common()
            ],
        },
        "latencies": [_latency(name, both) for name, both in _by_count(tally)],
        "skipped": _skipped(planned.skipped),
    }  # fmt: skip


def exit_code(shown: dict[str, Any]) -> int:
    """0: the target answered everything, and gave no error that the capture does not have; 1: it did not."""
    bad = any(error["only_target"] for error in shown["errors"]) or shown["unanswered"] or shown["unasked_replies"]
    return 1 if bad or shown["stopped"] else 0


def _errors(tally: Tally) -> list[dict[str, Any]]:
    lines = [
        {
            "command": command, "target": here or None, "captured": there or None, "count": count,
            "only_target": bool(here) and not alike(here, there),
        }
        for (here, there, command), count in tally.errors.items()
    ]  # fmt: skip
    return sorted(lines, key=lambda line: (not line["only_target"], -line["count"], line["command"]))


def _schedule(setting: Setting, schedule: Schedule, tally: Tally, misplaced: int) -> dict[str, Any]:
    paced = setting.speed != "max"
    return {
        "captured_s": round(schedule.captured_ns / 1e9, 3),
        "pauses_shortened": schedule.shortened,
        "pauses_left_out_s": round(schedule.shortened_ns / 1e9, 3),
        "behind_ms": {**_quantiles(tally.lag, 1e6), "max": _shown(tally.lag.max_ns, 1e6)} if paced else None,
        "behind": paced and tally.lag.max_ns > LAG_WARNED_S * 1e9,
        "misplaced": misplaced,
    }


def _by_count(tally: Tally) -> list[tuple[str, Both]]:
    return sorted(tally.latencies.items(), key=lambda item: (-item[1].replayed.count, item[0]))


def _latency(name: str, both: Both) -> dict[str, Any]:
    captured = {**_quantiles(both.captured, 1e3), "max": _shown(both.captured.max_ns, 1e3)}
    replayed = {**_quantiles(both.replayed, 1e3), "max": _shown(both.replayed.max_ns, 1e3)}
    ratio = {key: round(replayed[key] / captured[key], 2) if captured[key] else None for key in captured}
    return {
        "command": name, "count": both.replayed.count, "waits": both.waits,
        "captured_us": captured, "replayed_us": replayed, "ratio": ratio,
    }  # fmt: skip


def _quantiles(times: Times, unit: float) -> dict[str, float]:
    return {name: _shown(times.quantile(share) or 0, unit) for name, share in _QUANTILES.items()}


def _shown(ns: int, unit: float) -> float:
    return round(ns / unit, 1)


def _skipped(skipped: Counter[Any]) -> list[dict[str, Any]]:
    by_reason: dict[str, Counter[str]] = {}
    for (reason, command), count in skipped.items():
        by_reason.setdefault(str(reason), Counter())[command] += count
    ordered = sorted(by_reason.items(), key=lambda item: -item[1].total())
    return [{"why": why, "count": each.total(), "commands": dict(each.most_common())} for why, each in ordered]
