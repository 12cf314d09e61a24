"""AdminClient and AccessTokens with servicers that follow a script, over a real channel on loopback."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from identity_client import (
    AbortedError,
    AccessTokens,
    AdminClient,
    AlreadyExistsError,
    ClientOptions,
    IdentityError,
    NotFoundError,
    RetiredKey,
    RewrappedKeys,
    TlsOptions,
    UnauthenticatedError,
    UnavailableError,
)
from identity_service.domain import credential_errors, errors
from identity_service.grpc_api.errors import to_status
from identityapi.v1 import admin_service_pb2 as pb
from identityapi.v1 import admin_service_pb2_grpc as rpc
from identityapi.v1 import identity_service_pb2, identity_service_pb2_grpc, token_pb2
from identityapi.v1.audit_pb2 import AuditEvent
from identityapi.v1.principal_pb2 import Client, Session, TrustedIssuer, User
from identityapi.v1.trust_service_pb2 import KEY_PURPOSE_SIGN, PublishedKey
from tests.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("both_kinds")


class Script:
    """A servicer with a list of responses for each method; the last one is repeated. It records the calls."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Any]] = {}
        self.requests: list[Any] = []
        self.bearers: list[str] = []

    def __getattr__(self, method: str) -> Any:
        if method not in self.answers:
            raise AttributeError(method)

        def play(request: Any, context: grpc.ServicerContext) -> Any:
            self.requests.append(request)
            self.bearers.append(str(dict(context.invocation_metadata()).get("authorization", "")))
            answers = self.answers[method]
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                context.abort_with_status(to_status(answer, "request-1"))  # type: ignore[arg-type]
            return answer

        return play


def methods(service: str) -> list[str]:
    modules = {"AdminService": pb, "IdentityService": identity_service_pb2}
    return [m.name for m in modules[service].DESCRIPTOR.services_by_name[service].methods]


@pytest.fixture
def script() -> Script:
    script = Script()
    for name in (*methods("AdminService"), *methods("IdentityService")):
        script.answers[name] = [errors.NotImplementedYetError("not in the script")]
    return script


@pytest.fixture
def target(script: Script) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    servicer: Any = script
    rpc.add_AdminServiceServicer_to_server(servicer, server)
    identity_service_pb2_grpc.add_IdentityServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture
def admin(target: str) -> Iterator[AdminClient]:
    options = ClientOptions(initial_backoff=timedelta(milliseconds=5), bearer="mine")
    with AdminClient(target, options=options) as admin:
        yield admin


def test_a_secret_comes_with_its_client_and_is_hidden(admin: AdminClient, script: Script) -> None:
    client = Client(client_id="reports", etag="e.1")
    script.answers["CreateClient"] = [pb.CreateClientResponse(client=client, client_secret="idcs_x")]
    script.answers["RotateClientSecret"] = [
        pb.RotateClientSecretResponse(client=client, client_secret="idcs_y")
    ]

    made = admin.create_client(Client(client_id="reports", scopes=["read"]), no_secret=False)
    rotated = admin.rotate_client_secret("reports", overlap=timedelta(hours=1), revoke=True, etag="e.1")

    assert (made.client, made.client_secret, rotated.client_secret) == (client, "idcs_x", "idcs_y")
    assert "idcs_" not in repr(made)
    sent = pb.RotateClientSecretRequest(client_id="reports", revoke=True, etag="e.1")
    sent.overlap.FromTimedelta(timedelta(hours=1))
    assert script.requests == [
        pb.CreateClientRequest(client=Client(client_id="reports", scopes=["read"])),
        sent,
    ]
    assert script.bearers == ["Bearer mine", "Bearer mine"]


