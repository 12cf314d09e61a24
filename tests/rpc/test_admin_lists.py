"""List methods of AdminService, on both stores: every entry comes once and in order, for any page size."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from identity_service.jose.keys import generate
from tests.rpc.administrator import Administrator
from tests.rpc.world import World

OTHERS: list[tuple[str, dict[str, str]]] = [
    ("ListClients", {}),
    ("ListUsers", {}),
    ("ListTrustedIssuers", {}),
    ("ListSessions", {"subject": "u_other"}),
]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list method, the fields of its request, and the ids of the entries that it must return."""

    method: str
    entries: str
    key: Callable[[Any], str]
    ids: list[str]
    fields: dict[str, str]


def clients(world: World, admin: Administrator) -> Listing:
    for number in range(5):
        world.new_client(f"client{number}")
    ids = sorted(["admin", "first-party", *(f"client{number}" for number in range(5))])
    return Listing(method="ListClients", entries="clients", key=lambda c: c.client_id, ids=ids, fields={})


def users(world: World, admin: Administrator) -> Listing:
    ids = sorted(world.new_user(f"user{number}").id for number in range(6))
    return Listing(method="ListUsers", entries="users", key=lambda u: u.user_id, ids=ids, fields={})


def issuers(world: World, admin: Administrator) -> Listing:
    keys = json.dumps({"keys": [json.loads(generate("ES256").public_jwk or "")]})
    rule = {"claims": {"sub": "job"}, "client_id": "reports"}
    ids = [f"https://{name}.example.org/ü" for name in "abcde"]
    for id_ in reversed(ids):
        admin.call("CreateTrustedIssuer", trusted_issuer={"issuer": id_, "jwks": keys, "rules": [rule]})
    entries = "trusted_issuers"
    return Listing(method="ListTrustedIssuers", entries=entries, key=lambda i: i.issuer, ids=ids, fields={})


def sessions(world: World, admin: Administrator) -> Listing:
    ana = world.new_user("ana")
    ids = []
    for _ in range(6):
        ids.append(world.issue(ana).session_id)
        world.clock.advance(seconds=1)
    fields = {"subject": ana.id}
    return Listing(
        method="ListSessions", entries="sessions", key=lambda s: s.session_id, ids=ids[::-1], fields=fields
    )


@pytest.fixture(params=[clients, users, issuers, sessions])
def listing(request: pytest.FixtureRequest, world: World, admin: Administrator) -> Listing:
    made: Listing = request.param(world, admin)
    return made


def test_pages_of_any_size_hold_every_entry_once_and_in_order(admin: Administrator, listing: Listing) -> None:
    for size in (0, 1, 2, 3, len(listing.ids) - 1, len(listing.ids), 1000):
        pages = admin.pages(listing.method, listing.entries, page_size=size, **listing.fields)

        assert [listing.key(entry) for page in pages for entry in page] == listing.ids
        expected = size or 100
        assert all(len(page) == expected for page in pages[:-1])
        assert 0 < len(pages[-1]) <= expected


@pytest.mark.parametrize("size", [-1, 1001, -(2**31), 2**31 - 1])
def test_a_page_has_a_bounded_size(admin: Administrator, listing: Listing, size: int) -> None:
    assert admin.invalid(listing.method, page_size=size, **listing.fields) == ["page_size"]


def test_a_page_token_is_good_for_its_own_list_only(admin: Administrator, listing: Listing) -> None:
    token = admin.call(listing.method, page_size=1, **listing.fields).next_page_token

    for method, fields in OTHERS:
        if method != listing.method:
            assert admin.invalid(method, page_token=token, **fields) == ["page_token"]
    if listing.method == "ListSessions":
        other: dict[str, str]
        for other in ({}, {"subject": "u_other"}, {"client_id": "first-party"}):
            assert admin.invalid("ListSessions", page_token=token, **other) == ["page_token"]


@pytest.mark.parametrize("token", ["x", "AAAA", "!", "ü", "A" * 3000])
def test_a_forged_page_token_is_refused(admin: Administrator, listing: Listing, token: str) -> None:
    assert admin.invalid(listing.method, page_token=token, **listing.fields) == ["page_token"]


def test_an_entry_deleted_between_two_pages_hides_no_other(world: World, admin: Administrator) -> None:
    for name in ("a", "b", "c"):
        world.new_client(name)
    first = admin.call("ListClients", page_size=1)
    admin.call("DeleteClient", client_id="a")

    rest = admin.call("ListClients", page_token=first.next_page_token)

    assert [client.client_id for client in (*first.clients, *rest.clients)] == [
        "a",
        "admin",
        "b",
        "c",
        "first-party",
    ]


def test_a_session_that_ends_between_two_pages_hides_nothing_else(world: World, admin: Administrator) -> None:
    ana = world.new_user("ana")
    ids = []
    for _ in range(4):
        ids.append(world.issue(ana).session_id)
        world.clock.advance(seconds=1)
    first = admin.call("ListSessions", subject=ana.id, page_size=2)
    admin.call("RevokeSessions", session_id=first.sessions[-1].session_id)

    rest = admin.call("ListSessions", subject=ana.id, page_token=first.next_page_token)

    assert [session.session_id for session in (*first.sessions, *rest.sessions)] == ids[::-1]
