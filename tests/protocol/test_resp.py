"""The frame scanner finds the same frames as hiredis and as a plain reading of the grammar, however bytes are cut."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocol.resp import CommandReader, ReplyReader
from tests.protocol import reference

FAST = settings(max_examples=150, derandomize=True, deadline=None)


def encode(*args: bytes) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args)


def cut(data: bytes, lengths: list[int]) -> list[bytes]:
    """``data`` in pieces of these lengths; the last piece is the rest."""
    pieces = []
    for length in lengths:
        pieces.append(data[:length])
        data = data[length:]
    return [piece for piece in [*pieces, data] if piece]


def read_commands(pieces: list[bytes], max_frame: int = 0) -> tuple[list[tuple[list[bytes | None], bool]], bool, bool]:
    reader = CommandReader(max_frame)
    found = [(args, inline) for piece in pieces for args, _, inline in reader.feed(piece)]
    return found, reader.bad, reader.too_big


def read_replies(pieces: list[bytes]) -> tuple[list[tuple[str, bool, int]], bool]:
    reader = ReplyReader()
    return [frame for piece in pieces for frame in reader.feed(piece)], reader.bad


# ---- commands

_arguments = st.one_of(
    st.binary(max_size=20), st.binary(min_size=500, max_size=700), st.just(b"\r\n"), st.just(b"*1\r\n")
)
_words = st.from_regex(rb"[A-Za-z0-9:*$+.-]{1,8}", fullmatch=True)
_commands = st.one_of(
    st.lists(_arguments, min_size=1, max_size=6).map(lambda args: encode(*args)),
    st.lists(_words.filter(lambda word: word[:1] != b"*"), min_size=1, max_size=4).map(
        lambda words: b" ".join(words) + b"\r\n"
    ),
    st.sampled_from([b"*0\r\n", b"*-1\r\n", b"\r\n", b"\n", b"  \r\n", b"*1\rX$4\rXPINGXX"]),
)
_cuts = st.lists(st.integers(1, 60), max_size=12)
_stream = st.lists(_commands, max_size=6).map(b"".join)

EXAMPLES = [
    encode(b"SET", b"a", b"b") + b"PING\r\n" + encode(b"GET", b""),
    b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$5\r\n\r\n\r\n\n\r\n" + b"*0\r\n*-1\r\n\r\nECHO x\n",
    encode(b"x" * 5000, b"y" * 300, b""),
    b"*1\rZ$4\rZPINGZZ" + encode(b"A"),
]
BAD = [
    b"*x\r\n", b"*01\r\n", b"*1x\r\n", b"*+1\r\n", b"* 1\r\n", b"*2147483648\r\n", b"*9999999999999999999\r\n",
    b"*1\r\n+x\r\n",
    b"*1\r\n$-1\r\n", b"*1\r\n$x\r\n", b"*1\r\n$01\r\n", b"*1\r\n$\r\n", b"*\r\n", b"*-0\r\n",
    b"*1\r\n$9999999999999999999\r\n",
    b"*" + b"1" * 40, b"*1\r\n$" + b"1" * 40, b"a\0b\r\n", b"x" * 70_000, b"*1\r\nPING\r\n", b"*1\r\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("data", EXAMPLES)
def test_commands_cut_at_every_byte_are_the_same(data: bytes) -> None:
    whole = reference.commands(data)
    for at in range(len(data)):
        assert read_commands(cut(data, [at] if at else [])) == (whole.commands, False, False), at
    assert read_commands([data[i : i + 1] for i in range(len(data))]) == (whole.commands, False, False)


@pytest.mark.parametrize("data", BAD, ids=lambda data: repr(data[:24]))
def test_what_redis_refuses_is_bad_however_it_is_cut(data: bytes) -> None:
    assert reference.commands(data).bad
    ping = encode(b"PING")
    for lengths in [[], [1] * min(len(data), 64), *([at] for at in range(1, min(len(data), 64)))]:
        assert read_commands(cut(ping + data, [len(ping), *lengths])) == ([([b"PING"], False)], True, False), lengths


@FAST
@given(_stream, _cuts)
def test_commands_in_random_pieces_are_what_the_grammar_says(data: bytes, lengths: list[int]) -> None:
    whole = reference.commands(data)
    found, bad, _ = read_commands(cut(data, lengths))
    assert (found, bad) == (whole.commands, whole.bad)


@FAST
@given(
    _stream,
    _cuts,
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(b"\r\n*$-0129+ a\xff")), min_size=1, max_size=4),
)
def test_mutated_commands_are_what_the_grammar_says(
    data: bytes, lengths: list[int], changes: list[tuple[int, int]]
) -> None:
    assume(data)
    changed = bytearray(data)
    for at, byte in changes:
        changed[at % len(changed)] = byte
    _same_as_reference(bytes(changed), lengths)


@FAST
@given(
    st.lists(st.sampled_from([b"*", b"$", b"\r\n", b"\r", b"\n", b"1", b"2", b"0", b"-", b"3", b"a", b" ", b"\0"])),
    _cuts,
)
def test_random_bytes_are_what_the_grammar_says(parts: list[bytes], lengths: list[int]) -> None:
    _same_as_reference(b"".join(parts), lengths)


def _same_as_reference(data: bytes, lengths: list[int]) -> None:
    try:
        whole = reference.commands(data)
    except NotImplementedError:
        assume(False)
    found, bad, _ = read_commands(cut(data, lengths))
    assert (found, bad) == (whole.commands, whole.bad)


@pytest.mark.parametrize("size", [65534, 65535, 65536, 65537, 70_000])
@pytest.mark.parametrize("step", [1 << 20, 9000])
def test_an_inline_line_has_a_limit(size: int, step: int) -> None:
    data = b"PING " + b"x" * (size - 6) + b"\n"
    found, bad, _ = read_commands(cut(data, [step] * (len(data) // step)))
    assert (len(found), bad) == ((1, False) if size <= 65536 else (0, True))


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize(("limit", "too_big"), [(0, False), (200, False), (135, False), (134, True), (40, True)])
def test_a_limit_is_met_at_the_same_byte_however_the_frame_is_cut(limit: int, too_big: bool, step: int) -> None:
    data = encode(b"SET", b"k" * 50, b"v" * 60)
    assert len(data) == 137
    assert read_commands(cut(data, [step] * (len(data) // step)), limit)[2] == too_big


def test_more_arguments_than_are_kept_are_passed_over() -> None:
    args = [b"%d" % number for number in range(70_000)]
    data = encode(*args) + encode(b"PING")
    for lengths in ([], [5], [100_000, 3]):
        found, bad, _ = read_commands(cut(data, lengths))
        assert (len(found), bad) == (2, False)
        assert found[0][0] == args[:65536]


# ---- replies

_lines = st.one_of(
    st.from_regex(rb"[+-][ -~]{0,40}", fullmatch=True), st.integers(-(2**63), 2**63 - 1).map(lambda n: b":%d" % n),
    st.sampled_from([b"_", b"#t", b"#f", b",1.5", b",inf", b",-inf", b",10", b"(123456789012345678901", b"$-1",
                     b"*-1"]),
).map(lambda line: line + b"\r\n")  # fmt: skip
_blobs = st.builds(
    lambda mark, text: b"%b%d\r\n%b\r\n" % (mark, len(text), text),
    st.sampled_from([b"$", b"!"]),
    st.binary(max_size=60),
) | st.binary(max_size=30).map(lambda text: b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text))


def _aggregate(mark: bytes, items: list[bytes]) -> bytes:
    half = mark in (b"%", b"|")
    items = items[: len(items) // 2 * 2] if half else items
    return b"%b%d\r\n" % (mark, len(items) // (2 if half else 1)) + b"".join(items)


_values = st.recursive(
    _lines | _blobs,
    lambda inner: st.builds(_aggregate, st.sampled_from([b"*", b"~", b"%"]), st.lists(inner, max_size=5)),
    max_leaves=8,
)
_pushes = st.lists(_values, min_size=1, max_size=3).map(lambda items: _aggregate(b">", [b"+message\r\n", *items]))
_attributed = st.builds(lambda pairs, value: _aggregate(b"|", pairs) + value, st.lists(_values, max_size=4), _values)
# hiredis knows neither attributes nor errors in blobs, and Python's dicts and sets hold no lists.
_plain = _lines | st.binary(max_size=60).map(lambda text: b"$%d\r\n%b\r\n" % (len(text), text))
_sets = st.lists(_plain, max_size=4).map(lambda items: _aggregate(b"~", items))
_for_hiredis = st.recursive(
    _plain | _sets,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: _aggregate(b"*", items))
        | st.lists(st.tuples(_plain, inner), max_size=3).map(
            lambda pairs: b"%%%d\r\n" % len(pairs) + b"".join(sum(pairs, ()))
        )
    ),
    max_leaves=8,
)
_replies = st.lists(
    _for_hiredis | _pushes.filter(lambda frame: b"%" not in frame and b"~" not in frame and b"!" not in frame),
    max_size=5,
)


@FAST
@given(_replies, _cuts)
def test_a_stream_holds_as_many_replies_as_hiredis_finds_in_it(frames: list[bytes], lengths: list[int]) -> None:
    found, bad = read_replies(cut(b"".join(frames), lengths))
    assert not bad
    assert [size for _, _, size in found] == [len(frame) for frame in frames]
    oracle = hiredis.Reader(protocolError=ValueError, replyError=Exception)
    oracle.feed(b"".join(frames))
    values = [oracle.gets() for _ in frames]
    assert oracle.gets() is False
    for (mark, null, _), value in zip(found, values, strict=True):
        _same_kind(mark, null, value)


def _same_kind(mark: str, null: bool, value: object) -> None:
    kinds: dict[str, type | tuple[type, ...]] = {
        "+": bytes, "$": bytes, "-": Exception, "!": Exception, ":": int, "*": list, "~": (list, set, frozenset),
        "%": (dict, list),
        ",": float, "#": bool, ">": list, "=": (bytes, tuple), "_": type(None), "(": (int, bytes),
    }  # fmt: skip
    assert value is None if null else isinstance(value, kinds[mark]), (mark, value)


@FAST
@given(st.lists(st.one_of(_values, _pushes, _attributed), max_size=5), _cuts)
def test_replies_with_attributes_are_what_the_grammar_says(frames: list[bytes], lengths: list[int]) -> None:
    data = b"".join(frames)
    assert read_replies(cut(data, lengths)) == reference.replies(data)


@FAST
@given(
    st.lists(st.one_of(_values, _attributed), min_size=1, max_size=3), _cuts,
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(b"\r\n*$-0129+ a\xff|%>_")), min_size=1, max_size=4),
)  # fmt: skip
def test_mutated_replies_are_what_the_grammar_says(
    frames: list[bytes], lengths: list[int], changes: list[tuple[int, int]]
) -> None:
    data = bytearray(b"".join(frames))
    for at, byte in changes:
        data[at % len(data)] = byte
    assert read_replies(cut(bytes(data), lengths)) == reference.replies(bytes(data))


STREAM = (
    b"+OK\r\n-ERR x\r\n:-5\r\n$0\r\n\r\n$-1\r\n*-1\r\n*0\r\n_\r\n#t\r\n,1.5\r\n(12345\r\n=8\r\ntxt:a\r\nb\r\n"
    b"!5\r\nERR x\r\n"
    b"%1\r\n+a\r\n*2\r\n:1\r\n$3\r\n\r\n\r\r\n~2\r\n:1\r\n:2\r\n>2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n"
    b"|1\r\n+ttl\r\n*2\r\n:1\r\n:2\r\n*2\r\n|1\r\n+k\r\n:1\r\n:1\r\n:2\r\n+a\rb\r\n+" + b"long" * 300 + b"\r\n"
)


def test_replies_cut_at_every_byte_are_the_same() -> None:
    whole = reference.replies(STREAM)
    assert not whole[1]
    assert len(whole[0]) == 19
    for at in range(len(STREAM)):
        assert read_replies(cut(STREAM, [at] if at else [])) == whole, at
    assert read_replies([STREAM[i : i + 1] for i in range(len(STREAM))]) == whole


@pytest.mark.parametrize(
    "data",
    [b"\r\n", b"x\r\n", b"$x\r\n", b"$-2\r\n", b"*-2\r\n", b"$+1\r\n", b"$01\r\n", b"|-1\r\n",
     b"*99999999999999999999\r\n",
     b"*999999999999999999\r\n", b"$?\r\n", b"*1\r\nHTTP\r\n", b"*\r\n", b"%999999999999999999\r\n"],
)  # fmt: skip
def test_what_is_no_reply_is_bad_however_it_is_cut(data: bytes) -> None:
    for lengths in [[], [1] * len(data), *([at] for at in range(1, len(data)))]:
        assert read_replies(cut(b"+OK\r\n" + data, [5, *lengths])) == ([("+", False, 5)], True), lengths


def test_nested_counts_do_not_overflow() -> None:
    deep = b"*200000000000000000\r\n" * 20
    for lengths in ([], [3] * 20):
        _, bad = read_replies(cut(deep, lengths))
        assert bad