@pytest.mark.parametrize(
    ("method", "list_all", "pages"),
    [
        (
            "ListClients",
            lambda admin: [c.client_id for c in admin.list_clients()],
            [pb.ListClientsResponse(clients=[Client(client_id=i)]) for i in "abc"],
        ),
        (
            "ListUsers",
            lambda admin: [u.user_id for u in admin.list_users()],
            [pb.ListUsersResponse(users=[User(user_id=i)]) for i in "abc"],
        ),
        (
            "ListSessions",
            lambda admin: [s.session_id for s in admin.list_sessions(subject="u")],
            [pb.ListSessionsResponse(sessions=[Session(session_id=i)]) for i in "abc"],
        ),
        (
            "ListTrustedIssuers",
            lambda admin: [i.issuer for i in admin.list_trusted_issuers()],
            [pb.ListTrustedIssuersResponse(trusted_issuers=[TrustedIssuer(issuer=i)]) for i in "abc"],
        ),
        (
            "ListAuditEvents",
            lambda admin: [e.event_id for e in admin.list_audit_events(principal="u", types=["x"])],
            [pb.ListAuditEventsResponse(events=[AuditEvent(event_id=i)]) for i in "abc"],
        ),
    ],
)
def test_a_list_goes_on_to_its_last_page(
    admin: AdminClient, script: Script, method: str, list_all: Any, pages: list[Any]
) -> None:
    pages[0].next_page_token, pages[1].next_page_token = "p2", "p3"
    script.answers[method] = list(pages)

    assert list_all(admin) == ["a", "b", "c"]
    assert [request.page_token for request in script.requests] == ["", "p2", "p3"]
    first = script.requests[0]
    for request in script.requests:
        request.page_token = ""
        assert request == first


def test_a_list_is_not_read_further_than_it_is_wanted(admin: AdminClient, script: Script) -> None:
    script.answers["ListClients"] = [
        pb.ListClientsResponse(clients=[Client(client_id="a")], next_page_token="more")
    ]

    assert next(admin.list_clients()).client_id == "a"
    assert len(script.requests) == 1


def test_an_update_names_its_fields_and_carries_the_etag(admin: AdminClient, script: Script) -> None:
    script.answers["UpdateClient"] = [pb.UpdateClientResponse(client=Client(client_id="a", etag="e.2"))]
    script.answers["UpdateUser"] = [pb.UpdateUserResponse(user=User(user_id="u"))]
    script.answers["UpdateTrustedIssuer"] = [pb.UpdateTrustedIssuerResponse()]

    changed = admin.update_client(Client(client_id="a", etag="e.1", scopes=["read"]), ["scopes"])
    admin.update_user(User(user_id="u", disabled=True), ["disabled"])
    admin.update_trusted_issuer(TrustedIssuer(issuer="i"), ["rules", "audiences"])

    assert changed.etag == "e.2"
    assert [list(request.update_mask.paths) for request in script.requests] == [
        ["scopes"],
        ["disabled"],
        ["rules", "audiences"],
    ]
    assert script.requests[0].client.etag == "e.1"


