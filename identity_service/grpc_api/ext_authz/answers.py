"""The answers of ext_authz: the identity in headers for the service behind the gateway, or a refusal.

A refusal is a challenge (RFC 6750 section 3). Envoy turns 401 and 403 into UNAUTHENTICATED and
PERMISSION_DENIED if the client speaks gRPC, with the body as the message.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from google.rpc.code_pb2 import PERMISSION_DENIED, UNAUTHENTICATED
from google.rpc.status_pb2 import Status

from identity_service.domain.tokens import AccessToken, Rejected, RejectionReason
from identity_service.grpc_api.ext_authz.wire.auth_pb2 import (
    CheckResponse,
    DeniedHttpResponse,
    OkHttpResponse,
)
from identity_service.grpc_api.ext_authz.wire.core_pb2 import HeaderValue, HeaderValueOption
from identity_service.grpc_api.ext_authz.wire.http_status_pb2 import HttpStatus, StatusCode

INVALID_REQUEST: Final = "invalid_request"
INVALID_TOKEN: Final = "invalid_token"  # noqa: S105  # RFC 6750
INSUFFICIENT_SCOPE: Final = "insufficient_scope"

PREFIX: Final = "x-identity-"
"""The prefix of the headers that tell the identity; a client's own headers with this prefix are removed."""
_CLAIMED: Final = re.compile(PREFIX.replace("-", "[^a-z0-9]"))
"""The beginning of a name that some servers take for one with the prefix: as for CGI, they turn each other
character into `_`."""
SUBJECT: Final = f"{PREFIX}subject"
CLIENT: Final = f"{PREFIX}client"
SCOPES: Final = f"{PREFIX}scopes"
TOKEN_ID: Final = f"{PREFIX}token-id"
SESSION_ID: Final = f"{PREFIX}session-id"
EXPIRES: Final = f"{PREFIX}expires"
ACTORS: Final = f"{PREFIX}actors"
NAMES: Final = frozenset({SUBJECT, CLIENT, SCOPES, TOKEN_ID, SESSION_ID, EXPIRES, ACTORS})

_NOT_IN_DESCRIPTION: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
"""The characters that no value of a challenge may contain (RFC 6750 section 3)."""
_PLAIN: Final = "!\"#$&'()*+/:;<=>?@[\\]^`{|}"
"""The characters that stay as they are, beside letters, digits and `_.-~`: all visible ones of ASCII but `%`,
and `,`, which separates values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """A refusal of a request."""

    description: str
    """The reason, for the developer of the client; it holds no part of the token."""
    error: str = ""
    """The code in the challenge (RFC 6750 section 3.1); empty if no token was recognised."""
    scopes: tuple[str, ...] = ()
    """The scopes that the token must have, if it lacks one of them."""
    forbidden: bool = False
    """True if another token of the same client would not help, or if its token lacks a scope: status 403."""


NO_POLICY: Final = Denial(
    description="this method has no access policy, so the gateway lets no request through", forbidden=True
)


def from_rejected(rejected: Rejected, scopes: tuple[str, ...]) -> Denial:
    """Return the refusal of a token that Verify rejected; `scopes` are those that were required."""
    if rejected.reason is RejectionReason.INSUFFICIENT_SCOPE:
        return Denial(error=INSUFFICIENT_SCOPE, description=rejected.detail, scopes=scopes, forbidden=True)
    return Denial(error=INVALID_TOKEN, description=rejected.detail)


def denied(denial: Denial) -> CheckResponse:
    """Return the response that has Envoy refuse the request."""
    code, http = (
        (PERMISSION_DENIED, StatusCode.Forbidden)
        if denial.forbidden
        else (UNAUTHENTICATED, StatusCode.Unauthorized)
    )
    headers = [] if denial is NO_POLICY else [_header("www-authenticate", _challenge(denial))]
    return CheckResponse(
        status=Status(code=code, message=denial.description),
        denied_response=DeniedHttpResponse(
            status=HttpStatus(code=http), headers=headers, body=denial.description
        ),
    )


def claimed_in(names: Iterable[str]) -> frozenset[str]:
    """Return those of the names of a request's headers by which its client claims an identity."""
    return frozenset(filter(_CLAIMED.match, names))


def allowed(token: AccessToken | None, claimed: frozenset[str]) -> CheckResponse:
    """Return the response that has Envoy pass the request on, with the identity in place of the client's own.

    Args:
        token: the token of the request; None for a public method.
        claimed: the headers of `claimed_in`, which are removed.
    """
    values = {} if token is None else _identity(token)
    # Envoy removes headers after it has set others.
    removed = (claimed | NAMES) - values.keys()
    return CheckResponse(
        status=Status(),
        ok_response=OkHttpResponse(
            headers=[_header(name, value) for name, value in values.items()],
            headers_to_remove=sorted(removed),
        ),
    )


def _identity(token: AccessToken) -> dict[str, str]:
    """Return the headers that name the principals of a token; a header without a value is left out."""
    values = {
        SUBJECT: _encoded(token.subject),
        CLIENT: _encoded(token.client_id),
        SCOPES: " ".join(map(_encoded, token.scopes)),
        TOKEN_ID: _encoded(token.token_id),
        SESSION_ID: _encoded(token.session_id or ""),
        EXPIRES: str(int(token.expire_time.timestamp())),
        ACTORS: ",".join(_encoded(actor.subject) for actor in token.actors),
    }
    return {name: value for name, value in values.items() if value}


def _encoded(text: str) -> str:
    """Return the text in visible ASCII characters; all others are percent-encoded, as UTF-8."""
    return quote(text, safe=_PLAIN, errors="surrogatepass")


def _challenge(denial: Denial) -> str:
    if not denial.error:
        return "Bearer"
    description = _NOT_IN_DESCRIPTION.sub("?", denial.description)
    scope = f', scope="{" ".join(denial.scopes)}"' if denial.scopes else ""
    return f'Bearer error="{denial.error}", error_description="{description}"{scope}'


def _header(name: str, value: str) -> HeaderValueOption:
    # `append` is set, since its default is false in this message of Envoy, and true in all others.
    return HeaderValueOption(header=HeaderValue(key=name, value=value), append={"value": False})
