"""The refusal of a call by a guard, and the form in which it is sent: google.rpc.Status (AIP-193)."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, NoReturn

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from identity_client.errors import DOMAIN
from identity_client.values import Rejected
from identity_shared.token_ids import ID_SHA256, hash_token_id, unverified_token_id

DETAILS: Final = "grpc-status-details-bin"
"""The trailing metadata with the details of a status."""
REJECTION_REASON: Final = "rejection_reason"
_REASONS: Final = {"REVOKED": "TOKEN_REVOKED", "EXPIRED": "TOKEN_EXPIRED"}
RETRY_AFTER: Final = timedelta(seconds=1)
"""The time after which a client may repeat a call that was UNAVAILABLE."""


class RefusedError(Exception):
    """A guard refuses the call, or `Caller.require_scope` does. The message holds no part of the token.

    Attributes:
        code: the gRPC status.
        reason: a name of identityapi.v1.ErrorReason without its prefix.
        metadata: further items of ErrorInfo: `token_id_sha256`, which names the refused token, and
            `rejection_reason`, a name of identityapi.v1.RejectionReason without its prefix.
        scopes: the scopes that the token must have, if it lacks one of them.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        detail: str,
        *,
        metadata: Mapping[str, str] | None = None,
        scopes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.reason = reason
        self.metadata = metadata or {}
        self.scopes = scopes

    def details(self) -> bytes:
        """Return the google.rpc.Status for the trailing metadata `grpc-status-details-bin`."""
        status = status_pb2.Status(code=self.code.value[0], message=str(self))
        _attach(
            status, error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        )
        if self.code is grpc.StatusCode.UNAVAILABLE:
            _attach(status, error_details_pb2.RetryInfo(retry_delay=RETRY_AFTER))
        data: bytes = status.SerializeToString()
        return data


def naming(token: str) -> dict[str, str]:
    """Return the metadata that names a token to its holder, see `retry.py`; the signature is not verified.

    It is empty for a token that cannot be read, such as one that is encrypted.
    """
    digest = hash_token_id(unverified_token_id(token))
    return {ID_SHA256: digest} if digest else {}


def unavailable() -> RefusedError:
    """Return the refusal of a call about which nothing can be decided now."""
    return RefusedError(
        grpc.StatusCode.UNAVAILABLE,
        "REPLICA_STALE",
        "the revocations that this service knows are too old or incomplete; try again",
    )


def failed() -> RefusedError:
    """Return the refusal of a call whose guard has failed; it tells nothing about the failure."""
    return RefusedError(grpc.StatusCode.INTERNAL, "INTERNAL", "the guard of this service failed; see its log")


def refuse(rejected: Rejected, token: str, scopes: tuple[str, ...]) -> NoReturn:
    """Raise the RefusedError for a token that was rejected; `scopes` are those that were required."""
    metadata = {**naming(token), REJECTION_REASON: rejected.reason}
    if rejected.reason == "INSUFFICIENT_SCOPE":
        raise RefusedError(
            grpc.StatusCode.PERMISSION_DENIED,
            "CALLER_SCOPE_MISSING",
            f"the caller's token lacks a scope; this method needs {' '.join(scopes)}",
            metadata=metadata,
            scopes=scopes,
        )
    raise RefusedError(
        grpc.StatusCode.UNAUTHENTICATED,
        _REASONS.get(rejected.reason, "CALLER_UNAUTHENTICATED"),
        f"the caller's token was rejected: {rejected.detail}",
        metadata=metadata,
    )


def ended(rejected: Rejected, token: str) -> RefusedError:
    """Return the refusal of an open call whose token was valid, and is rejected by now."""
    # A token that was valid is rejected for its expiry or for a revocation, of its key among others.
    reason = _REASONS.get(rejected.reason, "TOKEN_REVOKED")
    return RefusedError(
        grpc.StatusCode.UNAUTHENTICATED,
        reason,
        f"the call was ended: {rejected.detail}",
        metadata={**naming(token), REJECTION_REASON: rejected.reason},
    )


def _attach(status: status_pb2.Status, detail: Message) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)