def test_every_other_call_sends_its_arguments(admin: AdminClient, script: Script) -> None:
    client, user, issuer = Client(client_id="c"), User(user_id="u"), TrustedIssuer(issuer="i")
    key = PublishedKey(key_id="k")
    since = datetime(2026, 5, 6, tzinfo=UTC)
    stamp = Timestamp(seconds=int(since.timestamp()))
    ended = pb.RevokeSessionsResponse(count=2, revision="e.9")
    calls: list[tuple[str, Any, Message, Message, Any]] = [
        ("GetClient", lambda: admin.get_client("c"), pb.GetClientRequest(client_id="c"),
         pb.GetClientResponse(client=client), client),
        ("DeleteClient", lambda: admin.delete_client("c", etag="e.1"),
         pb.DeleteClientRequest(client_id="c", etag="e.1"), pb.DeleteClientResponse(revision="e.5"), "e.5"),
        ("CreateUser", lambda: admin.create_user(user, password="p"),
         pb.CreateUserRequest(user=user, password="p"), pb.CreateUserResponse(user=user), user),
        ("GetUser", lambda: admin.get_user("u"), pb.GetUserRequest(user_id="u"),
         pb.GetUserResponse(user=user), user),
        ("GetUser", lambda: admin.find_user("ana"), pb.GetUserRequest(username="ana"),
         pb.GetUserResponse(user=user), user),
        ("DeleteUser", lambda: admin.delete_user("u"), pb.DeleteUserRequest(user_id="u"),
         pb.DeleteUserResponse(revision="e.6"), "e.6"),
        ("SetPassword", lambda: admin.set_password("u", "p", revoke=False),
         pb.SetPasswordRequest(user_id="u", password="p", revoke=False),
         pb.SetPasswordResponse(user=user), user),
        ("CreateTrustedIssuer", lambda: admin.create_trusted_issuer(issuer),
         pb.CreateTrustedIssuerRequest(trusted_issuer=issuer),
         pb.CreateTrustedIssuerResponse(trusted_issuer=issuer), issuer),
        ("GetTrustedIssuer", lambda: admin.get_trusted_issuer("i"),
         pb.GetTrustedIssuerRequest(issuer="i"), pb.GetTrustedIssuerResponse(trusted_issuer=issuer), issuer),
        ("DeleteTrustedIssuer", lambda: admin.delete_trusted_issuer("i"),
         pb.DeleteTrustedIssuerRequest(issuer="i"), pb.DeleteTrustedIssuerResponse(revision="e.7"), "e.7"),
        ("ListKeys", admin.list_keys, pb.ListKeysRequest(), pb.ListKeysResponse(keys=[key]), [key]),
        ("RotateKeys", lambda: admin.rotate_keys(algorithm="EdDSA"),
         pb.RotateKeysRequest(algorithm="EdDSA", purpose=KEY_PURPOSE_SIGN),
         pb.RotateKeysResponse(key=key), key),
        ("RetireKey", lambda: admin.retire_key("k1", reason="lost"),
         pb.RetireKeyRequest(key_id="k1", reason="lost"),
         pb.RetireKeyResponse(revision="e.8", key=key), RetiredKey(revision="e.8", successor=key)),
        ("RewrapKeys", admin.rewrap_keys, pb.RewrapKeysRequest(),
         pb.RewrapKeysResponse(rewrapped=1, total=4), RewrappedKeys(rewrapped=1, total=4)),
        ("ListSessions", lambda: list(admin.list_sessions()), pb.ListSessionsRequest(),
         pb.ListSessionsResponse(), []),
        ("ListSessions", lambda: list(admin.list_sessions(client_id="c")),
         pb.ListSessionsRequest(client_id="c"), pb.ListSessionsResponse(), []),
        ("RevokeSessions", lambda: admin.revoke_session("s", reason="lost").count,
         pb.RevokeSessionsRequest(session_id="s", reason="lost"), ended, 2),
        ("RevokeSessions", lambda: admin.revoke_sessions(subject="u", keep="s").revision,
         pb.RevokeSessionsRequest(subject="u", except_session_id="s"), ended, "e.9"),
        ("RevokeSessions", lambda: admin.revoke_sessions().count,
         pb.RevokeSessionsRequest(own=True), ended, 2),
        ("ListAuditEvents", lambda: list(admin.list_audit_events(start_time=since, end_time=since)),
         pb.ListAuditEventsRequest(start_time=stamp, end_time=stamp), pb.ListAuditEventsResponse(), []),
    ]  # fmt: skip
    for method, call, request, answer, expected in calls:
        script.answers[method] = [answer]
        assert call() == expected, method
        assert script.requests[-1] == request


def test_the_tail_of_the_audit_events_is_a_stream(admin: AdminClient, script: Script) -> None:
    messages = [
        pb.TailAuditEventsResponse(events=[AuditEvent(event_id="1"), AuditEvent(event_id="2")]),
        pb.TailAuditEventsResponse(events=[AuditEvent(event_id="3")]),
    ]
    script.answers["TailAuditEvents"] = [iter(messages)]

    assert [event.event_id for event in admin.tail_audit_events("0")] == ["1", "2", "3"]
    assert script.requests == [pb.TailAuditEventsRequest(resume_after="0")]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (errors.NotFoundError("none"), NotFoundError),
        (errors.AlreadyExistsError("taken"), AlreadyExistsError),
        (errors.StaleEtagError("changed"), AbortedError),
    ],
)
def test_each_error_about_a_record_has_a_class_of_its_own(
    admin: AdminClient, script: Script, sent: Exception, expected: type[IdentityError]
) -> None:
    script.answers["UpdateClient"] = [sent]

    with pytest.raises(expected):
        admin.update_client(Client(client_id="a"), ["scopes"])


def test_reading_is_tried_again_and_creating_is_not(admin: AdminClient, script: Script) -> None:
    away = errors.StoreUnavailableError("away")
    script.answers["GetClient"] = [away, pb.GetClientResponse(client=Client(client_id="a"))]
    script.answers["CreateClient"] = [away, pb.CreateClientResponse()]

    assert admin.get_client("a").client_id == "a"
    assert len(script.requests) == 2
    with pytest.raises(UnavailableError):
        admin.create_client(Client(client_id="a"))
    assert len(script.requests) == 3


