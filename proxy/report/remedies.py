"""Hash tags that make the traffic pass on a cluster, and what they cost. Pure.

Knows: which key templates occur together in one command or transaction, and how a tag goes into a key's name. Refuses
to know: how captures are read (``studies.together``), and key names, but for Sidekiq's own (``sidekiq_keys``).

Keys that one command or transaction names must share a slot, so their templates must share a tag; templates that occur
together in any way form a *family* (found by union-find), and a family needs one tag, no more. Where all keys of each
use have one changing part in common (``cart:42`` and ``order:42``), that part becomes the tag (``cart:{42}``), and the
family stays spread over the slots. Where they don't, the tag is a constant, and the whole family lies in one slot.
"""

# Over 300 lines: finding families, choosing tags and pricing them are one algorithm, read from top to bottom.

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from protocol.slots import slot
from proxy.report.sidekiq_keys import Role, namespaces, which

SLOTS = 16384
#: Numbers of shards that a price is worked out for.
SHARDS = (3, 6, 12)
#: So many ways of choosing a changing part are tried for a family; one that has more gets a constant tag.
MOST_CHOICES = 4096

#: The changing parts of a key, as ``folding`` folds them.
_CHANGING = re.compile(
    rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    rb"|\b(?:19|20)[0-9]{2}-[01][0-9]-[0-3][0-9](?:[T ][0-9:.]+Z?)?"
    rb"|\b(?:[0-9]+|[0-9a-f]{10,}|[0-9A-F]{10,})\b|[0-9]+"
)
_PLACEHOLDER = re.compile(rb"<(?:uuid|date|id|n)>")
_SEGMENT = re.compile(rb"[A-Za-z_][A-Za-z_-]*")

#: Commands that can be sent key by key instead.
SPLITTABLE = frozenset({b"MGET", b"MSET", b"DEL", b"UNLINK", b"EXISTS", b"TOUCH"})

Fold = Callable[[Sequence[bytes]], Sequence[bytes]]


@dataclass(frozen=True)
class Use:
    """Keys that came together in one command or transaction, ``count`` times. ``command``: its name, or ``EXEC``."""

    command: bytes
    keys: tuple[bytes, ...]
    count: int = 1

    @cached_property
    def crosses(self) -> bool:
        """Whether a cluster refuses it as it is."""
        return len({slot(key) for key in self.keys}) > 1


@dataclass(frozen=True)
class Tag:
    """One tag for one family. ``constant``: its text, the same for all keys; None: a changing part of each key.

    ``parts``: for each template the index of the changing part that becomes the tag. ``uses``: what crosses slots today
    and no longer will, by command. ``splittable``: all of it could be sent key by key instead. ``fixed``: templates of
    Sidekiq's own keys, which no application can rename; the tag then is what would be needed, not what can be had.
    """

    templates: tuple[bytes, ...]
    constant: bytes | None
    parts: Mapping[bytes, int]
    uses: Mapping[bytes, int]
    fixed: tuple[bytes, ...] = ()

    def _constant(self, tag: bytes, key: bytes) -> bytes:
        """``{queue}:low`` where all keys of the family begin with the tag as a word, else ``{tag}:key``. Never a
        mixture: ``a:b`` and ``b`` would both become ``{a}:b``."""
        rest = key[len(tag) :] if self.is_word else b":" + key
        return b"{" + tag + b"}" + rest

    @cached_property
    def is_word(self) -> bool:
        """Whether all templates begin with the constant and a colon, and none holds braces."""
        word = (self.constant or b"") + b":"
        return all(each.startswith(word) and not set(b"{}") & set(each) for each in self.templates)

    @property
    def splittable(self) -> bool:
        return self.uses.keys() <= SPLITTABLE

    def apply(self, template: bytes, key: bytes) -> bytes:
        """The new name of a key of one of the family's templates."""
        if self.constant is not None:
            return self._constant(self.constant, key)
        found = list(_CHANGING.finditer(key))[self.parts[template]]
        if b"{" in key or b"}" in key:
            return b"{" + found[0] + b"}:" + key
        return key[: found.start()] + b"{" + found[0] + b"}" + key[found.end() :]

    def shown(self, template: bytes) -> bytes:
        """The template with its tag, for people."""
        if self.constant is not None:
            return self._constant(self.constant, template)
        found = list(_PLACEHOLDER.finditer(template))[self.parts[template]]
        if b"{" in template or b"}" in template:
            return b"{" + found[0] + b"}:" + template
        return template[: found.start()] + b"{" + found[0] + b"}" + template[found.end() :]


@dataclass(frozen=True)
class Load:
    """How operations lie on slots. ``slot_share``: the hottest slot's share of all; ``shards``: for each number of
    shards with equal ranges of slots, the share of each, the first range first."""

    operations: int
    slot: int
    slot_share: float
    slot_name: bytes  # the tag, or the busiest key that lies in that slot
    bytes_share: float  # of request and reply bytes, the heaviest slot's
    shards: Mapping[int, tuple[float, ...]]


