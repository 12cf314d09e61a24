"""One call, as a servicer that must know its sender gets it. Reads the transport; proves nobody itself."""

import hashlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast
from urllib.parse import unquote

import grpc

from identity_service.domain.origin import Origin, PeerCertificate
from identity_service.domain.principals import is_certificate_name, normalize_certificate_name
from identity_service.jose.certificates import has_sound_key

MethodT = TypeVar("MethodT", bound=Callable[..., object])
_PEER_KINDS: Final = ("ipv4:", "ipv6:")
_PEER_KIND: Final = "ipvN:"
_PEM: Final = "x509_pem_cert"
_URI: Final = "peer_uri"
_DNS: Final = "peer_dns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What servicers get in place of grpc's context, for every method that runs in the work pool."""

    origin: Origin
    context: grpc.ServicerContext


def recalled_by(recall: Callable[[Any, bytes], bytes | None]) -> Callable[[MethodT], MethodT]:
    """Marks a method whose answer to these very bytes may be known already: `recall` says so, or None.

    Such a method is given the bytes of the request in place of the context.
    """

    def mark(method: MethodT) -> MethodT:
        method.recall = recall  # type: ignore[attr-defined]
        return method

    return mark


def peer_of(context: grpc.ServicerContext) -> str:
    """host:port of the other end of the connection; empty for what is no network address."""
    peer = context.peer()
    return unquote(peer[len(_PEER_KIND) :]) if peer.startswith(_PEER_KINDS) else ""


def certificate_of(context: grpc.ServicerContext) -> PeerCertificate | None:
    """The client certificate of the connection, verified by the handshake; None where there is none.

    One whose key is weak counts as none: whoever computes the key could show the certificate as well.
    """
    # The stubs say otherwise, but every value is a list of bytes.
    properties = cast("Mapping[str, Sequence[bytes]]", context.auth_context())
    pem = next(iter(properties.get(_PEM, ())), None)
    if pem is None or not has_sound_key(pem):
        return None
    sha256 = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode())).digest()
    names = {f"sha256:{sha256.hex()}"}
    uris = _texts(properties.get(_URI, ()))
    if len(uris) == 1:  # with more of them it is no X.509-SVID and must not be taken for one
        names |= {uri for uri in map(normalize_certificate_name, uris) if uri.startswith("spiffe://")}
    names |= {normalize_certificate_name(f"dns:{name}") for name in _texts(properties.get(_DNS, ()))}
    return PeerCertificate(
        sha256=sha256, names=frozenset(name for name in names if is_certificate_name(name))
    )


def _texts(values: Sequence[bytes]) -> list[str]:
    """What an authority lets into a certificate need not be text; it is not ASCII then, and no name."""
    return [value.decode("ascii", "replace") for value in values]
