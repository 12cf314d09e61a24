"""ListSessions and RevokeSessions, on both stores: which callers may list and end which sessions."""

from typing import Any

import grpc
import pytest

from identityapi.v1 import principal_pb2, token_pb2
from tests.rpc.administrator import SERVICE, Administrator, events, fails
from tests.rpc.world import API, Principal, World, password


def sign_in(world: World, user: Principal, device: str = "", audience: str = API) -> token_pb2.TokenSet:
    return world.issue(user, audiences=[audience], device=device)


@pytest.fixture
def ana(world: World) -> Principal:
    return world.new_user("ana", audiences=(API, SERVICE))


@pytest.fixture
def bo(world: World) -> Principal:
    return world.new_user("bo", audiences=(API, SERVICE))


def signed_in(world: World, user: Principal) -> tuple[Administrator, str]:
    """Sign the user in; return the user as a caller of AdminService, and the id of the new session."""
    tokens = sign_in(world, user, "desktop", SERVICE)
    return Administrator(world, tokens.access_token), tokens.session_id


def listed(caller: Administrator, **owner: Any) -> list[principal_pb2.Session]:
    return list(caller.call("ListSessions", **owner).sessions)


def ids(caller: Administrator, **owner: Any) -> list[str]:
    return [session.session_id for session in listed(caller, **owner)]


# Listing


def test_a_session_has_its_user_device_address_and_times(
    world: World, admin: Administrator, ana: Principal
) -> None:
    tokens = world.issue(ana, audiences=[API], scopes=["read"], device="Ana's phone")

    (session,) = listed(admin, subject=ana.id)

    assert (session.session_id, session.subject) == (tokens.session_id, ana.id)
    assert (session.client_id, session.device) == ("first-party", "Ana's phone")
    assert session.peer.startswith("127.0.0.1:")
    assert (list(session.audiences), list(session.scopes)) == ([API], ["read"])
    assert session.auth_time.ToDatetime() < session.expire_time.ToDatetime()
    assert session.expire_time.seconds == tokens.refresh_expire_time.seconds
    assert not session.HasField("refresh_time")
    assert not session.current
    world.refresh(tokens.refresh_token)
    assert listed(admin, subject=ana.id)[0].HasField("refresh_time")


def test_sessions_are_listed_by_subject_and_by_client_the_newest_first(
    world: World, admin: Administrator, ana: Principal, bo: Principal
) -> None:
    portal = world.new_confidential_app(audiences=("*",), scopes=("*",))
    secret = portal.credential.client_secret.client_secret
    found = []
    for user, name in ((ana, "ana"), (bo, "bo"), (ana, "ana")):
        through = Principal(id=user.id, credential=password(name, client_id=portal.id, secret=secret))
        found.append(sign_in(world, through).session_id)
        world.clock.advance(seconds=1)
    direct = sign_in(world, ana).session_id

    assert ids(admin, subject=ana.id) == [direct, found[2], found[0]]
    assert ids(admin, subject=bo.id) == [found[1]]
    assert ids(admin, client_id=portal.id) == found[::-1]
    assert ids(admin, client_id="nobody") == ids(admin, subject="u_nobody") == []


def test_users_list_their_own_sessions_with_the_one_they_sit_at_marked(
    world: World, ana: Principal, bo: Principal
) -> None:
    sign_in(world, bo)
    other = sign_in(world, ana).session_id
    caller, mine = signed_in(world, ana)

    for found in (listed(caller), listed(caller, subject=ana.id)):
        assert {session.session_id: session.current for session in found} == {other: False, mine: True}


@pytest.mark.parametrize("owner", ["subject", "client_id"])
def test_users_list_no_sessions_of_other_users(
    world: World, ana: Principal, bo: Principal, owner: str
) -> None:
    caller, _ = signed_in(world, ana)

    found = caller.refused("ListSessions", **{owner: bo.id})

    assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CALLER_SCOPE_MISSING")


def test_a_client_does_not_list_the_sessions_of_users_that_signed_in_through_it(
    world: World, ana: Principal
) -> None:
    grants = ["client_credentials", "password", "refresh_token"]
    portal = world.new_client("portal", grants=grants, audiences=(API, SERVICE), scopes=("read",))
    secret = portal.credential.client_secret.client_secret
    through = Principal(id="", credential=password("ana", client_id="portal", secret=secret))
    session = sign_in(world, through)
    caller = Administrator(world, world.issue(portal, audiences=[SERVICE]).access_token)

    assert listed(caller) == listed(caller, subject="portal") == []
    assert caller.refused("ListSessions", client_id="portal").reason == "CALLER_SCOPE_MISSING"
    assert caller.call("RevokeSessions", own=True).count == 0
    assert world.reason(session.access_token) == ""


def test_listing_needs_a_token_for_this_service(world: World, ana: Principal) -> None:
    for token in ("", sign_in(world, ana).access_token):
        found = Administrator(world, token).refused("ListSessions")
        assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED")


def test_ended_sessions_are_not_listed(world: World, admin: Administrator, ana: Principal) -> None:
    revoked, kept = sign_in(world, ana), sign_in(world, ana)
    world.revoke(token=revoked.refresh_token)

    assert ids(admin, subject=ana.id) == [kept.session_id]
    world.revoke(world.admin_token(), subject=ana.id)
    assert ids(admin, subject=ana.id) == []
    late = sign_in(world, ana)
    assert ids(admin, subject=ana.id) == [late.session_id]


