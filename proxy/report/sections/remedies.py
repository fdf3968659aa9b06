"""The section on remedies: which hash tags make the traffic pass on a cluster, and how the load then lies."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.report.cells import Section, TextTable, columns, more, name, percent, plural, with_rows
from proxy.report.document import Report
from proxy.report.printable import printable
from proxy.report.remedies import Load, Remedies, Tag

TOP_TAGS = 20
_TEMPLATES = 8
_WIDTH = 36


def remedies(report: Report) -> Section:
    """What to rename, and its price. Empty where nothing crosses slots."""
    found = report.remedies
    if not found.tags:
        return Section("remedies", "Remedies: hash tags")
    return Section(
        "remedies", "Remedies: hash tags", _paragraphs(found), tables=with_rows([_tags(found), _price(found)])
    )


def _paragraphs(found: Remedies) -> tuple[str, ...]:
    said = [
        f"With {plural(len(found.tags), 'hash tag')} no recorded command and no recorded transaction crosses slots. "
        "Keys that come together in one command or transaction need one tag, and no more tags than these are needed. "
        "Rename in every application at once, and carry the data over."
    ]
    if fixed := [tag for tag in found.tags if tag.fixed]:
        said.append(
            f"{len(fixed)} of them would have to go into Sidekiq's own keys, which an application can't rename (marked "
            "below): what they are for stays refused. Queues can be renamed; and with redis-namespace (Sidekiq 5 and "
            "6) a namespace in braces puts all of Sidekiq's keys into one slot."
        )
    if found.checked < found.seen:
        said.append(
            f"Worked out from {found.checked:,} of {found.seen:,} commands and transactions with several keys, the "
            "most frequent ones: the others may need more."
        )
    return tuple(said)


def _tags(found: Remedies) -> TextTable:
    rows = tuple(row for tag in found.tags[:TOP_TAGS] for row in _rows(tag))
    note = "A tag {<id>} is a part of the key itself: its keys stay spread over the slots. Any other is one slot."
    left = more(len(found.tags) - TOP_TAGS, "tag")
    return TextTable("Keys to rename", columns("today", "with its tag", "so that these pass"), rows, note + left)


def _rows(tag: Tag) -> Iterator[tuple[str, ...]]:
    """One row for each template; what the tag is for stands beside the first ones."""
    why = [f"{printable(command)} {n:,}×" for command, n in tag.uses.items()]
    if tag.splittable:
        why.append("(or one command per key)")
    if tag.fixed:
        why.append("Sidekiq's own: can't be renamed")
    shown = tag.templates[:_TEMPLATES]
    for place, template in enumerate(shown):
        yield name(template, _WIDTH), name(tag.shown(template), _WIDTH), why[place] if place < len(why) else ""
    if left := len(tag.templates) - len(shown):
        yield f"(and {left} more)", "", ""


def _price(found: Remedies) -> TextTable:
    loads = [("today's names", found.before), ("with the tags", found.after)]
    rows = tuple(_load(title, load) for title, load in loads if load is not None)
    counts = sorted(found.before.shards) if found.before else []
    heads = columns("", "hottest slot*", "by", "ops*", "bytes*", *(f"of {n} shards*" for n in counts))
    note = (
        "ops, bytes: the hottest slot's share. Of 3, 6, 12 shards with equal ranges of slots: the busiest one's share "
        "of operations. A command counts where its first key lies; load beyond the busiest keys is taken as even."
    )
    return TextTable("The price: how the load lies", heads, rows, note)


def _load(title: str, load: Load) -> tuple[str, ...]:
    busiest = [percent(max(load.shards[count])) for count in sorted(load.shards)]
    ops, size = percent(load.slot_share), percent(load.bytes_share)
    return (title, str(load.slot), name(load.slot_name, 20), ops, size, *busiest)
