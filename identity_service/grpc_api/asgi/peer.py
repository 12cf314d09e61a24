"""Reads the address and the certificate of a client from the ASGI scope of its call.

The certificate comes in the header x-forwarded-client-cert, which the server in front must set itself on
every request, in place of any that a client sends (Envoy: forward_client_cert_details SANITIZE_SET). Only the
certificate is read from it: the names in that header are not quoted, so a client whose authority lets it
choose a name could forge others.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from identity_service.jose.certificates import alternative_names

_CERTIFICATE: Final = re.compile(rb'(?:^|;)Cert="([A-Za-z0-9%._~-]+)"')
FORWARDED: Final = b"x-forwarded-client-cert"


def address_of(scope: Mapping[str, Any]) -> str:
    """Return the client's address as `grpc.ServicerContext.peer` does; empty if the server knows none."""
    client = scope.get("client")
    if client is None:
        return ""
    host, port = client
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


@lru_cache(maxsize=256)
def certificate_properties(forwarded: bytes) -> Mapping[str, Sequence[bytes]]:
    """Return the properties of `grpc.ServicerContext.auth_context`; empty without a client certificate."""
    found = _CERTIFICATE.search(forwarded)
    if found is None:
        return {}
    pem = unquote_to_bytes(found[1])
    names = alternative_names(pem)
    return {
        "transport_security_type": [b"ssl"],
        "x509_pem_cert": [pem],
        "peer_uri": names.uris,
        "peer_dns": names.hosts,
    }
