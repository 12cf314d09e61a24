"""The answers of the HTTP API to requests that reach no endpoint, or whose endpoint raises."""

import json
import math
from typing import Final

from identity_service.domain import errors
from identity_service.http_api.messages import HttpResponse

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
    429: "temporarily_unavailable",
    431: "headers_too_large",
    500: "server_error",
    503: "temporarily_unavailable",
}
"""The code in the body, in the form of RFC 6749 section 5.2."""
_BUSY: Final = "too many open requests; retry after the time in Retry-After, or use another instance"


def refusal(status: int, description: str, *headers: tuple[str, str]) -> HttpResponse:
    """Return an answer of this status whose body is an OAuth error."""
    body = {"error": _ERROR_OF.get(status, "invalid_request"), "error_description": description}
    content_type = ("Content-Type", "application/json")
    return HttpResponse(status=status, headers=(content_type, *headers), body=json.dumps(body).encode())


def refusal_of(error: Exception) -> HttpResponse:
    """Return the answer to a request that ended by this error; it shows no text of an unknown error."""
    status = next((_STATUS_OF[kind] for kind in type(error).__mro__ if kind in _STATUS_OF), 500)
    if status == 500:
        return refusal(500, "an internal error; quote the request id when reporting it")
    retry_after = getattr(error, "retry_after", None)
    headers = (("Retry-After", str(math.ceil(retry_after))),) if retry_after is not None else ()
    text = _BUSY if isinstance(error, errors.ServerBusyError) else str(error)
    return refusal(status, text, *headers)
