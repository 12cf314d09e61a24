"""Audit events over gRPC, on both stores: the calls that cause them, ListAuditEvents and TailAuditEvents."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
from google.protobuf.timestamp_pb2 import Timestamp

from identity_service.domain.audit import AuditKind, AuditType
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import OnReuse
from identity_service.grpc_api.paging import Page
from identity_service.services.folding import WINDOW
from identity_service.storage.redis import keyspace
from identity_service.storage.sqlite import SqliteStore
from identityapi.v1 import admin_service_pb2 as admin_pb
from identityapi.v1 import admin_service_pb2_grpc as admin_rpc
from identityapi.v1 import audit_pb2, token_pb2
from identityapi.v1 import identity_service_pb2 as pb
from tests.patience import PATIENCE, until
from tests.redis_server import RedisServer
from tests.rpc.world import PASSWORD, Principal, World, bearer, failure, password

DONE, REFUSED = audit_pb2.AUDIT_OUTCOME_DONE, audit_pb2.AUDIT_OUTCOME_REFUSED

STORING_TRAFFIC = pytest.mark.settings(audit_traffic="store")


class AuditReader:
    """A caller of the audit methods, with a token of the administrator."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stub = admin_rpc.AdminServiceStub(world.channel)
        self.token = world.admin_token(scopes=("identity.admin", "identity.revoke"))
        self._metadata = bearer(self.token)

    def page(self, **fields: Any) -> admin_pb.ListAuditEventsResponse:
        request = admin_pb.ListAuditEventsRequest(**fields)
        return self._stub.ListAuditEvents(request, metadata=self._metadata)

    def pages(self, **fields: Any) -> Iterator[list[audit_pb2.AuditEvent]]:
        token = ""
        while True:
            answer = self.page(page_token=token, **fields)
            yield list(answer.events)
            token = answer.next_page_token
            if not token:
                return

    def all(self, **fields: Any) -> list[audit_pb2.AuditEvent]:
        return [event for page in self.pages(**fields) for event in page]

    def last(self, type_: str, principal: str = "") -> audit_pb2.AuditEvent:
        """Wait for an event of this type, and return the newest one.

        The service stores some events shortly after it has answered the call.
        """
        wanted: dict[str, Any] = {"types": [type_], "principal": principal}
        until(lambda: bool(self.all(**wanted)))
        return self.all(**wanted)[0]

    def tail(self, **fields: Any) -> Any:
        request = admin_pb.TailAuditEventsRequest(**fields)
        return self._stub.TailAuditEvents(request, metadata=self._metadata, timeout=PATIENCE)


@pytest.fixture
def audit(world: World) -> AuditReader:
    return AuditReader(world)


def fails(call: Callable[[], object]) -> Any:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return failure(error.value)


@STORING_TRAFFIC
def test_the_event_of_an_issued_token_has_client_address_and_request_id(
    world: World, audit: AuditReader
) -> None:
    client = world.new_client("reports")
    tokens = world.stub.Issue(
        pb.IssueRequest(credential=client.credential), metadata=(("x-request-id", "call-7"),)
    ).token_set

    event = audit.last("token_issued", "reports")  # that of the administrator may be there before

    assert (event.outcome, event.actor, event.target) == (DONE, "reports", "reports")
    assert event.request_id == "call-7"
    assert event.peer.startswith("127.0.0.1:")
    assert event.details["token_id"] == tokens.token_id
    assert event.time.ToDatetime().year >= 2026


@STORING_TRAFFIC
def test_a_sign_in_and_its_refresh_leave_events_of_the_session(world: World, audit: AuditReader) -> None:
    user = world.new_user()
    tokens = world.issue(user)
    world.refresh(tokens.refresh_token)

    started, refreshed = audit.last("session_started"), audit.last("session_refreshed")

    assert (started.actor, started.target) == (user.id, tokens.session_id)
    assert (refreshed.actor, refreshed.target) == (user.id, tokens.session_id)


