"""The public signing keys as a JWK set (RFC 7517), which is what GetKeys answers."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Final

from identity_service.domain.keys import PublishedKey
from identity_service.domain.ports import ReplicaView
from identity_service.http_api.messages import HttpRequest, HttpResponse
from identity_service.services.keyring import key_set_document

_ETAG: Final = re.compile(r'(?:W/)?"([^"]*)"')


class JwksEndpoint:
    """The endpoint of the key set. It answers from memory, even while the replica is stale.

    So other services can verify tokens while the store is away.
    """

    def __init__(
        self, published: Callable[[], Sequence[PublishedKey]], replica: ReplicaView, max_age: timedelta
    ) -> None:
        """Create the endpoint.

        Args:
            published: returns the keys, without HS256 keys and retired keys.
            replica: says whether the keys have been loaded.
            max_age: how long clients may cache the keys.
        """
        self._published = published
        self._replica = replica
        self._cache_control = f"public, max-age={int(max_age.total_seconds())}"

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Return the keys, or 304 if the client has them. Raises NotReadyError before they are loaded."""
        self._replica.require_ready()
        document = key_set_document(self._published())
        headers = (("ETag", f'"{document.etag}"'), ("Cache-Control", self._cache_control))
        if _names(request.headers.get("if-none-match", ()), document.etag):
            return HttpResponse(status=304, headers=headers)
        content_type = ("Content-Type", "application/json")
        return HttpResponse(status=200, headers=(content_type, *headers), body=document.jwks.encode())


def _names(conditions: Iterable[str], etag: str) -> bool:
    """Return whether If-None-Match names the etag, by the weak comparison (RFC 9110 section 13.1.2)."""
    return any(text.strip() == "*" or etag in _ETAG.findall(text) for text in conditions)