# Access tokens


def tokens(name: str, *, seconds: float, refresh: str = "") -> token_pb2.TokenSet:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    return token_pb2.TokenSet(access_token=name, expire_time=stamp, refresh_token=refresh)


def issued(*sets: token_pb2.TokenSet) -> list[Any]:
    return [identity_service_pb2.IssueResponse(token_set=each) for each in sets]


def test_a_token_is_asked_for_once_while_it_is_good(target: str, script: Script) -> None:
    script.answers["Issue"] = issued(tokens("one", seconds=3600))
    script.answers["GetClient"] = [pb.GetClientResponse()]
    with (
        AccessTokens.by_secret("ops", "s3cret", target=target, scopes=["identity.admin"]) as bearer,
        AdminClient(target, options=ClientOptions(bearer=bearer)) as admin,
    ):
        admin.get_client("a")
        admin.get_client("b")

    asked, *calls = script.requests
    assert asked.credential.client_secret == token_pb2.ClientSecret(client_id="ops", client_secret="s3cret")
    assert (asked.audiences, asked.scopes) == (["identity-service"], ["identity.admin"])
    assert len(calls) == 2
    assert script.bearers[1:] == ["Bearer one", "Bearer one"]


def test_the_next_token_comes_before_the_one_at_hand_ends(target: str, script: Script) -> None:
    script.answers["Issue"] = issued(tokens("one", seconds=-1), tokens("two", seconds=3600))
    with AccessTokens.by_secret("ops", "s", target=target) as bearer:
        assert [bearer(), bearer(), bearer()] == ["one", "two", "two"]


def test_a_session_is_renewed_by_its_refresh_token_and_ended_with_the_client(
    target: str, script: Script
) -> None:
    script.answers["Issue"] = issued(tokens("one", seconds=-1, refresh="r1"))
    script.answers["Refresh"] = [
        identity_service_pb2.RefreshResponse(token_set=tokens("two", seconds=3600, refresh="r2"))
    ]
    script.answers["Revoke"] = [identity_service_pb2.RevokeResponse(revision="e.1")]
    with AccessTokens.by_password("ana", "pw", target=target, device="laptop") as bearer:
        assert [bearer(), bearer()] == ["one", "two"]

    issue, refresh, revoke = script.requests
    assert (issue.credential.password.username, issue.device) == ("ana", "laptop")
    assert (refresh.refresh_token, revoke.token) == ("r1", "r2")


def test_if_the_session_has_ended_the_password_is_sent_again(target: str, script: Script) -> None:
    script.answers["Issue"] = issued(
        tokens("one", seconds=-1, refresh="r1"), tokens("two", seconds=3600, refresh="r2")
    )
    script.answers["Refresh"] = [credential_errors.SessionEndedError()]
    with AccessTokens.by_password("ana", "pw", target=target) as bearer:
        assert [bearer(), bearer()] == ["one", "two"]


def test_an_assertion_is_signed_anew_for_each_attempt(target: str, script: Script) -> None:
    script.answers["Issue"] = [
        errors.StoreUnavailableError("away"),
        *issued(tokens("one", seconds=3600)),
    ]
    assertions = iter(["first", "second", "third"])
    with AccessTokens.by_assertion(lambda: next(assertions), target=target) as bearer:
        assert bearer(timeout=PATIENCE) == "one"

    sent = [request.credential.client_assertion.jwt for request in script.requests]
    assert sent == ["first", "second"]


def test_a_refused_credential_is_the_error_of_the_call(target: str, script: Script) -> None:
    script.answers["Issue"] = [credential_errors.CredentialRefusedError()]
    with (
        AccessTokens.by_secret("ops", "s3cret", target=target) as bearer,
        AdminClient(target, options=ClientOptions(bearer=bearer)) as admin,
        pytest.raises(UnauthenticatedError) as error,
    ):
        admin.get_client("a")
    assert "s3cret" not in str(error.value)


# TLS


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ValueError, match="set certificate_file and key_file together"):
        TlsOptions(certificate_file=Path("cert.pem"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    options = ClientOptions(tls=TlsOptions(ca_file=tmp_path / "ca.pem"))
    with pytest.raises(FileNotFoundError, match=r"ca\.pem"):
        AdminClient("127.0.0.1:1", options=options)
