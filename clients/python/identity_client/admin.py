"""The client of AdminService: clients, users, sessions, trusted issuers, keys and audit events.

Records are the messages of `identityapi.v1`: what was read can be changed and sent back.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from identity_client.connection import Connected, translated
from identity_client.options import ClientOptions
from identityapi.v1 import admin_service_pb2 as pb
from identityapi.v1 import admin_service_pb2_grpc as rpc
from identityapi.v1.audit_pb2 import AuditEvent
from identityapi.v1.principal_pb2 import Client, Session, TrustedIssuer, User
from identityapi.v1.trust_service_pb2 import KEY_PURPOSE_SIGN, KeyPurpose, PublishedKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientWithSecret:
    """A client and its new secret, which is shown this once."""

    client: Client
    client_secret: str = field(repr=False)
    """Empty for a client that was made without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSessions:
    """What came of ending sessions."""

    count: int
    revision: str
    """For `verify(at_least_revision=…)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrappedKeys:
    """How many keys were sealed under another master key, of how many there are."""

    rewrapped: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredKey:
    """What came of retiring a key."""

    revision: str
    """For `verify(at_least_revision=…)`."""
    successor: PublishedKey
    """The key that is used instead."""


class AdminClient(Connected):
    """Runs the service. Needs a bearer with scope identity.admin, or a certificate of such a client.

    Without the scope a user may list and end sessions of their own. Lists are read page by page while
    they are gone through. An `etag` says: only if the record is still the one that was read, else
    AbortedError.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """See Connected."""
        super().__init__(target, options=options, channel=channel)
        self._stub = rpc.AdminServiceStub(self._channel)

    # Clients

    def create_client(self, client: Client, *, no_secret: bool = False) -> ClientWithSecret:
        """Raises InvalidArgumentError, AlreadyExistsError."""
        request = pb.CreateClientRequest(client=client, no_secret=no_secret)
        made = self._call(self._stub.CreateClient, request)
        return ClientWithSecret(client=made.client, client_secret=made.client_secret)

    def get_client(self, client_id: str) -> Client:
        """Raises NotFoundError."""
        return self._call(self._stub.GetClient, pb.GetClientRequest(client_id=client_id)).client

    def list_clients(self) -> Iterator[Client]:
        """By id."""
        for page in self._pages(self._stub.ListClients, pb.ListClientsRequest()):
            yield from page.clients

    def update_client(self, client: Client, fields: Iterable[str]) -> Client:
        """Change these fields of the client, with its etag if it has one."""
        request = pb.UpdateClientRequest(client=client, update_mask=FieldMask(paths=fields))
        return self._call(self._stub.UpdateClient, request).client

    def delete_client(self, client_id: str, *, etag: str = "") -> str:
        """Delete it and revoke what it was issued; returns the revision that says so."""
        request = pb.DeleteClientRequest(client_id=client_id, etag=etag)
        return self._call(self._stub.DeleteClient, request).revision

    def rotate_client_secret(
        self, client_id: str, *, overlap: timedelta = timedelta(0), revoke: bool = False, etag: str = ""
    ) -> ClientWithSecret:
        """Give it a new secret.

        Args:
            overlap: how long the old ones go on working; at most 30 days.
            revoke: also revoke all that was issued to the client or through it.
        """
        request = pb.RotateClientSecretRequest(client_id=client_id, revoke=revoke, etag=etag)
        request.overlap.FromTimedelta(overlap)
        made = self._call(self._stub.RotateClientSecret, request)
        return ClientWithSecret(client=made.client, client_secret=made.client_secret)

    # Users

    def create_user(self, user: User, *, password: str = "") -> User:
        """Raises InvalidArgumentError, AlreadyExistsError. Without a password they cannot sign in by one."""
        return self._call(self._stub.CreateUser, pb.CreateUserRequest(user=user, password=password)).user

    def get_user(self, user_id: str) -> User:
        """Raises NotFoundError."""
        return self._call(self._stub.GetUser, pb.GetUserRequest(user_id=user_id)).user

    def find_user(self, username: str) -> User:
        """Raises NotFoundError."""
        return self._call(self._stub.GetUser, pb.GetUserRequest(username=username)).user

    def list_users(self) -> Iterator[User]:
        """By id."""
        for page in self._pages(self._stub.ListUsers, pb.ListUsersRequest()):
            yield from page.users

    def update_user(self, user: User, fields: Iterable[str]) -> User:
        """Change these fields of the user, with the etag if there is one."""
        request = pb.UpdateUserRequest(user=user, update_mask=FieldMask(paths=fields))
        return self._call(self._stub.UpdateUser, request).user

    def delete_user(self, user_id: str, *, etag: str = "") -> str:
        """Delete them and end their sessions and tokens; returns the revision that says so."""
        request = pb.DeleteUserRequest(user_id=user_id, etag=etag)
        return self._call(self._stub.DeleteUser, request).revision

    def set_password(self, user_id: str, password: str, *, revoke: bool = True) -> User:
        """Set it and, unless `revoke` is False, end all sessions and tokens of the user."""
        request = pb.SetPasswordRequest(user_id=user_id, password=password, revoke=revoke)
        return self._call(self._stub.SetPassword, request).user

    # Sessions

    def list_sessions(self, *, subject: str = "", client_id: str = "") -> Iterator[Session]:
        """Of a subject or through a client, the newest sign-in first; of neither = the caller's own."""
        request = pb.ListSessionsRequest()
        if subject:
            request.subject = subject
        elif client_id:
            request.client_id = client_id
        for page in self._pages(self._stub.ListSessions, request):
            yield from page.sessions

    def revoke_session(self, session_id: str, *, reason: str = "") -> EndedSessions:
        """End one session."""
        return self._revoke_sessions(pb.RevokeSessionsRequest(session_id=session_id, reason=reason))

    def revoke_sessions(self, *, subject: str = "", keep: str = "", reason: str = "") -> EndedSessions:
        """End all sessions of a subject, or of the caller where none is named, but the one to keep."""
        request = pb.RevokeSessionsRequest(except_session_id=keep, reason=reason)
        if subject:
            request.subject = subject
        else:
            request.own = True
        return self._revoke_sessions(request)

    def _revoke_sessions(self, request: pb.RevokeSessionsRequest) -> EndedSessions:
        done = self._call(self._stub.RevokeSessions, request)
        return EndedSessions(count=done.count, revision=done.revision)

    # Trusted issuers

    def create_trusted_issuer(self, issuer: TrustedIssuer) -> TrustedIssuer:
        """Raises InvalidArgumentError, AlreadyExistsError."""
        request = pb.CreateTrustedIssuerRequest(trusted_issuer=issuer)
        return self._call(self._stub.CreateTrustedIssuer, request).trusted_issuer

    def get_trusted_issuer(self, issuer: str) -> TrustedIssuer:
        """Raises NotFoundError."""
        request = pb.GetTrustedIssuerRequest(issuer=issuer)
        return self._call(self._stub.GetTrustedIssuer, request).trusted_issuer

    def list_trusted_issuers(self) -> Iterator[TrustedIssuer]:
        """By `iss`."""
        for page in self._pages(self._stub.ListTrustedIssuers, pb.ListTrustedIssuersRequest()):
            yield from page.trusted_issuers

    def update_trusted_issuer(self, issuer: TrustedIssuer, fields: Iterable[str]) -> TrustedIssuer:
        """Change these fields of the issuer, with its etag if it has one."""
        request = pb.UpdateTrustedIssuerRequest(trusted_issuer=issuer, update_mask=FieldMask(paths=fields))
        return self._call(self._stub.UpdateTrustedIssuer, request).trusted_issuer

    def delete_trusted_issuer(self, issuer: str, *, etag: str = "") -> str:
        """Trust it no more; returns the revision that says so."""
        request = pb.DeleteTrustedIssuerRequest(issuer=issuer, etag=etag)
        return self._call(self._stub.DeleteTrustedIssuer, request).revision

    # Keys and audit events

    def list_keys(self) -> list[PublishedKey]:
        """The keys of every purpose, the oldest first."""
        return list(self._call(self._stub.ListKeys, pb.ListKeysRequest()).keys)

    def rotate_keys(self, *, algorithm: str = "", purpose: KeyPurpose = KEY_PURPOSE_SIGN) -> PublishedKey:
        """Bring the next key into use as soon as verifiers can know it; its `activate_time` says when."""
        request = pb.RotateKeysRequest(algorithm=algorithm, purpose=purpose)
        return self._call(self._stub.RotateKeys, request).key

    def retire_key(self, key_id: str, *, reason: str = "") -> RetiredKey:
        """Refuse at once everything that was made with a key; nothing takes it back."""
        answer = self._call(self._stub.RetireKey, pb.RetireKeyRequest(key_id=key_id, reason=reason))
        return RetiredKey(revision=answer.revision, successor=answer.key)

    def rewrap_keys(self) -> RewrappedKeys:
        """Seal every key under the current master key of the service."""
        answer = self._call(self._stub.RewrapKeys, pb.RewrapKeysRequest())
        return RewrappedKeys(rewrapped=answer.rewrapped, total=answer.total)

    def list_audit_events(
        self,
        *,
        principal: str = "",
        types: Iterable[str] = (),
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> Iterator[AuditEvent]:
        """The newest first; of this principal, of these types, from then on, before then."""
        request = pb.ListAuditEventsRequest(principal=principal, types=types)
        if start_time is not None:
            request.start_time.FromDatetime(start_time)
        if end_time is not None:
            request.end_time.FromDatetime(end_time)
        for page in self._pages(self._stub.ListAuditEvents, request):
            yield from page.events

    def tail_audit_events(self, resume_after: str = "") -> Iterator[AuditEvent]:
        """What happens, as it happens, until the stream ends or the iterator is closed.

        Args:
            resume_after: the event_id of the last event that was seen; "" = begin now.
        """
        request = pb.TailAuditEventsRequest(resume_after=resume_after)
        stream = self._open(self._stub.TailAuditEvents, request)
        try:
            with translated():
                for message in stream:
                    yield from message.events
        finally:
            stream.cancel()

    def _pages(self, method: Callable[..., Any], request: Any) -> Iterator[Any]:
        """Answer after answer, the last of which names no next page."""
        while True:
            page = self._call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
