"""Which class and backend a key belongs to, by cases and against a slow and simple oracle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routing.table import KeyClass, Pattern, Table, chosen, doubled

SIDEKIQ = Table(
    3,
    (
        KeyClass.parse("queues=new:queue:*|queues"),
        KeyClass.parse(r"private=old:queue:sq\|*"),
        KeyClass.parse("one=main:queue:low"),
    ),
)


@pytest.mark.parametrize(
    ("key", "name", "backend"),
    [
        (b"queue:default", "queues", "new"),
        (b"queue:", "queues", "new"),
        (b"queue", "default", "main"),
        (b"queues", "queues", "new"),
        (b"queues2", "default", "main"),
        (b"queue:sq|host:1", "private", "old"),
        (b"queue:low", "one", "main"),
        (b"queue:lower", "queues", "new"),
        (b"", "default", "main"),
        (b"\xff\x00", "default", "main"),
    ],
)
def test_the_longest_pattern_has_the_key(key: bytes, name: str, backend: str) -> None:
    assert SIDEKIQ.class_of(key) == name
    assert SIDEKIQ.backends[SIDEKIQ.backend_of(key)] == backend


def test_main_is_always_the_first_backend() -> None:
    assert SIDEKIQ.backends == ("main", "new", "old")
    assert Table(0, ()).backends == ("main",)
    assert Table(0, ()).backend_of(b"any") == 0


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("a=b:x*", [(b"x", True)]),
        ("a=b:x|y*", [(b"x", False), (b"y", True)]),
        (r"a=b:x\*|y\|z|w\\*", [(b"x*", False), (b"y|z", False), (b"w\\", True)]),
        ("a=b:c:d=e", [(b"c:d=e", False)]),
        ("a=b:größe*", ["größe".encode(), True]),
    ],
)
def test_what_is_written_is_read_and_written_again(text: str, patterns: list[object]) -> None:
    read = KeyClass.parse(text)
    flat = patterns if isinstance(patterns[0], tuple) else [tuple(patterns)]
    assert [(each.text, each.prefix) for each in read.patterns] == flat
    assert KeyClass.parse(str(read)) == read


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("queues", "not NAME=BACKEND:PATTERN"),
        ("queues=new", "not NAME=BACKEND:PATTERN"),
        ("q q=new:a", "not NAME=BACKEND:PATTERN"),
        ("queues=:a", "not NAME=BACKEND:PATTERN"),
        ("queues=new:", "an empty pattern"),
        ("queues=new:*", "every key"),
        ("queues=new:a||b", "an empty pattern"),
        ("queues=new:a*b", "may only end"),
        ("queues=new:a\\", "backslash at the end"),
    ],
)
def test_what_is_no_class_is_refused_in_one_line(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part.replace("*", r"\*")) as error:
        KeyClass.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("classes", "part"),
    [
        (["a=b:x", "a=b:y"], "class a is there twice"),
        (["default=b:x"], "class default"),
        (["a=b:x*", "c=b:y|x*"], "pattern x* is there twice, in a and c"),
    ],
)
def test_nothing_may_be_there_twice(classes: list[str], part: str) -> None:
    assert part in str(doubled([KeyClass.parse(each) for each in classes]))


def test_a_key_and_a_prefix_of_the_same_letters_are_two_patterns() -> None:
    assert doubled([KeyClass.parse("a=b:x*"), KeyClass.parse("c=b:x")]) is None


_texts = st.binary(min_size=1, max_size=4).map(lambda raw: bytes(b"ab:|"[byte % 4] for byte in raw))
_patterns = st.builds(Pattern, _texts, st.booleans())


@given(
    st.dictionaries(_patterns, st.integers(0, 3), max_size=12),
    st.lists(_texts | st.binary(max_size=6), min_size=1, max_size=20),
)
def test_every_key_goes_where_a_naive_look_at_all_patterns_sends_it(
    owners: dict[Pattern, int], keys: list[bytes]
) -> None:
    backends = ("main", "b1", "b2", "main")
    classes = tuple(
        KeyClass(f"c{number}", backends[number], tuple(each for each, owner in owners.items() if owner == number))
        for number in range(4)
    )
    table = Table(1, classes)
    for key in keys:
        fitting = [
            (not each.prefix, len(each.text), owner)
            for each, owner in owners.items()
            if (key.startswith(each.text) if each.prefix else key == each.text)
        ]
        owner = max(fitting)[2] if fitting else -1
        assert table.class_of(key) == ("default" if owner < 0 else f"c{owner}")
        assert table.backends[table.backend_of(key)] == ("main" if owner < 0 else backends[owner])


def test_classes_are_chosen_by_name_and_each_once() -> None:
    assert chosen(SIDEKIQ.classes, ["private", "default", "private"]) == ("private", "default")
    assert chosen((), ()) == ()
    with pytest.raises(ValueError, match="there is no class Queues; there are queues, private, one, default"):
        chosen(SIDEKIQ.classes, ["Queues"])
    with pytest.raises(ValueError, match="there are no classes: start with --classes"):
        chosen((), ["default"])


def test_a_class_has_a_number_a_name_and_a_place() -> None:
    assert SIDEKIQ.names == ("queues", "private", "one", "default")
    assert SIDEKIQ.places == (1, 2, 0, 0)
    assert [SIDEKIQ.number_of(key) for key in (b"queues", b"queue:sq|x", b"queue:low", b"x")] == [0, 1, 2, 3]
