"""OAuth errors (RFC 6749 section 5.2), and the table from the service's errors to them.

A description is for the developer of the client: it holds no secret, and does not tell whether a principal
exists. The messages of errors about the store name addresses, so they are not shown.
"""

import math
import re
from typing import Final, NamedTuple

from identity_service.domain import credential_errors, errors
from identity_service.domain.grants import SCOPE_VERIFY
from identity_service.domain.tokens import TokenType
from identity_service.jose.dpop import DPOP_ALGORITHMS

REALM: Final = "identity-service"
INVALID_REQUEST: Final = "invalid_request"
INVALID_CLIENT: Final = "invalid_client"
INVALID_GRANT: Final = "invalid_grant"
UNAUTHORIZED_CLIENT: Final = "unauthorized_client"
UNSUPPORTED_GRANT_TYPE: Final = "unsupported_grant_type"
INVALID_SCOPE: Final = "invalid_scope"
INVALID_TARGET: Final = "invalid_target"
"""The error code of a refused audience (RFC 8707 section 2)."""
UNSUPPORTED_TOKEN_TYPE: Final = "unsupported_token_type"  # noqa: S105  # RFC 7009 section 2.2.1
INVALID_TOKEN: Final = "invalid_token"  # noqa: S105  # RFC 6750 section 3.1
INSUFFICIENT_SCOPE: Final = "insufficient_scope"
TEMPORARILY_UNAVAILABLE: Final = "temporarily_unavailable"
SERVER_ERROR: Final = "server_error"
INVALID_DPOP_PROOF: Final = "invalid_dpop_proof"
USE_DPOP_NONCE: Final = "use_dpop_nonce"
"""The error code of a DPoP proof without a current nonce (RFC 9449 section 8)."""
DPOP_NONCE: Final = "DPoP-Nonce"
"""The header with the nonce that the next proof must have."""

_NOT_IN_DESCRIPTION: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_BUSY: Final = "the service cannot answer now; try again"


