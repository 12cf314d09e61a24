"""One call, as a servicer that must know its sender gets it. Reads the transport; proves nobody itself."""

import hashlib
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import unquote

import grpc

from identity_service.domain.origin import Origin, PeerCertificate

_PEER_KINDS: Final = ("ipv4:", "ipv6:")
_PEM: Final = "x509_pem_cert"
_URI: Final = "peer_uri"
_DNS: Final = "peer_dns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What servicers get in place of grpc's context, for every method that runs in the work pool."""

    origin: Origin
    context: grpc.ServicerContext


def peer_of(context: grpc.ServicerContext) -> str:
    """host:port of the other end of the connection; empty for what is no network address."""
    peer = unquote(context.peer())
    return next((peer.removeprefix(kind) for kind in _PEER_KINDS if peer.startswith(kind)), "")


def certificate_of(context: grpc.ServicerContext) -> PeerCertificate | None:
    """The client certificate of the connection, verified by the handshake; None where there is none."""
    # The stubs say otherwise, but every value is a list of bytes.
    properties = cast("Mapping[str, Iterable[bytes]]", context.auth_context())
    pem = next(iter(properties.get(_PEM, ())), None)
    if pem is None:
        return None
    sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).digest()
    uris = (uri.decode() for uri in properties.get(_URI, ()))
    names = (f"dns:{name.decode().lower()}" for name in properties.get(_DNS, ()))
    spiffe = (uri for uri in uris if uri.startswith("spiffe://"))
    return PeerCertificate(sha256=sha256, names=frozenset({*spiffe, *names, f"sha256:{sha256.hex()}"}))
