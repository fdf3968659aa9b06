"""Addresses as people write them, and that none of them ever shows its password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.address import Address, AddressError, HostPort, is_loopback


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "db", "label"),
    [
        ("redis://127.0.0.1:6379", "redis", "127.0.0.1", 6379, None, "127.0.0.1:6379"),
        ("redis://localhost", "redis", "localhost", 6379, None, "localhost:6379"),
        ("redis://localhost/", "redis", "localhost", 6379, None, "localhost:6379"),
        ("rediss://redis.example.com:7000/3", "rediss", "redis.example.com", 7000, 3, "redis.example.com:7000"),
        ("redis://[::1]:0", "redis", "::1", 0, None, "[::1]:0"),
    ],
)
def test_a_url_names_scheme_host_port_and_database(
    url: str, scheme: str, host: str, port: int, db: int | None, label: str
) -> None:
    address = Address.parse(url)
    assert (address.scheme, address.host, address.port, address.db, address.label) == (scheme, host, port, db, label)


def test_a_unix_socket_has_a_path_and_its_database_in_the_query() -> None:
    address = Address.parse("unix://:pw@/run/redis%20a.sock?db=2")
    assert (address.scheme, address.path, address.db, address.label) == (
        "unix",
        "/run/redis a.sock",
        2,
        "unix:/run/redis a.sock",
    )
    assert address.has_credentials


@pytest.mark.parametrize(
    ("url", "user", "password"),
    [
        ("redis://h", None, None),
        ("redis://:pw@h", None, "pw"),
        ("redis://app:pw@h", "app", "pw"),
        ("redis://app:@h", "app", ""),
        ("redis://a%40b:p%2Fw%3A%40@h", "a@b", "p/w:@"),
        ("redis://app:p:w@h", "app", "p:w"),
    ],
)
def test_credentials_are_percent_decoded(url: str, user: str | None, password: str | None) -> None:
    address = Address.parse(url)
    assert address.user == user
    assert (None if address.password is None else address.password.get_secret_value()) == password


@pytest.mark.parametrize(
    "url",
    [
        "", "127.0.0.1:6379", "http://h", "redis://", "redis://:6379", "redis://h:port", "redis://h:70000", "redis://h:-1",
        "redis://h/one", "redis://h/-1", "redis://h/1/2", "redis://h/99999999", "redis://h?db=1", "redis://user@h",
        "redis://h#x", "redis://[::1", "redis://::1:6379", "redis://h h", "unix://run/redis.sock", "unix:///",
        "unix:///a?x=1", "unix:///a?db=1&db=2", "unix:///a?db=x",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(AddressError):
        Address.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cr/et@h",
        "redis://:s3cr#et@h",
        "redis://:s3cr?et@h",
        "redis://u:s3cret@h:x",
        "redis://u:s3cret@[h",
        "s3cret",
    ],
)
def test_an_error_never_repeats_a_password(url: str) -> None:
    with pytest.raises(AddressError) as caught:
        Address.parse(url)
    assert "s3cr" not in str(caught.value)
    assert "\n" not in str(caught.value)


@given(password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=9, max_size=40))
def test_no_form_of_an_address_shows_its_password(password: str) -> None:
    from urllib.parse import quote

    address = Address.parse(f"redis://app:{quote(password, safe='')}@h:1/2")
    assert address.password is not None
    assert address.password.get_secret_value() == password
    for shown in (str(address), repr(address), address.label, f"{[address]}"):
        assert password not in shown
        assert quote(password, safe="") not in shown
    assert str(address) == "redis://app:***@h:1/2"


@pytest.mark.parametrize("url", ["redis://[::1]:7/3", "unix:///a/b?db=4", "rediss://h:1", "unix:///x"])
def test_an_address_without_a_password_is_written_as_it_is_read(url: str) -> None:
    assert str(Address.parse(url)) == url


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("LocalHost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("localhost.example.com", False), ("redis", False)],
)  # fmt: skip
def test_loopback_is_told_without_looking_names_up(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_an_http_address_is_host_and_port() -> None:
    assert HostPort.parse("127.0.0.1:9380") == HostPort("127.0.0.1", 9380)
    assert str(HostPort.parse("[::1]:0")) == "[::1]:0"


@pytest.mark.parametrize("text", ["", "9380", ":9380", "h:", "h:99999", "http://h:1", "a b:1", "::1:9380"])
def test_what_is_no_host_and_port_says_what_to_write(text: str) -> None:
    with pytest.raises(AddressError, match=r"127\.0\.0\.1:9380"):
        HostPort.parse(text)
