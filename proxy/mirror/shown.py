"""What people are shown of a mirror: of all workers together, in plain data.

Knows: the words, and which comes first: errors that only the target gives. Refuses to know: who asks, and how
numbers are printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from proxy.capture.mirrored import Mirrored, MirroredRead
from proxy.console.verb import Value
from proxy.mirror.counts import DROPPED, Counts
from proxy.mirror.feed import Shown
from proxy.mirror.tally import Key, Row, Tally, ms

MOST_ROWS = 100


def facts(parts: Sequence[Shown]) -> dict[str, Value]:
    """SHOW MIRROR; of no worker: it is off."""
    if not parts:
        return {"state": "off"}
    counts, first = total(parts), parts[0]
    lanes, up = sum(each.lanes for each in parts), sum(each.lanes_up for each in parts)
    why = next((each.why_down for each in parts if each.why_down), None)
    found: dict[str, Value] = {
        "state": "up" if up == lanes else "partly up" if up else "down",
        "target": first.target,
        "what": first.what,
        "sample": f"{first.percent}%",
        "class": " ".join(first.patterns) or None,
        "connections": f"{up} of {lanes}",
        "why_down": why,
        "queued_bytes": sum(each.queued_bytes for each in parts),
        "waiting": sum(each.waiting for each in parts),
        "lag_ms": round(max(each.lag_s for each in parts) * 1000, 1),
        "exchanges": counts.exchanges,
        "effects": counts.effects,
        "answered": counts.answered,
        "transactions": counts.transactions,
        "unverifiable": counts.unverifiable,
        "outside_selection": counts.outside,
        "errors": sum(counts.errors.values()),
        "missed": sum(counts.missed.values()),
        "late": counts.late,
        "dropped": sum(counts.dropped.values()),
    }
    found |= {f"dropped_{why}": count for why, count in sorted(counts.dropped.items()) if count}
    if first.what != "writes":
        reads = list(tallied(parts).values())
        found |= {
            "reads_compared": sum(row.compared for row in reads),
            "reads_differed": sum(row.differed for row in reads),
            "asked_again": sum(row.again for row in reads),
            "asked_again_differed": sum(row.again_differed for row in reads),
        }
    return found


def errors(parts: Sequence[Shown]) -> list[dict[str, Value]]:
    """What the mirror refused or had not, by command: worst first."""
    counts = total(parts)
    rows: list[dict[str, Value]] = [
        {"command": command, "on_the_target": word, "count": count, "of": "writes"}
        for (command, word), count in counts.errors.most_common()
    ]
    rows += [
        {"command": command, "on_the_target": word, "count": count, "of": "reads"}
        for (command, _), row in tallied(parts).items()
        for word, count in row.target_errors.most_common()
    ]
    rows += [
        {"command": command, "on_the_target": "(what the source took was not there)", "count": count, "of": "writes"}
        for command, count in counts.missed.most_common()
    ]
    return rows[:MOST_ROWS]


def compared(parts: Sequence[Shown]) -> list[dict[str, Value]]:
    """Reads side by side, by command and pattern: errors of the target only first, then by how many differed."""
    return [row_of(key, row) for key, row in ranked(tallied(parts))[:MOST_ROWS]]


def ranked(rows: dict[Key, Row]) -> list[tuple[Key, Row]]:
    return sorted(rows.items(), key=lambda item: (-sum(item[1].target_errors.values()), -item[1].differed, item[0]))


def row_of(key: Key, row: Row) -> dict[str, Value]:
    errors_ = ", ".join(f"{word} {count}" for word, count in row.target_errors.most_common())
    shapes = ", ".join(f"{shape} {count}" for shape, count in row.shapes.most_common(3))
    return {
        "command": key[0], "pattern": key[1], "compared": row.compared, "differed": row.differed,
        "only_on_target": errors_ or None, "how": shapes or None,
        "noise": None if row.noise is None else f"{row.again_differed} of {row.again}",
        "source_p50_ms": ms(row.source_ns, 0.5), "target_p50_ms": ms(row.target_ns, 0.5),
        "source_p99_ms": ms(row.source_ns, 0.99), "target_p99_ms": ms(row.target_ns, 0.99),
    }  # fmt: skip


def total(parts: Iterable[Shown]) -> Counts:
    whole = Counts()
    for part in parts:
        whole.add(part.counts)
    return whole


def tallied(parts: Iterable[Shown]) -> dict[Key, Row]:
    tally = Tally()
    for part in parts:
        tally.add(part.rows)
    return tally.rows


def record(part: Shown) -> Mirrored:
    """What a capture keeps of one worker's mirror."""
    counts = part.counts
    return Mirrored(
        part.target, part.what, part.percent, part.patterns, part.started_s, counts.exchanges, counts.effects,
        counts.answered, counts.unverifiable, counts.outside, counts.late, Counter(counts.missed),
        Counter({why: counts.dropped[why] for why in DROPPED if counts.dropped[why]}),
        [(command, word, count) for (command, word), count in counts.errors.most_common()],
        [_read(key, row) for key, row in ranked(part.rows)],
    )  # fmt: skip


def _read(key: Key, row: Row) -> MirroredRead:
    return MirroredRead(
        *key, row.compared, row.differed, row.again, row.again_differed, row.source_bytes, row.target_bytes,
        Counter(row.shapes), Counter(row.target_errors), _sparse(row.source_ns), _sparse(row.target_ns),
    )  # fmt: skip


def _sparse(buckets: Sequence[int]) -> Counter[int]:
    return Counter({index: count for index, count in enumerate(buckets) if count})
