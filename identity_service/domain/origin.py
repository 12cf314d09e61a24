"""The origin of a call: the peer, and the caller if it was authenticated.

The module knows no transport.
"""

from dataclasses import dataclass, field

from identity_service.domain.dpop import PresentedProof
from identity_service.domain.ids import PrincipalId, SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCertificate:
    """The client certificate of a TLS connection, whose chain the handshake has verified."""

    sha256: bytes
    """The SHA-256 of the certificate in DER."""
    names: frozenset[str] = frozenset()
    """The names as clients register them: `spiffe://…` for a URI SAN, `dns:…` for a DNS SAN, and always
    `sha256:…`."""


def sha256_of(certificate: PeerCertificate | None) -> bytes:
    """Return the SHA-256 of a client certificate; empty if there is none, which satisfies no binding."""
    return certificate.sha256 if certificate is not None else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The known facts about the sender of a call."""

    peer: str = ""
    """The address of the client as host:port; empty for actions of this process itself.

    The port is 0 if a proxy forwards the address without one.
    """
    request_id: str = ""
    certificate: PeerCertificate | None = None
    actor: PrincipalId | None = None
    """The principal that was authenticated, by access token or certificate; None = none, or not required."""
    session_id: SessionId | None = None
    """The session of the access token that authenticated the actor."""
    is_admin: bool = False
    """True if the actor has the scope identity.admin."""
    proof: PresentedProof | None = field(default=None, repr=False)
    """The DPoP proof to which new tokens are to be bound (RFC 9449), unverified; None = none."""


NOWHERE = Origin()
"""The origin of actions of this process itself."""
