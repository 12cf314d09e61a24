"""The synchronous client of IdentityService."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Unpack

import grpc

from identity_client.connection import ServiceClient
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


class IdentityClient(ServiceClient):
    """A client of IdentityService: issues, verifies, refreshes and revokes tokens.

    See `ServiceClient` for errors, retries and threads.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        options: ClientOptions | None = None,
        channel: grpc.Channel | None = None,
        decryption_keys: Iterable[DecryptionKey] = (),
    ) -> None:
        """Create a client; it connects with the first call.

        Args:
            target: host:port of the service; see `ServiceClient`.
            options: deadline, retries, TLS, the caller's own token; see `ServiceClient`.
            channel: a channel to use instead of a new one to `target`; see `ServiceClient`.
            decryption_keys: keys of the audience that verifies. A token that was encrypted to one of them is
                decrypted by this client, and the signed token inside is sent to the service.
        """
        super().__init__(target, options=options, channel=channel)
        self._decryption_keys = tuple(decryption_keys)
        self._stub = rpc.IdentityServiceStub(self._channel)

    # Issue

    def issue_with_secret(
        self, client_id: str, client_secret: str, **wanted: Unpack[IssueOptions]
    ) -> TokenSet:
        """Issue an access token to a client that authenticates itself by its secret.

        Args:
            client_id: the client.
            client_secret: its secret.
            wanted: the properties of the token, see `IssueOptions`.

        Raises UnauthenticatedError if the secret is wrong, PermissionDeniedError if the client may not have
        the audiences or scopes, InvalidArgumentError, ResourceExhaustedError after too many failed attempts.
        """
        return self.issue(issue_request(by_secret(client_id, client_secret), **wanted))

    def issue_with_password(
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

        Args:
            username: the user.
            password: the user's password.
            client_id: the client through which the user signs in; None = the built-in one.
            client_secret: of that client, if it has one.
            device: a name for the list of sessions, at most 128 characters.
            wanted: the properties of the access token, see `IssueOptions`.

        Raises the errors of `issue_with_secret`.
        """
        credential = by_password(username, password, client_id=client_id, client_secret=client_secret)
        return self.issue(issue_request(credential, device=device, **wanted))

    def issue_with_assertion(self, signer: Callable[[], str], **wanted: Unpack[IssueOptions]) -> TokenSet:
        """Issue an access token to a client that authenticates itself by its private key (RFC 7523).

        Args:
            signer: returns a new client assertion; an AssertionSigner, or a function that signs elsewhere.
            wanted: the properties of the token, see `IssueOptions`.

        Raises the errors of `issue_with_secret`.
        """
        return self.issue(issue_request(by_assertion(signer), **wanted))

    def issue_with_certificate(self, **wanted: Unpack[IssueOptions]) -> TokenSet:
        """Issue an access token to the client whose certificate this connection shows (RFC 8705).

        The token is bound to the certificate, which `TlsOptions.certificate_file` names.

        Args:
            wanted: the properties of the token, see `IssueOptions`.

        Raises the errors of `issue_with_secret`.
        """
        return self.issue(issue_request(by_certificate(), **wanted))

    def issue_with_federated_token(self, token: str | Path, **wanted: Unpack[IssueOptions]) -> TokenSet:
        """Issue an access token for a JWT of a trusted issuer, such as Kubernetes, SPIFFE or a CI system.

        Args:
            token: the JWT, or the path of the file that holds it; the file is read at each call.
            wanted: the properties of the token, see `IssueOptions`.

        Raises OSError if the file cannot be read, and the errors of `issue_with_secret`.
        """
        return self.issue(issue_request(by_federated_token(token), **wanted))

    def exchange(
        self,
        subject_token: str,
        credential: token_pb2.Credential,
        *,
        actor_token: str | None = None,
        **wanted: Unpack[IssueOptions],
    ) -> TokenSet:
        """Exchange an access token for one with which the caller acts for its subject (RFC 8693).

        Args:
            subject_token: the access token that the caller received, at most 8 KiB.
            credential: the caller's own credential, see `identity_client.credentials`.
            actor_token: the access token of the party that acts; None = the caller itself acts.
            wanted: the properties of the token, see `IssueOptions`. By default it has the scopes of
                `subject_token` that the caller may have; it never expires later than `subject_token`.

        Raises ValueError if a token is empty: the service would take it as absent, and issue a token for the
        caller itself, or one in which the caller acts. Raises the errors of `issue_with_secret`.
        """
        return self.issue(exchange_request(subject_token, credential, actor_token, **wanted))

    def issue(self, request: pb.IssueRequest) -> TokenSet:
        """Issue tokens for a request message. Raises the errors of `issue_with_secret`."""
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
        """Exchange a refresh token for a new access token and the session's next refresh token.

        Store the new refresh token in place of the old one. Repeating a call whose answer was lost is safe:
        the service returns the same new refresh token again.

        Args:
            refresh_token: the session's current refresh token.
            client_id: the client of the session, if it has a secret.
            client_secret: the secret of that client.
            credential: another credential of that client, see `identity_client.credentials`; ignored if
                `client_id` is given.
            scopes: some of the session's scopes, for this access token; empty = all of them.
            audiences: some of the session's audiences, for this access token; empty = all of them.

        Raises UnauthenticatedError if the session has ended or the credential is wrong.
        """
        request = refresh_request(refresh_token, client_id, client_secret, credential, scopes, audiences)
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
        dpop_key_sha256: bytes = b"",
    ) -> Outcome:
        """Verify an access token; return a Verified or a Rejected.

        Args:
            token: the access token as received, without "Bearer ".
            audiences: at most 16 audiences that the caller accepts; the token must be for one of them.
            any_audience: whether to accept a token for any audience instead.
            required_scopes: the token must have all of these scopes. At most 100.
            at_least_revision: the service first reads the change log up to this revision, which a method such
                as `revoke_session` returned.
            strong: whether the service first reads the change log to its end, which takes one round trip to
                the store.
            certificate_sha256: SHA-256 of the DER of the certificate that the token's holder showed to the
                caller, 32 bytes; b"" = none. Required for a token that is bound to one (RFC 8705).
            dpop_key_sha256: SHA-256 JWK thumbprint of the key in the DPoP proof that came with the token, and
                that the caller has checked, 32 bytes; b"" = the token came as "Bearer". Required for a token
                that is bound to a key (RFC 9449); an unbound token is rejected if it is given.

        A token that is not valid raises no error. Raises InvalidArgumentError if neither audiences nor
        `any_audience` is given, UnavailableError if the service cannot decide at the moment.
        """
        return to_outcome(
            self._call(
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

    def verify_batch(self, requests: Sequence[pb.VerifyRequest]) -> list[Outcome]:
        """Verify 1 to 1,000 tokens; return one outcome for each request, in their order."""
        batch = pb.VerifyBatchRequest(requests=requests)
        for request in batch.requests:
            request.token = opened(request.token, self._decryption_keys)
        response = self._call(self._stub.VerifyBatch, batch)
        return [to_outcome(single) for single in response.responses]

    # Revoke: each method returns the revision that holds the revocation, for `verify(at_least_revision=…)`.
    # It returns after the revocation is durable; its automatic retries revoke nothing twice.

    def revoke_token(self, token: str, *, reason: str = "") -> str:
        """Revoke an access token, or end the session of a refresh token (RFC 7009).

        A holder may revoke the token; all other revocations need scope identity.revoke. Returns the revision
        that holds the revocation, for `verify(at_least_revision=…)`.
        """
        return self._revoke(pb.RevokeRequest(token=token, reason=reason))

    def revoke_token_id(self, token_id: str, *, reason: str = "") -> str:
        """Revoke the access token with this `jti`; return the revision that holds the revocation."""
        return self._revoke(pb.RevokeRequest(token_id=token_id, reason=reason))

    def revoke_session(self, session_id: str, *, reason: str = "") -> str:
        """End the session with this `sid`; return the revision that holds the revocation."""
        return self._revoke(pb.RevokeRequest(session_id=session_id, reason=reason))

    def revoke_subject(self, subject: str, *, reason: str = "", request_id: str | None = None) -> str:
        """Revoke everything issued so far to, or acted in by, a user or client.

        Returns the revision that holds the revocation. A repeated call with the same `request_id` (at most 64
        characters) revokes nothing that was issued in between; None = a random one.
        """
        return self._revoke(pb.RevokeRequest(subject=subject, reason=reason, request_id=once(request_id)))

    def revoke_client(self, client_id: str, *, reason: str = "", request_id: str | None = None) -> str:
        """Revoke everything issued so far to or through a client; see `revoke_subject`."""
        return self._revoke(pb.RevokeRequest(client_id=client_id, reason=reason, request_id=once(request_id)))

    def revoke_everything(self, *, reason: str = "", request_id: str | None = None) -> str:
        """Revoke everything issued so far by the service; see `revoke_subject`."""
        return self._revoke(pb.RevokeRequest(everything=True, reason=reason, request_id=once(request_id)))

    def _revoke(self, request: pb.RevokeRequest) -> str:
        return self._call(self._stub.Revoke, request).revision