@dataclass(frozen=True)
class Remedies:
    """What to rename, and the loads before and after. ``checked``: uses that the tags were worked out from, of
    ``seen``; they are fewer where a capture names more different sets of keys than are kept."""

    tags: tuple[Tag, ...]
    before: Load | None
    after: Load | None
    checked: int
    seen: int

    def rename(self, template: bytes, key: bytes) -> bytes:
        """The key's name after all tags have been given."""
        tag = self._by_template.get(template)
        return key if tag is None else tag.apply(template, key)

    @cached_property
    def _by_template(self) -> dict[bytes, Tag]:
        return {template: tag for tag in self.tags for template in tag.templates}


NO_REMEDIES = Remedies((), None, None, 0, 0)


def find_tags(uses: Sequence[Use], fold: Fold) -> tuple[Tag, ...]:
    """The smallest set of tags after which none of ``uses`` crosses slots; the family with most crossings first."""
    template_of = _templates(uses, fold)
    families = _Families()
    for use in uses:
        families.join(template_of[key] for key in use.keys)
    crossing: dict[bytes, list[Use]] = defaultdict(list)
    inside: dict[bytes, list[Use]] = defaultdict(list)
    for use in uses:
        family = families.of(template_of[use.keys[0]])
        inside[family].append(use)
        if use.crosses:
            crossing[family].append(use)
    order = sorted(crossing, key=lambda family: (-sum(use.count for use in crossing[family]), family))
    taken: set[bytes] = set()
    return tuple(_tag(inside[family], crossing[family], template_of, taken) for family in order)


def _templates(uses: Iterable[Use], fold: Fold) -> dict[bytes, bytes]:
    keys = sorted({key for use in uses for key in use.keys})
    return dict(zip(keys, fold(keys), strict=True))


class _Families:
    """Union-find over templates, with path halving."""

    def __init__(self) -> None:
        self._parent: dict[bytes, bytes] = {}

    def of(self, member: bytes) -> bytes:
        parent = self._parent
        parent.setdefault(member, member)
        while parent[member] != member:
            parent[member] = parent[parent[member]]
            member = parent[member]
        return member

    def join(self, members: Iterable[bytes]) -> None:
        roots = {self.of(member) for member in members}
        first = min(roots)
        for root in roots:
            self._parent[root] = first


def _tag(uses: Sequence[Use], crossing: Sequence[Use], template_of: Mapping[bytes, bytes], taken: set[bytes]) -> Tag:
    templates = tuple(sorted({template_of[key] for use in uses for key in use.keys}))
    counts: Counter[bytes] = Counter()
    for use in crossing:
        counts[use.command] += use.count
    parts = _common_part(uses, templates, template_of)
    constant = None if parts is not None else _word(templates, taken)
    return Tag(templates, constant, parts or {}, dict(counts.most_common()), _fixed(templates))


def _fixed(templates: Sequence[bytes]) -> tuple[bytes, ...]:
    """Of a family's templates Sidekiq's own, where enough of them stand together; queues are the application's."""
    spaces = namespaces(templates)
    if not spaces:
        return ()
    found = {template: which(template) for template in templates}
    own = {each: key for each, key in found.items() if key and key.namespace in spaces and key.role is not Role.QUEUE}
    return tuple(own)


def _common_part(
    uses: Sequence[Use], templates: Sequence[bytes], template_of: Mapping[bytes, bytes]
) -> dict[bytes, int] | None:
    """For each template the changing part that all keys of each use have in common; None: there is none.

    Of several, the one with most different values: it spreads best.
    """
    values = {key: _values(key, template_of[key]) for use in uses for key in use.keys}
    choices = [_own_choices(template, uses, template_of, values) for template in templates]
    ways = 1
    for each in choices:
        ways *= len(each)
    if not 0 < ways <= MOST_CHOICES:
        return None
    best: tuple[int, dict[bytes, int]] | None = None
    for chosen in product(*choices):
        parts = dict(zip(templates, chosen, strict=True))
        if all(len({values[key][parts[template_of[key]]] for key in use.keys}) == 1 for use in uses):
            different = len({values[use.keys[0]][parts[template_of[use.keys[0]]]] for use in uses})
            if best is None or different > best[0]:
                best = (different, parts)
    return None if best is None else best[1]


def _own_choices(
    template: bytes, uses: Sequence[Use], template_of: Mapping[bytes, bytes], values: Mapping[bytes, tuple[bytes, ...]]
) -> list[int]:
    """Changing parts of one template that are the same in all its keys of each use: the others are out anyhow."""
    chosen = set(range(len(_PLACEHOLDER.findall(template))))
    for use in uses:
        own = [values[key] for key in use.keys if template_of[key] == template]
        if not all(own):
            return []  # a key whose changing parts can't be told apart
        chosen = {part for part in chosen if len({each[part] for each in own}) == 1} if own else chosen
    return sorted(chosen)