class OAuthError(Exception):
    """An error in the form in which an endpoint answers it."""

    def __init__(
        self,
        code: str,
        description: str = "",
        *,
        status: int = 400,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Create the error; a character that RFC 6749 does not allow in `description` becomes `?`."""
        super().__init__(code)
        self.code = code
        self.description = _NOT_IN_DESCRIPTION.sub("?", description)
        self.status = status
        self.headers = headers


class _Answer(NamedTuple):
    """The answer to a class of errors."""

    code: str
    status: int = 400
    description: str | None = None
    """The description; None = the message of the error."""


ANSWER_OF: Final[dict[type[errors.IdentityError], _Answer]] = {
    errors.InvalidRequestError: _Answer(INVALID_REQUEST),
    errors.UnknownScopeError: _Answer(INVALID_SCOPE),
    errors.TokenNotOpenableError: _Answer(UNSUPPORTED_TOKEN_TYPE),
    credential_errors.UnauthenticatedError: _Answer(INVALID_GRANT),
    # A token that is wrong or not acceptable makes the request invalid: RFC 8693 section 2.2.2.
    credential_errors.SubjectTokenRefusedError: _Answer(INVALID_REQUEST),
    errors.ExchangeNotAllowedError: _Answer(INVALID_REQUEST),
    # Not invalid_grant, after which a library drops a refresh token that is still good.
    credential_errors.BindingRequiredError: _Answer(INVALID_REQUEST),
    credential_errors.DpopProofRefusedError: _Answer(INVALID_DPOP_PROOF),
    credential_errors.DpopNonceRequiredError: _Answer(USE_DPOP_NONCE),
    errors.PermissionDeniedError: _Answer(UNAUTHORIZED_CLIENT),
    errors.AudienceNotAllowedError: _Answer(INVALID_TARGET),
    errors.ScopeNotAllowedError: _Answer(INVALID_SCOPE),
    errors.TooManyAttemptsError: _Answer(TEMPORARILY_UNAVAILABLE, 429),
    errors.ExhaustedError: _Answer(TEMPORARILY_UNAVAILABLE, 503, _BUSY),
    errors.UnavailableError: _Answer(TEMPORARILY_UNAVAILABLE, 503, _BUSY),
}
"""The answer to an error class; it also holds for subclasses that have no entry.

Every other exception is answered with server_error, without a word about it.
"""

_CODE_OF_FIELD: Final = {"audiences": INVALID_TARGET, "scopes": INVALID_SCOPE}
_PARAMETER_OF_FIELD: Final = {"audiences": "audience", "scopes": "scope"}


def invalid_request(description: str) -> OAuthError:
    """Return the error for a request that is malformed, or lacks a parameter."""
    return OAuthError(INVALID_REQUEST, description)


def invalid_client(description: str = "the client authentication was refused") -> OAuthError:
    """Return the error for a client that is not authenticated; the description names no client."""
    return OAuthError(INVALID_CLIENT, description, status=401, headers=_challenge(f'Basic realm="{REALM}"'))


def invalid_token(description: str, scheme: TokenType) -> OAuthError:
    """Return the error for a caller's access token that is not valid (RFC 6750 section 3.1)."""
    headers = _token_challenge(scheme, 'error="invalid_token"')
    return OAuthError(INVALID_TOKEN, description, status=401, headers=headers)


def insufficient_scope(scheme: TokenType) -> OAuthError:
    """Return the error for a caller's access token without identity.verify (RFC 6750 section 3.1)."""
    headers = _token_challenge(scheme, f'error="insufficient_scope", scope="{SCOPE_VERIFY}"')
    description = f"the token lacks the scope {SCOPE_VERIFY}"
    return OAuthError(INSUFFICIENT_SCOPE, description, status=403, headers=headers)


def proof_refused(
    error: credential_errors.DpopProofRefusedError | credential_errors.DpopNonceRequiredError,
) -> OAuthError:
    """Return the error for the proof that came with a caller's access token (RFC 9449 section 7.1)."""
    found = from_error(error)
    headers = (*_token_challenge(TokenType.DPOP, f'error="{found.code}"'), *found.headers)
    return OAuthError(found.code, found.description, status=401, headers=headers)


def from_error(error: Exception, *, refused: str = INVALID_CLIENT) -> OAuthError:
    """Return the answer to an exception; `refused` is the code of a credential that was refused."""
    if isinstance(error, OAuthError):
        return error
    if isinstance(error, credential_errors.WrongClientError):
        return OAuthError(INVALID_GRANT, "the refresh token was issued to another client")
    if isinstance(error, credential_errors.CredentialRefusedError):
        return invalid_client() if refused == INVALID_CLIENT else OAuthError(refused, str(error))
    if isinstance(error, errors.InvalidRequestError) and error.violations:
        return _from_invalid(error)
    for kind in type(error).__mro__:
        if kind in ANSWER_OF:
            code, status, description = ANSWER_OF[kind]
            text = str(error) if description is None else description
            return OAuthError(code, text, status=status, headers=_headers(error))
    return OAuthError(SERVER_ERROR, status=500)


def _from_invalid(error: errors.InvalidRequestError) -> OAuthError:
    """Return the answer to an invalid value, named as the parameter that it came with."""
    first = error.violations[0]
    name = first.field.partition("[")[0]
    code = ANSWER_OF[type(error)].code if type(error) in ANSWER_OF else INVALID_REQUEST
    return OAuthError(
        _CODE_OF_FIELD.get(name, code),
        f"{_PARAMETER_OF_FIELD.get(name, first.field)}: {first.description}",
    )


def _headers(error: Exception) -> tuple[tuple[str, str], ...]:
    if isinstance(error, errors.ExhaustedError | errors.UnavailableError):
        return (("Retry-After", str(max(1, math.ceil(error.retry_after)))),)
    if isinstance(error, credential_errors.DpopNonceRequiredError):
        return ((DPOP_NONCE, error.nonce),)
    return ()


def _token_challenge(scheme: TokenType, error: str) -> tuple[tuple[str, str], ...]:
    """Return the header for a caller with an access token, which was sent by this scheme."""
    algorithms = f', algs="{" ".join(DPOP_ALGORITHMS)}"' if scheme is TokenType.DPOP else ""
    return _challenge(f'{scheme} realm="{REALM}", {error}{algorithms}')


def _challenge(value: str) -> tuple[tuple[str, str], ...]:
    return (("WWW-Authenticate", value),)
