"""Origin: where a call comes from and who sends it, as far as that was proven. Knows no wire."""

from dataclasses import dataclass

from identity_service.domain.ids import PrincipalId, SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCertificate:
    """The client certificate of a TLS connection; its chain was verified by the handshake."""

    sha256: bytes
    """Of the DER."""
    names: frozenset[str] = frozenset()
    """As clients register them: `spiffe://…` for a URI SAN, `dns:…` for a DNS SAN, `sha256:…` always."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What is known of whoever sent a call."""

    peer: str = ""
    """host:port, or empty for what this process does by itself."""
    request_id: str = ""
    certificate: PeerCertificate | None = None
    actor: PrincipalId | None = None
    """Who was proven to call, by access token or certificate; None = nobody, or not asked."""
    session_id: SessionId | None = None
    """Of the access token that proved the actor."""
    is_admin: bool = False
    """Whether the actor has scope identity.admin."""


NOWHERE = Origin()
"""This process itself."""
