"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.units import parse_duration_s, parse_size_bytes, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("800ms", 0.8),
        ("5s", 5.0),
        ("5", 5.0),
        (" 1.5 s ", 1.5),
        ("2h", 7200.0),
        ("3m", 180.0),
        ("1d", 86400.0),
        ("50us", 5e-5),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("10GB", 10_000_000_000), ("64MiB", 64 << 20), ("123", 123), ("1.5 kB", 1500), ("2tib", 2 << 40), ("7B", 7)],
)
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 parsecs", "1e3s", "5s5", "٣s", "9" * 40])
def test_what_is_no_duration_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="800ms"):
        parse_duration_s(text)


@pytest.mark.parametrize("text", ["", "GB", "10G", "10Mbit", "0x10", "10GB!", "1,000"])
def test_what_is_no_size_or_is_ambiguous_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match="10GB"):
        parse_size_bytes(text)


@given(st.integers(0, 1 << 62))
def test_a_shown_size_reads_back_as_itself(size: int) -> None:
    assert parse_size_bytes(show_size(size)) == size


@given(st.integers(1, 10**12))
def test_a_shown_duration_reads_back_as_itself(microseconds: int) -> None:
    assert parse_duration_s(show_duration(microseconds / 1e6)) == pytest.approx(microseconds / 1e6)
