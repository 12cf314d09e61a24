"""The requests and answers of AdminService that both of its clients make alike."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from identityapi.v1 import admin_service_pb2 as pb
from identityapi.v1.principal_pb2 import Client
from identityapi.v1.trust_service_pb2 import PublishedKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientWithSecret:
    """A client and its new secret, which the service does not show again."""

    client: Client
    client_secret: str = field(repr=False)
    """The secret; empty for a client that was created without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSessions:
    """The result of ending sessions."""

    count: int
    """The number of sessions that were ended."""
    revision: str
    """The revision that holds the last of them, for `IdentityClient.verify(at_least_revision=…)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrappedKeys:
    """The result of sealing the keys anew."""

    rewrapped: int
    """The number of keys that were sealed under another master key before."""
    total: int
    """The number of all keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetiredKey:
    """The result of retiring a key."""

    revision: str
    """The revision that holds the revocation, for `IdentityClient.verify(at_least_revision=…)`."""
    successor: PublishedKey
    """The key that is used instead."""


def sessions_request(subject: str, client_id: str) -> pb.ListSessionsRequest:
    """Return the request for the sessions of a user, else through a client, else of the caller."""
    return pb.ListSessionsRequest(subject=subject or None, client_id=(not subject and client_id) or None)


def end_request(subject: str, keep: str, reason: str) -> pb.RevokeSessionsRequest:
    """Return the request that ends all sessions of a user, "" = the caller, but the one to keep."""
    request = pb.RevokeSessionsRequest(subject=subject or None, except_session_id=keep, reason=reason)
    if not subject:
        request.own = True
    return request


def events_request(
    principal: str, types: Iterable[str], start_time: datetime | None, end_time: datetime | None
) -> pb.ListAuditEventsRequest:
    """Return the request for the audit events that fulfil all conditions."""
    request = pb.ListAuditEventsRequest(principal=principal, types=types)
    if start_time is not None:
        request.start_time.FromDatetime(start_time)
    if end_time is not None:
        request.end_time.FromDatetime(end_time)
    return request
