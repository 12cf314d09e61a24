"""The authentication of httpx by a source of tokens."""

import inspect
from collections.abc import AsyncGenerator, Generator
from typing import Any

import httpx

from identity_client.retry import AsyncTokens, Tokens, may_repeat, token_in_challenge
from identity_client.transport import check_url

_UNAUTHORIZED = 401


class HttpxAuth(httpx.Auth):
    """Sends an access token with each request of a client (`auth=`); see `identity_client.http`.

    A request raises the errors of the source if there is no token. It waits for the token no longer than its
    read timeout. A request by http to another machine raises ValueError, and is not sent.
    """

    def __init__(self, tokens: Tokens | AsyncTokens, *, allow_plaintext: bool = False) -> None:
        """Take the source of tokens.

        Args:
            tokens: AccessTokens for `httpx.Client`, AsyncAccessTokens for `httpx.AsyncClient`.
            allow_plaintext: whether to send tokens by http to other machines. Everything between can read and
                use them.
        """
        self._tokens: Any = tokens
        self._allow_plaintext = allow_plaintext
        self._is_async = inspect.iscoroutinefunction(type(tokens).__call__)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with a token, once more if that is refused."""
        if self._is_async:
            raise TypeError("httpx.Client needs AccessTokens; AsyncAccessTokens are for httpx.AsyncClient")
        check_url(str(request.url), allow_plaintext=self._allow_plaintext)
        token = self._tokens(_timeout(request))
        response = yield _authorized(request, token)
        if self._should_repeat(request, response, token):
            yield _authorized(request, self._tokens(_timeout(request)))

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send the request with a token, once more if that is refused."""
        if not self._is_async:
            raise TypeError(
                "httpx.AsyncClient needs AsyncAccessTokens; AccessTokens would block its event loop"
            )
        check_url(str(request.url), allow_plaintext=self._allow_plaintext)
        token = await self._tokens(_timeout(request))
        response = yield _authorized(request, token)
        if self._should_repeat(request, response, token):
            yield _authorized(request, await self._tokens(_timeout(request)))

    def _should_repeat(self, request: httpx.Request, response: httpx.Response, token: str) -> bool:
        # A body of bytes can be sent again; a stream has been read.
        if response.status_code != _UNAUTHORIZED or not isinstance(request.stream, httpx.ByteStream):
            return False
        named = token_in_challenge(response.headers.get("www-authenticate", ""))
        return may_repeat(self._tokens, token, named)


def _timeout(request: httpx.Request) -> float | None:
    seconds = request.extensions.get("timeout", {}).get("read")
    return None if seconds is None else float(seconds)


def _authorized(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["authorization"] = f"Bearer {token}"
    return request
