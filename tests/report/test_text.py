"""Key templates and byte strings."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.report.printable import exact, printable, shorten
from proxy.report.templates import fold, fold_first, fold_one


@pytest.mark.parametrize(
    ("key", "template"),
    [
        ("queue:default", "queue:default"),
        ("stat:processed:2026-11-23", "stat:processed:<date>"),
        ("it-0123456789abcdef01234567", "it-<id>"),
        ("web-3:4242:0a1b2c3d4e5f", "web-<id>:<id>:<id>"),
        ("user:0f8fad5b-d9cb-469f-a165-70867728950e:name", "user:<uuid>:name"),
        ("session:42", "session:<id>"),
        ("queue:v2low", "queue:v<n>low"),
        ("face:cafe:decade", "face:cafe:decade"),
        ("j|20261123|14:5", "j|<id>|<id>:<id>"),
        ("", ""),
    ],
)
def test_changing_parts_of_a_key_are_folded(key: str, template: str) -> None:
    assert fold_one(key.encode()) == template.encode()


#: The same templates, told by regular expressions, one after another.
_FOLDS = (
    (r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}", "<uuid>"),
    (r"\b(?:19|20)[0-9]{2}-[01][0-9]-[0-3][0-9](?:[T ][0-9:.]+Z?)?", "<date>"),
    (r"\b(?:[0-9]+|[0-9a-f]{10,}|[0-9A-F]{10,})\b", "<id>"),
    (r"[0-9]+", "<n>"),
)
_WORDS = (
    *("0f8fad5b-d9cb-469f-a165-70867728950e", "2026-11-23", "T04:00:00Z", "0123456789abcdef01234567", "DEADBEEF99"),
    *("queue:", "1", "-", ":", "x", "_", "ä", " ", "face"),
)
_parts = st.sampled_from(_WORDS)


@given(st.lists(st.lists(_parts | st.text("0123456789abcdefABz-:T Z.", max_size=12), max_size=6).map("".join)))
def test_one_pass_folds_as_regular_expressions_do(keys: list[str]) -> None:
    array = pa.array([key.encode() for key in keys], pa.binary())
    expected = array
    for pattern, replacement in _FOLDS:
        expected = pc.replace_substring_regex(expected, pattern, replacement)
    assert fold(array).to_pylist() == expected.to_pylist()


def test_the_first_key_of_each_list_is_folded() -> None:
    lists = pa.array([[b"a"], [b"user:1", b"b"], [], [b"b:22"]], pa.list_(pa.binary()))
    assert fold_first(lists).to_pylist() == [b"a", b"user:<id>", b"", b"b:<id>"]
    assert fold_first(lists.slice(1)).to_pylist() == [b"user:<id>", b"", b"b:<id>"]
    assert fold_first(lists.slice(0, 0)).to_pylist() == []


def test_bytes_that_are_no_text_pass_through_a_template() -> None:
    assert fold_one(b"\xff\x00:17") == b"\xff\x00:<id>"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        ("schl\u00fcssel".encode(), "schl\u00fcssel"),
        (b"a\\b", "a\\\\b"),
        (b"\xff", "\\xff"),
        (b"\x1b[31m\n", "\\x1b[31m\\x0a"),
        ("\u202e".encode(), "\\xe2\\x80\\xae"),
    ],
)
def test_byte_strings_are_printed_so_that_a_terminal_stays_whole(value: bytes, text: str) -> None:
    assert printable(value) == text


@given(st.binary())
def test_printed_bytes_hold_no_control_character(value: bytes) -> None:
    assert all(character.isprintable() or ord(character) > 0x9F for character in printable(value))


@given(st.binary())
def test_exact_strings_can_be_read_back(value: bytes) -> None:
    rest, back = exact(value), b""
    while rest:
        if rest.startswith("\\\\"):
            back, rest = back + b"\\", rest[2:]
        elif rest.startswith("\\x"):
            back, rest = back + bytes.fromhex(rest[2:4]), rest[4:]
        else:
            back, rest = back + rest[0].encode(), rest[1:]
    assert back == value


def test_a_long_key_is_shortened_in_its_middle() -> None:
    assert shorten("abcdefghij", 7) == "abcd…ij"
    assert shorten("abc", 3) == "abc"
