"""The header DPoP of requests (RFC 9449): which request shows a proof, and for which URIs it may be."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from identity_service.domain.credential_errors import DpopProofRefusedError
from identity_service.domain.dpop import PresentedProof, normalised_uri
from identity_service.domain.secret import Secret
from identity_service.http_api.messages import HttpRequest

HEADER: Final = "dpop"


class RequestProofs:
    """A reader of the proofs that requests to one endpoint show."""

    def __init__(
        self, urls: Sequence[str], authorities: Sequence[str], next_nonce: Callable[[], str | None]
    ) -> None:
        """Read the proofs for an endpoint.

        Args:
            urls: the URLs of the endpoint that the metadata names, first the one that begins with the issuer.
            authorities: further authorities under which clients reach the endpoint, as host or host:port.
            next_nonce: returns the nonce that the next proof of a client must have; None = none.
        """
        path = urlsplit(urls[0]).path
        self._uris: list[str] = []
        for uri in (*urls, *(f"https://{authority}{path}" for authority in authorities)):
            with suppress(ValueError):  # an issuer may be a URL but not a URI, such as one with an umlaut
                self._uris.append(normalised_uri(uri))
        self._next_nonce = next_nonce

    def shown(self, request: HttpRequest) -> PresentedProof | None:
        """Return the proof that a request shows, unverified; None = none. Raises DpopProofRefusedError."""
        values = request.headers.get(HEADER, ())
        if not values:
            return None
        if len(values) != 1:
            raise DpopProofRefusedError("a request has one proof, in one header DPoP")
        if not self._uris:
            raise DpopProofRefusedError(
                "the URL of this endpoint is not a URI of RFC 3986; the operator sets an `issuer` that is one"
            )
        return PresentedProof(jwt=Secret(values[0]), method=request.method, uris=tuple(self._uris))

    def required(self, request: HttpRequest) -> PresentedProof:
        """Return the proof that a request shows. Raises DpopProofRefusedError if it shows none."""
        found = self.shown(request)
        if found is None:
            raise DpopProofRefusedError("the scheme DPoP needs one, in the header DPoP")
        return found

    def nonce_for(self, request: HttpRequest) -> str | None:
        """Return the nonce that a successful answer to this request carries, or None."""
        return self._next_nonce() if HEADER in request.headers else None