def test_a_session_that_expired_is_not_listed(world: World, ana: Principal) -> None:
    sign_in(world, ana)
    world.clock.advance(days=31)
    caller = Administrator(world, world.admin_token(scopes=["identity.admin"]))

    assert listed(caller, subject=ana.id) == []


# Ending


def test_an_ended_session_is_over_at_once_and_no_other(
    world: World, admin: Administrator, ana: Principal
) -> None:
    tokens, other = sign_in(world, ana), sign_in(world, ana)

    ended = admin.call("RevokeSessions", session_id=tokens.session_id, reason="lost phone")

    assert ended.count == 1
    assert world.reason(tokens.access_token) == "REVOKED"
    assert world.reason(tokens.access_token, at_least_revision=ended.revision) == "REVOKED"
    assert fails(lambda: world.refresh(tokens.refresh_token)).reason == "SESSION_ENDED"
    assert world.reason(other.access_token) == ""
    assert world.refresh(other.refresh_token).access_token


def test_ending_a_session_again_is_no_error_and_counts_none(
    world: World, admin: Administrator, ana: Principal
) -> None:
    session_id = sign_in(world, ana).session_id
    first = admin.call("RevokeSessions", session_id=session_id)

    again = admin.call("RevokeSessions", session_id=session_id)

    assert (first.count, again.count) == (1, 0)
    assert again.revision


def test_users_end_their_own_sessions_and_cannot_tell_foreign_ones_from_unknown_ones(
    world: World, ana: Principal, bo: Principal
) -> None:
    caller, mine = signed_in(world, ana)
    own, anothers = sign_in(world, ana), sign_in(world, bo)

    assert caller.call("RevokeSessions", session_id=own.session_id).count == 1
    asked = (anothers.session_id, "no-such-session")
    refusals = [caller.refused("RevokeSessions", session_id=session_id) for session_id in asked]

    assert {(found.code, found.reason) for found in refusals} == {(grpc.StatusCode.NOT_FOUND, "NOT_FOUND")}
    said = {found.message.replace(id_, "ID") for found, id_ in zip(refusals, asked, strict=True)}
    assert said == {"ID: there is no such session"}
    assert world.reason(anothers.access_token) == ""
    assert ids(caller) == [mine]


def test_a_session_that_is_not_there_is_not_found(world: World, admin: Administrator) -> None:
    assert admin.refused("RevokeSessions", session_id="no-such-session").reason == "NOT_FOUND"


def test_users_end_all_of_their_sessions_but_the_one_they_sit_at(
    world: World, ana: Principal, bo: Principal
) -> None:
    others = [sign_in(world, ana) for _ in range(3)]
    anothers = sign_in(world, bo)
    caller, mine = signed_in(world, ana)

    ended = caller.call("RevokeSessions", own=True, except_session_id=mine)

    assert ended.count == 3
    assert ids(caller) == [mine]
    assert {world.reason(tokens.access_token) for tokens in others} == {"REVOKED"}
    assert world.reason(anothers.access_token) == ""
    assert caller.call("RevokeSessions", own=True).count == 1
    assert caller.refused("ListSessions").reason == "CALLER_UNAUTHENTICATED"


def test_users_end_no_sessions_of_other_users(world: World, ana: Principal, bo: Principal) -> None:
    caller, _ = signed_in(world, ana)
    tokens = sign_in(world, bo)

    found = caller.refused("RevokeSessions", subject=bo.id)

    assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "CALLER_SCOPE_MISSING")
    assert world.reason(tokens.access_token) == ""
    assert caller.call("RevokeSessions", subject=ana.id).count == 1


def test_all_sessions_but_one_end_even_if_there_are_more_than_a_page(
    world: World, admin: Administrator, ana: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service ends sessions in batches, of three here. All ten sessions began at the same time."""
    monkeypatch.setattr("identity_service.services.admin.sessions._BATCH", 3)
    tokens = [sign_in(world, ana) for _ in range(10)]
    kept = tokens[4]

    ended = admin.call("RevokeSessions", subject=ana.id, except_session_id=kept.session_id)

    assert ended.count == 9
    assert ids(admin, subject=ana.id) == [kept.session_id]
    live = [found for found in tokens if world.reason(found.access_token) == ""]
    assert live == [kept]


def test_ending_no_session_returns_the_current_revision(
    world: World, admin: Administrator, ana: Principal
) -> None:
    ended = admin.call("RevokeSessions", subject=ana.id)

    assert ended.count == 0
    assert world.reason("x", at_least_revision=ended.revision) == "MALFORMED"


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, "target"),
        ({"own": False}, "own"),
        ({"session_id": ""}, "session_id"),
        ({"session_id": "s" * 257}, "session_id"),
        ({"session_id": "s", "except_session_id": "t"}, "except_session_id"),
        ({"subject": ""}, "subject"),
        ({"own": True, "reason": "r" * 257}, "reason"),
    ],
)
def test_a_request_without_a_target_is_refused(
    world: World, admin: Administrator, fields: dict[str, Any], wrong: str
) -> None:
    assert admin.invalid("RevokeSessions", **fields) == [wrong]


def test_every_ended_session_leaves_its_event(world: World, ana: Principal) -> None:
    other = sign_in(world, ana).session_id
    caller, mine = signed_in(world, ana)

    caller.call("RevokeSessions", own=True, except_session_id=mine, reason="lost phone")

    (event,) = [found for found in events(world, other) if found.type.value == "session_revoked"]
    assert (event.actor, event.reason, event.details["subject"]) == (ana.id, "lost phone", ana.id)
    assert not [found for found in events(world, mine) if found.type.value == "session_revoked"]