@STORING_TRAFFIC
def test_a_refused_sign_in_names_the_principal_to_the_operator_only(world: World, audit: AuditReader) -> None:
    user = world.new_user("ana")
    wrong = Principal(id="", credential=password("ana", "a wrong password"))
    said = fails(lambda: world.issue(wrong))

    event = audit.last("issue_refused")

    assert (event.outcome, event.target, event.reason) == (REFUSED, user.id, "CREDENTIAL_REFUSED")
    assert event.details["why"]
    assert user.id not in said.message
    assert event.details["why"] not in said.message


@STORING_TRAFFIC
def test_a_username_of_no_user_is_not_stored_since_it_may_be_a_password(
    world: World, audit: AuditReader
) -> None:
    slip = "hunter2-typed-too-early"
    fails(lambda: world.issue(Principal(id="", credential=password(slip, PASSWORD))))

    event = audit.last("issue_refused")

    assert slip not in str(event)
    assert PASSWORD not in str(event)


def test_every_revocation_is_stored_with_its_change_and_names_actor_and_reason(
    world: World, audit: AuditReader
) -> None:
    tokens = world.issue(world.new_user("ana"))
    world.revoke(audit.token, token_id=tokens.token_id, reason="lost phone")
    world.revoke(audit.token, session_id=tokens.session_id, reason="lost phone")
    world.revoke(audit.token, subject="u_somebody", reason="left")

    # The test does not wait: the events are stored before Revoke answers.
    events = audit.all(principal="admin", types=["token_revoked", "session_revoked", "principal_revoked"])

    assert [(event.type, event.target, event.reason) for event in events] == [
        ("principal_revoked", "u_somebody", "left"),
        ("session_revoked", tokens.session_id, "lost phone"),
        ("token_revoked", tokens.token_id, "lost phone"),
    ]
    assert {event.actor for event in events} == {"admin"}


def test_a_token_that_revokes_itself_is_named_by_its_id_alone(world: World, audit: AuditReader) -> None:
    tokens = world.issue(world.new_user())
    world.revoke(token=tokens.access_token)

    (event,) = audit.all(types=["token_revoked"])

    assert (event.target, event.actor) == (tokens.token_id, "")
    assert tokens.access_token not in str(event)


def test_a_reused_refresh_token_leaves_an_event_of_its_own(world: World, audit: AuditReader) -> None:
    tokens = world.issue(world.new_user())
    second = world.refresh(tokens.refresh_token)
    world.refresh(second.refresh_token)
    world.clock.advance(seconds=61)
    fails(lambda: world.refresh(tokens.refresh_token))

    (event,) = audit.all(types=["refresh_token_reused"])

    assert (event.outcome, event.target) == (REFUSED, tokens.session_id)
    assert event.details["session_ended"] == "true"


@STORING_TRAFFIC
def test_a_refused_refresh_and_a_refused_caller_leave_events(world: World, audit: AuditReader) -> None:
    fails(lambda: world.refresh("no refresh token"))
    reader = world.issue(world.new_client("reader", audiences=("identity-service",), scopes=("read",)))
    fails(lambda: world.revoke(reader.access_token, everything=True))

    refused, caller = audit.last("refresh_refused"), audit.last("call_refused")

    assert refused.reason == "REFRESH_TOKEN_INVALID"
    assert (caller.target, caller.reason) == (
        "/identityapi.v1.IdentityService/Revoke",
        "CALLER_SCOPE_MISSING",
    )


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pages_show_every_event_once_the_newest_first(world: World, audit: AuditReader, size: int) -> None:
    for number in range(5):
        world.revoke(audit.token, subject=f"u_{number}")

    pages = list(audit.pages(types=["principal_revoked"], page_size=size))

    assert [event.target for page in pages for event in page] == [f"u_{n}" for n in (4, 3, 2, 1, 0)]
    assert all(len(page) <= size for page in pages)