def _values(key: bytes, template: bytes) -> tuple[bytes, ...]:
    """The key's changing parts; none where they can't be told apart."""
    found = tuple(_CHANGING.findall(key))
    return found if len(found) == len(_PLACEHOLDER.findall(template)) else ()


def _word(templates: Sequence[bytes], taken: set[bytes]) -> bytes:
    """A word for a constant tag: the first that all templates begin with, else the first one's."""
    first = [match[0] if (match := _SEGMENT.match(template)) else b"" for template in templates]
    word = first[0] if len(set(first)) == 1 and first[0] else next(filter(None, first), b"tag")
    name, number = word, 1
    while name in taken:
        number += 1
        name = word + b"%d" % number
    taken.add(name)
    return name


# ---- the price


@dataclass(frozen=True)
class Weight:
    """What commands carry: their number, and the bytes of requests and replies. ``template`` is the first key's."""

    template: bytes
    operations: int
    bytes: int


@dataclass(frozen=True)
class KeyWeight:
    """One busy key: how it shares its template's load with the others."""

    key: bytes
    template: bytes
    operations: int
    bytes: int


def price(remedies: Remedies, weights: Sequence[Weight], keys: Sequence[KeyWeight]) -> Remedies:
    """``remedies`` with the loads before and after.

    A command lies where its first key does. What a template carries is shared out among its busy keys; what these
    don't explain is spread evenly over all slots, or goes to the tag's slot where that is one.
    """
    renamed: Callable[[bytes, bytes], bytes] = remedies.rename
    before = _load(weights, keys, lambda template, key: key, {})
    constants = {t: tag.constant for tag in remedies.tags for t in tag.templates if tag.constant is not None}
    after = _load(weights, keys, renamed, constants) if remedies.tags else None
    return Remedies(remedies.tags, before, after, remedies.checked, remedies.seen)


def _load(
    weights: Sequence[Weight],
    keys: Sequence[KeyWeight],
    rename: Callable[[bytes, bytes], bytes],
    constants: Mapping[bytes, bytes],
) -> Load | None:
    operations, volume = [0.0] * SLOTS, [0.0] * SLOTS
    names: dict[int, tuple[float, bytes]] = {}
    rest_operations = rest_bytes = 0.0
    by_template: dict[bytes, list[KeyWeight]] = defaultdict(list)
    for key in keys:
        by_template[key.template].append(key)
    for weight in weights:
        if weight.template in constants:
            place = slot(constants[weight.template])
            operations[place] += weight.operations
            volume[place] += weight.bytes
            names[place] = (float("inf"), b"{" + constants[weight.template] + b"}")
            continue
        known = by_template[weight.template]
        for whole, ops, size in _shares(weight, known):
            name = rename(weight.template, whole)
            place = slot(name)
            operations[place] += ops
            volume[place] += size
            if place not in names or names[place][0] < ops:
                names[place] = (ops, name)
            rest_operations -= ops
            rest_bytes -= size
        rest_operations += weight.operations
        rest_bytes += weight.bytes
    total = sum(operations) + rest_operations
    if total <= 0:
        return None
    even, even_bytes = rest_operations / SLOTS, rest_bytes / SLOTS
    operations = [each + even for each in operations]
    all_bytes = sum(volume) + rest_bytes
    hottest = max(range(SLOTS), key=operations.__getitem__)
    return Load(
        operations=round(total),
        slot=hottest,
        slot_share=operations[hottest] / total,
        slot_name=names.get(hottest, (0.0, b""))[1],
        bytes_share=(max(volume) + even_bytes) / all_bytes if all_bytes else 0.0,
        shards={count: tuple(_shards(operations, total, count)) for count in SHARDS},
    )


def _shares(weight: Weight, known: Sequence[KeyWeight]) -> Iterator[tuple[bytes, float, float]]:
    """What each busy key has of its template's load: never more in sum than the template has.

    Keys are counted in every place of a command, templates only in the first: hence the scale.
    """
    ops, size = sum(key.operations for key in known), sum(key.bytes for key in known)
    ops_scale = min(1.0, weight.operations / ops) if ops else 0.0
    size_scale = min(1.0, weight.bytes / size) if size else 0.0
    for key in known:
        yield key.key, key.operations * ops_scale, key.bytes * size_scale


def _shards(operations: Sequence[float], total: float, count: int) -> Iterator[float]:
    """Shares of equal ranges of slots, as ``redis-cli --cluster create`` deals them out."""
    for shard in range(count):
        first, last = round(shard * SLOTS / count), round((shard + 1) * SLOTS / count)
        yield sum(operations[first:last]) / total
