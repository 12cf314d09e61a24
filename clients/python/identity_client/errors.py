"""Errors of calls: one class for each gRPC status that callers handle differently.

A rejected token is not an error, see `values.py`. No message contains a token, a secret or a password.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from identity_shared.token_ids import ID_SHA256

DOMAIN: Final = "identityapi.v1"
_DETAILS: Final = "grpc-status-details-bin"


class IdentityError(Exception):
    """A call failed.

    Attributes:
        code: the gRPC status.
        reason: a name of identityapi.v1.ErrorReason without its prefix; "" if gRPC itself failed.
        violations: a map from each invalid field to a description of the fault, for InvalidArgumentError.
        retry_after: the time to wait before the next attempt; None if the service names none.
        request_id: the id of the call in the log of the service; "" if the service did not answer.
        token_id_sha256: the hash of the id of the caller's token, if that was refused; otherwise "".
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str = "",
        violations: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
        request_id: str = "",
        token_id_sha256: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = dict(violations or {})
        self.retry_after = retry_after
        self.request_id = request_id
        self.token_id_sha256 = token_id_sha256


class InvalidArgumentError(IdentityError):
    """The request is malformed, whatever the caller's permissions; see `violations`."""


class UnauthenticatedError(IdentityError):
    """The credential, the refresh token or the caller's own token was refused."""


class PermissionDeniedError(IdentityError):
    """The principal or the caller does not have the permission."""


class NotFoundError(IdentityError):
    """The record does not exist."""


class AlreadyExistsError(IdentityError):
    """A record with this id, username or certificate already exists."""


class AbortedError(IdentityError):
    """The record has changed since it was read; read it again."""


class ResourceExhaustedError(IdentityError):
    """Too many failed attempts, or a limit of the service is reached; see `retry_after`."""


class UnavailableError(IdentityError):
    """The service cannot be reached, cannot answer now, or missed the deadline; see `retry_after`."""


class SilentError(UnavailableError):
    """No message came on an open stream for too long; the client has closed its connection."""


class UnimplementedError(IdentityError):
    """The service does not have this method."""


class InternalError(IdentityError):
    """The service failed because of a bug; quote `request_id` in the bug report."""


_CLASSES: Mapping[grpc.StatusCode, type[IdentityError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.ABORTED: AbortedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
    grpc.StatusCode.INTERNAL: InternalError,
}


def to_error(error: grpc.RpcError, *, late: str = "") -> IdentityError:
    """Convert the error of a failed call, with the details that its status carries (google.rpc.Status).

    Args:
        error: the error that a stub has raised.
        late: the message if gRPC itself has ended the call at its deadline; "" = that of gRPC.
    """
    call: Any = error  # what a stub raises is a grpc.Call as well; the type stubs omit it
    code: grpc.StatusCode = call.code()
    # Not `dict(...)`: the metadata of grpc.aio 1.66 has keys() that its own items do not match.
    trailing = {key: value for key, value in call.trailing_metadata() or ()}  # noqa: C416
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_found = _unpack(trailing.get(_DETAILS), info, bad, retry)
    message = late if code is grpc.StatusCode.DEADLINE_EXCEEDED and not info.reason else ""
    return _CLASSES.get(code, IdentityError)(
        message or call.details() or code.name,
        code=code,
        reason=info.reason if info.domain == DOMAIN else "",
        violations={violation.field: violation.description for violation in bad.field_violations},
        retry_after=retry.retry_delay.ToTimedelta() if retry_found else None,
        request_id=str(trailing.get("x-request-id") or info.metadata.get("request_id", "")),
        token_id_sha256=info.metadata.get(ID_SHA256, "") if info.domain == DOMAIN else "",
    )


def _unpack(data: object, info: Message, bad: Message, retry: Message) -> bool:
    """Fill the messages with the details of the status; return whether a RetryInfo was among them."""
    if not isinstance(data, bytes):
        return False
    found = False
    try:
        for detail in status_pb2.Status.FromString(data).details:
            detail.Unpack(info)
            detail.Unpack(bad)
            found |= detail.Unpack(retry)
    except DecodeError:  # the details come from a proxy, not from the service
        return False
    return found
