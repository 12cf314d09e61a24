"""The authentication of requests by a source of tokens."""

from functools import partial
from typing import Any

import requests
from requests.auth import AuthBase

from identity_client.retry import Tokens, may_repeat, token_in_challenge
from identity_client.transport import check_url

_UNAUTHORIZED = 401


class RequestsAuth(AuthBase):
    """Sends an access token with each request (`auth=`); see `identity_client.http`.

    A request raises the errors of the source if there is no token. A request by http to another machine
    raises ValueError, and is not sent.
    """

    def __init__(self, tokens: Tokens, *, allow_plaintext: bool = False) -> None:
        """Take the source of tokens.

        Args:
            tokens: the source, such as AccessTokens.
            allow_plaintext: whether to send tokens by http to other machines. Everything between can read and
                use them.
        """
        self._tokens = tokens
        self._allow_plaintext = allow_plaintext

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add a token to the request. Raises ValueError if it would go to another machine in plaintext."""
        check_url(r.url or "", allow_plaintext=self._allow_plaintext)
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
