"""The asyncio client of IdentityService, with the methods of `IdentityClient` as coroutines."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Unpack

import grpc.aio

from identity_client.async_connection import AsyncServiceClient
from identity_client.credentials import (
    by_assertion,
    by_certificate,
    by_federated_token,
    by_password,
    by_secret,
)
from identity_client.decryption import DecryptionKey, opened
from identity_client.options import ClientOptions
from identity_client.requests import (
    IssueOptions,
    exchange_request,
    issue_request,
    once,
    refresh_request,
    texts,
)
from identity_client.values import Outcome, TokenSet, to_outcome
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from identityapi.v1 import token_pb2


class AsyncIdentityClient(AsyncServiceClient):
    """A client of IdentityService for asyncio: issues, verifies, refreshes and revokes tokens.

    See `AsyncServiceClient` for errors, retries and event loops.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.aio.Channel | None = None,
        decryption_keys: Iterable[DecryptionKey] = (),
    ) -> None:
        """Create a client; the arguments are those of `IdentityClient`."""
        super().__init__(target, options=options, channel=channel)
        self._decryption_keys = tuple(decryption_keys)
        self._stub = rpc.IdentityServiceStub(self._channel)

    # Issue

    async def issue_with_secret(
        self, client_id: str, client_secret: str, **wanted: Unpack[IssueOptions]
    ) -> TokenSet:
        """Issue an access token to a client that authenticates itself by its secret.

        See `IdentityClient.issue_with_secret`.
        """
        return await self.issue(issue_request(by_secret(client_id, client_secret), **wanted))

    async def issue_with_password(
        self,
        username: str,
        password: str,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        device: str = "",
        **wanted: Unpack[IssueOptions],
    ) -> TokenSet:
        """Sign a user in: issue an access token and a refresh token.

        See `IdentityClient.issue_with_password`.
        """
        credential = by_password(username, password, client_id=client_id, client_secret=client_secret)
        return await self.issue(issue_request(credential, device=device, **wanted))

    async def issue_with_assertion(
        self, signer: Callable[[], str], **wanted: Unpack[IssueOptions]
    ) -> TokenSet:
        """Issue an access token to a client that authenticates itself by its private key (RFC 7523).

        See `IdentityClient.issue_with_assertion`.
        """
        return await self.issue(issue_request(by_assertion(signer), **wanted))

    async def issue_with_certificate(self, **wanted: Unpack[IssueOptions]) -> TokenSet:
        """Issue an access token to the client whose certificate this connection shows (RFC 8705).

        See `IdentityClient.issue_with_certificate`.
        """
        return await self.issue(issue_request(by_certificate(), **wanted))

    async def issue_with_federated_token(self, token: str | Path, **wanted: Unpack[IssueOptions]) -> TokenSet:
        """Issue an access token for a JWT of a trusted issuer, such as Kubernetes, SPIFFE or a CI system.

        See `IdentityClient.issue_with_federated_token`.
        """
        return await self.issue(issue_request(by_federated_token(token), **wanted))

    async def exchange(
        self,
        subject_token: str,
        credential: token_pb2.Credential,
        *,
        actor_token: str | None = None,
        **wanted: Unpack[IssueOptions],
    ) -> TokenSet:
        """Exchange an access token for one with which the caller acts for its subject (RFC 8693).

        See `IdentityClient.exchange`.
        """
        return await self.issue(exchange_request(subject_token, credential, actor_token, **wanted))

    async def issue(self, request: pb.IssueRequest) -> TokenSet:
        """Issue tokens for a request message. Raises the errors of `issue_with_secret`.

        See `IdentityClient.issue`.
        """
        return TokenSet.from_message((await self._call(self._stub.Issue, request)).token_set)

    async def refresh(
        self,
        refresh_token: str,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        credential: token_pb2.Credential | None = None,
        scopes: Iterable[str] = (),
        audiences: Iterable[str] = (),
    ) -> TokenSet:
        """Exchange a refresh token for a new access token and the session's next refresh token.

        See `IdentityClient.refresh`.
        """
        request = refresh_request(refresh_token, client_id, client_secret, credential, scopes, audiences)
        return TokenSet.from_message((await self._call(self._stub.Refresh, request)).token_set)

    # Verify

    async def verify(
        self,
        token: str,
        *,
        audiences: Iterable[str] = (),
        any_audience: bool = False,
        required_scopes: Iterable[str] = (),
        at_least_revision: str | None = None,
        strong: bool = False,
        certificate_sha256: bytes = b"",
        dpop_key_sha256: bytes = b"",
    ) -> Outcome:
        """Verify an access token; return a Verified or a Rejected.

        See `IdentityClient.verify`.
        """
        return to_outcome(
            await self._call(
                self._stub.Verify,
                pb.VerifyRequest(
                    token=opened(token, self._decryption_keys),
                    audiences=texts(audiences),
                    any_audience=any_audience,
                    required_scopes=texts(required_scopes),
                    at_least_revision=at_least_revision or "",
                    strong=strong,
                    certificate_sha256=certificate_sha256,
                    dpop_key_sha256=dpop_key_sha256,
                ),
            )
        )

    async def verify_batch(self, requests: Sequence[pb.VerifyRequest]) -> list[Outcome]:
        """Verify 1 to 1,000 tokens; return one outcome for each request, in their order.

        See `IdentityClient.verify_batch`.
        """
        batch = pb.VerifyBatchRequest(requests=requests)
        for request in batch.requests:
            request.token = opened(request.token, self._decryption_keys)
        response = await self._call(self._stub.VerifyBatch, batch)
        return [to_outcome(single) for single in response.responses]

    # Revoke: each method returns the revision that holds the revocation, for `verify(at_least_revision=…)`.
    # It returns after the revocation is durable; its automatic retries revoke nothing twice.

    async def revoke_token(self, token: str, *, reason: str = "") -> str:
        """Revoke an access token, or end the session of a refresh token (RFC 7009).

        See `IdentityClient.revoke_token`.
        """
        return await self._revoke(pb.RevokeRequest(token=token, reason=reason))

    async def revoke_token_id(self, token_id: str, *, reason: str = "") -> str:
        """Revoke the access token with this `jti`; return the revision that holds the revocation.

        See `IdentityClient.revoke_token_id`.
        """
        return await self._revoke(pb.RevokeRequest(token_id=token_id, reason=reason))

    async def revoke_session(self, session_id: str, *, reason: str = "") -> str:
        """End the session with this `sid`; return the revision that holds the revocation.

        See `IdentityClient.revoke_session`.
        """
        return await self._revoke(pb.RevokeRequest(session_id=session_id, reason=reason))

    async def revoke_subject(self, subject: str, *, reason: str = "", request_id: str | None = None) -> str:
        """Revoke everything issued so far to, or acted in by, a user or client.

        See `IdentityClient.revoke_subject`.
        """
        return await self._revoke(
            pb.RevokeRequest(subject=subject, reason=reason, request_id=once(request_id))
        )

    async def revoke_client(self, client_id: str, *, reason: str = "", request_id: str | None = None) -> str:
        """Revoke everything issued so far to or through a client; see `revoke_subject`.

        See `IdentityClient.revoke_client`.
        """
        return await self._revoke(
            pb.RevokeRequest(client_id=client_id, reason=reason, request_id=once(request_id))
        )

    async def revoke_everything(self, *, reason: str = "", request_id: str | None = None) -> str:
        """Revoke everything issued so far by the service; see `revoke_subject`.

        See `IdentityClient.revoke_everything`.
        """
        return await self._revoke(
            pb.RevokeRequest(everything=True, reason=reason, request_id=once(request_id))
        )

    async def _revoke(self, request: pb.RevokeRequest) -> str:
        return (await self._call(self._stub.Revoke, request)).revision
