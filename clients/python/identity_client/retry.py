"""The rule for repeating a call: once, and only if the error names the very token that the call carried.

A service that refuses a token puts the hash of the token's id into the ErrorInfo of UNAUTHENTICATED (key
`token_id_sha256`). An error that a service forwards from one further down names another token, or none, and
the call is not repeated: its handler has run, and a second run would repeat its side effects.
"""

import hmac
import re
from typing import Final, Protocol, runtime_checkable

import grpc

from identity_client.errors import to_error
from identity_shared.token_ids import ID_SHA256, hash_token_id

_CHALLENGE: Final = re.compile(rf'\b{ID_SHA256}="([A-Za-z0-9_-]{{43}})"')


@runtime_checkable
class TokenSource(Protocol):
    """A source of access tokens that can replace a token which a service refuses."""

    def token_id(self, token: str) -> str:
        """Return the `jti` of a token that this source has returned; "" if it is not known."""

    def invalidate(self, token: str) -> bool:
        """Note that a service refuses the token; return whether there may be another one."""


class Tokens(TokenSource, Protocol):
    """A source for synchronous calls, such as AccessTokens."""

    def __call__(self, timeout: float | None = None) -> str:
        """Return an access token; wait for it at most `timeout` seconds; None = the source decides."""


class AsyncTokens(TokenSource, Protocol):
    """A source of tokens for asyncio calls, such as AsyncAccessTokens."""

    async def __call__(self, timeout: float | None = None) -> str:
        """Return an access token; wait for it at most `timeout` seconds; None = the source decides."""


def names_token(token_id_sha256: str, token_id: str) -> bool:
    """Return whether the hash in an error is that of this token's id."""
    return bool(token_id) and hmac.compare_digest(token_id_sha256.encode(), hash_token_id(token_id).encode())


def may_repeat(source: object, token: str, token_id_sha256: str) -> bool:
    """Return whether a call is worth a second attempt after an UNAUTHENTICATED error, and renew the token.

    Args:
        source: where the token comes from; False unless it is a `TokenSource`.
        token: the access token that the call carried.
        token_id_sha256: the hash in the error; "" if it names no token.
    """
    if not token_id_sha256 or not isinstance(source, TokenSource):
        return False
    return names_token(token_id_sha256, source.token_id(token)) and source.invalidate(token)


def refused_token(error: grpc.RpcError) -> str:
    """Return the hash of the token that an error names as refused; "" for any other error."""
    known = to_error(error)
    return known.token_id_sha256 if known.code is grpc.StatusCode.UNAUTHENTICATED else ""


def token_in_challenge(challenge: str) -> str:
    """Return the hash of the refused token in a `WWW-Authenticate` (RFC 6750); "" if there is none."""
    found = _CHALLENGE.search(challenge)
    return found[1] if found is not None else ""
