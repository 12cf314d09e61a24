"""The other end of a connection: its address, as `Peers` takes it, and its certificate."""

from collections.abc import Mapping
from typing import Any, Final

from identity_service.domain.origin import PeerCertificate

_CERTIFICATE: Final = "identity.certificate"


def with_certificate(state: Mapping[str, Any], certificate: PeerCertificate | None) -> dict[str, Any]:
    """Return the entry `state` of an ASGI scope with the client certificate of the connection."""
    return {**state, _CERTIFICATE: certificate}


def certificate_of(scope: Mapping[str, Any]) -> PeerCertificate | None:
    """Return the client certificate of the connection, which the handshake has verified; None = none."""
    certificate: PeerCertificate | None = scope.get("state", {}).get(_CERTIFICATE)
    return certificate


def grpc_peer(client: tuple[str, int] | None) -> str:
    """Return an address of ASGI as gRPC writes it, such as `ipv4:10.0.0.7:5000`."""
    if client is None:
        return "unix:"
    host, port = client
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
