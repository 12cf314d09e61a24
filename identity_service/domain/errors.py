"""The errors of the service, as one tree of classes. Each has a reason; none knows a transport code.

Messages are for the caller: they say what to do, hold no token, secret or password, and do not tell whether
a principal exists. `grpc_api/errors.py` maps each class to a status; a test checks that no class is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from identity_service.domain.visible import shown


class IdentityError(Exception):
    """The base class of all errors. `reason` is a name in `error_reason.proto` without its prefix."""

    reason: ClassVar[str] = "INTERNAL"
    message: ClassVar[str] = ""
    """The message, unless another one is given."""

    def __init_subclass__(cls, *, reason: str = "") -> None:
        """Set the reason of a new class, unless it shares that of its base class."""
        if reason:
            cls.reason = reason

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """A field of a request that is not acceptable."""

    field: str
    """The path of the field, as in `requests[3].audiences[0]`."""
    description: str
    """The rule that the value breaks, as a phrase that begins with "must"."""


class InvalidRequestError(IdentityError, reason="INVALID_FIELD"):
    """The request is invalid, no matter which caller sends it."""

    def __init__(self, *violations: FieldViolation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations[:5]))
        self.violations: Sequence[FieldViolation] = violations

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidRequestError":
        """Return the error for a single field."""
        return cls(FieldViolation(field=field, description=description))


class MalformedRequestError(InvalidRequestError, reason="MALFORMED_REQUEST"):
    """The bytes of the request cannot be parsed as its message type."""


class UnknownScopeError(InvalidRequestError, reason="UNKNOWN_SCOPE"):
    """A scope in the request does not exist in this deployment."""


class LifetimeOutOfBoundsError(InvalidRequestError, reason="LIFETIME_OUT_OF_BOUNDS"):
    """The requested lifetime is not positive, or is longer than allowed."""


class TokenNotOpenableError(InvalidRequestError, reason="TOKEN_NOT_OPENABLE"):
    """The token is encrypted with a key that this service does not have."""


class EncryptionNotPossibleError(InvalidRequestError, reason="ENCRYPTION_NOT_POSSIBLE"):
    """The token cannot be encrypted for its audience: there is not exactly one, or it has no key."""


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


class PermissionDeniedError(IdentityError):
    """The principal is authenticated, but is not allowed to do this."""


class AudienceNotAllowedError(PermissionDeniedError, reason="AUDIENCE_NOT_ALLOWED"):
    """The principal may not have a token for a requested audience."""


class ScopeNotAllowedError(PermissionDeniedError, reason="SCOPE_NOT_ALLOWED"):
    """The principal may not have a requested scope."""


class GrantNotAllowedError(PermissionDeniedError, reason="GRANT_NOT_ALLOWED"):
    """The client is not allowed to use this grant."""


class ExchangeNotAllowedError(PermissionDeniedError, reason="EXCHANGE_NOT_ALLOWED"):
    """The client may not act for this subject, or not through this actor."""


class CallerScopeMissingError(PermissionDeniedError, reason="CALLER_SCOPE_MISSING"):
    """The caller lacks the scope that the method needs."""


class MethodNotAllowedError(PermissionDeniedError, reason="METHOD_NOT_ALLOWED"):
    """The policy table has no entry for this method."""


class ExhaustedError(IdentityError):
    """A limit is exhausted; the call may succeed later."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """The number of seconds to wait before the next attempt."""


class TooManyAttemptsError(ExhaustedError, reason="TOO_MANY_ATTEMPTS"):
    """Too many wrong credentials; the pause after them is not over."""


class WatcherTooSlowError(ExhaustedError, reason="WATCHER_TOO_SLOW"):
    """The watcher reads more slowly than changes arrive."""


class ServerBusyError(ExhaustedError, reason="SERVER_BUSY"):
    """This process has too many calls of this kind in progress."""


class RequestTimeoutError(IdentityError, reason="REQUEST_TIMEOUT"):
    """The client did not send its request in time."""

    def __init__(self, seconds: float) -> None:
        """Create the error; `seconds` = the time within which the request had to arrive."""
        super().__init__(f"the request did not arrive within {seconds:g} s; send it again")


class UnavailableError(IdentityError):
    """The service cannot know the answer now, and so refuses to give one. `retry_after` is in seconds."""

    retry_after: ClassVar[float] = 1.0


class ShuttingDownError(UnavailableError, reason="SHUTTING_DOWN"):
    """This process is stopping."""


class StoreUnavailableError(UnavailableError, reason="STORE_UNAVAILABLE"):
    """The store cannot be reached, timed out, or did not confirm a write."""


class NotConfirmedError(StoreUnavailableError, reason="NOT_CONFIRMED"):
    """The store accepted the change, but too few replicas or disks confirmed it in time."""

    def __init__(self, message: str, answer: object = None) -> None:
        super().__init__(message)
        self.answer = answer
        """The store's reply to the change."""


