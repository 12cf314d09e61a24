"""The table from errors to gRPC status codes, and their google.rpc.Status (AIP-193)."""

import secrets
from datetime import timedelta
from typing import Final, NamedTuple

import grpc
from google.rpc import error_details_pb2, status_pb2

from identity_service.domain import credential_errors, errors
from identity_service.grpc_api.proofs import NONCE
from identity_service.telemetry.call_ids import REQUEST_ID
from identity_shared.token_ids import ID_SHA256

DOMAIN: Final = "identityapi.v1"

STATUS_OF: Final[dict[type[errors.IdentityError], grpc.StatusCode]] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    credential_errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.ExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.RequestTimeoutError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.NotImplementedYetError: grpc.StatusCode.UNIMPLEMENTED,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.StaleEtagError: grpc.StatusCode.ABORTED,
    # Raised at start; during a call it is a bug.
    errors.ConfigurationError: grpc.StatusCode.INTERNAL,
}
"""The status code of an error class; it also holds for subclasses that have no entry.

Every other exception becomes INTERNAL, with a message that says nothing about it.
"""

_OPAQUE: Final = "an internal error; quote the request id when reporting it"


class RpcStatus(NamedTuple):
    """A status in the form that `ServicerContext.abort_with_status` takes."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def status_code(error: BaseException) -> grpc.StatusCode:
    """Return the status code of an error: that of the nearest class in `STATUS_OF`, or INTERNAL."""
    for kind in type(error).__mro__:
        if kind in STATUS_OF:
            return STATUS_OF[kind]
    return grpc.StatusCode.INTERNAL


def to_status(error: BaseException, request_id: str = "") -> RpcStatus:
    """Return the status of an error; without a request id it gets a new one.

    Its details always have an ErrorInfo with the reason and the request id; also a BadRequest for an invalid
    request, and a RetryInfo for RESOURCE_EXHAUSTED and UNAVAILABLE. If the caller's token was refused, the
    ErrorInfo has the hash of its id. Trailing metadata has the nonce that a DPoP proof needs.
    """
    request_id = request_id or secrets.token_hex(8)
    code = status_code(error)
    known = isinstance(error, errors.IdentityError) and code is not grpc.StatusCode.INTERNAL
    message = str(error) if known else _OPAQUE
    reason = error.reason if known and isinstance(error, errors.IdentityError) else "INTERNAL"
    status = status_pb2.Status(code=code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata={"request_id": request_id})
    if isinstance(error, credential_errors.CallerUnauthenticatedError) and error.token_id_sha256:
        info.metadata[ID_SHA256] = error.token_id_sha256
    status.details.add().Pack(info)
    if isinstance(error, errors.InvalidRequestError):
        violations = [{"field": v.field, "description": v.description} for v in error.violations]
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, errors.ExhaustedError | errors.UnavailableError):
        retry = error_details_pb2.RetryInfo()
        # Not as an argument: the oldest protobuf with which the client is tested does not convert it.
        retry.retry_delay.FromTimedelta(timedelta(seconds=error.retry_after))
        status.details.add().Pack(retry)
    return RpcStatus(
        code=code,
        details=message,
        trailing_metadata=(
            ("grpc-status-details-bin", status.SerializeToString()),
            (REQUEST_ID, request_id),
            *(((NONCE, error.nonce),) if isinstance(error, credential_errors.DpopNonceRequiredError) else ()),
        ),
    )
