"""Requests as the methods of the client make them. Knows no channel."""

import secrets
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2

Encryption = Literal["none", "service", "audience"]
"""Whom an access token is encrypted for: nobody; this service, so that only Verify can open it; or its one
audience, with the key that is registered for it."""


def issue_request(
    credential: token_pb2.Credential,
    audiences: Iterable[str],
    scopes: Iterable[str],
    lifetime: timedelta | None,
    claims: Mapping[str, Any] | None,
    encryption: Encryption,
) -> pb.IssueRequest:
    """Raises ValueError: there is no such encryption."""
    request = pb.IssueRequest(
        credential=credential,
        audiences=texts(audiences),
        scopes=texts(scopes),
        encryption=f"TOKEN_ENCRYPTION_{encryption.upper()}",
    )
    if lifetime is not None:
        request.lifetime.FromTimedelta(lifetime)
    if claims is not None:
        request.claims.update(claims)
    return request


def texts(values: Iterable[str]) -> Iterable[str]:
    """One text is a sequence of texts too: of its letters."""
    if isinstance(values, str):
        raise TypeError(f"must be a list of texts, as [{values!r}], not one text")
    return values


def once(request_id: str | None) -> str:
    """A retry carries the same name, so the service raises nothing twice."""
    return request_id or secrets.token_urlsafe(16)
