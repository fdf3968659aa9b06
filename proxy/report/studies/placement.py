"""Which hash slots the load lies on, and how shards would share it.

Knows: the slots of commands as recorded, and those of the keys of commands whose keys lie in several. Refuses to know:
other slot functions than Redis Cluster's, and which commands a cluster would refuse (``judging``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa

from protocol.slots import slot as slot_of
from proxy.capture.format import KEY_CUT_BYTES, SLOT_CROSS, SLOT_UNKNOWN
from proxy.report.load import SLOTS, HotSlot, SlotLoad, shard_ranges, summed
from proxy.report.study import Study

#: Slots that a bar of the chart stands for.
RANGE = 64
HOTTEST = 10
SHARDS = (3, 6)

#: Of each chunk, and of all, only so many different lists of keys in several slots go on; the rest is not placed.
LISTS_PER_CHUNK = 10_000
MOST_LISTS = 50_000
#: The tables are added up again when they hold so many rows.
SLOTS_COMPACT_AT, LISTS_COMPACT_AT = 250_000, 100_000
#: Of the keys that the study of traffic counted, so many are looked at to name a hot slot's busiest.
NAMED_KEYS = 50_000

_SLOTS = "SELECT slot, sum(n)::BIGINT, sum(bytes)::BIGINT FROM slot_loads GROUP BY slot"
_LISTS = "SELECT keys, sum(n)::BIGINT, sum(bytes)::BIGINT FROM split_lists GROUP BY keys"
_BYTES = "sum(request_bytes + reply_bytes)"


def _busiest_lists(lists: str, most: int) -> str:
    """The busiest lists of keys; all others, and those that were not recorded, as one row without keys."""
    return f"""WITH lists AS ({lists}),
        ranked AS (SELECT *, row_number() OVER (ORDER BY n DESC, bytes DESC, keys) <= {most} AS kept FROM lists)
    SELECT CASE WHEN kept AND len(keys) > 0 THEN keys END AS list, sum(n)::BIGINT, sum(bytes)
    FROM ranked GROUP BY list"""


class Placement(Study):
    """``slot_loads``: exchanges at one slot. ``split_lists``: lists of keys in several slots; NULL where they are not
    known. At the end it reads ``keys``, a table of the study of traffic."""

    SCHEMA: ClassVar[str] = """
    CREATE TABLE slot_loads (slot SMALLINT, n BIGINT, bytes HUGEINT);
    CREATE TABLE split_lists (keys BLOB[], n BIGINT, bytes HUGEINT);
    """
    CHUNK = (
        f"INSERT INTO slot_loads SELECT slot, count(*), {_BYTES} FROM chunk WHERE slot >= 0 GROUP BY slot",
        "INSERT INTO split_lists "
        + _busiest_lists(
            f"SELECT keys, count(*) AS n, {_BYTES} AS bytes FROM chunk WHERE slot = {SLOT_CROSS} GROUP BY keys",
            LISTS_PER_CHUNK,
        ),
        f"""INSERT INTO split_lists SELECT NULL, count(*), {_BYTES} FROM chunk WHERE slot = {SLOT_UNKNOWN}
        HAVING count(*) > 0""",
    )

    def take(self, exchanges: pa.Table) -> None:
        super().take(exchanges)
        self._db.compact(
            "slot_loads", SLOTS_COMPACT_AT, "SELECT slot, sum(n), sum(bytes) FROM slot_loads GROUP BY slot"
        )
        lists = "SELECT keys, sum(n)::BIGINT AS n, sum(bytes) AS bytes FROM split_lists GROUP BY keys"
        self._db.compact("split_lists", LISTS_COMPACT_AT, _busiest_lists(lists, MOST_LISTS))

    def load(self) -> SlotLoad:
        """The load of all slots."""
        slots = [(0, 0)] * SLOTS
        placed = unplaced = 0
        for slot, n, size in self._db.rows(_SLOTS):
            slots[slot] = (n, size)
            placed += n
        for keys, n, size in self._db.rows(_LISTS):
            if keys is None or max(map(len, keys)) >= KEY_CUT_BYTES:  # a cut key's slot is not known
                unplaced += n
                continue
            placed += n
            for slot, share in _shares(keys):
                commands, held = slots[slot]
                slots[slot] = (commands + n, held + round(size * share))
        whole = summed(slots, 0, SLOTS - 1)
        return SlotLoad(
            placed,
            unplaced,
            whole.commands,
            whole.bytes,
            tuple(summed(slots, first, first + RANGE - 1) for first in range(0, SLOTS, RANGE)),
            self._hottest(slots),
            {n: tuple(summed(slots, *ends) for ends in shard_ranges(n)) for n in SHARDS},
        )

    def _hottest(self, slots: Sequence[tuple[int, int]]) -> tuple[HotSlot, ...]:
        """The busiest slots, each with the busiest of its keys that the study of traffic has counted."""
        busiest = [slot for slot in sorted(range(SLOTS), key=lambda each: (-slots[each][0], each)) if slots[slot][0]]
        wanted, named = set(busiest[:HOTTEST]), dict[int, tuple[bytes, int]]()
        for key, n in self._db.rows(
            f"SELECT key, sum(n)::BIGINT AS n FROM keys GROUP BY key ORDER BY n DESC, key LIMIT {NAMED_KEYS}"
        ):
            slot = slot_of(key)
            if slot in wanted:
                named.setdefault(slot, (key, n))
        return tuple(HotSlot(slot, *named.get(slot, (b"", 0)), *slots[slot]) for slot in busiest[:HOTTEST])


def _shares(keys: Sequence[bytes]) -> list[tuple[int, float]]:
    """The slots of a command's keys, each with its share of the keys."""
    places = Counter(map(slot_of, keys))
    return [(slot, n / len(keys)) for slot, n in places.items()]
