"""DPoP proofs in the metadata of calls (RFC 9449): which call shows one, and for which URIs it may be.

A call has no URI of its own. For its proof it is the HTTP/2 request that it is:
`https://<authority>/<package.Service>/<Method>`, with an authority that the operator has named. The
authority that the client sends is not looked at: a proxy that was given a proof could send any.
"""

from collections.abc import Callable, Sequence
from typing import Final

import grpc

from identity_service.domain.credential_errors import DpopProofRefusedError
from identity_service.domain.dpop import PresentedProof, normalised_uri
from identity_service.domain.secret import Secret

PROOF: Final = "dpop"
"""The metadata with a proof."""
NONCE: Final = "dpop-nonce"
"""The trailing metadata with the nonce that the next proof must have."""
_METHOD: Final = "POST"


class CallProofs:
    """A reader of the proofs that calls show."""

    def __init__(self, authorities: Sequence[str], next_nonce: Callable[[], str | None]) -> None:
        """Read the proofs of calls to these authorities, each as host or host:port.

        `next_nonce` returns the nonce that the next proof of a client must have; None = none.
        """
        self._authorities = authorities
        self._next_nonce = next_nonce

    def shown(self, method: str, context: grpc.ServicerContext) -> PresentedProof | None:
        """Return the proof that a call of this method shows, unverified; None = it shows none.

        Raises DpopProofRefusedError.
        """
        values = [value for key, value in context.invocation_metadata() if key == PROOF]
        if not values:
            return None
        if len(values) != 1 or not isinstance(values[0], str):
            raise DpopProofRefusedError(f"a call has one proof, in one metadata `{PROOF}`")
        if not self._authorities:
            raise DpopProofRefusedError(
                "this service does not know under which authority clients reach it; its operator sets "
                "`dpop_authorities`"
            )
        uris = tuple(normalised_uri(f"https://{authority}{method}") for authority in self._authorities)
        return PresentedProof(jwt=Secret(values[0]), method=_METHOD, uris=uris)

    def next_nonce(self) -> tuple[tuple[str, str], ...]:
        """Return the trailing metadata of a successful call that shows a proof: the next nonce, if any."""
        nonce = self._next_nonce()
        return () if nonce is None else ((NONCE, nonce),)
