"""The client of AdminService: clients, users, sessions, trusted issuers, keys and audit events.

Records are the messages of `identityapi.v1`, so that a record that was read can be changed and sent back.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask

from identity_client.admin_messages import (
    ClientWithSecret,
    EndedSessions,
    RetiredKey,
    RewrappedKeys,
    end_request,
    events_request,
    sessions_request,
)
from identity_client.connection import ServiceClient
from identity_client.options import ClientOptions
from identityapi.v1 import admin_service_pb2 as pb
from identityapi.v1 import admin_service_pb2_grpc as rpc
from identityapi.v1.audit_pb2 import AuditEvent
from identityapi.v1.principal_pb2 import Client, Session, TrustedIssuer, User
from identityapi.v1.trust_service_pb2 import KEY_PURPOSE_SIGN, KeyPurpose, PublishedKey


class AdminClient(ServiceClient):
    """A client of AdminService, for administrators.

    Its methods need `ClientOptions.bearer` with scope identity.admin, or the certificate of a client that may
    have that scope. Without it, a user may list and end their own sessions.

    Methods that return an iterator fetch one page of 100 records at a time, when the caller reaches it. With
    an `etag`, a record is changed only if it is still the version that was read; otherwise AbortedError is
    raised. See `ServiceClient` for errors, retries and threads.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        """Create a client; the arguments are those of `ServiceClient`."""
        super().__init__(target, options=options, channel=channel)
        self._stub = rpc.AdminServiceStub(self._channel)

    # Clients

    def create_client(self, client: Client, *, no_secret: bool = False) -> ClientWithSecret:
        """Create a client, with a secret unless `no_secret` is True.

        Raises InvalidArgumentError, AlreadyExistsError.
        """
        request = pb.CreateClientRequest(client=client, no_secret=no_secret)
        made = self._call(self._stub.CreateClient, request)
        return ClientWithSecret(client=made.client, client_secret=made.client_secret)

    def get_client(self, client_id: str) -> Client:
        """Return the client with this id. Raises NotFoundError."""
        return self._call(self._stub.GetClient, pb.GetClientRequest(client_id=client_id)).client

    def list_clients(self) -> Iterator[Client]:
        """Yield all clients, ordered by id."""
        yield from self._listed(self._stub.ListClients, pb.ListClientsRequest(), "clients")

    def update_client(self, client: Client, fields: Iterable[str]) -> Client:
        """Change the named fields of the client; its `etag` is checked unless it is empty.

        A named field that is unset in `client` is emptied. Raises InvalidArgumentError, NotFoundError,
        AbortedError.
        """
        request = pb.UpdateClientRequest(client=client, update_mask=FieldMask(paths=fields))
        return self._call(self._stub.UpdateClient, request).client

    def delete_client(self, client_id: str, *, etag: str = "") -> str:
        """Delete a client and revoke everything that was issued to it or through it.

        Returns the revision that holds the revocation. Raises NotFoundError, AbortedError.
        """
        request = pb.DeleteClientRequest(client_id=client_id, etag=etag)
        return self._call(self._stub.DeleteClient, request).revision

    def rotate_client_secret(
        self, client_id: str, *, overlap: timedelta = timedelta(0), revoke: bool = False, etag: str = ""
    ) -> ClientWithSecret:
        """Give a client a new secret.

        Args:
            client_id: the client.
            overlap: the time for which the old secrets go on working, at most 30 days; 0 = they stop at once.
            revoke: whether to revoke everything that was issued to the client or through it.
            etag: the etag of the client as it was read; "" = any version.

        Raises NotFoundError, AbortedError.
        """
        request = pb.RotateClientSecretRequest(client_id=client_id, revoke=revoke, etag=etag)
        request.overlap.FromTimedelta(overlap)
        made = self._call(self._stub.RotateClientSecret, request)
        return ClientWithSecret(client=made.client, client_secret=made.client_secret)

    # Users

    def create_user(self, user: User, *, password: str = "") -> User:
        """Create a user; without a password the user cannot sign in by password.

        Args:
            user: the user; its output fields and its etag are ignored.
            password: 8 to 1,024 characters and not a common password; "" = none.

        Raises InvalidArgumentError, AlreadyExistsError.
        """
        return self._call(self._stub.CreateUser, pb.CreateUserRequest(user=user, password=password)).user

    def get_user(self, user_id: str) -> User:
        """Return the user with this id. Raises NotFoundError."""
        return self._call(self._stub.GetUser, pb.GetUserRequest(user_id=user_id)).user

    def find_user(self, username: str) -> User:
        """Return the user with this username. Raises NotFoundError."""
        return self._call(self._stub.GetUser, pb.GetUserRequest(username=username)).user

    def list_users(self) -> Iterator[User]:
        """Yield all users, ordered by id."""
        yield from self._listed(self._stub.ListUsers, pb.ListUsersRequest(), "users")

    def update_user(self, user: User, fields: Iterable[str]) -> User:
        """Change the named fields of the user; the user's `etag` is checked unless it is empty.

        A named field that is unset in `user` is emptied. Raises InvalidArgumentError, NotFoundError,
        AbortedError.
        """
        request = pb.UpdateUserRequest(user=user, update_mask=FieldMask(paths=fields))
        return self._call(self._stub.UpdateUser, request).user

    def delete_user(self, user_id: str, *, etag: str = "") -> str:
        """Delete a user and end all of the user's sessions and tokens.

        Returns the revision that holds the revocation. Raises NotFoundError, AbortedError.
        """
        request = pb.DeleteUserRequest(user_id=user_id, etag=etag)
        return self._call(self._stub.DeleteUser, request).revision

    def set_password(self, user_id: str, password: str, *, revoke: bool = True) -> User:
        """Set a user's password and, unless `revoke` is False, end all of the user's sessions and tokens.

        The password has 8 to 1,024 characters and is not a common one. Raises InvalidArgumentError,
        NotFoundError.
        """
        request = pb.SetPasswordRequest(user_id=user_id, password=password, revoke=revoke)
        return self._call(self._stub.SetPassword, request).user

    # Sessions

    def list_sessions(self, *, subject: str = "", client_id: str = "") -> Iterator[Session]:
        """Yield the live sessions, the newest sign-in first.

        Args:
            subject: only the sessions of this user.
            client_id: only the sessions through this client; ignored if `subject` is given.

        Without either, the caller's own sessions are listed.
        """
        yield from self._listed(self._stub.ListSessions, sessions_request(subject, client_id), "sessions")

    def revoke_session(self, session_id: str, *, reason: str = "") -> EndedSessions:
        """End the session with this id; its tokens are refused from then on."""
        return self._revoke_sessions(pb.RevokeSessionsRequest(session_id=session_id, reason=reason))

    def revoke_sessions(self, *, subject: str = "", keep: str = "", reason: str = "") -> EndedSessions:
        """End all sessions of a user.

        Args:
            subject: the user; "" = the caller.
            keep: id of a session that is not ended; "" = none.
            reason: for the audit events, at most 256 characters.
        """
        return self._revoke_sessions(end_request(subject, keep, reason))

    def _revoke_sessions(self, request: pb.RevokeSessionsRequest) -> EndedSessions:
        done = self._call(self._stub.RevokeSessions, request)
        return EndedSessions(count=done.count, revision=done.revision)

    # Trusted issuers

    def create_trusted_issuer(self, issuer: TrustedIssuer) -> TrustedIssuer:
        """Trust an issuer: its JWTs are credentials from now on, for the clients that its rules name.

        Raises InvalidArgumentError, AlreadyExistsError.
        """
        request = pb.CreateTrustedIssuerRequest(trusted_issuer=issuer)
        return self._call(self._stub.CreateTrustedIssuer, request).trusted_issuer

    def get_trusted_issuer(self, issuer: str) -> TrustedIssuer:
        """Return the trusted issuer with this `iss`. Raises NotFoundError."""
        request = pb.GetTrustedIssuerRequest(issuer=issuer)
        return self._call(self._stub.GetTrustedIssuer, request).trusted_issuer

    def list_trusted_issuers(self) -> Iterator[TrustedIssuer]:
        """Yield all trusted issuers, ordered by `iss`."""
        yield from self._listed(
            self._stub.ListTrustedIssuers, pb.ListTrustedIssuersRequest(), "trusted_issuers"
        )

    def update_trusted_issuer(self, issuer: TrustedIssuer, fields: Iterable[str]) -> TrustedIssuer:
        """Change the named fields of the trusted issuer; its `etag` is checked unless it is empty.

        A named field that is unset in `issuer` is emptied. Raises InvalidArgumentError, NotFoundError,
        AbortedError.
        """
        request = pb.UpdateTrustedIssuerRequest(trusted_issuer=issuer, update_mask=FieldMask(paths=fields))
        return self._call(self._stub.UpdateTrustedIssuer, request).trusted_issuer

    def delete_trusted_issuer(self, issuer: str, *, etag: str = "") -> str:
        """Stop trusting an issuer; tokens that were issued for its JWTs stay valid.

        Returns the revision of the change. Raises NotFoundError, AbortedError.
        """
        request = pb.DeleteTrustedIssuerRequest(issuer=issuer, etag=etag)
        return self._call(self._stub.DeleteTrustedIssuer, request).revision

    # Keys and audit events

    def list_keys(self) -> list[PublishedKey]:
        """Return the keys of every purpose, the oldest first. No secret is among them."""
        return list(self._call(self._stub.ListKeys, pb.ListKeysRequest()).keys)

    def rotate_keys(self, *, algorithm: str = "", purpose: KeyPurpose = KEY_PURPOSE_SIGN) -> PublishedKey:
        """Bring the next key into use once it has been published for the setting `publish_before`.

        Args:
            algorithm: the algorithm of the next signing key and those after it; "" = that of the key already
                published.
            purpose: the purpose of the keys to rotate.

        Returns the next key; its `activate_time` says when it comes into use.
        """
        request = pb.RotateKeysRequest(algorithm=algorithm, purpose=purpose)
        return self._call(self._stub.RotateKeys, request).key

    def retire_key(self, key_id: str, *, reason: str = "") -> RetiredKey:
        """Reject everything that was made with a key, at once and irrevocably; the next key replaces it.

        Raises NotFoundError.
        """
        answer = self._call(self._stub.RetireKey, pb.RetireKeyRequest(key_id=key_id, reason=reason))
        return RetiredKey(revision=answer.revision, successor=answer.key)

    def rewrap_keys(self) -> RewrappedKeys:
        """Seal every key under the current master key of the process that answers. Repeating it is safe."""
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
        """Yield the audit events that fulfil all conditions, the newest first.

        Args:
            principal: only events with this actor, subject, client or target; "" = any.
            types: only events of these types, at most 20; empty = all types.
            start_time: only events from this time on.
            end_time: only events before this time.
        """
        request = events_request(principal, types, start_time, end_time)
        yield from self._listed(self._stub.ListAuditEvents, request, "events")

    def tail_audit_events(self, resume_after: str = "") -> Iterator[AuditEvent]:
        """Yield audit events as they happen, until the stream ends or the iterator is closed.

        Args:
            resume_after: the `event_id` of the last event that the caller has seen; "" = only events from now
                on.
        """
        request = pb.TailAuditEventsRequest(resume_after=resume_after)
        with self._stream(self._stub.TailAuditEvents, request) as stream:
            for message in stream:
                yield from message.events

    def _listed(self, method: Callable[..., Any], request: Any, records: str) -> Iterator[Any]:
        """Yield the records of a list, page by page; the last page has no `next_page_token`."""
        while True:
            page = self._call(method, request)
            yield from getattr(page, records)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
