"""The synchronous client of IdentityService: one method for each thing to do."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc

from identity_client.connection import Connected
from identity_client.credentials import (
    by_assertion,
    by_certificate,
    by_federated_token,
    by_password,
    by_secret,
)
from identity_client.decryption import DecryptionKey, NotOpenableError
from identity_client.options import ClientOptions
from identity_client.requests import Encryption, issue_request, once, texts
from identity_client.values import Outcome, TokenSet, to_outcome
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import identity_service_pb2_grpc as rpc
from identityapi.v1 import token_pb2


class IdentityClient(Connected):
    """Issues, verifies, refreshes and revokes tokens."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.Channel | None = None,
        decryption_keys: Iterable[DecryptionKey] = (),
    ) -> None:
        """See Connected.

        Args:
            decryption_keys: of the audience that verifies; tokens that were encrypted to one of them are
                opened here and sent to the service signed, as it made them.
        """
        super().__init__(target, options=options, channel=channel)
        self._decryption_keys = tuple(decryption_keys)
        self._stub = rpc.IdentityServiceStub(self._channel)

    # Issue

    def issue_with_secret(
        self,
        client_id: str,
        client_secret: str,
        *,
        audiences: Iterable[str] = (),
        scopes: Iterable[str] = (),
        lifetime: timedelta | None = None,
        claims: Mapping[str, Any] | None = None,
        encryption: Encryption = "none",
    ) -> TokenSet:
        """Tokens for a service. Raises UnauthenticatedError, PermissionDeniedError, …"""
        return self.issue(
            issue_request(
                by_secret(client_id, client_secret), audiences, scopes, lifetime, claims, encryption
            )
        )

    def issue_with_password(
        self,
        username: str,
        password: str,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        audiences: Iterable[str] = (),
        scopes: Iterable[str] = (),
        lifetime: timedelta | None = None,
        claims: Mapping[str, Any] | None = None,
        encryption: Encryption = "none",
        device: str = "",
    ) -> TokenSet:
        """Tokens for a person, a refresh token among them.

        Args:
            client_id: the program through which the person signs in; None = the built-in one.
            device: a name for the list of sessions.
        """
        credential = by_password(username, password, client_id=client_id, client_secret=client_secret)
        request = issue_request(credential, audiences, scopes, lifetime, claims, encryption)
        request.device = device
        return self.issue(request)

    def issue_with_assertion(
        self,
        signer: Callable[[], str],
        *,
        audiences: Iterable[str] = (),
        scopes: Iterable[str] = (),
        lifetime: timedelta | None = None,
        claims: Mapping[str, Any] | None = None,
        encryption: Encryption = "none",
    ) -> TokenSet:
        """Tokens for a service by its private key: `signer` is an AssertionSigner, or signs elsewhere."""
        return self.issue(
            issue_request(by_assertion(signer), audiences, scopes, lifetime, claims, encryption)
        )

    def issue_with_certificate(
        self,
        *,
        audiences: Iterable[str] = (),
        scopes: Iterable[str] = (),
        lifetime: timedelta | None = None,
        claims: Mapping[str, Any] | None = None,
        encryption: Encryption = "none",
    ) -> TokenSet:
        """Tokens for a service by the certificate of this connection: see `TlsOptions`."""
        return self.issue(issue_request(by_certificate(), audiences, scopes, lifetime, claims, encryption))

    def issue_with_federated_token(
        self,
        token: str | Path,
        *,
        audiences: Iterable[str] = (),
        scopes: Iterable[str] = (),
        lifetime: timedelta | None = None,
        claims: Mapping[str, Any] | None = None,
        encryption: Encryption = "none",
    ) -> TokenSet:
        """Tokens for a workload by the JWT of its platform.

        Args:
            token: the JWT itself, or the file where the platform puts it; it is read with each call.
        """
        return self.issue(
            issue_request(by_federated_token(token), audiences, scopes, lifetime, claims, encryption)
        )

    def exchange(
        self,
        subject_token: str,
        credential: token_pb2.Credential,
        *,
        actor_token: str | None = None,
        audiences: Iterable[str] = (),
        scopes: Iterable[str] = (),
        lifetime: timedelta | None = None,
        claims: Mapping[str, Any] | None = None,
        encryption: Encryption = "none",
    ) -> TokenSet:
        """A token for the subject of another, for a service that acts for them (RFC 8693).

        Args:
            subject_token: an access token that the service was sent.
            credential: the service's own: see `identity_client.credentials`.
            actor_token: of who acts, where that is not the service itself.

        Raises ValueError: a token is empty. To the service it would be none: it would give the service's
        own token, or one where the service itself acts.
        """
        if "" in (subject_token, actor_token):
            raise ValueError("an empty token")
        request = issue_request(credential, audiences, scopes, lifetime, claims, encryption)
        request.subject_token, request.actor_token = subject_token, actor_token or ""
        return self.issue(request)

    def issue(self, request: pb.IssueRequest) -> TokenSet:
        """Tokens for a request of the caller's own making."""
        return TokenSet.from_message(self._call(self._stub.Issue, request).token_set)

    def refresh(
        self,
        refresh_token: str,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        credential: token_pb2.Credential | None = None,
        scopes: Iterable[str] = (),
        audiences: Iterable[str] = (),
    ) -> TokenSet:
        """The next tokens of a session. Keep the new refresh token; repeating a lost call is safe.

        Args:
            client_id, client_secret: of the client of the session, where it has a secret.
            credential: how that client proves itself otherwise: see `identity_client.credentials`.
        """
        request = pb.RefreshRequest(
            refresh_token=refresh_token, scopes=texts(scopes), audiences=texts(audiences)
        )
        if client_id is not None:
            request.client_credential.CopyFrom(by_secret(client_id, client_secret or ""))
        elif credential is not None:
            request.client_credential.CopyFrom(credential)
        return TokenSet.from_message(self._call(self._stub.Refresh, request).token_set)

    # Verify

    def verify(
        self,
        token: str,
        *,
        audiences: Iterable[str] = (),
        any_audience: bool = False,
        required_scopes: Iterable[str] = (),
        at_least_revision: str | None = None,
        strong: bool = False,
        certificate_sha256: bytes = b"",
    ) -> Outcome:
        """Whether an access token is good: a Verified or a Rejected.

        Args:
            audiences: who is asking; the token must be for one of them.
            any_audience: accept a token for anybody instead.
            at_least_revision: as Revoke returned it: know at least that much first.
            strong: know the newest first; one round trip to the store.
            certificate_sha256: of the holder's certificate, for a token that is bound to one.
        """
        return to_outcome(
            self._call(
                self._stub.Verify,
                pb.VerifyRequest(
                    token=self._opened(token),
                    audiences=texts(audiences),
                    any_audience=any_audience,
                    required_scopes=texts(required_scopes),
                    at_least_revision=at_least_revision or "",
                    strong=strong,
                    certificate_sha256=certificate_sha256,
                ),
            )
        )

    def verify_batch(self, requests: Sequence[pb.VerifyRequest]) -> list[Outcome]:
        """One outcome for each of up to 1,000 requests, in their order."""
        batch = pb.VerifyBatchRequest(requests=requests)
        for request in batch.requests:
            request.token = self._opened(request.token)
        response = self._call(self._stub.VerifyBatch, batch)
        return [to_outcome(single) for single in response.responses]

    def _opened(self, token: str) -> str:
        """The signed token where a key opens it; else the token as it is, for the service to judge."""
        if token.count(".") == 4:
            for key in self._decryption_keys:
                with suppress(NotOpenableError):
                    return key.decrypt(token)
        return token

    # Revoke: each returns the revision that holds the revocation, for `verify(at_least_revision=…)`.

    def revoke_token(self, token: str, *, reason: str = "") -> str:
        """Take back an access token, or end the session of a refresh token."""
        return self._revoke(pb.RevokeRequest(token=token, reason=reason))

    def revoke_token_id(self, token_id: str, *, reason: str = "") -> str:
        """Take back the access token with this `jti`."""
        return self._revoke(pb.RevokeRequest(token_id=token_id, reason=reason))

    def revoke_session(self, session_id: str, *, reason: str = "") -> str:
        """End one sign-in."""
        return self._revoke(pb.RevokeRequest(session_id=session_id, reason=reason))

    def revoke_subject(self, subject: str, *, reason: str = "", request_id: str | None = None) -> str:
        """Take back everything issued so far to a principal."""
        return self._revoke(pb.RevokeRequest(subject=subject, reason=reason, request_id=once(request_id)))

    def revoke_client(self, client_id: str, *, reason: str = "", request_id: str | None = None) -> str:
        """Take back everything issued so far to or through a client."""
        return self._revoke(pb.RevokeRequest(client_id=client_id, reason=reason, request_id=once(request_id)))

    def revoke_everything(self, *, reason: str = "", request_id: str | None = None) -> str:
        """Take back every token there is."""
        return self._revoke(pb.RevokeRequest(everything=True, reason=reason, request_id=once(request_id)))

    def _revoke(self, request: pb.RevokeRequest) -> str:
        return self._call(self._stub.Revoke, request).revision
