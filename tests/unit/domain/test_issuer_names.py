"""The spellings of an issuer's URL that mean the same issuer."""

import pytest

from identity_service.domain.issuers import is_same_issuer

OWN = "https://identity.example.org"
SPELLINGS = (
    OWN,
    f"{OWN}/",
    f"{OWN}//",
    f"{OWN}/.",
    f"{OWN}/x/..",
    f"{OWN}/%2e/",
    f"{OWN}?",
    f"{OWN}#",
    f"{OWN}:443",
    f"{OWN}:",
    f"{OWN}.",
    f"{OWN}.:443/",
    OWN.upper(),
    "HTTPS://identity.example.org",
    "https://Identity.Example.org",
    "https://user:password@identity.example.org",
    "https://identity.example\u200d.org",
    "https://\uff49dentity\uff0eexample\u3002org",
    "\uff48ttps://identity.example.org",
    f"{OWN}\ufe0f",
    f"{OWN}\u3164",
)
OTHERS = (
    "http://identity.example.org",
    f"{OWN}:8443",
    f"{OWN}:80",
    f"{OWN}/a",
    f"{OWN}?a",
    f"{OWN}.uk",
    "https://identity.example.com",
    "https://ident\u0456ty.example.org",
    "identity.example.org",
    "https://",
    "https://identity.example.org:port",
    "https://[",
    "",
)


@pytest.mark.parametrize("name", SPELLINGS, ids=ascii)
def test_a_spelling_of_a_name_is_the_same_issuer(name: str) -> None:
    assert is_same_issuer(OWN, name)
    assert is_same_issuer(name, OWN)


@pytest.mark.parametrize("name", OTHERS, ids=ascii)
def test_another_name_is_another_issuer(name: str) -> None:
    assert not is_same_issuer(OWN, name)
    assert not is_same_issuer(name, OWN)
    assert is_same_issuer(name, name)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://B\u00dcCHER.example", "https://bu\u0308cher.example/"),
        ("https://[::1]", "https://[0:0::1]:443/"),
        ("http://a.example:80", "http://a.example"),
        ("identity-service", "Identity-Service"),
        ("identity-service", "identity-service\u200b"),
        ("spiffe://Td.example/x", "spiffe://td.example/x"),
        ("https://a..example", "https://A..example"),
    ],
)
def test_hosts_addresses_and_plain_names_have_several_spellings(first: str, second: str) -> None:
    assert is_same_issuer(first, second)


def test_the_case_of_a_path_matters() -> None:
    assert not is_same_issuer(f"{OWN}/A", f"{OWN}/a")