def test_events_are_found_by_principal_and_by_time(world: World, audit: AuditReader) -> None:
    world.revoke(audit.token, subject="u_early")
    world.clock.advance(minutes=5)
    moment = Timestamp()
    moment.FromDatetime(world.store.log.head().time)
    # The caller's token is still valid after five minutes.
    world.revoke(audit.token, subject="u_late")
    of_type = {"types": ["principal_revoked"]}

    assert [e.target for e in audit.all(principal="u_late", **of_type)] == ["u_late"]
    assert [e.target for e in audit.all(start_time=moment, **of_type)] == ["u_late"]
    assert [e.target for e in audit.all(end_time=moment, **of_type)] == ["u_early"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"page_size": -1}, "page_size"),
        ({"page_size": 1001}, "page_size"),
        ({"page_token": "no such token"}, "page_token"),
        ({"types": ["no_such_event"]}, "types"),
        ({"types": ["token_issued"] * 21}, "types"),
        ({"principal": "p" * 257}, "principal"),
        ({"start_time": Timestamp(seconds=10**15)}, "start_time"),
    ],
)
def test_a_request_that_cannot_be_is_refused_by_the_name_of_its_field(
    audit: AuditReader, fields: dict[str, Any], field: str
) -> None:
    said = fails(lambda: audit.page(**fields))

    assert (said.code, list(said.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


def test_a_tail_begins_with_the_events_from_then_on(world: World, audit: AuditReader) -> None:
    world.revoke(audit.token, subject="u_before")
    tail = audit.tail()
    tail.initial_metadata()  # comes once the tail knows where it begins

    world.revoke(audit.token, subject="u_after")

    assert revoked(tail, 1) == ["u_after"]
    tail.cancel()


def test_a_tail_resumes_after_the_event_that_was_seen_last(world: World, audit: AuditReader) -> None:
    world.revoke(audit.token, subject="u_seen")
    (seen,) = audit.all(types=["principal_revoked"])
    world.revoke(audit.token, subject="u_missed")
    tail = audit.tail(resume_after=seen.event_id)
    assert revoked(tail, 1) == ["u_missed"]

    world.revoke(audit.token, subject="u_next")

    assert revoked(tail, 1) == ["u_next"]
    tail.cancel()


def revoked(tail: Any, count: int) -> list[str]:
    """Return the principals of the next events of the type `principal_revoked` in a tail."""
    found: list[str] = []
    while len(found) < count:
        found += [event.target for event in next(tail).events if event.type == "principal_revoked"]
    return found


def test_audit_events_are_for_administrators(world: World) -> None:
    stub = admin_rpc.AdminServiceStub(world.channel)
    revoker = bearer(world.admin_token(scopes=("identity.revoke",)))

    listed = fails(lambda: stub.ListAuditEvents(admin_pb.ListAuditEventsRequest(), metadata=revoker))
    tailed = fails(lambda: next(stub.TailAuditEvents(admin_pb.TailAuditEventsRequest(), metadata=revoker)))

    assert [listed.code, tailed.code] == [grpc.StatusCode.PERMISSION_DENIED] * 2


def test_more_tails_than_there_may_be_are_refused_until_one_ends(world: World, audit: AuditReader) -> None:
    tails = [audit.tail() for _ in range(8)]
    for tail in tails:
        tail.initial_metadata()  # it has its place

    assert fails(lambda: next(audit.tail())).reason == "SERVER_BUSY"

    tails.pop().cancel()
    until(lambda: has_place(audit.tail()))
    for tail in tails:
        tail.cancel()


def has_place(tail: Any) -> bool:
    """Return whether the service admitted a tail. A tail over the limit ends with an error instead."""
    tail.initial_metadata()
    began = tail.is_active()
    tail.cancel()
    return bool(began)


def test_a_service_that_stops_ends_its_tails_with_that_reason(world: World, audit: AuditReader) -> None:
    tail = audit.tail()
    tail.initial_metadata()

    assert world.service.stop()

    said = fails(lambda: list(tail))
    assert said.reason == "SHUTTING_DOWN"


def test_the_first_keys_and_the_first_administrator_leave_events_too(
    world: World, audit: AuditReader
) -> None:
    events = audit.all(types=["key_created", "client_created"])

    assert [(event.type, event.details.get("algorithm", "")) for event in reversed(events)] == [
        ("key_created", "HS256"),
        ("key_created", "ECDH-ES+A256KW"),
        ("client_created", ""),
        ("key_created", "ES256"),
        ("key_created", "HS256"),
        ("key_created", "ECDH-ES+A256KW"),
        ("key_created", "ES256"),
    ]


@pytest.mark.parametrize("place", ["x", "1-2-3", "9" * 40, "-1", "1 2"])
def test_a_place_that_no_store_has_is_refused_by_the_name_of_its_field(
    audit: AuditReader, place: str
) -> None:
    tailed = fails(lambda: next(audit.tail(resume_after=place)))
    listed = fails(lambda: audit.page(page_token=Page(of="ListAuditEvents", limit=1).token_after(place)))

    for said, field in ((tailed, "resume_after"), (listed, "page_token")):
        assert (said.code, list(said.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


@pytest.mark.settings(audit_traffic="store", audit_entries=1000, audit_traffic_entries=1000)
def test_a_flood_of_refused_calls_pushes_out_no_event_of_a_change(world: World, audit: AuditReader) -> None:
    """The store keeps 1,000 events and a stranger causes 1,500 refusals.

    The service stores one event for many refusals, with their number.
    """
    count = 1500
    world.revoke(audit.token, subject="u_leaver", reason="left")
    before = [event.event_id for event in audit.all()]
    stranger = admin_rpc.AdminServiceStub(world.channel)
    for _ in range(0, count, 20):
        refused = [stranger.ListClients.future(admin_pb.ListClientsRequest()) for _ in range(20)]
        assert {call.code() for call in refused} == {grpc.StatusCode.UNAUTHENTICATED}

    world.clock.age(seconds=WINDOW)
    until(lambda: refused_calls(audit) == count)

    assert len(audit.all(types=["call_refused"])) < count // 2
    (revoked,) = audit.all(types=["principal_revoked"])
    assert (revoked.target, revoked.reason) == ("u_leaver", "left")
    assert {event.event_id for event in audit.all()}.issuperset(before)


def refused_calls(audit: AuditReader) -> int:
    """Return the number of refused calls that the events represent. One event can represent several."""
    return sum(int(event.details.get("folded", 1)) for event in audit.all(types=["call_refused"]))


def test_events_of_traffic_are_not_stored_unless_the_settings_say_so(
    world: World, audit: AuditReader
) -> None:
    """Events of traffic are refused calls and issued tokens, for example.

    An event of reuse that ends no session is stored, after all events before it in the same queue. Once it is
    there, events of traffic would be there as well.
    """
    portal = world.new_confidential_app(on_reuse=OnReuse.REFUSE)
    stranger = admin_rpc.AdminServiceStub(world.channel)
    fails(lambda: stranger.ListClients(admin_pb.ListClientsRequest()))
    fails(lambda: world.refresh("no refresh token"))
    world.issue(world.new_client("reports"))
    old = world.issue(Principal(id=world.new_user().id, credential=signed_in_through(portal))).refresh_token
    newer = world.refresh(old, client_credential=portal.credential).refresh_token
    world.refresh(newer, client_credential=portal.credential)
    world.clock.advance(seconds=61)
    fails(lambda: world.refresh(old, client_credential=portal.credential))

    assert audit.last("refresh_token_reused").details["session_ended"] == "false"

    types = {AuditType(event.type) for event in audit.all()}
    assert AuditType.SESSION_STARTED in types
    assert {type_ for type_ in types if type_.kind is AuditKind.TRAFFIC} == set()


def signed_in_through(app: Principal) -> token_pb2.Credential:
    return password("ana", client_id=app.id, secret=app.credential.client_secret.client_secret)


def test_a_sign_in_is_refused_if_its_event_cannot_be_stored(
    request: pytest.FixtureRequest, world: World, tmp_path: Path
) -> None:
    user = world.new_user()
    lose_audit(world, request, tmp_path)

    said = fails(lambda: world.issue(user))

    assert said.code is grpc.StatusCode.UNAVAILABLE
    assert not world.store.sessions.list_of(PrincipalId(user.id))


def lose_audit(world: World, request: pytest.FixtureRequest, directory: Path) -> None:
    """Damage the table or the Redis stream in which the store keeps the audit events of changes."""
    if isinstance(world.store, SqliteStore):
        with closing(sqlite3.connect(directory / "identity.db", timeout=PATIENCE)) as connection:
            connection.execute("ALTER TABLE audit RENAME TO audit_away")
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    with redis.Redis(port=server.port) as client:
        client.set(keyspace.AUDIT, "no stream")
