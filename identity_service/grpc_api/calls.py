"""One call as a servicer gets it: its id, its caller, and its origin as the transport knows it."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, cast

import grpc
import structlog

from identity_service.domain.grants import SCOPE_ADMIN
from identity_service.domain.ids import PrincipalId, SessionId
from identity_service.domain.origin import Origin, PeerCertificate
from identity_service.grpc_api.proofs import PROOF, CallProofs
from identity_service.telemetry.call_ids import PARENT, REQUEST_ID, request_id, trace_fields
from identity_service.transport.client_certificates import has_expired, peer_certificate
from identity_service.transport.quotas import Peers, endpoint_of

_IDS: Final = frozenset({REQUEST_ID, PARENT})
_PEM: Final = "x509_pem_cert"
_RESUMED: Final = "ssl_session_reused"
_URI: Final = "peer_uri"
_DNS: Final = "peer_dns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The authenticated principal that sends a call."""

    principal: PrincipalId
    scopes: frozenset[str]
    session_id: SessionId | None = None
    is_delegated: bool = False
    """True if another party acts for the principal, by token exchange (RFC 8693).

    Such a party has no access to the objects that belong to the principal itself, such as its sessions.
    """
    is_revoked: Callable[[], bool] = field(default=lambda: False, repr=False, compare=False)
    """A function that tells whether the token has been revoked since, or the client of the certificate was
    disabled or lost the scope. It may wait for the store, and raise UnavailableError."""

    @property
    def is_admin(self) -> bool:
        """Return whether the caller has the scope identity.admin."""
        return SCOPE_ADMIN in self.scopes


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call, as it is passed to the function that serves it."""

    context: grpc.ServicerContext
    method: str
    """The full name of the method, such as `/identityapi.v1.IdentityService/Issue`."""
    request_id: str
    caller: Caller | None
    """The caller; None if the method requires no authenticated caller."""
    peers: Peers
    """The map that tells for which client a trusted proxy forwards a call."""
    proofs: CallProofs
    """The reader of the DPoP proof of a call."""
    data: bytes = field(repr=False)
    """The request as it was received, which may hold secrets."""

    @cached_property
    def origin(self) -> Origin:
        """The origin for use cases; read from the transport when it is first needed."""
        caller = self.caller
        return Origin(
            peer=client_of(self.context, self.peers),
            request_id=self.request_id,
            certificate=client_certificate_of(self.context, self.peers),
            actor=caller.principal if caller is not None else None,
            session_id=caller.session_id if caller is not None else None,
            is_admin=caller is not None and caller.is_admin,
        )

    @cached_property
    def shows_proof(self) -> bool:
        """True if the call has a DPoP proof, valid or not; most calls have none."""
        return shows_proof(self.context)

    @property
    def origin_with_proof(self) -> Origin:
        """Return the origin for issuing tokens, with the call's DPoP proof. Raises DpopProofRefusedError."""
        if not self.shows_proof:
            return self.origin
        return replace(self.origin, proof=self.proofs.shown(self.method, self.context))


def shows_proof(context: grpc.ServicerContext) -> bool:
    """Return whether a call has a DPoP proof, valid or not."""
    return any(key == PROOF for key, _ in context.invocation_metadata())


def bind_ids(context: grpc.ServicerContext) -> str:
    """Return the id of a call, which its log lines show from now on, and its trace id if it has one."""
    sent = [pair for pair in context.invocation_metadata() if pair[0] in _IDS]
    if not sent:  # as in most calls
        id_, trace = secrets.token_hex(8), {}
    else:
        id_, trace = _request_id_in(sent), trace_fields(sent)
    structlog.contextvars.bind_contextvars(request_id=id_, **trace)
    return id_


def bind_trace(context: grpc.ServicerContext) -> None:
    """Show the trace id in the log lines of a call from now on, if its client has sent one."""
    structlog.contextvars.bind_contextvars(**trace_fields(context.invocation_metadata()))


def request_id_of(context: grpc.ServicerContext) -> str:
    """Return the client's `x-request-id` if it is 1 to 128 visible ASCII characters, else a new id."""
    return _request_id_in(context.invocation_metadata())


def _request_id_in(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    return request_id(value for key, value in metadata if key == REQUEST_ID and isinstance(value, str))


def client_of(context: grpc.ServicerContext, peers: Peers) -> str:
    """Return host:port of the client: the peer, or the client for which a trusted proxy forwards the call."""
    peer = context.peer()
    return peers.client_of(peer, context.invocation_metadata) or endpoint_of(peer)


def client_certificate_of(context: grpc.ServicerContext, peers: Peers) -> PeerCertificate | None:
    """Return the client certificate: of the connection, or as a trusted proxy forwards it; None = none."""
    return peers.certificate_of(context.peer(), context.invocation_metadata, lambda: certificate_of(context))


def certificate_of(context: grpc.ServicerContext) -> PeerCertificate | None:
    """Return the certificate of the connection, which the TLS handshake has verified; None if there is none.

    It is never the certificate of a client behind a proxy, whatever the metadata says. A certificate with a
    weak key counts as none, and so does one that has expired when a session of TLS is resumed.
    """
    # The type stubs differ, but every value is a list of bytes.
    properties = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
    pem = next(iter(properties.get(_PEM, ())), None)
    resumed = next(iter(properties.get(_RESUMED, ())), None) == b"true"
    if pem is None or (resumed and has_expired(pem)):
        return None
    return peer_certificate(pem, properties.get(_URI, ()), properties.get(_DNS, ()))
