"""The table from errors to gRPC status codes, their google.rpc.Status (AIP-193), and the end of failures."""

import secrets
import time
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError
from datetime import timedelta
from typing import Any, Final, NamedTuple, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from identity_service.domain import errors
from identity_service.grpc_api.calls import bind_trace
from identity_service.grpc_api.proofs import NONCE
from identity_service.telemetry.call_ids import REQUEST_ID
from identity_shared.token_ids import ID_SHA256

DOMAIN: Final = "identityapi.v1"

STATUS_OF: Final[dict[type[errors.IdentityError], grpc.StatusCode]] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
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
    if isinstance(error, errors.CallerUnauthenticatedError) and error.token_id_sha256:
        info.metadata[ID_SHA256] = error.token_id_sha256
    _attach(status, info)
    if isinstance(error, errors.InvalidRequestError):
        _attach(
            status,
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in error.violations
                ]
            ),
        )
    if isinstance(error, errors.ExhaustedError | errors.UnavailableError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(seconds=error.retry_after))
        _attach(status, retry)
    return RpcStatus(
        code=code,
        details=message,
        trailing_metadata=(
            ("grpc-status-details-bin", status.SerializeToString()),
            (REQUEST_ID, request_id),
            *(((NONCE, error.nonce),) if isinstance(error, errors.DpopNonceRequiredError) else ()),
        ),
    )


def _attach(status: status_pb2.Status, detail: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


class Failures:
    """The end of the calls that fail: each is logged, counted, and gets the status of its error."""

    def __init__(self, log: Any, count: Callable[[str, grpc.StatusCode, float], None]) -> None:
        """Create it with the log of calls, and a function that counts a call.

        `count` gets the method, the code, and the `perf_counter` at which the call began.
        """
        self._log = log
        self._count = count
        self._stopping = False

    def stop(self) -> None:
        """Note that the store is closed from now on: calls still in progress end with SHUTTING_DOWN."""
        self._stopping = True

    def fail(
        self,
        method: str,
        context: grpc.ServicerContext,
        error: Exception,
        id_: str,
        started: float,
    ) -> NoReturn:
        """Log and count the failure, and abort the call with the status of the error."""
        bind_trace(context)
        if self._is_of_stop(error):
            error = errors.ShuttingDownError("this process is stopping; reconnect")
        code = status_code(error)
        if not context.is_active():
            self._count(method, grpc.StatusCode.CANCELLED, started)
            self._log_call(method, "CANCELLED", id_, started)
        elif isinstance(error, TimeoutError) and context.time_remaining() == 0:
            # gRPC's core has not noticed it yet; this is the status that it would send.
            self._count(method, grpc.StatusCode.DEADLINE_EXCEEDED, started)
            self._log_call(method, "DEADLINE_EXCEEDED", id_, started)
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
        elif code is grpc.StatusCode.INTERNAL:
            self._count(method, code, started)
            # Log the place only: the text of an unknown exception may contain a value of the request.
            frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            self._log.error(
                "rpc_bug", method=method, request_id=id_, error=type(error).__name__, frames=frames[-8:]
            )
        else:
            self._count(method, code, started)
            self._log_call(method, code.name, id_, started, reason=getattr(error, "reason", None))
        context.abort_with_status(to_status(error, id_))  # type: ignore[arg-type]  # it has the fields of grpc.Status
        raise AssertionError("abort_with_status does not return")

    def _is_of_stop(self, error: Exception) -> bool:
        """Return whether a call failed because the process stops: its store is closed, or it was cancelled.

        Only pools that are shut down cancel work. A change that was made and not confirmed (NOT_CONFIRMED),
        and a store that was moved, keep their own reason.
        """
        of_store = (
            isinstance(error, errors.StoreUnavailableError)
            and error.reason == errors.StoreUnavailableError.reason
        )
        return isinstance(error, CancelledError) or (self._stopping and of_store)

    def _log_call(self, method: str, code: str, id_: str, started: float, **more: object) -> None:
        milliseconds = round((time.perf_counter() - started) * 1000, 3)
        self._log.info("rpc", method=method, code=code, request_id=id_, **more, ms=milliseconds)
