"""Builds request messages from the arguments of the client's methods. The module knows no channel."""

import secrets
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal, TypedDict, Unpack

from identity_client.credentials import by_secret
from identityapi.v1 import identity_service_pb2 as pb
from identityapi.v1 import token_pb2

Encryption = Literal["none", "service", "audience"]
"""The party that an access token is encrypted for, after it is signed: none; this service, so that only
Verify can decrypt it; or its one audience, with the `encryption_key` of the client of that id."""


class IssueOptions(TypedDict, total=False):
    """The properties of an access token to issue; each may be left out."""

    audiences: Iterable[str]
    """The services that the token is for (`aud`), at most 16; may be empty if the principal has only one."""
    scopes: Iterable[str]
    """The scopes of the token; empty = all that the principal may have, except identity.*."""
    lifetime: timedelta | None
    """The lifetime, 1 second to 24 hours; None = the service's default (15 minutes)."""
    claims: Mapping[str, Any] | None
    """Further claims, at most 2 KiB as JSON; registered names are refused."""
    encryption: Encryption
    """The party that can decrypt the token, "none" by default."""


def issue_request(
    credential: token_pb2.Credential,
    *,
    audiences: Iterable[str] = (),
    scopes: Iterable[str] = (),
    lifetime: timedelta | None = None,
    claims: Mapping[str, Any] | None = None,
    encryption: Encryption = "none",
    device: str = "",
) -> pb.IssueRequest:
    """Build an IssueRequest. Raises ValueError for an unknown `encryption`."""
    request = pb.IssueRequest(
        credential=credential,
        audiences=texts(audiences),
        scopes=texts(scopes),
        encryption=f"TOKEN_ENCRYPTION_{encryption.upper()}",
        device=device,
    )
    if lifetime is not None:
        request.lifetime.FromTimedelta(lifetime)
    if claims is not None:
        request.claims.update(claims)
    return request


def exchange_request(
    subject_token: str,
    credential: token_pb2.Credential,
    actor_token: str | None,
    **wanted: Unpack[IssueOptions],
) -> pb.IssueRequest:
    """Build an IssueRequest for a token exchange. Raises ValueError if a token is empty."""
    if "" in (subject_token, actor_token):
        raise ValueError("subject_token and actor_token must not be empty")
    request = issue_request(credential, **wanted)
    request.subject_token, request.actor_token = subject_token, actor_token or ""
    return request


def refresh_request(
    refresh_token: str,
    client_id: str | None,
    client_secret: str | None,
    credential: token_pb2.Credential | None,
    scopes: Iterable[str],
    audiences: Iterable[str],
) -> pb.RefreshRequest:
    """Build a RefreshRequest; the secret of a client goes before another credential of it."""
    if client_id is not None:
        credential = by_secret(client_id, client_secret or "")
    return pb.RefreshRequest(
        refresh_token=refresh_token,
        client_credential=credential,
        scopes=texts(scopes),
        audiences=texts(audiences),
    )


def texts(values: Iterable[str]) -> Iterable[str]:
    """Return the values. Raises TypeError for a single text, which would count as a list of its letters."""
    if isinstance(values, str):
        raise TypeError(f"must be a list of texts, as [{values!r}], not one text")
    return values


def once(request_id: str | None) -> str:
    """Return the request id, or a random one. A retry sends the same id, so that it revokes nothing twice."""
    return request_id or secrets.token_urlsafe(16)
