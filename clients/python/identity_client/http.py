"""Requests over HTTP with a renewed access token: for httpx (extra `[httpx]`) and requests (`[requests]`).

import httpx
from identity_client import AccessTokens
from identity_client.http import HttpxAuth

with AccessTokens.from_env(audience="reports") as tokens, httpx.Client(auth=HttpxAuth(tokens)) as client:
    client.get("https://reports/today")

A request is repeated once with another token if the answer is 401 and its `WWW-Authenticate` names the very
token of the request (parameter `token_id_sha256`), as the guards of this SDK do. A body that can be read only
once is not sent again. Tokens are sent by https only, unless the server is on this machine (127.0.0.0/8, ::1,
localhost), or `allow_plaintext=True` is given.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from identity_client._httpx_auth import HttpxAuth as HttpxAuth
    from identity_client._requests_auth import RequestsAuth as RequestsAuth

__all__ = ["HttpxAuth", "RequestsAuth"]


def __getattr__(name: str) -> Any:
    """Import the class for one library without needing the other."""
    if name == "HttpxAuth":
        from identity_client._httpx_auth import HttpxAuth

        return HttpxAuth
    if name == "RequestsAuth":
        from identity_client._requests_auth import RequestsAuth

        return RequestsAuth
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
