"""Authenticates the clients that call an endpoint; every refusal leaves an audit event."""

from typing import Any

from identity_service.domain.audit import AuditType
from identity_service.domain.errors import (
    CallerScopeMissingError,
    CallerUnauthenticatedError,
    CredentialRefusedError,
    TooManyAttemptsError,
)
from identity_service.domain.grants import SCOPE_VERIFY
from identity_service.domain.ports import AuditTrail, ReplicaView
from identity_service.domain.tokens import Rejected
from identity_service.http_api.messages import HttpRequest
from identity_service.http_api.oauth.clients import ClientOfRequest, PublicClient
from identity_service.http_api.oauth.errors import (
    from_error,
    insufficient_scope,
    invalid_client,
    invalid_token,
)
from identity_service.services.audit import record_refusal
from identity_service.services.authenticate import Authenticator
from identity_service.services.client_proofs import AuthenticatedClient
from identity_service.services.verify import Verifier, VerifyRequest


class Callers:
    """A checker of callers, by the credential of a client or by an access token for this service."""

    def __init__(
        self,
        authenticator: Authenticator,
        verifier: Verifier[Any],
        replica: ReplicaView,
        audit: AuditTrail,
        *,
        audience: str,
    ) -> None:
        """Create a checker; `audience` is that of access tokens for this service itself."""
        self._authenticator = authenticator
        self._verifier = verifier
        self._replica = replica
        self._audit = audit
        self._audience = audience

    def client(
        self, client: ClientOfRequest | None, request: HttpRequest, type_: AuditType = AuditType.CALL_REFUSED
    ) -> AuthenticatedClient:
        """Return the client whose credential a request has; `type_` is the event of a refusal.

        Raises OAuthError, UnavailableError.
        """
        # A process whose data is stale may not know a client or a secret, and must not say that it is wrong.
        self._replica.require_fresh()
        if client is None or isinstance(client, PublicClient):
            raise invalid_client("the client must authenticate itself")
        try:
            return self._authenticator.client(client, request.origin)
        except (CredentialRefusedError, TooManyAttemptsError) as error:
            record_refusal(self._audit, type_, error, request.origin, target=request.path)
            raise from_error(error) from error

    def verifying_client(self, client: ClientOfRequest | None, request: HttpRequest) -> None:
        """Require the credential of a client with the scope identity.verify.

        Raises CallerScopeMissingError, and the errors of `client`.
        """
        proven = self.client(client, request)
        if SCOPE_VERIFY not in proven.client.scopes:
            error = CallerScopeMissingError(f"the client lacks the scope {SCOPE_VERIFY}")
            record_refusal(self._audit, AuditType.CALL_REFUSED, error, request.origin, target=request.path)
            raise error

    def verifying_token(self, token: str, request: HttpRequest) -> None:
        """Require an access token for this service with the scope identity.verify (RFC 6750).

        Raises OAuthError, UnavailableError.
        """
        certificate = request.origin.certificate
        answer = self._verifier.verify(
            VerifyRequest(
                token=token,
                audiences=(self._audience,),
                certificate_sha256=certificate.sha256 if certificate is not None else b"",
            )
        )
        if isinstance(answer, Rejected):
            refused = CallerUnauthenticatedError(f"the caller's token was rejected: {answer.reason}")
            record_refusal(self._audit, AuditType.CALL_REFUSED, refused, request.origin, target=request.path)
            raise invalid_token(str(refused))
        if SCOPE_VERIFY not in answer.scopes:
            missing = CallerScopeMissingError(f"the caller lacks the scope {SCOPE_VERIFY}")
            record_refusal(self._audit, AuditType.CALL_REFUSED, missing, request.origin, target=request.path)
            raise insufficient_scope()
