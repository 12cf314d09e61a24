"""Who is at the other end of a connection, as the ASGI server tells it: address, and the client certificate.

The certificate comes in the header x-forwarded-client-cert, which the server in front must set itself on
every request, in place of any that a client sends (Envoy: forward_client_cert_details SANITIZE_SET). Only the
certificate is read from it: of the names in that header an authority's customer could make up others, since
they are not quoted.
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
    """As `grpc.ServicerContext.peer` gives it."""
    client = scope.get("client")
    if client is None:
        return ""
    host, port = client
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


@lru_cache(maxsize=256)
def certificate_properties(forwarded: bytes) -> Mapping[str, Sequence[bytes]]:
    """As `grpc.ServicerContext.auth_context` gives them; empty where no certificate was shown."""
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
