"""The key finder against Redis: COMMAND GETKEYS for every command, CROSSSLOT from a cluster; and its own laws."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ClusterCrossSlotError

from protocol.commands import Kind, Replies, Trait, table
from protocol.keyspecs import Keys, Unknown, ask, find, lookup_name
from protocol.slots import slot
from proxy.capture.format import UnknownWhy
from tests.protocol.command_lines import SPICE, documents, lines
from tests.protocol.conftest import AskMany

LINES_EACH = 60
COUNT = re.compile(rb"0|[1-9][0-9]{0,8}")


def words(line: str) -> list[bytes]:
    return [b"" if word == '""' else word.encode() for word in line.split()]


def made_lines(live: AskMany, seed: int, each: int) -> list[list[bytes]]:
    """Lines for every command and subcommand that the server documents or lists."""
    rng = random.Random(seed)
    docs = dict(documents(live([(b"COMMAND", b"DOCS")])[0]))
    listed = {tuple(name.upper().split(b"|")) for name in live([(b"COMMAND", b"LIST")])[0]}
    assert listed == docs.keys()
    made = [line for name in sorted(docs) for line in lines(name, docs[name], rng, each)]
    names, pool = sorted(docs), [*SPICE, b"a", b"b"]  # and quite without grammar
    made += [[*rng.choice(names), *rng.choices(pool, k=rng.randrange(1, 12))] for _ in range(20 * each)]
    return [line for line in made if len(line) > 1]  # COMMAND GETKEYS itself refuses a bare name


def getkeys_reads_otherwise(line: list[bytes]) -> bool:
    """COMMAND GETKEYS and the command itself read the line differently; the tests with a cluster cover these.

    GETKEYS takes a key count written as "01", "2x" or beyond 32 bits, an XREAD with too few IDs, an XREADGROUP's later
    STREAMS, and the first of several GEORADIUS stores (the last one counts; one in the unit's place counts too when
    redirecting); it refuses PFMERGE without a source.
    """
    spec = lookup_name(line)
    if spec is None:
        return False
    if spec.kind is Kind.XREAD:
        groupless = spec.name == "XREADGROUP" and b"STREAMS" in map(bytes.upper, line[1:4])
        return groupless or find(line) == Unknown(UnknownWhy.BAD_ARGUMENTS)
    if spec.name == "PFMERGE":
        return len(line) == 2
    if spec.name.startswith("GEORADIUS"):
        stores = [at for at, word in enumerate(line) if word.upper() in (b"STORE", b"STOREDIST")]
        return len(stores) > 1 or stores == [5]
    at = [key_spec.start + key_spec.last for key_spec in spec.key_specs if key_spec.find == "keynum"]
    return any(not COUNT.fullmatch(line[index]) for index in at if index < len(line))


def disagreement(line: list[bytes], answer: object) -> str | None:
    """What is wrong with our keys for ``line``, given what COMMAND GETKEYS answered; None: nothing."""
    ours = find(line)
    keys = [line[index] for index in ours.indexes] if isinstance(ours, Keys) else None
    spec = lookup_name(line)
    if isinstance(answer, list):
        agrees = (
            keys == answer
            or getkeys_reads_otherwise(line)
            or (not answer and ours == Unknown(UnknownWhy.BAD_ARGUMENTS))
        )
    elif getkeys_reads_otherwise(line):
        agrees = True
    else:
        expected = {
            "The command has no key arguments": spec is not None and (keys == [] or Trait.SHARD_CHANNEL in spec.traits),
            "Invalid number of arguments specified for command": ours == Unknown(UnknownWhy.BAD_ARGUMENTS),
            "Invalid arguments specified for command": ours == Unknown(UnknownWhy.BAD_ARGUMENTS),
            "Invalid command specified": ours == Unknown(UnknownWhy.NOT_IN_TABLE) or (spec is not None and spec.newer),
        }
        agrees = expected[str(answer).removeprefix("ERR ")]
    return None if agrees else f"{line}: Redis says {answer}, we say {ours}"


def test_keys_equal_command_getkeys_for_every_command_of_the_server(live: AskMany) -> None:
    made = made_lines(live, 1, LINES_EACH)
    answers = live([(b"COMMAND", b"GETKEYS", *line) for line in made])
    wrong = [text for line, answer in zip(made, answers, strict=True) if (text := disagreement(line, answer))]
    assert not wrong, f"{len(wrong)} of {len(made)}:\n" + "\n".join(wrong[:20])
    named = {spec.name for line, answer in zip(made, answers, strict=True) if answer and (spec := lookup_name(line))}
    assert {spec.name for spec in table().commands.values() if not spec.newer and spec.key_specs} <= named


def test_a_cluster_answers_crossslot_exactly_when_the_keys_lie_in_several_slots(
    live: AskMany, one_node_cluster: AskMany
) -> None:
    sent, expected = [], []
    for line in made_lines(live, 2, 25):
        spec, ours = lookup_name(line), find(line)
        if spec is None or not spec.key_specs or not isinstance(ours, Keys):
            continue
        cross = len({slot(line[index]) for index in ours.indexes}) > 1
        waits = spec.traits & (Trait.BLOCKING | Trait.MAYBE_BLOCKING | Trait.PUBSUB)
        if not cross and (waits or spec.kind in (Kind.MIGRATE, Kind.WATCH)):
            continue  # would wait, subscribe or call another server
        sent.append(line)
        expected.append(cross)
    answers = one_node_cluster(sent)
    wrong = [
        f"{line}: cross-slot {cross}, the cluster says {answer!r}"
        for line, cross, answer in zip(sent, expected, answers, strict=True)
        if isinstance(answer, ClusterCrossSlotError) != cross
    ]
    assert sum(expected) > 500
    assert not wrong, f"{len(wrong)} of {len(sent)}:\n" + "\n".join(wrong[:20])


def test_redis_refuses_what_we_call_bad_arguments(live: AskMany, one_node_cluster: AskMany) -> None:
    bad = [line for line in made_lines(live, 3, 25) if find(line) == Unknown(UnknownWhy.BAD_ARGUMENTS)]
    answers = one_node_cluster(bad)
    wrong = [
        f"{line}: {answer!r}" for line, answer in zip(bad, answers, strict=True) if not isinstance(answer, Exception)
    ]
    assert len(bad) > 500
    assert not wrong, f"{len(wrong)} of {len(bad)}:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("GET a", "a"),
        ("MSET a 1 b 2", "a b"),
        ("DEL a a", "a a"),
        ("BRPOP a b c 0", "a b c"),
        ("EVAL s 0 x", ""),
        ("EVALSHA s 2 a b x", "a b"),
        ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"),
        ("SORT a BY w_* GET # LIMIT 0 1 STORE d", "a d"),
        ("SORT_RO a BY w_*", "a"),
        ('MIGRATE h 1 "" 0 1 COPY AUTH keys KEYS a b', "a b"),
        ("MIGRATE h 1 k 0 1 REPLACE", "k"),
        ("XREAD COUNT 1 STREAMS a b 0 0", "a b"),
        ("XREADGROUP GROUP streams STREAMS STREAMS a >", "a"),
        ("GEORADIUS g 1 1 1 m STORE d", "g d"),
        ("MEMORY USAGE a", "a"),
        ("OBJECT HELP", ""),
        ("XGROUP CREATE s g $", "s"),
        ("COMMAND GETKEYS GET a", ""),
        ("MSETEX 2 a 1 b 2 EX 5", "a b"),
        ("HGETEX h FIELDS 1 f", "h"),
        ("PUBLISH c m", ""),
        ("PFMERGE d", "d"),
        ("GEORADIUS g 1 1 1 m STORE d STOREDIST e", "g e"),
    ],
)
def test_keys_by_example(line: str, keys: str) -> None:
    found = find(words(line))
    assert isinstance(found, Keys)
    assert not found.shard_channels
    assert [words(line)[index] for index in found.indexes] == keys.encode().split()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("NOSUCH a", UnknownWhy.NOT_IN_TABLE),
        ("CLIENT NOSUCH", UnknownWhy.NOT_IN_TABLE),
        ("GET", UnknownWhy.BAD_ARGUMENTS),
        ("EVAL s 1", UnknownWhy.BAD_ARGUMENTS),
        ("EVAL s 99999999999999999999 a", UnknownWhy.BAD_ARGUMENTS),
        ("EVAL s -1 a", UnknownWhy.BAD_ARGUMENTS),
        ("ZUNION 4294967297 a b", UnknownWhy.BAD_ARGUMENTS),
        ("MSETEX 4611686018427387905 a 1", UnknownWhy.BAD_ARGUMENTS),
        ("MIGRATE h 1 k 0 1 KEYS a", UnknownWhy.BAD_ARGUMENTS),
    ],
)
def test_keys_that_cannot_be_told_are_unknown_with_the_reason(line: str, why: UnknownWhy) -> None:
    assert find(words(line)) == Unknown(why)


def test_shard_channels_decide_the_slot_and_are_no_keys() -> None:
    assert find(words("SSUBSCRIBE a b")) == Keys((1, 2), shard_channels=True)
    assert find(words("SUNSUBSCRIBE")) == Keys((), shard_channels=True)


def test_arguments_that_were_not_kept_make_the_answer_unknown() -> None:
    assert find(words("MSET a 1 b 2"), kept=3) == Unknown(UnknownWhy.TOO_MANY_ARGUMENTS)
    assert find(words("EVAL s 1 a"), kept=2) == Unknown(UnknownWhy.TOO_MANY_ARGUMENTS)
    assert find(words("EVAL s 12 a b c d e f g h i j k l"), cut=4) != Unknown(UnknownWhy.ARGUMENT_CUT)
    assert find(words("EVAL s 12 a b c d e f g h i j k l"), cut=1) == Unknown(UnknownWhy.NOT_IN_TABLE)
    assert find([b"GET", b"k" * 1000], cut=3) == Keys((1,))


GRAMMARLESS = st.lists(
    st.sampled_from([*SPICE, b"a", b"b"]) | st.binary(max_size=8) | st.integers().map(lambda n: b"%d" % n), max_size=14
)
NAMES = st.sampled_from([tuple(name.encode().split()) for name in table().commands])


@settings(max_examples=1500)
@given(NAMES, GRAMMARLESS, st.integers(0, 16), st.integers(0, 24))
def test_knowing_less_never_gives_another_answer_than_unknown(
    name: tuple[bytes, ...], rest: list[bytes], kept: int, cut: int
) -> None:
    line = [*name, *rest]
    whole = find(line)
    if isinstance(whole, Keys):
        assert all(1 <= index < len(line) for index in whole.indexes)
        assert len(set(whole.indexes)) == len(whole.indexes)
    less = find(line, kept=kept, cut=cut)
    shortened = cut < len(line[0]) or kept < 2  # then even the name may be another one
    assert less == whole or isinstance(less, Unknown) or shortened
    asked, asked_less = ask(line), ask(line, kept=kept, cut=cut)
    if asked and asked_less:
        assert asked_less["has_secret"] >= asked["has_secret"] or shortened
        assert asked_less["may_block"] >= asked["may_block"] or shortened


@pytest.mark.parametrize(
    ("line", "question", "answer"),
    [
        ("REPLCONF ACK 1", "replies_due", Replies.NONE),
        ("REPLCONF listening-port 1 capa eof", "replies_due", Replies.ONE),
        ("REPLCONF GETACK *", "replies_due", Replies.NONE),
        ("XREAD COUNT 1 BLOCK 0 STREAMS a 0", "may_block", 1),
        ("XREAD COUNT 1 STREAMS BLOCK 0", "may_block", 0),
        ("XREADGROUP GROUP g block STREAMS a >", "may_block", 0),
        ("XREADGROUP GROUP g c block 5 STREAMS a >", "may_block", 1),
        ("BRPOP a 0", "may_block", 1),
        ("GET a", "may_block", 0),
        ("AUTH x", "has_secret", 1),
        ("HELLO 3", "has_secret", 0),
        ("HELLO 3 SETNAME x", "has_secret", 0),
        ("HELLO 3 auth u p", "has_secret", 1),
        ("CONFIG SET maxmemory 1", "has_secret", 0),
        ("CONFIG SET maxmemory 1 RequirePass x", "has_secret", 1),
        ("CONFIG SET tls-key-file-pass x", "has_secret", 1),
        ("ACL SETUSER u >p", "has_secret", 1),
        ("MIGRATE h 1 k 0 1", "has_secret", 0),
        ("MIGRATE h 1 k 0 1 AUTH p", "has_secret", 1),
        ('MIGRATE h 1 "" 0 1 AUTH2 u p KEYS a', "has_secret", 1),
        ('MIGRATE h 1 "" 0 1 KEYS auth', "has_secret", 0),
        ("SELECT 3", "database_named", 3),
        ("SELECT x", "database_named", -1),
        ("MOVE k 2", "database_named", 2),
        ("SWAPDB 0 5", "database_named", 5),
        ("COPY a b", "database_named", -1),
        ("COPY a b REPLACE DB 4", "database_named", 4),
    ],
)
def test_the_questions_that_need_the_arguments(line: str, question: str, answer: int) -> None:
    asked = ask(words(line))
    assert asked is not None
    assert asked[question] == answer


@pytest.mark.parametrize(
    "line", ["GET #", "GET w_*", "BY w_*", "BY nosort", "LIMIT 0 1", "ASC ALPHA", "BY nosort GET #", "STORE {k}d", ""]
)
def test_sort_has_a_pattern_exactly_when_a_cluster_refuses_it(line: str, one_node_cluster: AskMany) -> None:
    command = words(f"SORT k {line}")
    asked = ask(command)
    assert asked is not None
    assert ("denied in Cluster mode" in str(one_node_cluster([command])[0])) == bool(asked["has_pattern"])
