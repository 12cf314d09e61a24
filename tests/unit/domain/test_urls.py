"""The URLs from which the service fetches keys: which are accepted."""

import pytest

from identity_service.domain.urls import MAX_URL_CHARS, is_loopback_host, is_safe_url, server_of


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example/keys",
        "https://id.example:8443/keys?a=b",
        "https://[2001:db8::1]/keys",
        "http://localhost:8080/keys",
        "http://127.0.0.1/keys",
        "http://[::1]:1/keys",
        "https://id.example/" + "x" * (MAX_URL_CHARS - 19),
    ],
)
def test_keys_may_be_fetched_by_https_and_on_loopback_by_http(url: str) -> None:
    assert is_safe_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://id.example/keys",
        "http://192.0.2.1/keys",
        "ftp://localhost/keys",
        "file:///etc/keys",
        "https:///keys",
        "https://user@id.example/keys",
        "https://id.example/keys#part",
        "https://id.example/keys#",
        "https://id.example\\@other.example/",
        "https://id.example/a b",
        "https://id.example/a\tb",
        "https://id.example/ä",
        "https://id.example:port/",
        "https://id.example:65536/",
        "https://[id.example/",
        "https://id.example/" + "x" * (MAX_URL_CHARS - 18),
    ],
)
def test_keys_are_fetched_from_no_other_url(url: str) -> None:
    assert not is_safe_url(url)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://id.example/keys", ("https", "id.example", 443)),
        ("http://localhost/keys", ("http", "localhost", 80)),
        ("https://id.example:8443/keys", ("https", "id.example", 8443)),
        ("http://[::1]:81/keys", ("http", "::1", 81)),
        ("https:keys", ("https", "", 443)),
    ],
)
def test_the_server_of_a_url_has_the_port_of_the_scheme_unless_it_names_one(
    url: str, server: tuple[str, str, int]
) -> None:
    assert server_of(url) == server


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_a_loopback_host_is_a_name_or_an_address(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize("host", ["", "localhost.example", "10.0.0.1", "::2", "id.example"])
def test_another_host_is_not_a_loopback_one(host: str) -> None:
    assert not is_loopback_host(host)
