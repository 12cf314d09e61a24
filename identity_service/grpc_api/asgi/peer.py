"""Reads the address and the certificate of a client from the ASGI scope of its call."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from identity_service.jose.certificates import alternative_names


def address_of(scope: Mapping[str, Any]) -> str:
    """Return the client's address as `grpc.ServicerContext.peer` does; empty if the server knows none."""
    client = scope.get("client")
    if client is None:
        return ""
    host, port = client
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


@lru_cache(maxsize=256)
def certificate_properties(pem: bytes) -> Mapping[str, Sequence[bytes]]:
    """Return the properties of `grpc.ServicerContext.auth_context` for a client certificate."""
    names = alternative_names(pem)
    return {
        "transport_security_type": [b"ssl"],
        "x509_pem_cert": [pem],
        "peer_uri": names.uris,
        "peer_dns": names.hosts,
    }
