"""The errors of the service, as one tree of classes. Each has a reason; none knows a transport code.

`credential_errors.py` has the branch of UnauthenticatedError.

Messages are for the caller: they say what to do, hold no token, secret or password, and do not tell whether
a principal exists. `grpc_api/errors.py` maps each class to a status; a test checks that no class is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


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

    message: ClassVar[str] = "this process is stopping; reconnect"


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
