"""Clients and users: their ids and names, and the repr of their records."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_service.domain.ids import EVERYONE, FIRST_PARTY_CLIENT, is_principal_id, new_user_id
from identity_service.domain.principals import (
    ANY,
    Client,
    Grant,
    OnReuse,
    StoredSecret,
    first_party_client,
    is_certificate_name,
    normalize_certificate_name,
    normalize_username,
)
from tests.unit.domain.samples import a_client, a_user


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Alice", "alice"),
        (" alice\t", "alice"),
        ("Straße", "STRASSE"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER A}lice", "alice"),
        ("\N{LATIN SMALL LIGATURE FI}ona", "fiona"),
        ("jose\u0301", "jos\u00e9"),
        ("\u0390", "\u0390".upper()),
        ("\u00a0alice\u3000", "alice"),
    ],
)
def test_two_spellings_of_one_username_are_one(first: str, second: str) -> None:
    assert normalize_username(first) == normalize_username(second)


@pytest.mark.parametrize(("first", "second"), [("alice", "bob"), ("al ice", "alice"), ("jose", "josé")])
def test_two_usernames_stay_two(first: str, second: str) -> None:
    assert normalize_username(first) != normalize_username(second)


@given(st.text(max_size=12))
def test_normalising_twice_changes_nothing(username: str) -> None:
    """A store may normalise a username that the caller has already normalised."""
    once = normalize_username(username)
    assert normalize_username(once) == once


@given(st.text(st.characters(categories=["Lu", "Ll", "Nd"], max_codepoint=0x52F), max_size=12))
def test_the_case_of_a_username_does_not_matter(username: str) -> None:
    assert normalize_username(username.casefold()) == normalize_username(username)


@pytest.mark.parametrize(
    "text", ["a", "shop", "u_1", "a@b.example", "ns/sa:x-1", "0", "a" * 128, FIRST_PARTY_CLIENT]
)
def test_a_principal_id_is_short_plain_text(text: str) -> None:
    assert is_principal_id(text)


@pytest.mark.parametrize(
    "text", ["", "-a", ".a", "/a", "a b", "a\n", "é", "a" * 129, ANY, EVERYONE, "a*", "\ud800"]
)
def test_another_text_names_no_principal(text: str) -> None:
    """Above all `*` is no id of a principal: it stands for the whole service in raised generations."""
    assert not is_principal_id(text)


def test_every_user_is_given_an_id_of_their_own() -> None:
    ids = {new_user_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(is_principal_id(each) for each in ids)


def test_the_built_in_client_signs_people_in_and_does_nothing_else() -> None:
    client = first_party_client()
    assert client.grants == {Grant.PASSWORD, Grant.REFRESH_TOKEN}
    assert client.secrets == ()
    assert client.audiences == client.scopes == {ANY}


def test_a_new_client_may_do_little() -> None:
    """A new client may use only what the operator has set."""
    client = Client(client_id=FIRST_PARTY_CLIENT)
    assert (client.audiences, client.scopes) == (frozenset(), frozenset())
    assert client.grants == {Grant.CLIENT_CREDENTIALS}
    assert client.on_reuse is OnReuse.END_SESSION


def test_a_record_does_not_show_its_hashes() -> None:
    client = a_client(secrets=(StoredSecret(digest=b"digest-bytes"),))
    assert "digest-bytes" not in repr(client)
    assert "argon2id" not in repr(a_user(password_hash="$argon2id$x"))


def test_a_record_is_known_by_its_id_and_cannot_be_changed_in_place() -> None:
    assert (a_client().id, a_user().id) == ("shop", "u_alice")
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_user().username = "mallory"  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("SPIFFE://Example.ORG/Ns/Shop", "spiffe://example.org/Ns/Shop"),
        ("DNS:Reports.Example.org", "dns:reports.example.org"),
        ("SHA256:" + "AB" * 32, "sha256:" + "ab" * 32),
    ],
)
def test_a_name_in_a_certificate_has_one_spelling(written: str, kept: str) -> None:
    assert normalize_certificate_name(written) == kept
    assert normalize_certificate_name(kept) == kept
    assert is_certificate_name(kept)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "reports.example.org",
        "dns:",
        "dns:-a",
        "dns:a..b",
        "dns:*.example.org",
        "dns:" + "a" * 64,
        "dns:" + "a." * 127 + "a",
        "dns:a\n",
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe:///path",
        "spiffe://example.org/a b",
        "spiffe://example.org/" + "a" * 2048,
        "https://example.org/a",
        "sha256:" + "a" * 63,
        "sha256:" + "g" * 64,
        "sha256:" + "a" * 65,
    ],
)
def test_no_other_text_names_a_certificate(name: str) -> None:
    assert not is_certificate_name(name)


def test_a_name_in_a_certificate_has_at_most_2048_characters() -> None:
    longest = "spiffe://example/" + "x" * (2048 - 17)

    assert is_certificate_name(longest)
    assert not is_certificate_name(f"{longest}x")


SECRET = StoredSecret(digest=b"x" * 32)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"grants": frozenset({Grant.PASSWORD})}, True),
        ({"grants": frozenset({Grant.REFRESH_TOKEN})}, True),
        ({"grants": frozenset({Grant.CLIENT_CREDENTIALS, Grant.TOKEN_EXCHANGE})}, False),
        ({"grants": frozenset({Grant.PASSWORD}), "disabled": True}, False),
        ({"grants": frozenset({Grant.PASSWORD}), "secrets": (SECRET,)}, False),
        ({"grants": frozenset({Grant.PASSWORD}), "public_keys": ("{}",)}, False),
        ({"grants": frozenset({Grant.PASSWORD}), "certificates": frozenset({"dns:a"})}, False),
    ],
)
def test_a_client_only_names_itself_if_it_has_a_grant_and_no_credential(
    changes: dict[str, Any], expected: bool
) -> None:
    assert a_client(**changes).only_names_itself is expected
