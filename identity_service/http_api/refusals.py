"""The answers of the HTTP API to requests that reach no endpoint, or whose endpoint raises."""

import math
import traceback
from typing import Any, Final

import structlog

from identity_service.domain import errors
from identity_service.http_api.messages import HttpResponse
from identity_service.http_api.oauth.answers import error_response
from identity_service.http_api.oauth.errors import (
    INVALID_REQUEST,
    SERVER_ERROR,
    TEMPORARILY_UNAVAILABLE,
    OAuthError,
)

_STATUS_OF: Final[dict[type[errors.IdentityError], int]] = {
    errors.ExhaustedError: 429,
    errors.UnavailableError: 503,
    errors.RequestTimeoutError: 408,
}
"""The status of an error class and its subclasses; every other exception becomes 500."""
_ERROR_OF: Final = {
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    429: TEMPORARILY_UNAVAILABLE,
    431: "headers_too_large",
    500: SERVER_ERROR,
    503: TEMPORARILY_UNAVAILABLE,
}
"""The error code of a status; every other status has invalid_request."""
_BUSY: Final = "too many open requests; retry after the time in Retry-After, or use another instance"


def refusal(status: int, description: str, *headers: tuple[str, str]) -> HttpResponse:
    """Return an answer of this status whose body is an OAuth error."""
    code = _ERROR_OF.get(status, INVALID_REQUEST)
    return error_response(OAuthError(code, description, status=status, headers=headers))


def refusal_of(error: Exception) -> HttpResponse:
    """Return the answer to a request that ended by this error; it shows no text of an unknown error."""
    status = next((_STATUS_OF[kind] for kind in type(error).__mro__ if kind in _STATUS_OF), 500)
    if status == 500:
        return refusal(500, "an internal error; quote the request id when reporting it")
    retry_after = getattr(error, "retry_after", None)
    headers = (("Retry-After", str(math.ceil(retry_after))),) if retry_after is not None else ()
    text = _BUSY if isinstance(error, errors.ServerBusyError) else str(error)
    return refusal(status, text, *headers)


def log_bug(error: Exception, path: str | None, request_id: str) -> None:
    """Log the place of an unexpected exception; its text may contain a value of the request."""
    frames = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    log: Any = structlog.get_logger("identity.http")
    log.error("http_bug", path=path, request_id=request_id, error=type(error).__name__, frames=frames[-8:])
