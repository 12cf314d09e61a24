"""Everything that can go wrong, as a tree: each error carries a reason, none a transport code.

Messages are for the caller: they say what to do and never hold a token, a secret or a password, nor
whether an account exists. `grpc_api/errors.py` maps each class to a status; a test walks this tree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from identity_service.domain.visible import shown


class IdentityError(Exception):
    """The root. `reason` is a name in `error_reason.proto` without its prefix."""

    reason: ClassVar[str] = "INTERNAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """One field of a request that cannot be as it is."""

    field: str
    """The path, as in `requests[3].audiences[0]`."""
    description: str
    """What it must be instead."""


class InvalidRequestError(IdentityError):
    """The request cannot be carried out whoever sends it."""

    reason = "INVALID_FIELD"

    def __init__(self, *violations: FieldViolation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations[:5]))
        self.violations: Sequence[FieldViolation] = violations

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidRequestError":
        return cls(FieldViolation(field=field, description=description))


class MalformedRequestError(InvalidRequestError):
    reason = "MALFORMED_REQUEST"


class UnknownScopeError(InvalidRequestError):
    reason = "UNKNOWN_SCOPE"


class LifetimeOutOfBoundsError(InvalidRequestError):
    reason = "LIFETIME_OUT_OF_BOUNDS"


class TokenNotOpenableError(InvalidRequestError):
    reason = "TOKEN_NOT_OPENABLE"


class EncryptionNotPossibleError(InvalidRequestError):
    """The token cannot be encrypted to its audience: there is no one audience, or no key of it."""

    reason = "ENCRYPTION_NOT_POSSIBLE"


class UnauthenticatedError(IdentityError):
    """Nobody was proven to be anybody."""


class CredentialRefusedError(UnauthenticatedError):
    """Wrong secret, unknown principal and disabled principal alike: the answer must not tell which."""

    reason = "CREDENTIAL_REFUSED"
    message: ClassVar[str] = "the credential was refused"

    def __init__(self, why: str = "", account: str = "", details: Mapping[str, str] | None = None) -> None:
        super().__init__(self.message)
        self.why = why
        """For the audit event alone: what was wrong, without any part of the credential."""
        self.account = account
        """For the audit event alone: the client or user, where there is one."""
        self.details = {name: shown(text) for name, text in (details or {}).items()}
        """For the audit event alone: names that the credential or a rule says, made visible and cut short."""


class CertificateMissingError(CredentialRefusedError):
    """Told apart, since whoever connects knows what it connected with."""

    message = "the connection has no certificate: connect with TLS and show one"


class CallerUnauthenticatedError(UnauthenticatedError):
    reason = "CALLER_UNAUTHENTICATED"


class BindingRequiredError(UnauthenticatedError):
    """The client's tokens are bound to a certificate, and the connection does not show it."""

    reason = "BINDING_REQUIRED"

    def __init__(self) -> None:
        super().__init__(
            "these tokens are bound to a certificate: connect with TLS and show the one that the session "
            "was started with, or any of yours where none was"
        )


class RefreshTokenInvalidError(UnauthenticatedError):
    reason = "REFRESH_TOKEN_INVALID"

    def __init__(self) -> None:
        super().__init__("the refresh token is not valid; sign in again")


class RefreshTokenSupersededError(UnauthenticatedError):
    reason = "REFRESH_TOKEN_SUPERSEDED"

    def __init__(self) -> None:
        super().__init__("a newer refresh token of this session has replaced this one; use the newest")


class RefreshTokenReusedError(UnauthenticatedError):
    reason = "REFRESH_TOKEN_REUSED"

    def __init__(self) -> None:
        super().__init__("the refresh token was used again after it had been replaced; sign in again")


class SessionEndedError(UnauthenticatedError):
    reason = "SESSION_ENDED"

    def __init__(self) -> None:
        super().__init__("the session has ended; sign in again")


class SubjectTokenRefusedError(UnauthenticatedError):
    """A token that was shown for exchange does not verify."""

    reason = "SUBJECT_TOKEN_REFUSED"

    def __init__(self, field: str, rejection: str) -> None:
        super().__init__(f"the {field} was rejected: {rejection}")


class PermissionDeniedError(IdentityError):
    """The principal is known and may not."""


class AudienceNotAllowedError(PermissionDeniedError):
    reason = "AUDIENCE_NOT_ALLOWED"


class ScopeNotAllowedError(PermissionDeniedError):
    reason = "SCOPE_NOT_ALLOWED"


class GrantNotAllowedError(PermissionDeniedError):
    reason = "GRANT_NOT_ALLOWED"


