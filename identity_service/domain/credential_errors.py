"""The errors of credentials, tokens and proofs that do not authenticate a caller: a branch of `errors.py`."""

from collections.abc import Mapping

from identity_service.domain.errors import IdentityError
from identity_service.domain.visible import shown


class UnauthenticatedError(IdentityError):
    """The credential or token that the caller sent does not authenticate a principal."""


class CredentialRefusedError(UnauthenticatedError, reason="CREDENTIAL_REFUSED"):
    """The credential was refused.

    The answer is the same for a wrong secret, an unknown principal and a disabled principal.
    """

    message = "the credential was refused"

    def __init__(self, why: str = "", principal: str = "", details: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.why = why
        """The reason for the refusal, which contains no part of the credential; goes into the audit event
        only."""
        self.principal = principal
        """The client or user, if one is known; goes into the audit event only."""
        self.details = {name: shown(text) for name, text in (details or {}).items()}
        """Names from the credential or a rule, escaped and truncated (see `shown`); go into the audit event
        only."""


class CertificateMissingError(CredentialRefusedError):
    """The connection has no client certificate.

    This is the one refusal that says why: the client knows already whether it sent a certificate.
    """

    message = "the connection has no client certificate: connect with TLS and a client certificate"


class IdJagRefusedError(CredentialRefusedError):
    """An ID-JAG was refused.

    Unlike other refusals of credentials, its message contains `why`. That tells a stranger nothing: the error
    is raised only to an authenticated client, or for the `typ` of the JWT, which its sender knows.
    """

    def __str__(self) -> str:
        return f"the ID-JAG was refused: {self.why}"


class WrongClientError(CredentialRefusedError):
    """The refresh token was issued to another client than the one that presents it."""


class CallerUnauthenticatedError(UnauthenticatedError, reason="CALLER_UNAUTHENTICATED"):
    """The caller of a method that needs authentication has not authenticated itself."""

    def __init__(self, message: str = "", *, token_id_sha256: str = "") -> None:
        super().__init__(message)
        self.token_id_sha256 = token_id_sha256
        """The hash of the `jti` of the refused token; empty if there is no token, or it cannot be read."""


class BindingRequiredError(UnauthenticatedError, reason="BINDING_REQUIRED"):
    """The client's tokens are bound to a certificate or key that the request does not present."""

    message = (
        "these tokens must be bound: connect with TLS and the certificate of the sign-in or, if the sign-in "
        "had none, with a registered one or with a DPoP proof"
    )


class DpopProofRefusedError(UnauthenticatedError, reason="DPOP_PROOF_INVALID"):
    """The DPoP proof is malformed, is not for this request, or was used before."""

    def __init__(self, why: str) -> None:
        """Create the error; `why` contains no part of the proof."""
        super().__init__(f"the DPoP proof was refused: {why}")


class DpopNonceRequiredError(UnauthenticatedError, reason="DPOP_NONCE_REQUIRED"):
    """The DPoP proof is valid, but does not have a current nonce of this service (RFC 9449 section 8)."""

    def __init__(self, nonce: str) -> None:
        super().__init__("the DPoP proof needs a nonce of this service: make a new proof that has it")
        self.nonce = nonce
        """The nonce that the next proof must have; it is not a secret."""


class RefreshTokenInvalidError(UnauthenticatedError, reason="REFRESH_TOKEN_INVALID"):
    """The refresh token is malformed, or was not issued by this service."""

    message = "the refresh token is not valid; sign in again"


class RefreshTokenSupersededError(UnauthenticatedError, reason="REFRESH_TOKEN_SUPERSEDED"):
    """The refresh token was replaced within the grace window; the newest token still works."""

    message = "a newer refresh token of this session has replaced this one; use the newest"


class RefreshTokenReusedError(UnauthenticatedError, reason="REFRESH_TOKEN_REUSED"):
    """The refresh token was presented again after the grace window (RFC 9700 section 4.14.2)."""

    message = "the refresh token was used again after it had been replaced; sign in again"


class SessionEndedError(UnauthenticatedError, reason="SESSION_ENDED"):
    """The session has ended or expired."""

    message = "the session has ended; sign in again"


class SubjectTokenRefusedError(UnauthenticatedError, reason="SUBJECT_TOKEN_REFUSED"):
    """A token that was presented for exchange does not verify."""

    def __init__(self, field: str, rejection: str) -> None:
        super().__init__(f"the {field} was rejected: {rejection}")
