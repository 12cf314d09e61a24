"""One call as a servicer gets it: its origin, its caller and the context of gRPC.

This module authenticates no caller; see callers.py.
"""

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, cast
from urllib.parse import unquote

import grpc

from identity_service.domain.grants import SCOPE_ADMIN
from identity_service.domain.ids import PrincipalId, SessionId
from identity_service.domain.origin import Origin, PeerCertificate
from identity_service.domain.principals import is_certificate_name, normalize_certificate_name
from identity_service.jose.certificates import has_sound_key

_PEER_KINDS: Final = ("ipv4:", "ipv6:")
_PEER_KIND: Final = "ipvN:"
_PEM: Final = "x509_pem_cert"
_URI: Final = "peer_uri"
_DNS: Final = "peer_dns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The authenticated principal that sends a call."""

    principal: PrincipalId
    scopes: frozenset[str]
    session_id: SessionId | None = None
    is_delegated: bool = False
    """Whether another party acts for the principal, by token exchange (RFC 8693).

    Such a party has no access to what belongs to the principal itself, such as its sessions.
    """

    @property
    def is_admin(self) -> bool:
        """Return whether the caller has the scope identity.admin."""
        return SCOPE_ADMIN in self.scopes


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call as the function that serves it sees it."""

    context: grpc.ServicerContext
    request_id: str
    caller: Caller | None
    """None if the method requires no authenticated caller."""

    @cached_property
    def origin(self) -> Origin:
        """The origin for use cases; read from the transport when it is first needed."""
        caller = self.caller
        return Origin(
            peer=peer_of(self.context),
            request_id=self.request_id,
            certificate=certificate_of(self.context),
            actor=caller.principal if caller is not None else None,
            session_id=caller.session_id if caller is not None else None,
            is_admin=caller is not None and caller.is_admin,
        )


def peer_of(context: grpc.ServicerContext) -> str:
    """Return host:port of the other end of the connection; empty if it has no network address."""
    peer = context.peer()
    return unquote(peer[len(_PEER_KIND) :]) if peer.startswith(_PEER_KINDS) else ""


def certificate_of(context: grpc.ServicerContext) -> PeerCertificate | None:
    """Return the client certificate, which the TLS handshake has verified; None if there is none.

    A certificate with a weak key counts as none: an attacker that computes the private key can present the
    certificate, too.
    """
    # The type stubs differ, but every value is a list of bytes.
    properties = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
    pem = next(iter(properties.get(_PEM, ())), None)
    if pem is None or not has_sound_key(pem):
        return None
    sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).digest()
    names = {f"sha256:{sha256.hex()}"}
    uris = _texts(properties.get(_URI, ()))
    if len(uris) == 1:  # with several URIs it is not an X.509-SVID and must not count as one
        names |= {uri for uri in map(normalize_certificate_name, uris) if uri.startswith("spiffe://")}
    names |= {normalize_certificate_name(f"dns:{name}") for name in _texts(properties.get(_DNS, ()))}
    return PeerCertificate(
        sha256=sha256, names=frozenset(name for name in names if is_certificate_name(name))
    )


def _texts(values: Sequence[bytes]) -> list[str]:
    """Decode names of a certificate; a byte that is not ASCII becomes U+FFFD.

    An authority can sign names that are not ASCII. After the replacement they are no valid name and prove
    nothing.
    """
    return [value.decode("ascii", "replace") for value in values]
