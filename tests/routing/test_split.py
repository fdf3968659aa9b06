"""Who is chosen by a split."""

from __future__ import annotations

import re

import pytest

from proxy.routing.split import Addresses, drawn, network

SEED = b"a seed"


@pytest.mark.parametrize("percent", [0.5, 1, 10, 50, 99])
def test_the_share_of_those_drawn_is_what_was_asked_for(percent: float) -> None:
    count = sum(drawn(SEED, number, percent) for number in range(20_000))
    assert abs(count / 200 - percent) < 1


def test_the_draw_is_stable_and_a_larger_share_holds_the_smaller_one() -> None:
    few, many = ({n for n in range(5000) if drawn(SEED, n, percent)} for percent in (10, 40))
    assert few == {n for n in range(5000) if drawn(SEED, n, 10)}
    assert few < many
    assert few != {n for n in range(5000) if drawn(b"another", n, 10)}
    assert all(drawn(SEED, n, 100) for n in range(5000))


@pytest.mark.parametrize(
    ("written", "label", "fits"),
    [
        ("10.0.0.0/8", "10.1.2.3:5000", True),
        ("10.0.0.0/8", "11.1.2.3:5000", False),
        ("10.1.2.3", "10.1.2.3:5000", True),
        ("10.0.0.5/8", "10.1.2.3:5000", True),
        ("::1", "[::1]:5000", True),
        ("fe80::/10", "[::1]:5000", False),
        ("10.0.0.0/8", "[::1]:5000", False),
        ("10.0.0.0/8", "unix:3", False),
        (r"10\.1\..*", "10.1.2.3:5000", True),
        (r"10\.1\.2\.3:5000", "10.1.2.3:5000", True),
        (r"10\.1\.2\.3:5001", "10.1.2.3:5000", False),
        ("unix:.*", "unix:3", True),
    ],
)
def test_an_address_is_meant_by_its_network_or_by_a_pattern(written: str, label: str, fits: bool) -> None:
    found = network(written)
    pattern = re.compile(written.encode()) if found is None else None
    assert Addresses(found, pattern).fits(label) is fits
