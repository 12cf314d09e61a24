"""The asyncio client of AdminService, with the methods of `AdminClient` as coroutines."""

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import grpc.aio
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
from identity_client.async_connection import AsyncServiceClient
from identity_client.options import ClientOptions
from identityapi.v1 import admin_service_pb2 as pb
from identityapi.v1 import admin_service_pb2_grpc as rpc
from identityapi.v1.audit_pb2 import AuditEvent
from identityapi.v1.principal_pb2 import Client, Session, TrustedIssuer, User
from identityapi.v1.trust_service_pb2 import KEY_PURPOSE_SIGN, KeyPurpose, PublishedKey


class AsyncAdminClient(AsyncServiceClient):
    """A client of AdminService for asyncio; see `AdminClient` and `AsyncServiceClient`."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        """Create a client; the arguments are those of `AdminClient`."""
        super().__init__(target, options=options, channel=channel)
        self._stub = rpc.AdminServiceStub(self._channel)

    # Clients

    async def create_client(self, client: Client, *, no_secret: bool = False) -> ClientWithSecret:
        """Create a client, with a secret unless `no_secret` is True.

        See `AdminClient.create_client`.
        """
        request = pb.CreateClientRequest(client=client, no_secret=no_secret)
        made = await self._call(self._stub.CreateClient, request)
        return ClientWithSecret(client=made.client, client_secret=made.client_secret)

    async def get_client(self, client_id: str) -> Client:
        """Return the client with this id. Raises NotFoundError.

        See `AdminClient.get_client`.
        """
        return (await self._call(self._stub.GetClient, pb.GetClientRequest(client_id=client_id))).client

    async def list_clients(self) -> AsyncIterator[Client]:
        """Yield all clients, ordered by id.

        See `AdminClient.list_clients`.
        """
        async for record in self._listed(self._stub.ListClients, pb.ListClientsRequest(), "clients"):
            yield record

    async def update_client(self, client: Client, fields: Iterable[str]) -> Client:
        """Change the named fields of the client; its `etag` is checked unless it is empty.

        See `AdminClient.update_client`.
        """
        request = pb.UpdateClientRequest(client=client, update_mask=FieldMask(paths=fields))
        return (await self._call(self._stub.UpdateClient, request)).client

    async def delete_client(self, client_id: str, *, etag: str = "") -> str:
        """Delete a client and revoke everything that was issued to it or through it.

        See `AdminClient.delete_client`.
        """
        request = pb.DeleteClientRequest(client_id=client_id, etag=etag)
        return (await self._call(self._stub.DeleteClient, request)).revision

    async def rotate_client_secret(
        self, client_id: str, *, overlap: timedelta = timedelta(0), revoke: bool = False, etag: str = ""
    ) -> ClientWithSecret:
        """Give a client a new secret.

        See `AdminClient.rotate_client_secret`.
        """
        request = pb.RotateClientSecretRequest(client_id=client_id, revoke=revoke, etag=etag)
        request.overlap.FromTimedelta(overlap)
        made = await self._call(self._stub.RotateClientSecret, request)
        return ClientWithSecret(client=made.client, client_secret=made.client_secret)

    # Users

    async def create_user(self, user: User, *, password: str = "") -> User:
        """Create a user; without a password the user cannot sign in by password.

        See `AdminClient.create_user`.
        """
        return (
            await self._call(self._stub.CreateUser, pb.CreateUserRequest(user=user, password=password))
        ).user

    async def get_user(self, user_id: str) -> User:
        """Return the user with this id. Raises NotFoundError.

        See `AdminClient.get_user`.
        """
        return (await self._call(self._stub.GetUser, pb.GetUserRequest(user_id=user_id))).user

    async def find_user(self, username: str) -> User:
        """Return the user with this username. Raises NotFoundError.

        See `AdminClient.find_user`.
        """
        return (await self._call(self._stub.GetUser, pb.GetUserRequest(username=username))).user

    async def list_users(self) -> AsyncIterator[User]:
        """Yield all users, ordered by id.

        See `AdminClient.list_users`.
        """
        async for record in self._listed(self._stub.ListUsers, pb.ListUsersRequest(), "users"):
            yield record

    async def update_user(self, user: User, fields: Iterable[str]) -> User:
        """Change the named fields of the user; the user's `etag` is checked unless it is empty.

        See `AdminClient.update_user`.
        """
        request = pb.UpdateUserRequest(user=user, update_mask=FieldMask(paths=fields))
        return (await self._call(self._stub.UpdateUser, request)).user

    async def delete_user(self, user_id: str, *, etag: str = "") -> str:
        """Delete a user and end all of the user's sessions and tokens.

        See `AdminClient.delete_user`.
        """
        request = pb.DeleteUserRequest(user_id=user_id, etag=etag)
        return (await self._call(self._stub.DeleteUser, request)).revision

    async def set_password(self, user_id: str, password: str, *, revoke: bool = True) -> User:
        """Set a user's password and, unless `revoke` is False, end all of the user's sessions and tokens.

        See `AdminClient.set_password`.
        """
        request = pb.SetPasswordRequest(user_id=user_id, password=password, revoke=revoke)
        return (await self._call(self._stub.SetPassword, request)).user

    # Sessions

    async def list_sessions(self, *, subject: str = "", client_id: str = "") -> AsyncIterator[Session]:
        """Yield the live sessions, the newest sign-in first.

        See `AdminClient.list_sessions`.
        """
        async for record in self._listed(
            self._stub.ListSessions, sessions_request(subject, client_id), "sessions"
        ):
            yield record

    async def revoke_session(self, session_id: str, *, reason: str = "") -> EndedSessions:
        """End the session with this id; its tokens are refused from then on.

        See `AdminClient.revoke_session`.
        """
        return await self._revoke_sessions(pb.RevokeSessionsRequest(session_id=session_id, reason=reason))

    async def revoke_sessions(self, *, subject: str = "", keep: str = "", reason: str = "") -> EndedSessions:
        """End all sessions of a user.

        See `AdminClient.revoke_sessions`.
        """
        return await self._revoke_sessions(end_request(subject, keep, reason))

    async def _revoke_sessions(self, request: pb.RevokeSessionsRequest) -> EndedSessions:
        done = await self._call(self._stub.RevokeSessions, request)
        return EndedSessions(count=done.count, revision=done.revision)

    # Trusted issuers

    async def create_trusted_issuer(self, issuer: TrustedIssuer) -> TrustedIssuer:
        """Trust an issuer: its JWTs are credentials from now on, for the clients that its rules name.

        See `AdminClient.create_trusted_issuer`.
        """
        request = pb.CreateTrustedIssuerRequest(trusted_issuer=issuer)
        return (await self._call(self._stub.CreateTrustedIssuer, request)).trusted_issuer

    async def get_trusted_issuer(self, issuer: str) -> TrustedIssuer:
        """Return the trusted issuer with this `iss`. Raises NotFoundError.

        See `AdminClient.get_trusted_issuer`.
        """
        request = pb.GetTrustedIssuerRequest(issuer=issuer)
        return (await self._call(self._stub.GetTrustedIssuer, request)).trusted_issuer

    async def list_trusted_issuers(self) -> AsyncIterator[TrustedIssuer]:
        """Yield all trusted issuers, ordered by `iss`.

        See `AdminClient.list_trusted_issuers`.
        """
        async for record in self._listed(
            self._stub.ListTrustedIssuers, pb.ListTrustedIssuersRequest(), "trusted_issuers"
        ):
            yield record

    async def update_trusted_issuer(self, issuer: TrustedIssuer, fields: Iterable[str]) -> TrustedIssuer:
        """Change the named fields of the trusted issuer; its `etag` is checked unless it is empty.

        See `AdminClient.update_trusted_issuer`.
        """
        request = pb.UpdateTrustedIssuerRequest(trusted_issuer=issuer, update_mask=FieldMask(paths=fields))
        return (await self._call(self._stub.UpdateTrustedIssuer, request)).trusted_issuer

    async def delete_trusted_issuer(self, issuer: str, *, etag: str = "") -> str:
        """Stop trusting an issuer; tokens that were issued for its JWTs stay valid.

        See `AdminClient.delete_trusted_issuer`.
        """
        request = pb.DeleteTrustedIssuerRequest(issuer=issuer, etag=etag)
        return (await self._call(self._stub.DeleteTrustedIssuer, request)).revision

    # Keys and audit events

    async def list_keys(self) -> list[PublishedKey]:
        """Return the keys of every purpose, the oldest first. No secret is among them.

        See `AdminClient.list_keys`.
        """
        return list((await self._call(self._stub.ListKeys, pb.ListKeysRequest())).keys)

    async def rotate_keys(
        self, *, algorithm: str = "", purpose: KeyPurpose = KEY_PURPOSE_SIGN
    ) -> PublishedKey:
        """Bring the next key into use once it has been published for the setting `publish_before`.

        See `AdminClient.rotate_keys`.
        """
        request = pb.RotateKeysRequest(algorithm=algorithm, purpose=purpose)
        return (await self._call(self._stub.RotateKeys, request)).key

    async def retire_key(self, key_id: str, *, reason: str = "") -> RetiredKey:
        """Reject everything that was made with a key, at once and irrevocably; the next key replaces it.

        See `AdminClient.retire_key`.
        """
        answer = await self._call(self._stub.RetireKey, pb.RetireKeyRequest(key_id=key_id, reason=reason))
        return RetiredKey(revision=answer.revision, successor=answer.key)

    async def rewrap_keys(self) -> RewrappedKeys:
        """Seal every key under the current master key of the process that answers. Repeating it is safe.

        See `AdminClient.rewrap_keys`.
        """
        answer = await self._call(self._stub.RewrapKeys, pb.RewrapKeysRequest())
        return RewrappedKeys(rewrapped=answer.rewrapped, total=answer.total)

    async def list_audit_events(
        self,
        *,
        principal: str = "",
        types: Iterable[str] = (),
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> AsyncIterator[AuditEvent]:
        """Yield the audit events that fulfil all conditions, the newest first.

        See `AdminClient.list_audit_events`.
        """
        request = events_request(principal, types, start_time, end_time)
        async for record in self._listed(self._stub.ListAuditEvents, request, "events"):
            yield record

    async def tail_audit_events(self, resume_after: str = "") -> AsyncIterator[AuditEvent]:
        """Yield audit events as they happen, until the stream ends or the iterator is closed.

        See `AdminClient.tail_audit_events`.
        """
        request = pb.TailAuditEventsRequest(resume_after=resume_after)
        async with self._stream(self._stub.TailAuditEvents, request) as stream:
            async for message in stream:
                for event in message.events:
                    yield event

    async def _listed(self, method: Callable[..., Any], request: Any, records: str) -> AsyncIterator[Any]:
        """Yield the records of a list, page by page; the last page has no `next_page_token`."""
        while True:
            page = await self._call(method, request)
            for record in getattr(page, records):
                yield record
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