class StoreReplacedError(StoreUnavailableError):
    """The store's log has another epoch than this process follows; nothing was changed."""

    message = "the store has another change log than the one this process follows"


class UnsafeStoreError(StoreUnavailableError):
    """The store answers, but its configuration or files break a promise made to the operator."""


class StoreUninitializedError(StoreUnavailableError):
    """The store has no epoch: it was never initialised, or it was emptied."""

    message = (
        "the store was never initialised, or it was emptied: check that its URL is right, then run `identity "
        "init`, or `identity restore FILE`"
    )


class CopyUnfinishedError(StoreUninitializedError):
    """The store holds an incomplete copy: a restore or a migration into it did not finish."""

    message = (
        "a restore or a migration into this store was not finished: run it again (`identity restore FILE "
        "--replace`, or `identity migrate` as before)"
    )


class StoreFencedError(StoreUnavailableError, reason="STORE_MOVED"):
    """The store was migrated to another one and accepts no more writes; nothing was changed."""

    def __init__(self, target: str) -> None:
        super().__init__(
            f"this store was moved to {target} and accepts no more writes: set the service's `store` to that "
            "URL, and restart the service"
        )
        self.target = target
        """The URL of the other store, without passwords."""


class StoreDamagedError(StoreUnavailableError, reason="STORE_DAMAGED"):
    """The store holds data that this service did not write there.

    The message names the data and the remedy.
    """


class ReplicaStaleError(UnavailableError, reason="REPLICA_STALE"):
    """No heartbeat of this process was confirmed for too long, so its replica may be out of date."""


class NotReadyError(UnavailableError, reason="NOT_READY"):
    """This process has not read the change log yet, or lacks threads."""


class NoSigningKeyError(UnavailableError, reason="NO_SIGNING_KEY"):
    """The store holds no key that may be used now for this purpose."""


class SignerUnavailableError(UnavailableError, reason="SIGNER_UNAVAILABLE"):
    """The device that holds the signing key does not answer, or refuses to sign now."""


class RevisionNotReachedError(UnavailableError, reason="REVISION_NOT_REACHED"):
    """The change log does not reach the requested revision yet."""


class IssuerUnreachableError(UnavailableError, reason="ISSUER_UNREACHABLE"):
    """The keys of a trusted issuer cannot be read now."""

    message = "the keys of the token's issuer cannot be read now; try again"


class ClockSkewedError(UnavailableError, reason="CLOCK_SKEWED"):
    """The wall clock of this process is not accepted."""


class NotImplementedYetError(IdentityError, reason="NOT_IMPLEMENTED"):
    """The request uses a part of the API that this version does not offer."""


class NotFoundError(IdentityError, reason="NOT_FOUND"):
    """The record, session or key does not exist."""


class AlreadyExistsError(IdentityError, reason="ALREADY_EXISTS"):
    """The record, session, epoch or file already exists."""


class StaleEtagError(IdentityError, reason="STALE_ETAG"):
    """The record has changed since it was read; read it again."""


class ConfigurationError(IdentityError):
    """The settings or the store are unusable.

    Raised at start and by commands, never while answering a call.
    """