class ExchangeNotAllowedError(PermissionDeniedError):
    """The client may not act for this subject, or not so."""

    reason = "EXCHANGE_NOT_ALLOWED"


class CallerScopeMissingError(PermissionDeniedError):
    reason = "CALLER_SCOPE_MISSING"


class MethodNotAllowedError(PermissionDeniedError):
    reason = "METHOD_NOT_ALLOWED"


class ExhaustedError(IdentityError):
    """Too much of something; later is fine."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds."""


class TooManyAttemptsError(ExhaustedError):
    reason = "TOO_MANY_ATTEMPTS"


class WatcherTooSlowError(ExhaustedError):
    """A watcher reads more slowly than changes come."""

    reason = "WATCHER_TOO_SLOW"


class ServerBusyError(ExhaustedError):
    reason = "SERVER_BUSY"


class RequestTimeoutError(IdentityError):
    """The client did not send its request in time."""

    reason = "REQUEST_TIMEOUT"

    def __init__(self, seconds: float) -> None:
        """`seconds` = how long it had."""
        super().__init__(f"the request did not arrive within {seconds:g} s; send it again")


class UnavailableError(IdentityError):
    """Cannot know, hence does not say. `retry_after` is in seconds."""

    retry_after: ClassVar[float] = 1.0


class ShuttingDownError(UnavailableError):
    """This process is stopping."""

    reason = "SHUTTING_DOWN"


class StoreUnavailableError(UnavailableError):
    """The store cannot be reached, timed out, or did not confirm what was asked of it."""

    reason = "STORE_UNAVAILABLE"


class NotConfirmedError(StoreUnavailableError):
    """The store took the change, and too few copies or disks confirmed it in time."""

    reason = "NOT_CONFIRMED"

    def __init__(self, message: str, answer: object = None) -> None:
        super().__init__(message)
        self.answer = answer
        """What the store answered to the change."""


class StoreReplacedError(StoreUnavailableError):
    """The store's log has another epoch than the one this process follows: nothing was changed."""


class UnsafeStoreError(StoreUnavailableError):
    """The store answers, and would break what the operator was promised: by its set-up, or by its files.

    The message names the setting or the file, and says what to do.
    """


class StoreUninitializedError(StoreUnavailableError):
    """The store has no epoch: it was never initialised, or it was emptied."""


class CopyUnfinishedError(StoreUninitializedError):
    """The store holds a part of a copy: a restore or a migration into it was not finished."""

    def __init__(self) -> None:
        super().__init__(
            "a restore or a migration into this store was not finished: run it again (`identity restore FILE "
            "--replace`, or `identity migrate` as before)"
        )


class StoreFencedError(StoreUnavailableError):
    """The store was copied to another one and takes no writes any more: nothing was changed."""

    reason = "STORE_MOVED"

    def __init__(self, target: str) -> None:
        super().__init__(
            f"this store was moved to {target} and takes no writes any more: set the service's `store` to "
            "that one and restart it"
        )
        self.target = target
        """The URL of the other store, without passwords."""


class StoreDamagedError(StoreUnavailableError):
    """Something in the store is not what this service wrote there. The message names it and the remedy."""

    reason = "STORE_DAMAGED"


class ReplicaStaleError(UnavailableError):
    reason = "REPLICA_STALE"


class NotReadyError(UnavailableError):
    reason = "NOT_READY"


class NoSigningKeyError(UnavailableError):
    reason = "NO_SIGNING_KEY"


class SignerUnavailableError(UnavailableError):
    """The device that holds the signing key does not answer, or refuses to sign now."""

    reason = "SIGNER_UNAVAILABLE"


class RevisionNotReachedError(UnavailableError):
    reason = "REVISION_NOT_REACHED"


class IssuerUnreachableError(UnavailableError):
    """The keys of a trusted issuer are not to be had now."""

    reason = "ISSUER_UNREACHABLE"

    def __init__(self) -> None:
        super().__init__("the keys of the token's issuer cannot be read now; try again")


class ClockSkewedError(UnavailableError):
    reason = "CLOCK_SKEWED"


class NotImplementedYetError(IdentityError):
    """A part of the contract that this version does not offer: said, never silently ignored."""

    reason = "NOT_IMPLEMENTED"


class NotFoundError(IdentityError):
    reason = "NOT_FOUND"


class AlreadyExistsError(IdentityError):
    reason = "ALREADY_EXISTS"


class StaleEtagError(IdentityError):
    """The record has changed since it was read; read it again."""

    reason = "STALE_ETAG"


class ConfigurationError(IdentityError):
    """The operator's settings or store cannot serve: found at start, never while answering a call."""
