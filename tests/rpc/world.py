"""A service in a test, called over gRPC on the loopback interface, with a clock that the test moves.

The module also creates the principals that tests need. It asserts nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from identity_service.bootstrap import Service
from identity_service.composition.store_admin import StoreAdmin
from identity_service.domain.ids import PrincipalId
from identity_service.domain.principals import Client, Grant, User
from identity_service.domain.secret import Secret
from identity_service.domain.store import Store
from identity_service.services.admin.administration import NewUser
from identity_service.settings import Settings
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from identityapi.v1 import token_pb2
from tests.rpc.clocks import ShiftedClock as ShiftedClock

API = "api"
PASSWORD = "correct horse battery staple"
_SETS = {"audiences", "scopes", "grants", "certificates", "exchange_audiences"}
ADMIN_SCOPES = ("identity.revoke", "identity.verify")


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A principal and its credential."""

    id: str
    credential: token_pb2.Credential = field(repr=False)


@dataclass(kw_only=True)
class World:
    """A running service with its clock and its store, and shorthands for calls."""

    settings: Settings
    clock: ShiftedClock
    store: Store
    store_admin: StoreAdmin
    service: Service
    target: str
    channel: grpc.Channel
    admin: Principal

    def __post_init__(self) -> None:
        self.stub = rpc.IdentityServiceStub(self.channel)

    # Principals

    def new_client(self, client_id: str = "reports", **changes: object) -> Principal:
        """Create a client with these fields; if `public` is true, it has no secret."""
        values: dict[str, Any] = {"audiences": (API,), "scopes": ("read", "write")} | changes
        no_secret = values.pop("public", False)
        sets = {name: frozenset(values[name]) for name in _SETS & values.keys()}
        client = Client(client_id=PrincipalId(client_id), **(values | sets))
        _, secret = self.store_admin.administrator.clients.create(client, no_secret=no_secret)
        text = secret.reveal() if secret is not None else ""
        return Principal(id=client_id, credential=client_secret(client_id, text))

    def new_user(self, username: str = "ana", **changes: object) -> Principal:
        values: dict[str, Any] = {"audiences": (API,), "scopes": ("read", "write")}
        values |= {"password": Secret(PASSWORD)} | changes
        made = self.store_admin.administrator.users.create(NewUser(username=username, **values))
        return Principal(id=made.record.user_id, credential=password(username))

    def new_confidential_app(self, client_id: str = "portal", **changes: object) -> Principal:
        """Create a client with a secret, through which users sign in."""
        grants = (Grant.PASSWORD, Grant.REFRESH_TOKEN)
        return self.new_client(client_id, grants=grants, **changes)

    def user(self, username: str = "ana") -> Principal:
        """Return an existing user, with the default password as the credential."""
        found = self.store_admin.administrator.users.find(username)
        return Principal(id=found.record.user_id, credential=password(username))

    def disable_user(self, user: Principal, *, disabled: bool = True) -> None:
        wanted = User(user_id=PrincipalId(user.id), username="", disabled=disabled)
        self.store_admin.administrator.users.update(wanted, ["disabled"])

    def disable_client(self, client: Principal) -> None:
        wanted = Client(client_id=PrincipalId(client.id), disabled=True)
        self.store_admin.administrator.clients.update(wanted, ["disabled"])

    # Calls

    def issue(self, principal: Principal, **fields: object) -> token_pb2.TokenSet:
        request = pb.IssueRequest(credential=principal.credential, **fields)  # type: ignore[arg-type]
        return self.stub.Issue(request).token_set

    def refresh(self, refresh_token: str, **fields: object) -> token_pb2.TokenSet:
        request = pb.RefreshRequest(refresh_token=refresh_token, **fields)  # type: ignore[arg-type]
        return self.stub.Refresh(request).token_set

    def verify(self, token: str, **fields: object) -> pb.VerifyResponse:
        values = {"audiences": [API]} | fields
        return self.stub.Verify(pb.VerifyRequest(token=token, **values))  # type: ignore[arg-type]

    def reason(self, token: str, **fields: object) -> str:
        """Return the reason why Verify rejects the token, or "" if the token is valid."""
        answer = self.verify(token, **fields)
        if answer.WhichOneof("outcome") == "verified":
            return ""
        return pb.RejectionReason.Name(answer.rejected.reason).removeprefix("REJECTION_REASON_")

    def revoke(self, caller: str | None = None, **target: Any) -> str:
        request = pb.RevokeRequest(**target)
        return self.stub.Revoke(request, metadata=bearer(caller) if caller else ()).revision

    def admin_token(self, scopes: Sequence[str] = ADMIN_SCOPES) -> str:
        return self.issue(self.admin, scopes=scopes).access_token


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The status of a failed call, with its details decoded."""

    code: grpc.StatusCode
    reason: str
    domain: str
    message: str
    fields: dict[str, str]
    retry_after: float | None
    request_id: str


def failure(error: grpc.RpcError) -> Failure:
    """Return the status and the details of a failed call. The error must be one that a stub has raised."""
    call: Any = error  # the exception of a stub is a grpc.Call too, which its types do not say
    status = rpc_status.from_call(call)
    assert status is not None, f"{call.code()} carries no details"
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    found: dict[type[Message], bool] = {}
    for detail in status.details:
        for target in (info, bad, retry):
            if detail.Unpack(target):
                found[type(target)] = True
    trailing = dict(call.trailing_metadata() or ())
    return Failure(
        code=call.code(),
        reason=info.reason,
        domain=info.domain,
        message=status.message,
        fields={violation.field: violation.description for violation in bad.field_violations},
        retry_after=retry.retry_delay.ToTimedelta().total_seconds()
        if error_details_pb2.RetryInfo in found
        else None,
        request_id=str(trailing.get("x-request-id", "")),
    )


def client_secret(client_id: str, secret: str) -> token_pb2.Credential:
    return token_pb2.Credential(
        client_secret=token_pb2.ClientSecret(client_id=client_id, client_secret=secret)
    )


def password(
    username: str, password: str = PASSWORD, *, client_id: str = "", secret: str = ""
) -> token_pb2.Credential:
    return token_pb2.Credential(
        password=token_pb2.Password(
            username=username, password=password, client_id=client_id, client_secret=secret
        )
    )


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
