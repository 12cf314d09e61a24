"""Authenticates the clients that call an endpoint; every refusal leaves an audit event."""

from dataclasses import dataclass
from typing import Any

from identity_service.domain.audit import AuditType
from identity_service.domain.credential_errors import (
    CallerUnauthenticatedError,
    CredentialRefusedError,
    DpopNonceRequiredError,
    DpopProofRefusedError,
)
from identity_service.domain.dpop import DpopProof
from identity_service.domain.errors import CallerScopeMissingError, IdentityError, TooManyAttemptsError
from identity_service.domain.grants import SCOPE_VERIFY
from identity_service.domain.origin import sha256_of
from identity_service.domain.ports import AuditTrail, ReplicaView
from identity_service.domain.tokens import Rejected, TokenType
from identity_service.http_api.messages import HttpRequest
from identity_service.http_api.oauth.clients import ClientOfRequest, PublicClient, read_client
from identity_service.http_api.oauth.errors import (
    from_error,
    insufficient_scope,
    invalid_client,
    invalid_token,
    proof_refused,
)
from identity_service.http_api.oauth.forms import Form
from identity_service.http_api.oauth.proofs import RequestProofs
from identity_service.services.audit import record_refusal
from identity_service.services.authenticate import Authenticator, ClientCertificate
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.dpop import DpopProofs
from identity_service.services.verify import Verifier, VerifyRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """A checker of callers, by the credential of a client or by an access token for this service."""

    authenticator: Authenticator
    verifier: Verifier[Any]
    replica: ReplicaView
    dpop: DpopProofs
    audit: AuditTrail
    audience: str
    """The audience of access tokens for this service itself."""
    token_endpoint: str
    """The URL that the `aud` of an assertion may be."""

    def presented(self, request: HttpRequest, form: Form) -> ClientOfRequest | None:
        """Return the credential of the client that sent a request; None if the request names no client.

        If the request has only the id of a client, the certificate of the connection is the credential. A
        public client needs none, whatever certificate the connection has. Raises OAuthError,
        UnavailableError.
        """
        named = read_client(request.headers, form, token_endpoint=self.token_endpoint)
        certificate = request.origin.certificate
        if certificate is None or not isinstance(named, PublicClient):
            return named
        if self.authenticator.is_public(named.client_id):
            return named
        return ClientCertificate(certificate=certificate, client_id=named.client_id)

    def client(
        self, client: ClientOfRequest | None, request: HttpRequest, type_: AuditType = AuditType.CALL_REFUSED
    ) -> AuthenticatedClient:
        """Return the client whose credential a request has; `type_` is the event of a refusal.

        Raises OAuthError, UnavailableError.
        """
        # A process whose data is stale may not know a client or a secret, and must not say that it is wrong.
        self.replica.require_fresh()
        if client is None or isinstance(client, PublicClient):
            raise invalid_client("the client must authenticate itself")
        try:
            return self.authenticator.client(client, request.origin)
        except (CredentialRefusedError, TooManyAttemptsError) as error:
            self._record(error, request, type_)
            raise from_error(error) from error

    def verifying_client(self, client: ClientOfRequest | None, request: HttpRequest) -> None:
        """Require the credential of a client with the scope identity.verify.

        Raises CallerScopeMissingError, and the errors of `client`.
        """
        proven = self.client(client, request)
        if SCOPE_VERIFY not in proven.client.scopes:
            error = CallerScopeMissingError(f"the client lacks the scope {SCOPE_VERIFY}")
            self._record(error, request)
            raise error

    def verifying_bound_token(self, token: str, proofs: RequestProofs, request: HttpRequest) -> None:
        """Require an access token as `verifying_token` does, with a proof by its key (RFC 9449).

        Raises OAuthError, ServerBusyError, UnavailableError.
        """
        try:
            proof = self.dpop.check(proofs.required(request), access_token=token)
            self.verifying_token(token, request, proof)
            self.dpop.consume_here(proof)
        except DpopNonceRequiredError as error:
            raise proof_refused(error) from error
        except DpopProofRefusedError as error:
            self._record(error, request)
            raise proof_refused(error) from error

    def verifying_token(self, token: str, request: HttpRequest, proof: DpopProof | None = None) -> None:
        """Require an access token for this service with the scope identity.verify (RFC 6750).

        `proof` is the proof that came with it, which was checked; None = the token came as a bearer token.
        Raises OAuthError, UnavailableError.
        """
        scheme = TokenType.BEARER if proof is None else TokenType.DPOP
        answer = self.verifier.verify(
            VerifyRequest(
                token=token,
                audiences=(self.audience,),
                certificate_sha256=sha256_of(request.origin.certificate),
                key_sha256=proof.key_sha256 if proof is not None else b"",
            )
        )
        if isinstance(answer, Rejected):
            refused = CallerUnauthenticatedError(f"the caller's token was rejected: {answer.reason}")
            self._record(refused, request)
            raise invalid_token(str(refused), scheme)
        if SCOPE_VERIFY not in answer.scopes:
            missing = CallerScopeMissingError(f"the caller lacks the scope {SCOPE_VERIFY}")
            self._record(missing, request)
            raise insufficient_scope(scheme)

    def _record(
        self, error: IdentityError, request: HttpRequest, type_: AuditType = AuditType.CALL_REFUSED
    ) -> None:
        record_refusal(self.audit, type_, error, request.origin, target=request.path)
