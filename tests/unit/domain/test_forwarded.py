"""The client's address in a forwarding header: the last entry that is no trusted proxy.

Clients can write anything before that entry.
"""

from collections.abc import Sequence
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.forwarded import forwarded_client

PROXIES = tuple(map(ip_network, ("10.0.0.0/24", "10.9.0.1", "2001:db8:a::/48")))
PEER = "10.0.0.1:5000"
CLIENT = "203.0.113.7"


def client(*values: str, peer: str = PEER) -> str | None:
    return forwarded_client(peer, values, PROXIES)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (CLIENT, f"{CLIENT}:0"),
        (f"{CLIENT}:443", f"{CLIENT}:443"),
        (f"::ffff:{CLIENT}", f"{CLIENT}:0"),
        ("2001:db8::7", "[2001:db8::7]:0"),
        ("2001:DB8:0::7", "[2001:db8::7]:0"),
        ("[2001:db8::7]", "[2001:db8::7]:0"),
        ("[2001:db8::7]:443", "[2001:db8::7]:443"),
        (f"\t {CLIENT} ", f"{CLIENT}:0"),
        ("127.0.0.1", "127.0.0.1:0"),
    ],
)
def test_an_address_has_several_forms(entry: str, found: str) -> None:
    assert client(entry) == found


@pytest.mark.parametrize("peer", [PEER, "10.9.0.1:1", "[2001:db8:a::1]:1", "[::ffff:10.0.0.9]:1"])
def test_each_trusted_proxy_is_believed(peer: str) -> None:
    assert client(CLIENT, peer=peer) == f"{CLIENT}:0"


@pytest.mark.parametrize("peer", ["10.0.1.1:1", "10.9.0.2:1", "[2001:db8:b::1]:1", "127.0.0.1:1", ""])
def test_no_other_peer_is_believed(peer: str) -> None:
    assert client(CLIENT, peer=peer) is None
    assert forwarded_client(peer, [CLIENT], ()) is None


def test_a_proxy_that_forwards_nothing_calls_for_itself() -> None:
    assert client() is None


@pytest.mark.parametrize(
    "values",
    [
        [f"198.51.100.1, {CLIENT}"],
        [f"198.51.100.1,{CLIENT},10.0.0.2, 10.9.0.1"],
        ["198.51.100.1", CLIENT, "2001:db8:a::2"],
        [f"nonsense, , {CLIENT}"],
        ["nonsense", "", f"{CLIENT},10.0.0.2"],
    ],
    ids=str,
)
def test_an_address_that_the_client_wrote_itself_does_not_count(values: Sequence[str]) -> None:
    assert client(*values) == f"{CLIENT}:0"


def test_if_all_are_trusted_the_first_is_the_client() -> None:
    assert client("10.0.0.3, 10.0.0.2") == "10.0.0.3:0"


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "unknown",
        "_hidden",
        "localhost",
        "203.0.113",
        "203.0.113.256",
        "203.0.113.07",
        f"{CLIENT}:65536",
        f"{CLIENT}:",
        f"{CLIENT}:-1",
        f"[{CLIENT}]",
        "[2001:db8::7",
        "2001:db8::7]",
        "fe80::1%eth0",
        "[2001:db8::7]443",
        f"{CLIENT}/32",
        f"{CLIENT};10.0.0.1",
        f"{CLIENT}\n",
        "\uff12\uff10\uff13.0.113.7",
    ],
    ids=ascii,
)
def test_an_entry_that_is_no_address_leaves_the_proxy(entry: str) -> None:
    assert client(f"{CLIENT}, {entry}") == PEER
    assert client(f"{CLIENT}, {entry}, 10.0.0.2") == PEER


@given(st.lists(st.text(st.sampled_from("0123456789abcdef:.,[]% \t\xff"))))
def test_whatever_a_proxy_sends_the_client_is_an_address_or_the_proxy(values: list[str]) -> None:
    found = client(*values)

    assert (found is None) == (not values)
    assert found is None or found == PEER or forwarded_client(PEER, [found], PROXIES) == found


@given(st.text(), st.ip_addresses())
def test_no_prefix_changes_what_a_trusted_proxy_appends(prefix: str, address: object) -> None:
    assert client(f"{prefix},{address}") == client(str(address)) or str(address).startswith(
        ("10.", "2001:db8:a")
    )
