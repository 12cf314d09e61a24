"""The client certificate that a trusted proxy forwards in a header of a request.

The header has one value, or the request has no certificate: with several, it would not be known which of them
the proxy has written. `Peers` decides whether the connection is from a trusted proxy.
"""

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

from identity_service.domain.origin import PeerCertificate
from identity_service.jose.client_chains import is_of, pem_of_der, pem_of_text
from identity_service.transport.client_certificates import OF_ENVOY, certificate_in

CLIENT_CERT: Final = "client-cert"
"""The header of RFC 9440: the certificate in DER, as a byte sequence of RFC 9651 without parameters."""
ENVOYS: Final = OF_ENVOY.decode()
"""The header of Envoy: one element for each proxy on the way; the last one is of the last proxy."""
_BYTES: Final = re.compile(r":([A-Za-z0-9+/]+={0,2}):")
_PAIR: Final = r'(?:By=[^",;]*|Hash=[0-9A-Fa-f]*|(?:Cert|Chain)="[A-Za-z0-9%._~-]*")'
_ELEMENTS: Final = re.compile(rf"{_PAIR}(?:[;,]{_PAIR})*")
"""Elements that have nothing which a client chooses. Envoy does not quote the names of a certificate, so a
client whose authority lets it choose a name could add an element with the certificate of another client."""
_CERT: Final = re.compile(r'Cert="([^"]+)"')


class ForwardedCertificates:
    """A reader of the header in which trusted proxies forward the certificates of their clients."""

    def __init__(self, header: str, authorities: Callable[[], bytes | None]) -> None:
        """Create a reader.

        Args:
            header: `CLIENT_CERT` or `ENVOYS`.
            authorities: returns the client authorities in PEM, one of which must have signed a forwarded
                certificate; None = only the proxy has verified it.
        """
        self._header = header
        self._read = _READERS[header]
        self._authorities = authorities

    def find(self, headers: Iterable[tuple[str, str | bytes]]) -> PeerCertificate | None:
        """Return the certificate in the headers of a request; None if there is none that can be believed."""
        values = [value for name, value in headers if name == self._header]
        if len(values) != 1 or not isinstance(values[0], str):
            return None
        try:
            pem = self._read(values[0].strip(" "))
        except ValueError:
            return None
        authorities = self._authorities()
        if authorities is not None and not is_of(pem, authorities):
            return None
        return certificate_in(pem)


def _read_bytes(value: str) -> bytes:
    written = _BYTES.fullmatch(value)
    if written is None:
        raise ValueError("not a byte sequence")
    return pem_of_der(base64.b64decode(written[1], validate=True))


def _read_elements(value: str) -> bytes:
    if not _ELEMENTS.fullmatch(value):
        raise ValueError("not elements with certificates alone")
    last = value.rpartition(",")[2]
    (certificate,) = (found for pair in last.split(";") if (found := _CERT.fullmatch(pair)))
    return pem_of_text(unquote_to_bytes(certificate[1]))


_READERS: Final[Mapping[str, Callable[[str], bytes]]] = {CLIENT_CERT: _read_bytes, ENVOYS: _read_elements}
