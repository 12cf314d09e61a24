"""The URL in `issuer`: which values are accepted, and which correction the error suggests for the others."""

import pytest

from identity_service.config.issuer_url import EXAMPLE, why_not_issuer_url

SECRET = "hunter2"


def why(issuer: str, *, dev: bool = False) -> str:
    found = why_not_issuer_url(issuer, dev=dev) or ""
    assert SECRET not in found
    return found


@pytest.mark.parametrize(
    "issuer",
    [
        "https://identity.example.org",
        "https://identity.example.org/",
        "https://identity.example.org:8443",
        "https://identity.example.org/tenants/a-1_b.c~/",
        "https://xn--idntity-bya.example",
        "https://my_host",
        "https://10.0.0.7",
        "https://[2001:db8::1]:8443/x",
        "https://127.0.0.1",
    ],
)
def test_a_url_that_every_library_writes_alike_is_accepted(issuer: str) -> None:
    assert why(issuer) == ""


@pytest.mark.parametrize(
    ("issuer", "advice"),
    [
        (" https://id.example", "https://id.example"),
        ("https://id.example ", "https://id.example"),
        ("https://id.example/a ", "https://id.example/a"),
        ("https://id.example\n", "https://id.example"),
        ("https://id.exa\tmple", "https://id.example"),
        ("HTTPS://id.example", "https://id.example"),
        ("https://Id.Example/A", "https://id.example/A"),
        ("https://id.example.", "https://id.example"),
        ("https://id.example:443", "https://id.example"),
        ("https://id.example:0443/a", "https://id.example/a"),
        ("https://id.example:08443", "https://id.example:8443"),
        ("https://id.example:", "https://id.example"),
        ("https://id.example:0", "https://id.example"),
        ("https://id.example?", "https://id.example"),
        ("https://id.example/a?tenant=b", "https://id.example/a"),
        ("https://id.example#", "https://id.example"),
        ("https://id.example/#a", "https://id.example/"),
        (f"https://ana:{SECRET}@id.example", "https://id.example"),
        ("https://@id.example", "https://id.example"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]"),
        ("https://[2001:db8:0::1]", "https://[2001:db8::1]"),
        ("http://id.example", "https://id.example"),
        (f"http://ana:{SECRET}@id.example:80/a", "https://id.example/a"),
    ],
)
def test_another_spelling_is_refused_with_the_right_one(issuer: str, advice: str) -> None:
    assert why(issuer).endswith(f"; write {advice}")


@pytest.mark.parametrize(
    "issuer",
    [
        "https://id.example/a//b",
        "https://id.example//",
        "https://id.example/a/../b",
        "https://id.example/.",
        "https://id.example/%61",
        "https://id.example/a b",
        "https://id.example/\u00e4",
        "https://id\u00e4.example",
        "https://id.example\\@other.example",
        "https://id.example,other.example",
        "https://-id.example",
        "https://id..example",
        "https://10.1",
        "https://0x7f.1",
        "https://010.0.0.7",
        "https://id.example.7",
        "https://[fe80::1%25eth0]",
        "https://id.example:port",
        "https://id.example:65536",
        "https://[",
    ],
)
def test_an_issuer_that_libraries_write_differently_is_refused(issuer: str) -> None:
    assert why(issuer).endswith(f"such as {EXAMPLE}")


@pytest.mark.parametrize(
    "issuer", ["identity-service", "id.example", "//id.example", "https://", "ftp://id", "urn:a"]
)
def test_a_name_that_is_no_url_becomes_an_accepted_issuer(issuer: str) -> None:
    assert "`http_listen` is set" in why(issuer)
    assert "`accepted_issuers`" in why(issuer)


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:8080", "http://localhost:8080/a", "http://[::1]:1"])
def test_http_on_this_machine_is_for_trials_only(issuer: str) -> None:
    assert why(issuer, dev=True) == ""
    assert "with --dev only" in why(issuer)


@pytest.mark.parametrize(
    "issuer", ["http://127.0.0.1:8080/?", "http://LOCALHOST:8080", "http://127.0.0.1:80"]
)
def test_for_trials_it_is_compared_byte_for_byte_as_well(issuer: str) -> None:
    assert "byte for byte" in why(issuer, dev=True)


def test_for_trials_as_well_http_is_for_this_machine_only() -> None:
    assert why("http://id.example", dev=True) == "must begin with https://; write https://id.example"
