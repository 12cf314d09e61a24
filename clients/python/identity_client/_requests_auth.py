"""The authentication of requests by a source of tokens."""

from functools import partial
from typing import Any

import requests
from requests.auth import AuthBase

from identity_client.retry import Tokens, may_repeat, token_in_challenge

_UNAUTHORIZED = 401


class RequestsAuth(AuthBase):
    """Sends an access token with each request (`auth=`); see `identity_client.http`.

    A request raises the errors of the source if there is no token.
    """

    def __init__(self, tokens: Tokens) -> None:
        """Take the source of tokens, such as AccessTokens."""
        self._tokens = tokens

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add a token to the request."""
        token = self._tokens()
        r.headers["Authorization"] = _bearer(token)
        r.register_hook("response", partial(self._repeat, token))  # type: ignore[no-untyped-call]
        return r

    def _repeat(self, token: str, response: requests.Response, **options: Any) -> requests.Response:
        """Return the response, or that of a second attempt if the token was refused."""
        sent: Any = response.request
        if response.status_code != _UNAUTHORIZED or not isinstance(sent.body, str | bytes | None):
            return response
        # After a redirect to another host the request has no token, and must get none.
        if sent.headers.get("Authorization") != _bearer(token):
            return response
        named = token_in_challenge(response.headers.get("www-authenticate", ""))
        if not may_repeat(self._tokens, token, named):
            return response
        _ = response.content  # frees the connection for the second attempt
        response.close()
        again = sent.copy()
        again.headers["Authorization"] = _bearer(self._tokens())
        connection: Any = response.connection
        answer: requests.Response = connection.send(again, **options)
        answer.history.append(response)
        answer.request = again
        return answer


def _bearer(token: str) -> str:
    return f"Bearer {token}"
