"""Builds request messages from the arguments of the client's methods. The module knows no channel."""

import secrets
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal

from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2

Encryption = Literal["none", "service", "audience"]
"""The party that an access token is encrypted for, after it is signed: none; this service, so that only
Verify can decrypt it; or its one audience, with the `encryption_key` of the client of that id."""


def issue_request(
    credential: token_pb2.Credential,
    audiences: Iterable[str],
    scopes: Iterable[str],
    lifetime: timedelta | None,
    claims: Mapping[str, Any] | None,
    encryption: Encryption,
) -> pb.IssueRequest:
    """Build an IssueRequest. Raises ValueError for an unknown `encryption`."""
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
    """Return the values. Raises TypeError for a single text, which would count as a list of its letters."""
    if isinstance(values, str):
        raise TypeError(f"must be a list of texts, as [{values!r}], not one text")
    return values


def once(request_id: str | None) -> str:
    """Return the request id, or a random one. A retry sends the same id, so that it revokes nothing twice."""
    return request_id or secrets.token_urlsafe(16)
